"""Floor 3: Keras's `applications.efficientnet`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.efficient import EfficientNetB0 as EfficientNetB0
from nbkeras.applications.efficient import EfficientNetB1 as EfficientNetB1
from nbkeras.applications.efficient import EfficientNetB2 as EfficientNetB2
from nbkeras.applications.efficient import EfficientNetB3 as EfficientNetB3
from nbkeras.applications.efficient import EfficientNetB4 as EfficientNetB4
from nbkeras.applications.efficient import EfficientNetB5 as EfficientNetB5
from nbkeras.applications.efficient import EfficientNetB6 as EfficientNetB6
from nbkeras.applications.efficient import EfficientNetB7 as EfficientNetB7
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions

preprocess_input = _preparing.unchanged
