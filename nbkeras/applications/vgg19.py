"""Floor 3: Keras's `applications.vgg19`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.stages import VGG19 as VGG19

preprocess_input = _preparing.for_caffe
