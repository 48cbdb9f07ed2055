"""Kernels for GPUs. The twin of a CPU kernel `nbkeras.kernels.x.f` is `nbkeras.kernels.cuda.x.f`, imported at its first launch.

`loops/` has the parts of CUDA kernels; `machine/` has the GPU itself, real and simulated. Custom kernels need the names below,
see docs/custom-ops.md.
"""

from nbkeras.kernels.cuda.machine.kernel import blocks as blocks
from nbkeras.kernels.cuda.machine.kernel import device_function as device_function
from nbkeras.kernels.cuda.machine.kernel import kernel as kernel
from nbkeras.kernels.cuda.machine.kernel import size as size
from nbkeras.kernels.cuda.machine.kernel import start as start
