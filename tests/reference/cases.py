"""All cases by name: the files of the families fill CASES when they are imported."""

import attention_cases  # noqa: F401
import conv_cases  # noqa: F401
import layer_cases  # noqa: F401
import recurrent_cases  # noqa: F401
import training_cases  # noqa: F401
from protocol import CASES

__all__ = ["CASES"]
