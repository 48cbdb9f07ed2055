"""Galleries of images, with matplotlib."""

import math
from typing import Any

import numpy as np

from nbkeras.engine.annotations import briefly
from nbkeras.engine.user_errors import optional_import
from nbkeras.visualization.marks import batch_of, draw_bounding_boxes, draw_segmentation_masks


def _needs_matplotlib(name: str) -> Any:
    return optional_import(f"{name} needs matplotlib: pip install matplotlib")


def _pixels(name: str, images: Any, data_format: str | None, value_range: Any) -> np.ndarray:
    """A batch of images as uint8, with channels last."""
    if not isinstance(value_range, list | tuple) or len(value_range) != 2 or value_range[0] == value_range[1]:
        raise ValueError(f"{name}: value_range must be two numbers that differ, received {briefly(value_range)}")
    low, high = value_range
    array = batch_of(name, images, data_format)
    scaled = array if (low, high) == (0, 255) else (array.astype("float32") - low) * (255 / (high - low))
    return np.clip(scaled, 0, 255).astype("uint8")


def plot_image_gallery(
    images: Any,
    y_true: Any = None,
    y_pred: Any = None,
    label_map: dict[int, str] | None = None,
    rows: int | None = None,
    cols: int | None = None,
    value_range: tuple = (0, 255),
    scale: float = 2,
    path: str | None = None,
    show: bool | None = None,
    transparent: bool = True,
    dpi: int = 60,
    legend_handles: Any = None,
    data_format: str | None = None,
) -> None:
    """Show images in rows and columns, or write them to a file.

    Args:
        images: A batch of images.
        y_true: The true class of each image, written above it.
        y_pred: The predicted class of each image.
        label_map: The name of each class, which `y_true` and `y_pred` need.
        rows: The number of rows; None for about as many as columns.
        cols: The number of columns; None for as many as the images need.
        value_range: The smallest and the largest value of a pixel.
        scale: The side of each image in inches.
        path: A file to write; None to show the gallery.
        show: Whether to show it; None to show it unless there is a path.
        transparent: Whether the file has a transparent background.
        dpi: The pixels per inch of the file.
        legend_handles: Handles of matplotlib for a legend.
        data_format: 'channels_last' or 'channels_first'; None for `config.image_data_format()`.

    Raises:
        ValueError: for a path and `show` together, classes without a label_map, or images that are not a batch.
        ImportError: if matplotlib is missing.

    Example:
        >>> keras.visualization.plot_image_gallery(np.zeros((4, 8, 8, 3)), path="gallery.png")
        >>> import os
        >>> os.path.exists("gallery.png")
        True
    """
    name = "plot_image_gallery"
    if path is not None and show:
        raise ValueError(f"{name}: give a path or show=True, received both")
    if (y_true is not None or y_pred is not None) and label_map is None:
        raise ValueError(f"{name}: y_true and y_pred need label_map, the names of the classes, received None")
    pixels = _pixels(name, images, data_format, value_range)
    with _needs_matplotlib(name):
        from matplotlib import pyplot as plt
    rows = rows or math.ceil(math.sqrt(len(pixels)))
    cols = cols or math.ceil(len(pixels) / rows)
    figure, axes = plt.subplots(
        rows, cols, figsize=(cols * scale, rows * scale), frameon=False, layout="tight", squeeze=False
    )
    if legend_handles is not None:
        figure.legend(handles=legend_handles, loc="lower center")
    for number, axis in enumerate(axes.flat):
        axis.axis("off")
        if number < len(pixels):
            # pyplot takes gray images without their channel
            axis.imshow(
                pixels[number] if pixels.shape[3] > 1 else pixels[number, ..., 0], cmap="gray", vmin=0, vmax=255
            )
            axis.set_title("  ".join(_titles(number, y_true, y_pred, label_map or {})), fontsize=8)
    if path is not None:
        figure.savefig(path, pad_inches=0, bbox_inches="tight", transparent=transparent, dpi=dpi)
    elif show is not False:
        plt.show()
    plt.close(figure)


def _titles(number: int, y_true: Any, y_pred: Any, label_map: dict[int, str]) -> list[str]:
    """The words above an image."""
    classes = (("Label", y_true), ("Pred", y_pred))
    return [
        f"{word}: {label_map.get(np.asarray(numbers)[number].item(), 'Unknown')}"
        for word, numbers in classes
        if numbers is not None and number < len(numbers)
    ]


def plot_bounding_box_gallery(
    images: Any,
    bounding_box_format: str,
    y_true: dict[str, Any] | None = None,
    y_pred: dict[str, Any] | None = None,
    value_range: tuple = (0, 255),
    true_color: tuple = (0, 188, 212),
    pred_color: tuple = (255, 235, 59),
    line_thickness: int = 2,
    font_scale: float = 1.0,
    text_thickness: int | None = None,
    class_mapping: dict[int, str] | None = None,
    ground_truth_mapping: dict[int, str] | None = None,
    prediction_mapping: dict[int, str] | None = None,
    legend: bool = False,
    legend_handles: Any = None,
    rows: int | None = None,
    cols: int | None = None,
    data_format: str | None = None,
    **kwargs: Any,
) -> None:
    """Show images with their true and predicted boxes in rows and columns, or write them to a file.

    Args:
        images: A batch of images with three channels.
        bounding_box_format: The format of the boxes: see `keras.utils.bounding_boxes.convert_format`.
        y_true: The true boxes, a dict of 'boxes' (batch, boxes, 4) and 'labels' (batch, boxes).
        y_pred: The predicted boxes, perhaps with 'confidences'.
        value_range: The smallest and the largest value of a pixel.
        true_color: The colour of true boxes.
        pred_color: The colour of predicted boxes.
        line_thickness: The thickness of the lines in pixels.
        font_scale: The size of the names of classes: 1 for letters of about 22 pixels.
        text_thickness: The thickness of their strokes; None for line_thickness.
        class_mapping: The name of each label.
        ground_truth_mapping: The name of each label of true boxes; None for class_mapping.
        prediction_mapping: The name of each label of predicted boxes; None for class_mapping.
        legend: Whether to add a legend of the two colours.
        legend_handles: Other handles of matplotlib for the legend.
        rows: The number of rows.
        cols: The number of columns.
        data_format: 'channels_last' or 'channels_first'; None for `config.image_data_format()`.
        **kwargs: Further arguments of `plot_image_gallery`.

    Raises:
        ValueError: for `legend` together with `legend_handles`, or images that are not a batch.
        ImportError: if matplotlib is missing, or Pillow if names are written.

    Example:
        >>> boxes = {"boxes": np.array([[[1.0, 1.0, 6.0, 5.0]]]), "labels": np.array([[0]])}
        >>> keras.visualization.plot_bounding_box_gallery(np.zeros((1, 8, 8, 3)), "xyxy", boxes, path="boxes.png")
    """
    name = "plot_bounding_box_gallery"
    if legend and legend_handles:
        raise ValueError(f"{name}: give legend=True or legend_handles, received both")
    pixels = _pixels(name, images, data_format, value_range)
    for boxes, color, names in (
        (y_true, true_color, ground_truth_mapping or class_mapping),
        (y_pred, pred_color, prediction_mapping or class_mapping),
    ):
        if boxes is not None:
            options = (line_thickness, text_thickness or line_thickness, font_scale, "channels_last")
            pixels = draw_bounding_boxes(pixels, boxes, bounding_box_format, names, color, *options)
    if legend:
        with _needs_matplotlib(name):
            from matplotlib import patches
        pairs = ((true_color, "Ground Truth"), (pred_color, "Prediction"))
        legend_handles = [
            patches.Patch(color=f"#{bytes(map(int, color)).hex()}", label=label) for color, label in pairs
        ]
    options_of_all: dict[str, Any] = {
        "rows": rows,
        "cols": cols,
        "legend_handles": legend_handles,
        "data_format": "channels_last",
    }
    plot_image_gallery(pixels, **options_of_all, **kwargs)


def plot_segmentation_mask_gallery(
    images: Any,
    num_classes: int,
    value_range: tuple = (0, 255),
    y_true: Any = None,
    y_pred: Any = None,
    color_mapping: Any = None,
    blend: bool = True,
    alpha: float = 0.8,
    ignore_index: int = -1,
    data_format: str | None = None,
    **kwargs: Any,
) -> None:
    """Show each image in a row with its true and its predicted mask, or write them to a file.

    Args:
        images: A batch of images with three channels.
        num_classes: The number of classes.
        value_range: The smallest and the largest value of a pixel.
        y_true: The true masks (batch, height, width, 1).
        y_pred: The predicted masks.
        color_mapping: The colour of each class, in a dict or a list; None for colours that differ.
        blend: Whether to blend the colours with the image.
        alpha: The weight of the colours, from 0 to 1.
        ignore_index: A class that is not drawn.
        data_format: 'channels_last' or 'channels_first'; None for `config.image_data_format()`.
        **kwargs: Further arguments of `plot_image_gallery`.

    Raises:
        ValueError: for images that are not a batch.
        ImportError: if matplotlib is missing.

    Example:
        >>> masks = np.zeros((2, 8, 8, 1), "int32")
        >>> keras.visualization.plot_segmentation_mask_gallery(np.zeros((2, 8, 8, 3)), 2, y_true=masks, path="masks.png")
    """
    name = "plot_segmentation_mask_gallery"
    pixels = _pixels(name, images, data_format, value_range)
    columns = [pixels]
    for masks in (y_true, y_pred):
        if masks is not None:
            integers = batch_of(name, masks, data_format).astype("int32")
            options = (num_classes, color_mapping, alpha, blend, ignore_index, "channels_last")
            columns.append(draw_segmentation_masks(pixels, integers, *options).astype("uint8"))
    shown = np.stack(columns, axis=1).reshape(-1, *pixels.shape[1:])
    options_of_all: dict[str, Any] = {"rows": len(pixels), "cols": len(columns), "data_format": "channels_last"}
    plot_image_gallery(shown, **options_of_all, **kwargs)
