"""The public function of a network: its arguments and their checks, the model, and Keras's files with weights."""

import functools
import inspect
import json
import os
import pathlib
import urllib.parse
from collections.abc import Callable
from typing import Any

from nbkeras import activations, config, layers
from nbkeras.applications.parts import Options, pooled
from nbkeras.building.graph import get_source_inputs, is_symbolic
from nbkeras.data.downloads import get_file
from nbkeras.engine.annotations import briefly
from nbkeras.engine.user_errors import entry, warn
from nbkeras.training.model import Model

_STORE = "https://storage.googleapis.com/tensorflow/keras-applications/"
KERNELS = "{0}_weights_tf_dim_ordering_tf_kernels{{top}}.h5"
"""The names of most files of Keras."""
USUAL = "include_top weights input_tensor input_shape pooling classes classifier_activation name"
"""The arguments of most networks, in Keras's order."""
# Each argument: its default and its meaning.
ARGUMENTS: dict[str, tuple[Any, str]] = {
    "include_top": (True, "Whether the network ends with its classifier; False for the features before it."),
    "weights": (
        "imagenet",
        "'imagenet': Keras's own, downloaded once; the path of a file; None: random values.",
    ),
    "input_tensor": (None, "A symbolic tensor that is used as the images; None for a new input."),
    "input_shape": (None, "The shape of an image; None for the usual one, or without the classifier for any size."),
    "pooling": (None, "Without the classifier: 'avg' or 'max' of each channel, None for maps of features."),
    "classes": (1000, "The number of classes; ImageNet's weights with the classifier have 1000."),
    "classifier_activation": (
        "softmax",
        "Function of the outputs. With weights, 'softmax' or None (for scores).",
    ),
    "name": (None, "The name of the model."),
    "alpha": (1.0, "The factor of the number of channels in all layers."),
    "depth_multiplier": (1, "The number of outputs of each depthwise convolution for each input channel."),
    "dropout": (1e-3, "The fraction that is set to 0 before the classifier in training."),
    "dropout_rate": (0.2, "The fraction that is set to 0 before the classifier in training."),
    "minimalistic": (False, "Whether to leave out squeeze-and-excite units, hard-swish and windows of 5x5."),
    "include_preprocessing": (True, "Whether the network itself scales images with values from 0 to 255."),
}
_DOCUMENTATION = """The network {0}, with the layers, the names and the order of weights of Keras 3.

Args:
{1}

Returns:
    A Model that takes images.

Raises:
    ConnectionError: if the weights cannot be downloaded.
    ValueError: for weights that are not there, and for sizes, classes and activations that do not fit.

Example:
    >>> model = keras.applications.{0}(weights="imagenet")  # doctest: +SKIP
    >>> features = keras.applications.{0}(include_top=False, pooling="avg")  # doctest: +SKIP
"""
Body = Callable[..., Any]  # from a symbolic tensor and Options to a symbolic tensor
Network = Callable[..., Model]


def network(
    name: str,
    body: Body,
    top: Body,
    file: str,
    default_name: str | None = None,
    size: int | tuple[int, ...] = 224,
    minimum: int = 32,
    arguments: str = USUAL,
    without: str = "_notop",
    any_size: bool = False,
    known_size: bool = False,
    channels_first: bool = True,
    rest: Body = pooled,
) -> Network:
    """The public function of a network.

    body, top, rest: make the features of images, the classifier, and the end without it. file: of Keras's weights, a URL or its
    end after _STORE; '{top}' becomes '', or `without` for the file without the classifier. size: of images with the classifier,
    the usual one last. minimum: of all images. any_size: whether images may have any size with the classifier too. known_size:
    whether the size must be known without the classifier too. channels_first: whether Keras offers this data format.
    """
    shown = {each: ARGUMENTS[each] for each in arguments.split()} | {"name": (default_name, ARGUMENTS["name"][1])}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(each, kind, default=default) for each, (default, _) in shown.items()]
    signature = inspect.Signature(parameters, return_annotation=Model)
    sizes = size if isinstance(size, tuple) else (size,)

    def build(*args: Any, **kwargs: Any) -> Model:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}: {error}; its arguments are {', '.join(signature.parameters)}") from None
        bound.apply_defaults()
        options = Options(**bound.arguments)
        if config.image_data_format() == "channels_first" and not channels_first:
            raise ValueError(f"{name} takes images with the channels last only: set_image_data_format('channels_last')")
        _check(name, options)
        usual, fixed = options.side if options.side in sizes else sizes[-1], options.include_top and not any_size
        options.input_shape = _image_shape(name, options, usual, minimum, fixed, fixed or known_size)
        given = options.input_tensor is not None
        image = options.input_tensor if given else layers.Input(options.input_shape)
        outputs = (top if options.include_top else rest)(body(image, options), options)
        model = Model(get_source_inputs(image) if given else image, outputs, name=options.name)
        if options.weights is not None:
            model.load_weights(_downloaded(file, without, options) if options.pretrained else options.weights)
        return model

    made: Any = entry(build)
    made.__name__ = made.__qualname__ = name
    made.__module__, made.__signature__ = __package__, signature
    explained = "\n".join(f"    {each}: {meaning}" for each, (_, meaning) in shown.items())
    made.__doc__ = _DOCUMENTATION.format(name, explained)
    del made.__wrapped__  # its signature is not that of the arguments
    return made


def wrong(name: str, expected: str, received: Any) -> ValueError:
    """The error for an argument of a network."""
    return ValueError(f"{name}: {expected}, received {briefly(received)}")


def _downloaded(file: str, without: str, options: Options) -> str:
    """The path of Keras's weights in the cache."""
    file = file.format(top="" if options.include_top else without, variant=options.variant)
    url = urllib.parse.urljoin(_STORE, file)
    name = url.rpartition("/")[2].replace("NASNet-", "nasnet_").replace("-no-top", "_no_top")  # as Keras calls them
    return get_file(name, url, cache_subdir="models", file_hash=_hashes().get(name))


@functools.cache
def _hashes() -> dict[str, str]:
    """Keras's hashes of its files; it has none for those of MobileNet and MobileNetV2."""
    return json.loads((pathlib.Path(__file__).parent / "hashes.json").read_text(encoding="utf-8"))


def _check(name: str, options: Options) -> None:
    """Raise ValueError for arguments that no network takes."""
    weights, tensor, shape, classes = options.weights, options.input_tensor, options.input_shape, options.classes
    is_file = isinstance(weights, str | os.PathLike) and os.path.exists(weights)
    if weights is not None and not options.pretrained and not is_file:
        expected = "weights must be None for random initial values, 'imagenet', or the path of a file that exists"
        raise wrong(name, expected, weights)
    if options.pretrained and options.include_top and classes != 1000:
        message = "the weights 'imagenet' have 1000 classes, received classes={}; else use include_top=False and a Dense layer"
        raise ValueError(f"{name}: {message.format(briefly(classes))}")
    if options.pooling not in (None, "avg", "max"):
        raise wrong(name, "pooling must be None, 'avg' or 'max'", options.pooling)
    if tensor is not None and not is_symbolic(tensor):
        raise wrong(name, "input_tensor must be a symbolic tensor, such as keras.Input((224, 224, 3))", tensor)
    if tensor is not None and shape is not None and tuple(tensor.shape[1:]) != tuple(shape):
        raise wrong(name, f"input_shape must be input_tensor's {tensor.shape[1:]}", shape)
    activation = activations.get(options.classifier_activation)
    if options.include_top and weights is not None and activation not in map(activations.get, ("softmax", None)):
        expected = "with weights and include_top=True, classifier_activation must be 'softmax' or None"
        raise wrong(name, expected, options.classifier_activation)


def _image_shape(name: str, options: Options, size: int, minimum: int, fixed: bool, known: bool) -> tuple:
    """The shape of an image: the checked one that was given, or the usual one.

    fixed: whether Keras's weights are for the usual one only. known: whether the shape may not contain None.
    """
    first, given = config.image_data_format() == "channels_first", options.input_shape
    side = size if known else None
    if given is None:
        return (3, side, side) if first else (side, side, 3)
    is_shape = isinstance(given, tuple | list) and len(given) == 3
    if not is_shape or not all(each is None or (isinstance(each, int) and each > 0) for each in given):
        raise wrong(name, "input_shape must be a tuple of three positive integers", given)
    shape, usual = tuple(given), (3, size, size) if first else (size, size, 3)
    channels, sides = (shape[0], shape[1:]) if first else (shape[2], shape[:2])
    if options.pretrained and fixed and shape != usual:
        raise wrong(name, f"with the weights 'imagenet' and include_top=True, input_shape must be {usual}", shape)
    if options.pretrained and channels != 3:
        raise ValueError(f"{name}: the weights 'imagenet' need images of 3 channels, received input_shape={shape}")
    if channels not in (1, 3):
        warn(f"{name} usually expects images of 1 or 3 channels, received input_shape={shape}")
    if any(each is not None and each < minimum for each in sides):
        raise ValueError(f"{name}: images must be at least {minimum}x{minimum}, received input_shape={shape}")
    if known and None in shape:
        raise wrong(name, "input_shape must not contain None here", shape)
    return shape
