"""Boxes and masks drawn on images, with NumPy; Pillow draws the names of classes."""

from typing import Any

import numpy as np

from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.user_errors import optional_import
from nbkeras.ops import boxes as box_ops
from nbkeras.ops.window import data_format_of

_GIVEN = "images must be a batch of 4 axes"


def batch_of(name: str, images: Any, data_format: str | None) -> np.ndarray:
    """A batch of images as an array with channels last. The errors name the function."""
    array = np.asarray(images)
    if array.ndim != 4:
        raise ValueError(f"{name}: {_GIVEN}, received shape {array.shape}")
    return np.moveaxis(array, 1, 3) if data_format_of(name, data_format) == "channels_first" else array


def _bytes(images: np.ndarray) -> np.ndarray:
    """A copy of images as uint8. Floats of at most 1 are scaled by 255, others are clipped to 255."""
    if images.dtype.kind == "f" and images.size:
        images = np.clip(images, 0, 1) * 255 if images.max() <= 1 else np.clip(images, 0, 255)
    return images.astype("uint8")


def draw_bounding_boxes(
    images: Any,
    bounding_boxes: dict[str, Any],
    bounding_box_format: str,
    class_mapping: dict[int, str] | None = None,
    color: tuple = (128, 128, 128),
    line_thickness: int = 2,
    text_thickness: int = 1,
    font_scale: float = 1.0,
    data_format: str | None = None,
) -> np.ndarray:
    """Draw bounding boxes on images.

    Boxes with the label -1 are left out. The names of classes need Pillow, and look different from Keras's.

    Args:
        images: A batch of images (batch, height, width, channels). Floats of at most 1 are scaled by 255.
        bounding_boxes: A dict of 'boxes' (batch, boxes, 4), 'labels' (batch, boxes) and perhaps 'confidences' (batch, boxes).
        bounding_box_format: The format of the boxes: see `keras.utils.bounding_boxes.convert_format`.
        class_mapping: The name of each label, which is written at its boxes; None for no names.
        color: The colour of boxes and names, a number for each channel.
        line_thickness: The thickness of the lines in pixels.
        text_thickness: The thickness of the strokes of names in pixels.
        font_scale: The size of names: 1 for letters of about 22 pixels.
        data_format: 'channels_last' or 'channels_first'; None for `config.image_data_format()`.

    Returns:
        An array of uint8 with channels last.

    Raises:
        ValueError: for images that are not a batch, or boxes without 'boxes' or 'labels'.
        TypeError: for boxes that are not a dict.
        ImportError: if names are written and Pillow is missing.

    Example:
        >>> boxes = {"boxes": np.array([[[1, 1, 4, 3]]]), "labels": np.array([[0]])}
        >>> drawn = keras.visualization.draw_bounding_boxes(np.zeros((1, 5, 6, 1)), boxes, "xyxy", color=(9,), line_thickness=1)
        >>> drawn[0, :, :, 0]
        array([[0, 0, 0, 0, 0, 0],
               [0, 9, 9, 9, 9, 0],
               [0, 9, 0, 0, 9, 0],
               [0, 9, 9, 9, 9, 0],
               [0, 0, 0, 0, 0, 0]], dtype=uint8)
    """
    name = "draw_bounding_boxes"
    drawn = _bytes(batch_of(name, images, data_format))
    if not isinstance(bounding_boxes, dict):
        raise TypeError(f"{name}: bounding_boxes must be a dict, received {briefly(bounding_boxes)}")
    if not {"boxes", "labels"} <= set(bounding_boxes):
        raise ValueError(f"{name}: bounding_boxes must have 'boxes' and 'labels', received {list(bounding_boxes)}")
    thickness = option.size_of(name, "line_thickness", line_thickness)
    height, width = drawn.shape[1:3]
    xyxy = box_ops.convert_format(bounding_boxes["boxes"], bounding_box_format, "xyxy", height, width).numpy()
    labels = np.asarray(bounding_boxes["labels"]).astype("int32")
    if xyxy.ndim != 3 or labels.shape != xyxy.shape[:2] or len(xyxy) != len(drawn):
        raise ValueError(
            f"{name}: expected boxes ({len(drawn)}, boxes, 4) and a label for each, received boxes of shape {xyxy.shape} and "
            f"labels of shape {labels.shape}"
        )
    for number, image in enumerate(drawn):
        for place, label in enumerate(labels[number]):
            if label == -1:
                continue
            corners = xyxy[number, place].astype("int32")
            image[_is_line(corners, height, width, thickness)] = color
            if label in (class_mapping or {}):
                text = str((class_mapping or {})[label])
                if "confidences" in bounding_boxes:
                    text = f"{text} | {np.asarray(bounding_boxes['confidences'])[number, place]:.2f}"
                _write(image, text, corners[:2], tuple(color), text_thickness or thickness, font_scale)
    return drawn


def _is_line(corners: np.ndarray, height: int, width: int, thickness: int) -> np.ndarray:
    """Whether each pixel belongs to the outline of a rectangle, which a round pen draws, as in OpenCV."""
    (left, right), (top, bottom) = np.sort(corners[::2]), np.sort(corners[1::2])
    y, x = np.ogrid[:height, :width]
    outside = np.hypot(np.maximum(np.maximum(left - x, x - right), 0), np.maximum(np.maximum(top - y, y - bottom), 0))
    inside = np.minimum(np.minimum(x - left, right - x), np.minimum(y - top, bottom - y))
    radius = 0 if thickness == 1 else (thickness + 1) // 2
    return np.where(inside >= 0, inside, outside) <= radius


def _write(image: np.ndarray, text: str, corner: np.ndarray, color: tuple, thickness: int, scale: float) -> None:
    """Write a text above a box, or inside if there is no room."""
    with optional_import("draw_bounding_boxes needs Pillow to write the names of classes", "images"):
        from PIL import Image, ImageDraw, ImageFont
    x, y = map(int, corner)
    line = int(scale * 12)
    place = (x, y - 8) if y - 8 - 2 * line > 0 else (x + 3, y + 2 * line + thickness + 3)
    canvas = Image.new("L", (image.shape[1], image.shape[0]))
    font = ImageFont.load_default(30 * scale)
    ImageDraw.Draw(canvas).text(place, text, 255, font, "ls", stroke_width=thickness - 1)
    strength = np.asarray(canvas)[..., None] / 255
    image[...] = np.round(image * (1 - strength) + np.asarray(color) * strength)


def draw_segmentation_masks(
    images: Any,
    segmentation_masks: Any,
    num_classes: int | None = None,
    color_mapping: Any = None,
    alpha: float = 0.8,
    blend: bool = True,
    ignore_index: int = -1,
    data_format: str | None = None,
) -> np.ndarray:
    """Colour the pixels of images by the classes of their masks.

    Args:
        images: A batch of images (batch, height, width, 3), with values from 0 to 255.
        segmentation_masks: The class of each pixel: integers (batch, height, width, 1).
        num_classes: The number of classes; classes from it on are not drawn. None for the largest class of the masks, which is
            then not drawn, as in Keras.
        color_mapping: The colour of each class, in a dict or a list; None for colours that differ.
        alpha: The weight of the colours, from 0 to 1; the rest is the image.
        blend: Whether to blend. Without it, pixels get the colour itself.
        ignore_index: A class that is not drawn when colours are blended.
        data_format: 'channels_last' or 'channels_first'; None for `config.image_data_format()`.

    Returns:
        An array with channels last: uint8, or float32 without `blend`.

    Raises:
        ValueError: for images or masks that are not a batch.
        TypeError: for masks that are not integers.

    Example:
        >>> masks = np.array([[[[0], [1]]]])
        >>> images = np.full((1, 1, 2, 3), 100.0)
        >>> keras.visualization.draw_segmentation_masks(images, masks, 2, {0: (0, 0, 0), 1: (200, 0, 0)}, alpha=0.5)[0, 0]
        array([[ 50,  50,  50],
               [150,  50,  50]], dtype=uint8)
    """
    name = "draw_segmentation_masks"
    pixels = batch_of(name, images, data_format).astype("float32")
    masks = batch_of(name, segmentation_masks, data_format)
    if masks.dtype.kind not in "iu":
        raise TypeError(f"{name}: segmentation_masks must be integers, received dtype {masks.dtype}")
    if masks.shape != (*pixels.shape[:3], 1):
        raise ValueError(f"{name}: segmentation_masks must have shape {(*pixels.shape[:3], 1)}, received {masks.shape}")
    count = int(masks.max()) if num_classes is None else option.size_of(name, "num_classes", num_classes)
    drawn, classes = pixels.copy(), masks[..., 0]
    for number in range(count):
        given = _PALETTE * number % 255 if color_mapping is None else color_mapping[number]
        drawn[classes == number] = np.asarray(given, "float32")
    if not blend:
        return drawn
    blended = pixels * np.float32(1 - alpha) + drawn * np.float32(alpha)
    return np.where(masks != ignore_index, blended, pixels).astype("uint8")


_PALETTE = np.array([2**25 - 1, 2**15 - 1, 2**21 - 1])  # Keras's colours are its multiples
