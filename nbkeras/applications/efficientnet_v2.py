"""Floor 3: Keras's `applications.efficientnet_v2`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.efficient import EfficientNetV2B0 as EfficientNetV2B0
from nbkeras.applications.efficient import EfficientNetV2B1 as EfficientNetV2B1
from nbkeras.applications.efficient import EfficientNetV2B2 as EfficientNetV2B2
from nbkeras.applications.efficient import EfficientNetV2B3 as EfficientNetV2B3
from nbkeras.applications.efficient import EfficientNetV2L as EfficientNetV2L
from nbkeras.applications.efficient import EfficientNetV2M as EfficientNetV2M
from nbkeras.applications.efficient import EfficientNetV2S as EfficientNetV2S
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions

preprocess_input = _preparing.unchanged
