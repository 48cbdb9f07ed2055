"""Floor 0: raw arrays and compiled loops. Installed as `nbkeras.kernels`; knows nothing of the rest of nbkeras.

The contract of a family (one file: op, vjp and their compiled loops together):

* `op(x, ..., **constants) -> (y, saved)`: y is an array or a tuple of arrays; saved is whatever `op_vjp` needs.
* `op_vjp(saved, dy, needs) -> grads`: dy is y's gradient (a tuple with None for unused outputs where y is a tuple);
  `needs[i]` is False where input i needs no gradient, True or a destination array where it does; grads has one entry per
  array input, None where not needed. `device.output(needs[i], shape, dtype)` takes the destination if there is one. A
  gradient may be an object that stands for an array, as `embedding.RowGradient`: see nbkeras/engine/tape.py.
* Neither changes its inputs, and a gradient may alias dy: whoever adds in place owns what it adds to.
* Arrays come in C-contiguous and of one float dtype (plus integer indices and bool masks); temporaries from
  `device.empty`; all computation by `device.launch(kernel, *arrays_and_constants)`. A kernel allocates nothing. Op code uses
  shapes, dtypes and views of arrays; while a step is recorded they refuse to show values (`device.UnreadArray`).
* Kernels are written with loops, not slice arithmetic (2.2 s against 0.1 s to compile), decorated with `cache.compiled`,
  at module level, one signature per dtype. One whose work is worth several threads takes `share, shares` and is started by
  `threads.launch_shares`; work is split by shape, never by thread count, so results are the same on every machine.
* Constants in a float32 loop have the loop's dtype: `x.dtype.type(0.5)`.
* Imports of other kernel modules name them in full, `from nbkeras.kernels.loops import vmath` or
  `from nbkeras.kernels.loops.vmath import exp`: the cache's stamp follows them.

Folders: `loops/` holds what compiled loops are made of, `runtime/` runs them, `convolution/` and `recurrent/` are families of
several files, and `cuda/` holds the twins of all of these for GPUs. Kernels of your own need the names below and those of
`nbkeras.kernels.cuda`: see docs/custom-ops.md.
"""

from nbkeras.kernels.runtime import device as device
from nbkeras.kernels.runtime.cache import compiled as compiled
from nbkeras.kernels.runtime.threads import launch_shares as launch_shares
