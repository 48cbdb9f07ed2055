"""Floor 0: raw arrays and compiled loops. Installed as `nbkeras.kernels`; does not depend on the rest of nbkeras.

The contract of a family (one file: op, vjp and their compiled loops together):

* `op(x, ..., **constants) -> (y, saved)`: y is an array or a tuple of arrays; saved is anything that `op_vjp` needs.
* `op_vjp(saved, dy, needs) -> grads`: dy is y's gradient (if y is a tuple, a tuple with None for unused outputs);
  `needs[i]` is False if input i needs no gradient, else True or a destination array; grads has one entry per array input,
  None if it is not needed. `device.output(needs[i], shape, dtype)` uses the destination if there is one. A gradient may be
  an object that represents an array, such as `embedding.RowGradient`: see nbkeras/engine/tape.py.
* Neither changes its inputs, and a gradient may alias dy: code that adds in place must own the array that it changes.
* Arrays are C-contiguous and of one float dtype (plus integer indices and bool masks); temporaries come from
  `device.empty`; all computation is done by `device.launch(kernel, *arrays_and_constants)`. A kernel allocates nothing. Op
  code uses shapes, dtypes and views of arrays; while a step is recorded, reading values raises an error
  (`device.UnreadArray`).
* Kernels are written with loops, not slice arithmetic (0.1 s instead of 2.2 s to compile), decorated with `cache.compiled`,
  at module level, with one signature per dtype. A kernel with enough work for several threads takes `share, shares` and is
  started by `threads.launch_shares`; work is split by shape, never by thread count, so results are the same on every machine.
* Constants in a float32 loop have the loop's dtype: `x.dtype.type(0.5)`.
* Imports of other kernel modules name them in full, `from nbkeras.kernels.loops import vmath` or
  `from nbkeras.kernels.loops.vmath import exp`: the cache's stamp follows them.

Folders: `loops/` has the parts of compiled loops, `runtime/` runs them, `convolution/` and `recurrent/` are families of several
files, and `cuda/` has the twins of all of these for GPUs. Custom kernels need the names below and those of
`nbkeras.kernels.cuda`: see docs/custom-ops.md.
"""

from nbkeras.kernels.runtime import device as device
from nbkeras.kernels.runtime.cache import compiled as compiled
from nbkeras.kernels.runtime.threads import launch_shares as launch_shares
