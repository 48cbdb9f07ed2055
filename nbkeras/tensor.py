"""Names for your own ops: `formula`, `apply` and `op`, with Tensor, Variable and GradientTape; for optimizers `step_formula`."""

from nbkeras.autodiff.gradient_tape import GradientTape as GradientTape
from nbkeras.engine.tensor import Tensor as Tensor
from nbkeras.engine.tensor import Variable as Variable
from nbkeras.engine.tensor import apply as apply
from nbkeras.engine.tensor import as_tensor as as_tensor
from nbkeras.engine.tensor import op as op
from nbkeras.ops.formula import formula as formula
from nbkeras.ops.formula import step_formula as step_formula
