"""Calls of layers of images without chance, run by make_images.py with real Keras and by layers/test_images.py here."""

import numpy as np

IMAGES = np.random.RandomState(3).randint(0, 256, (2, 7, 9, 3)).astype("uint8")
FLOATS = IMAGES[:1].astype("float32")

CASES = {
    "resized": ("Resizing", {"height": 4, "width": 12}, FLOATS),
    "resized_nearest": ("Resizing", {"height": 5, "width": 4, "interpolation": "nearest"}, FLOATS),
    "resized_bicubic": ("Resizing", {"height": 11, "width": 5, "interpolation": "bicubic"}, FLOATS),
    "resized_cropped": ("Resizing", {"height": 4, "width": 4, "crop_to_aspect_ratio": True}, FLOATS),
    "resized_padded": ("Resizing", {"height": 8, "width": 8, "pad_to_aspect_ratio": True, "fill_value": 3.0}, FLOATS),
    "resized_smoothly": ("Resizing", {"height": 3, "width": 3, "antialias": True}, FLOATS),
    "resized_first": (
        "Resizing",
        {"height": 3, "width": 3, "data_format": "channels_first"},
        FLOATS.transpose(0, 3, 1, 2),
    ),
    "resized_single": ("Resizing", {"height": 3, "width": 5}, FLOATS[0]),
    "cropped": ("CenterCrop", {"height": 4, "width": 4}, FLOATS),
    "cropped_larger": ("CenterCrop", {"height": 9, "width": 4}, FLOATS),
    "translated": ("RandomTranslation", {"height_factor": (0.2, 0.2), "width_factor": (-0.3, -0.3)}, FLOATS),
    "translated_filled": (
        "RandomTranslation",
        {"height_factor": (0.2, 0.2), "width_factor": (0.1, 0.1), "fill_mode": "constant", "fill_value": 7.0},
        FLOATS,
    ),
    "rotated": ("RandomRotation", {"factor": (0.1, 0.1)}, FLOATS),
    "rotated_nearest": (
        "RandomRotation",
        {"factor": (-0.2, -0.2), "interpolation": "nearest", "fill_mode": "nearest"},
        FLOATS,
    ),
    "zoomed": ("RandomZoom", {"height_factor": (0.3, 0.3)}, FLOATS),
    "zoomed_in": (
        "RandomZoom",
        {"height_factor": (-0.3, -0.3), "width_factor": (0.2, 0.2), "fill_mode": "wrap"},
        FLOATS,
    ),
    "brighter": ("RandomBrightness", {"factor": (0.2, 0.2)}, FLOATS),
    "contrast": ("RandomContrast", {"factor": (-0.3, 0.3)}, FLOATS),
    "degenerated": ("RandomColorDegeneration", {"factor": (0.4, 0.4)}, FLOATS),
    "inverted": ("RandomInvert", {"factor": (1.0, 1.0)}, FLOATS),
    "saturated": ("RandomSaturation", {"factor": (0.3, 0.3), "value_range": (0, 1)}, FLOATS / 255),
    "posterized": ("RandomPosterization", {"factor": (3, 3)}, FLOATS),
    "solarized": ("Solarization", {}, FLOATS),
    "sharper": ("RandomSharpness", {"factor": (0.8, 0.8)}, FLOATS),
    "stretched": ("AutoContrast", {}, FLOATS / 2 + 20),
    "blurred": ("RandomGaussianBlur", {"factor": (1.0, 1.0), "sigma": (0.7, 0.7)}, FLOATS),
    "gray": ("RandomGrayscale", {"factor": 1.0}, FLOATS),
}
