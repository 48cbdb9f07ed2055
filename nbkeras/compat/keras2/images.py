"""Keras 2's `keras.preprocessing.image.load_img`, which had one more argument."""

from typing import Any

from nbkeras.data import images


def load_img(path, grayscale=False, color_mode="rgb", target_size=None, interpolation="nearest", **options) -> Any:
    """`nbkeras.utils.load_img`. grayscale: True for color_mode 'grayscale', or a color_mode, Keras 3's second argument."""
    if grayscale:
        color_mode = grayscale if isinstance(grayscale, str) else "grayscale"
    return images.load_img(path, color_mode, target_size, interpolation, **options)
