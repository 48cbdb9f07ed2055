"""Names of Keras 3's modules `keras.applications.*`: packages look them up when they are imported.

nbkeras has none of these networks. Each name is a function that says so when it is called.
"""

from typing import Any, NoReturn

from nbkeras.engine.absent_names import reason

_NAMES = """
ConvNeXtBase ConvNeXtLarge ConvNeXtSmall ConvNeXtTiny ConvNeXtXLarge DenseNet121 DenseNet169 DenseNet201 EfficientNetB0
EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 EfficientNetB6 EfficientNetB7 EfficientNetV2B0
EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 EfficientNetV2L EfficientNetV2M EfficientNetV2S InceptionResNetV2
InceptionV3 MobileNet MobileNetV2 MobileNetV3Large MobileNetV3Small NASNetLarge NASNetMobile ResNet101 ResNet101V2 ResNet152
ResNet152V2 ResNet50 ResNet50V2 VGG16 VGG19 Xception
"""


def _refusal(name: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"keras.applications.{name} is not offered: {reason('keras.applications')}")

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


globals().update({name: _refusal(name) for name in _NAMES.split()})
