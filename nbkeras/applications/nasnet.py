"""Floor 3: Keras's `applications.nasnet`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.inception import NASNetLarge as NASNetLarge
from nbkeras.applications.inception import NASNetMobile as NASNetMobile

preprocess_input = _preparing.for_tf
