"""Networks of `keras.applications` with the same weights, images and questions for real Keras and for nbkeras."""

import hashlib
import inspect
import json

import numpy as np

# Case -> name of the network, side of the images, arguments. Each network is there at least once.
QUICK = {
    "MobileNet of a quarter": ("MobileNet", 32, {"alpha": 0.25, "classes": 10}),
    "MobileNet of a tenth": ("MobileNet", 32, {"alpha": 0.1, "classes": 5}),
    "MobileNetV2 of a third": ("MobileNetV2", 40, {"alpha": 0.35, "classes": 10}),
    "MobileNetV3Small": ("MobileNetV3Small", 33, {"alpha": 0.75}),
    "MobileNetV3Small, minimalistic": ("MobileNetV3Small", 32, {"minimalistic": True, "include_preprocessing": False}),
    "MobileNetV3Large, features": ("MobileNetV3Large", 32, {"include_top": False, "pooling": "max"}),
    "EfficientNetB0": ("EfficientNetB0", 32, {"classes": 3}),
    "VGG16, features": ("VGG16", 32, {"include_top": False, "pooling": "avg"}),
    "DenseNet121, features": ("DenseNet121", 32, {"include_top": False}),
}
SLOW = {
    **{f"VGG{n}": (f"VGG{n}", 32, {}) for n in (16, 19)},
    **{f"ResNet{n}{v}": (f"ResNet{n}{v}", 32, {}) for n in (50, 101, 152) for v in ("", "V2")},
    "MobileNet": ("MobileNet", 64, {"alpha": 1.5, "depth_multiplier": 2}),
    "MobileNetV2": ("MobileNetV2", 64, {"alpha": 1.4}),
    "MobileNetV3Large": ("MobileNetV3Large", 64, {"alpha": 1.25}),
    **{f"DenseNet{n}": (f"DenseNet{n}", 64, {}) for n in (121, 169, 201)},
    "InceptionV3": ("InceptionV3", 75, {}),
    "InceptionV3, features": ("InceptionV3", 80, {"include_top": False, "pooling": "max"}),
    "InceptionResNetV2": ("InceptionResNetV2", 75, {}),
    "Xception": ("Xception", 71, {}),
    "NASNetMobile": ("NASNetMobile", 32, {}),
    "NASNetMobile, odd": ("NASNetMobile", 65, {"include_top": False, "pooling": "avg"}),
    "NASNetLarge": ("NASNetLarge", 64, {}),
    **{f"EfficientNetB{n}": (f"EfficientNetB{n}", 40, {}) for n in range(8)},
    **{f"EfficientNetV2{n}": (f"EfficientNetV2{n}", 40, {}) for n in ("B0", "B1", "B2", "B3", "S", "M", "L")},
    "EfficientNetV2B0, one channel": ("EfficientNetV2B0", 32, {"input_shape": (32, 32, 1)}),
    "EfficientNetV2S, scaled images": ("EfficientNetV2S", 32, {"include_preprocessing": False}),
    **{f"ConvNeXt{n}": (f"ConvNeXt{n}", 32, {}) for n in ("Tiny", "Small", "Base", "Large", "XLarge")},
    "ConvNeXtTiny, features": ("ConvNeXtTiny", 32, {"include_top": False, "include_preprocessing": False}),
}
CASES = QUICK | SLOW
OLD = "MobileNet of a tenth"  # of the file of Keras 2
NAMES = sorted({name for name, _, _ in CASES.values()})
MODULES = (
    "convnext densenet efficientnet efficientnet_v2 imagenet_utils inception_resnet_v2 inception_v3 mobilenet mobilenet_v2 "
    "mobilenet_v3 nasnet resnet resnet50 resnet_v2 vgg16 vgg19 xception"
).split()


def numbers(seed, shape):
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape, dtype="float32")


def weights(shapes):
    """Arrays that keep the size of the values from layer to layer; those of one axis are near 1, as variances must be."""
    for seed, shape in enumerate(shapes):
        scale = np.float32(np.sqrt(1 / max(np.prod(shape[:-1], dtype=int), 1)))
        found = numbers(seed, shape)
        yield 1 + np.tanh(found) / 10 if len(shape) < 2 else found * scale


def images(shape):
    return 128 + 40 * numbers(1, (2, *shape))


def made(keras, case):
    """The network of a case, with scores as outputs and the weights of `weights`, and two images."""
    name, side, options = CASES[case]
    options = {"weights": None, "input_shape": (side, side, 3)} | options
    if options.get("include_top", True):
        options["classifier_activation"] = None
    model = getattr(keras.applications, name)(**options)
    shapes = [tuple(each.shape) for each in model.weights]
    for variable, value in zip(model.weights, weights(shapes), strict=True):
        variable.assign(value)
    return model, images(options["input_shape"])


def structure(model):
    """A hash of the names and classes of all layers, and of the shapes of the weights, in order."""
    found = []
    for layer in model.layers:
        inner = [(each.name, type(each).__name__) for each in getattr(layer, "layers", ())]
        found.append((layer.name, type(layer).__name__, inner))
    shapes = [list(each.shape) for each in model.weights]
    return hashlib.sha256(json.dumps([model.name, found, shapes]).encode()).hexdigest()[:16]


def few(outputs):
    """Some numbers of each output, and the largest of all."""
    flat = np.asarray(outputs, "float32").reshape(2, -1)
    return np.append(flat[:, :: max(1, flat.shape[1] // 12)].ravel()[:30], np.abs(flat).max())


def signature(function):
    return [[each.name, each.default] for each in inspect.signature(function).parameters.values()]


PREPARED = [(mode, place, rank) for mode in ("caffe", "tf", "torch") for place in ("last", "first") for rank in (3, 4)]


def to_prepare(place, rank):
    shape = (2, 3, 3, 4) if place == "first" else (2, 3, 4, 3)
    found = np.abs(numbers(5, shape)) * 100
    return found if rank == 4 else found[0]
