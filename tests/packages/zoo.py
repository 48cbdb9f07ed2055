"""Nets of four packages for Keras 2, with the same weights and images in every framework."""

import os

import numpy as np

APPLICATIONS = {  # name -> module of keras_applications, size of the image
    "DenseNet121": ("densenet", 64),
    "InceptionResNetV2": ("inception_resnet_v2", 96),
    "InceptionV3": ("inception_v3", 96),
    "MobileNet": ("mobilenet", 64),
    "MobileNetV2": ("mobilenet_v2", 64),
    "NASNetMobile": ("nasnet", 64),
    "ResNet50": ("resnet", 64),
    "ResNet50V2": ("resnet_v2", 64),
    "ResNeXt50": ("resnext", 64),
    "VGG16": ("vgg16", 64),
    "Xception": ("xception", 96),
}
CLASSIFIERS = ("resnet18", "resnext50", "seresnet18", "seresnext50")
SEGMENTATION = ("Unet", "FPN", "Linknet", "PSPNet")
NAMES = [*APPLICATIONS, *CLASSIFIERS, "EfficientNetB0", *SEGMENTATION]


USUAL = {"InceptionResNetV2": 299, "InceptionV3": 299, "PSPNet": 240, "Xception": 299}  # sizes of images, if not 224


def net(name, keras, usual=False):
    """A net by its name, made with `keras`, and the size of its images: a small one, or the usual one."""
    modules = {each: getattr(keras, each) for each in ("backend", "layers", "models", "utils")}
    if name in APPLICATIONS:
        import importlib

        module, size = APPLICATIONS[name]
        size = USUAL.get(name, 224) if usual else size
        make = getattr(importlib.import_module(f"keras_applications.{module}"), name)
        return make(weights=None, input_shape=(size, size, 3), classes=10, **modules), size
    size = USUAL.get(name, 224) if usual else 48 if name == "PSPNet" else 64
    if name in CLASSIFIERS:
        from classification_models.keras import Classifiers

        return Classifiers.get(name)[0](weights=None, input_shape=(size, size, 3), classes=10), size
    if name == "EfficientNetB0":
        import efficientnet.keras

        return efficientnet.keras.EfficientNetB0(weights=None, input_shape=(size, size, 3), classes=10), size
    os.environ["SM_FRAMEWORK"] = "keras"
    import segmentation_models

    make = getattr(segmentation_models, name)
    return make("resnet18", encoder_weights=None, input_shape=(size, size, 3), classes=3, activation="sigmoid"), size


def weights(shapes):
    """Arrays of these shapes: the same ones in every framework. Those of one axis are near 1, as variances must be."""
    made = []
    for number, shape in enumerate(shapes):
        waves = np.sin(0.7 * np.arange(np.prod(shape, dtype=int)) + number).reshape(shape)
        fan = max(np.prod(shape[:-1], dtype=int), 1)
        made.append((1 + 0.1 * waves if len(shape) == 1 else waves * np.sqrt(3 / fan)).astype("float32"))
    return made


def images(size):
    """Two images."""
    return np.cos(0.01 * np.arange(2 * size * size * 3)).reshape(2, size, size, 3).astype("float32")


def outputs(name, keras):
    """The first numbers of a net's outputs for the images."""
    model, size = net(name, keras)
    model.set_weights(weights([np.shape(each) for each in model.get_weights()]))
    return np.asarray(model.predict(images(size))).reshape(2, -1)[:, :20]
