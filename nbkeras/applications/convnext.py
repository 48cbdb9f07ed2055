"""Floor 3: Keras's `applications.convnext`."""

from nbkeras.applications import preparing as _preparing
from nbkeras.applications.imagenet_utils import decode_predictions as decode_predictions
from nbkeras.applications.stages import ConvNeXtBase as ConvNeXtBase
from nbkeras.applications.stages import ConvNeXtLarge as ConvNeXtLarge
from nbkeras.applications.stages import ConvNeXtSmall as ConvNeXtSmall
from nbkeras.applications.stages import ConvNeXtTiny as ConvNeXtTiny
from nbkeras.applications.stages import ConvNeXtXLarge as ConvNeXtXLarge

preprocess_input = _preparing.unchanged
