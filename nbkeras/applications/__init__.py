"""Floor 3: Keras's `applications`: networks for images with Keras's weights, and what prepares images and names classes.

Keras has a module for each kind of network, such as `applications.vgg16`: `_MODULES` is the table of their names.
"""

import functools
import re
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nbkeras.applications import efficient, imagenet_utils, inception, mobile, stages

if TYPE_CHECKING:  # for editors and type checkers; below, the networks are found by their `__module__`
    from nbkeras.applications.efficient import *
    from nbkeras.applications.inception import *
    from nbkeras.applications.mobile import *
    from nbkeras.applications.stages import *

    convnext = densenet = efficientnet = efficientnet_v2 = inception_resnet_v2 = inception_v3 = ModuleType("")
    mobilenet = mobilenet_v2 = mobilenet_v3 = nasnet = resnet = resnet50 = resnet_v2 = ModuleType("")
    vgg16 = vgg19 = xception = ModuleType("")

# Name -> the mode of its `preprocess_input` ('' if the networks scale images themselves), and its networks.
_MODULES = {
    "convnext": ("", "ConvNeXtTiny ConvNeXtSmall ConvNeXtBase ConvNeXtLarge ConvNeXtXLarge"),
    "densenet": ("torch", "DenseNet121 DenseNet169 DenseNet201"),
    "efficientnet": ("", " ".join(f"EfficientNetB{size}" for size in range(8))),
    "efficientnet_v2": ("", " ".join(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L"))),
    "inception_resnet_v2": ("tf", "InceptionResNetV2"),
    "inception_v3": ("tf", "InceptionV3"),
    "mobilenet": ("tf", "MobileNet"),
    "mobilenet_v2": ("tf", "MobileNetV2"),
    "mobilenet_v3": ("", ""),
    "nasnet": ("tf", "NASNetLarge NASNetMobile"),
    "resnet": ("caffe", "ResNet50 ResNet101 ResNet152"),
    "resnet50": ("caffe", "ResNet50"),
    "resnet_v2": ("tf", "ResNet50V2 ResNet101V2 ResNet152V2"),
    "vgg16": ("caffe", "VGG16"),
    "vgg19": ("caffe", "VGG19"),
    "xception": ("tf", "Xception"),
}
_PREPARED = {
    "": "The images unchanged: these networks scale them themselves.",
    "caffe": "Images with red and blue swapped, and ImageNet's mean of each channel subtracted.",
    "tf": "Images with values from -1 to 1.",
    "torch": "Images from 0 to 1, whose channels are standardized as for ImageNet.",
}


@functools.cache
def _preparing(mode: str) -> Callable[..., Any]:
    """The `preprocess_input` of networks that expect the images of a mode."""

    def preprocess_input(x: Any, data_format: str | None = None) -> Any:
        return imagenet_utils.preprocess_input(x, data_format, mode) if mode else x

    preprocess_input.__qualname__ = "preprocess_input"
    shared = re.sub(r" +mode: .*\n.*\n", "", (imagenet_utils.preprocess_input.__doc__ or "").partition("\n")[2])
    preprocess_input.__doc__ = f"{_PREPARED[mode]}\n{shared}"
    return preprocess_input


_NETWORKS: dict[str, Any] = {
    name: found
    for module in (efficient, inception, mobile, stages)
    for name, found in vars(module).items()
    if getattr(found, "__module__", None) == __name__
}
for _name, (_mode, _networks) in _MODULES.items():
    _module = ModuleType(f"{__name__}.{_name}", f"Keras's `applications.{_name}`.")
    _module.__spec__ = ModuleSpec(_module.__name__, None)
    vars(_module).update({each: _NETWORKS[each] for each in _networks.split()})
    vars(_module).update(decode_predictions=imagenet_utils.decode_predictions, preprocess_input=_preparing(_mode))
    sys.modules[_module.__name__] = globals()[_name] = _module
__all__ = sorted([*_NETWORKS, *_MODULES, "imagenet_utils"])
globals().update(_NETWORKS, __dir__=lambda: __all__)
