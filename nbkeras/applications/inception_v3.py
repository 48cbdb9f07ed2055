"""Floor 3: Keras's `applications.inception_v3`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.inception import InceptionV3 as InceptionV3

preprocess_input = _preparing.for_tf
