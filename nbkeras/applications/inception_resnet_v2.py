"""Floor 3: Keras's `applications.inception_resnet_v2`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.inception import InceptionResNetV2 as InceptionResNetV2

preprocess_input = _preparing.for_tf
