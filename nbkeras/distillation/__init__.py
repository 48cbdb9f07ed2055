"""Keras's `distillation`: a small model, the student, learns from targets and from the outputs of a trained one, the teacher."""

from typing import TYPE_CHECKING

from nbkeras.distillation.objectives import DistillationLoss as DistillationLoss
from nbkeras.distillation.objectives import FeatureDistillation as FeatureDistillation
from nbkeras.distillation.objectives import LogitsDistillation as LogitsDistillation
from nbkeras.distillation.objectives import registry
from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.distillation.distiller import *

_lazy_names.attach(globals(), registry)
