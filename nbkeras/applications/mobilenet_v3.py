"""Floor 3: Keras's `applications.mobilenet_v3`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions

preprocess_input = _preparing.unchanged
