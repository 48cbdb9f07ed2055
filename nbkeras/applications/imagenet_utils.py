"""Images as networks expect them, and predictions as names of ImageNet's classes."""

import functools
import json
from typing import Any

import numpy as np

from nbkeras import config, ops
from nbkeras.data.downloads import get_file
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file
from nbkeras.engine.tensor import Tensor

_CLASSES = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
_CLASSES_HASH = "c2c37ea517e94d9795004a39431a14cb"
MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of each channel, for values from 0 to 1
_SUBTRACTED = {"caffe": (103.939, 116.779, 123.68), "torch": MEANS}


def preprocess_input(x: Any, data_format: str | None = None, mode: str = "caffe") -> Any:
    """Images with values from 0 to 255, as a network expects them.

    Args:
        x: An array, a tensor or a symbolic tensor, with 3 or 4 axes and 3 channels. An array of floats is changed itself.
        data_format: The position of the channels, 'channels_last' or 'channels_first'; None for the global setting.
        mode: 'tf' scales values to -1 to 1; 'torch' scales to 0 to 1 and standardizes each channel as for ImageNet; 'caffe'
            swaps red and blue and subtracts the mean of each channel.

    Returns:
        An array for an array, else a tensor.

    Raises:
        ValueError: for other shapes and unknown settings.

    Example:
        >>> image = np.full((1, 2, 2, 3), 255, "uint8")
        >>> keras.applications.imagenet_utils.preprocess_input(image, mode="tf")[0, 0, 0]
        array([1., 1., 1.], dtype=float32)
    """
    for what, value, known in (
        ("mode", mode, ("caffe", "tf", "torch")),
        ("data_format", data_format or "channels_last", ("channels_first", "channels_last")),
    ):
        if value not in known:
            raise ValueError(f"preprocess_input: {what} must be one of {', '.join(known)}, received {briefly(value)}")
    rank = len(getattr(x, "shape", ()))
    axis = rank - 3 if (data_format or config.image_data_format()) == "channels_first" else rank - 1
    if rank not in (3, 4) or (mode != "tf" and x.shape[axis] != 3):
        raise ValueError(
            "preprocess_input takes an array or a tensor with 3 or 4 axes and 3 channels, received "
            f"{f'the shape {tuple(x.shape)}' if rank else briefly(x)}"
        )
    is_array = isinstance(x, np.ndarray)
    if not np.issubdtype(x.dtype, np.floating):
        x = x.astype(config.floatx()) if is_array else ops.cast(x, config.floatx())
    elif is_array and not x.flags.writeable:
        x = x.copy()
    if mode == "tf":
        x /= 127.5
        x -= 1.0
        return x
    by_channel = [3 if each == axis else 1 for each in range(rank)]
    if mode == "torch":
        x /= 255.0
    else:
        x = np.flip(x, axis) if is_array else ops.flip(x, axis)
    x -= np.reshape(_SUBTRACTED[mode], by_channel).astype(x.dtype)
    if mode == "torch":
        x /= np.reshape(DEVIATIONS, by_channel).astype(x.dtype)
    return x


def decode_predictions(preds: np.ndarray | Tensor, top: int = 5) -> list[list[tuple[str, str, Any]]]:
    """The most probable classes of ImageNet for each image. Their names are downloaded once.

    Args:
        preds: Predictions of a network with 1000 classes, of shape (images, 1000).
        top: The number of classes for each image.

    Returns:
        A list for each image of tuples (WordNet's id, name, score), the highest score first.

    Raises:
        ConnectionError: if the names cannot be downloaded.
        ValueError: for another shape.

    Example:
        >>> keras.applications.imagenet_utils.decode_predictions(model.predict(images))  # doctest: +SKIP
    """
    shape = tuple(getattr(preds, "shape", ()))
    if len(shape) != 2 or shape[1] != 1000:
        raise ValueError(
            f"decode_predictions takes predictions of the shape (images, 1000), received the shape {shape}"
        )
    names = _names()
    return [[(*names[str(at)], row[at]) for at in row.argsort()[::-1][:top]] for row in np.asarray(preds)]


@functools.cache
def _names() -> dict[str, list[str]]:
    path = get_file("imagenet_class_index.json", _CLASSES, cache_subdir="models", file_hash=_CLASSES_HASH)
    with open(path, encoding="utf-8", opener=ordinary_file) as file:
        return json.load(file)


_lazy_names.attach(globals())
