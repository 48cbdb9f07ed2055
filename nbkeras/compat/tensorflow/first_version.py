"""Names of TensorFlow 1 that packages for Keras 2 use, beside those of TensorFlow 2."""

from typing import Any

from nbkeras import ops
from nbkeras.compat.tensorflow import image
from nbkeras.compat.tensorflow.math import floordiv as floordiv
from nbkeras.compat.tensorflow.nn import depth_to_space as depth_to_space
from nbkeras.compat.tensorflow.nn import space_to_depth as space_to_depth
from nbkeras.compat.tensorflow.spelling import spelled
from nbkeras.engine.tensor import Tensor

extract_image_patches = spelled(image.extract_patches, "images ksizes:sizes strides rates padding")


def ctc_loss_v2(
    labels: Any,
    logits: Any,
    label_length: Any,
    logit_length: Any,
    logits_time_major: bool = True,
    unique: Any = None,
    blank_index: int | None = None,
    name: Any = None,
) -> Tensor:
    """The CTC loss of each sample, for dense labels; logits have shape (steps, samples, classes) if they are time major."""
    steps_second = ops.transpose(logits, (1, 0, 2)) if logits_time_major else ops.convert_to_tensor(logits)
    blank = (blank_index or 0) % steps_second.shape[-1]
    return ops.ctc_loss(labels, steps_second, label_length, logit_length, blank)
