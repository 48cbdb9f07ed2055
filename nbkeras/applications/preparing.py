"""Floor 3: `preprocess_input` for networks whose weights were trained on images of different values."""

import re
from collections.abc import Callable
from typing import Any

from nbkeras.applications import imagenet_utils

_PREPARED = {
    "": "The images unchanged: these networks scale them themselves.",
    "caffe": "Images with red and blue swapped, and ImageNet's mean of each channel subtracted.",
    "tf": "Images with values from -1 to 1.",
    "torch": "Images from 0 to 1, whose channels are standardized as for ImageNet.",
}


def _preparing(mode: str) -> Callable[..., Any]:
    """The `preprocess_input` of networks that expect the images of a mode."""

    def preprocess_input(x: Any, data_format: str | None = None) -> Any:
        return imagenet_utils.preprocess_input(x, data_format, mode) if mode else x

    preprocess_input.__qualname__ = "preprocess_input"
    shared = re.sub(r" +mode: .*\n.*\n", "", (imagenet_utils.preprocess_input.__doc__ or "").partition("\n")[2])
    preprocess_input.__doc__ = f"{_PREPARED[mode]}\n{shared}"
    return preprocess_input


unchanged, for_caffe, for_tf, for_torch = map(_preparing, _PREPARED)
