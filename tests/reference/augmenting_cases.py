"""Layers, arguments and data that scripts/make_images_references.py gives to Keras and test_augmenting.py to nbkeras."""

import numpy as np

SIZE = (6, 8)
FIRST = {"data_format": "channels_first"}

# Name -> the class, its arguments, the format of boxes (None: data without boxes), the size of the images.
CASES = {
    "flip": ("RandomFlip", {"mode": "horizontal"}, "xyxy", SIZE),
    "flip_both": ("RandomFlip", {}, "rel_xyxy", SIZE),
    "flip_first": ("RandomFlip", {"mode": "vertical", **FIRST}, "center_xywh", SIZE),
    "translation": ("RandomTranslation", {"height_factor": 0.3, "width_factor": 0.4}, "xywh", SIZE),
    "translation_first": (
        "RandomTranslation",
        {"height_factor": 0.3, "width_factor": 0.2, "fill_mode": "constant", "fill_value": 9.0, **FIRST},
        "rel_xywh",
        SIZE,
    ),
    "rotation": ("RandomRotation", {"factor": 0.2}, "xyxy", SIZE),
    "rotation_first": ("RandomRotation", {"factor": 0.1, "interpolation": "nearest", **FIRST}, "xyxy", SIZE),
    "zoom": ("RandomZoom", {"height_factor": (-0.5, 0.5), "width_factor": (-0.3, 0.3)}, "yxyx", SIZE),
    "zoom_first": ("RandomZoom", {"height_factor": 0.5, **FIRST}, "rel_yxyx", SIZE),
    "shear": ("RandomShear", {"x_factor": (0.1, 0.3), "y_factor": (0.1, 0.2)}, "xyxy", (8, 8)),
    "shear_first": ("RandomShear", {"x_factor": 0.5, "fill_mode": "nearest", **FIRST}, "center_yxhw", (8, 8)),
    "perspective": ("RandomPerspective", {"factor": (0.5, 1.0), "scale": 0.5}, "xyxy", SIZE),
    "perspective_first": ("RandomPerspective", {"scale": 0.3, "fill_value": 7.0, **FIRST}, "xyxy", SIZE),
    "crop": ("RandomCrop", {"height": 4, "width": 5}, "xyxy", SIZE),
    "crop_larger": ("RandomCrop", {"height": 7, "width": 5}, "xyxy", SIZE),
    "center_crop": ("CenterCrop", {"height": 3, "width": 5}, "rel_xyxy", SIZE),
    "center_crop_larger": ("CenterCrop", {"height": 9, "width": 6}, "xyxy", SIZE),
    "center_crop_first": ("CenterCrop", {"height": 4, "width": 4, **FIRST}, "xywh", SIZE),
    "resizing": ("Resizing", {"height": 9, "width": 5}, "xyxy", SIZE),
    "resizing_crop": ("Resizing", {"height": 4, "width": 4, "crop_to_aspect_ratio": True}, "rel_xyxy", SIZE),
    "resizing_pad": ("Resizing", {"height": 12, "width": 12, "pad_to_aspect_ratio": True, **FIRST}, "xywh", SIZE),
    "brightness": ("RandomBrightness", {"factor": 0.4}, "xyxy", SIZE),
    "contrast": ("RandomContrast", {"factor": 0.6}, "xyxy", SIZE),
    "contrast_first": ("RandomContrast", {"factor": 0.6, **FIRST}, "xyxy", SIZE),
    "degeneration": ("RandomColorDegeneration", {"factor": 0.8}, "xyxy", SIZE),
    "hue": ("RandomHue", {"factor": 0.8}, "xyxy", SIZE),
    "hue_first": ("RandomHue", {"factor": 0.8, **FIRST}, "xyxy", SIZE),
    "saturation": ("RandomSaturation", {"factor": 0.4, "value_range": (0, 1)}, "xyxy", SIZE),
    "saturation_first": ("RandomSaturation", {"factor": 0.4, "value_range": (0, 1), **FIRST}, "xyxy", SIZE),
    "sharpness": ("RandomSharpness", {"factor": 0.9}, "xyxy", SIZE),
    "sharpness_first": ("RandomSharpness", {"factor": 0.9, **FIRST}, "xyxy", SIZE),
    "posterization": ("RandomPosterization", {"factor": (2, 7)}, "xyxy", SIZE),
    "solarization": ("Solarization", {"addition_factor": 0.2, "threshold_factor": 0.6}, "xyxy", SIZE),
    "invert": ("RandomInvert", {"factor": (0.4, 0.6)}, "xyxy", SIZE),
    "grayscale": ("RandomGrayscale", {"factor": 0.5}, None, SIZE),
    "blur": ("RandomGaussianBlur", {"factor": (0.5, 1.0), "kernel_size": (3, 5), "sigma": (0.5, 1.0)}, "xyxy", SIZE),
    "erasing": ("RandomErasing", {"factor": (0.5, 1.0), "fill_value": 3.0}, "xyxy", SIZE),
    "erasing_noise": ("RandomErasing", {"value_range": (0, 200), **FIRST}, "xyxy", SIZE),
    "auto_contrast": ("AutoContrast", {}, "xyxy", SIZE),
    "auto_contrast_first": ("AutoContrast", {"value_range": (0, 1), **FIRST}, "xyxy", SIZE),
    "equalization_of_bytes": ("Equalization", {}, "xyxy", SIZE),
    "equalization_first": ("Equalization", {"value_range": (0, 1), "bins": 16, **FIRST}, "xyxy", SIZE),
    "adaptive": ("ContrastLimitedAdaptiveHistogramEqualization", {"tile_grid_size": (2, 3)}, None, (16, 20)),
    "adaptive_first": (
        "ContrastLimitedAdaptiveHistogramEqualization",
        {"tile_grid_size": (3, 2), "clip_limit": 1.5, "value_range": (0, 1), **FIRST},
        None,
        (16, 20),
    ),
    "cut_mix": ("CutMix", {}, None, SIZE),
    "cut_mix_first": ("CutMix", {"factor": (0.5, 1.0), **FIRST}, None, SIZE),
    "mix_up": ("MixUp", {}, "xyxy", SIZE),
    "mix_up_first": ("MixUp", {"alpha": 0.8, **FIRST}, "xywh", SIZE),
    "rand_augment": ("RandAugment", {"factor": 0.4}, "xyxy", (8, 8)),
    "rand_augment_thrice": ("RandAugment", {"num_ops": 3, "value_range": (0, 1)}, "rel_xyxy", (8, 8)),
    "aug_mix": ("AugMix", {}, "xyxy", (8, 8)),
    "aug_mix_of_two": ("AugMix", {"all_ops": False, "num_chains": 2, "value_range": (0, 1)}, "xyxy", (8, 8)),
    "boxes_fewer": ("MaxNumBoundingBoxes", {"max_number": 2}, "xyxy", SIZE),
    "boxes_more": ("MaxNumBoundingBoxes", {"max_number": 5, "fill_value": -2}, "xywh", SIZE),
}

# Name -> the parts of the data that Keras transforms wrongly. In nbkeras they follow the images: see test_augmenting.py.
OTHERWISE = {
    "auto_contrast_first": ["images"],  # the extremes of rows of all channels
    "crop": ["bounding_boxes"],  # Keras exchanges rows and columns
    "crop_larger": ["bounding_boxes", "segmentation_masks"],  # classes are averaged
    "center_crop_larger": ["segmentation_masks"],
    "cut_mix": ["segmentation_masks"],  # Keras returns three channels
    "cut_mix_first": ["segmentation_masks"],
    "mix_up": ["bounding_boxes", "segmentation_masks"],  # labels are appended to another axis; masks mix single pixels
    "mix_up_first": ["bounding_boxes", "segmentation_masks"],
}


def data_of(name):
    """The data of a case, which its name chooses (Keras's backends round ties of an equalization differently: these have none).

    Four images with one-hot labels, masks, and boxes in pixels (left, top, right, bottom).
    """
    _, arguments, box_format, (height, width) = CASES[name]
    chance = np.random.default_rng(sum(map(ord, name)))
    whole = arguments.get("value_range", (0, 255))[1] != 1
    images = chance.integers(0, 256, (4, height, width, 3)) / (1 if whole else 255)
    found = {
        "images": images.astype("float32"),
        "labels": np.eye(4, 5, dtype="float32"),
        "segmentation_masks": chance.integers(0, 4, (4, height, width, 1)).astype("int32"),
    }
    if arguments.get("data_format") == "channels_first":
        for key in ("images", "segmentation_masks"):
            found[key] = np.ascontiguousarray(np.moveaxis(found[key], -1, 1))
    if box_format is not None:
        corner = chance.uniform(0, 0.6, (4, 3, 2))
        boxes = np.concatenate([corner, corner + chance.uniform(0.1, 0.39, (4, 3, 2))], -1)
        boxes[0, 2] = 0  # padding
        labels = chance.integers(0, 9, (4, 3)).astype("int32")
        labels[0, 2] = -1
        found["bounding_boxes"] = {"boxes": boxes * [width, height, width, height], "labels": labels}
    return found
