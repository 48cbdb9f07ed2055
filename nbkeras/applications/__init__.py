"""Floor 3: Keras's `applications`: networks for images with Keras's weights, and what prepares images and names classes.

Keras has a module for each kind of network, such as `applications.vgg16`.
"""

from typing import TYPE_CHECKING, Any

from nbkeras.applications import (
    convnext,
    densenet,
    efficient,
    efficientnet,
    efficientnet_v2,
    imagenet_utils,
    inception,
    inception_resnet_v2,
    inception_v3,
    mobile,
    mobilenet,
    mobilenet_v2,
    mobilenet_v3,
    nasnet,
    resnet,
    resnet50,
    resnet_v2,
    stages,
    vgg16,
    vgg19,
    xception,
)

if TYPE_CHECKING:  # for editors and type checkers; below, the networks are found by their `__module__`
    from nbkeras.applications.efficient import *
    from nbkeras.applications.inception import *
    from nbkeras.applications.mobile import *
    from nbkeras.applications.stages import *

_NETWORKS: dict[str, Any] = {
    name: found
    for module in (efficient, inception, mobile, stages)
    for name, found in vars(module).items()
    if getattr(found, "__module__", None) == __name__
}
_MODULES = (
    *("convnext", "densenet", "efficientnet", "efficientnet_v2", "inception_resnet_v2", "inception_v3", "mobilenet"),
    *("mobilenet_v2", "mobilenet_v3", "nasnet", "resnet", "resnet50", "resnet_v2", "vgg16", "vgg19", "xception"),
)
__all__ = sorted([*_NETWORKS, *_MODULES, "imagenet_utils"])
globals().update(_NETWORKS, __dir__=lambda: __all__)
