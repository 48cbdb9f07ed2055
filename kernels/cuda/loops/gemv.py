"""Products of matrices and vectors on a GPU. Reading the matrix dominates, so it is read once, in whole lines.

If the terms of a sum are contiguous, a warp computes each sum. If a term's numbers are contiguous, each thread computes four sums
over some of the terms, and the warps of a block add them. Long sums of few outputs are cut into parts, by shape only.
"""

from numba import cuda

from nbkeras.kernels.cuda.loops.registers import load_quad
from nbkeras.kernels.cuda.loops.sums import Target, add_parts, outcome, parts_of
from nbkeras.kernels.cuda.machine.kernel import blocks, device_function, kernel, size, start
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_LANES = size(32, simulated=8)
_DOT_WARPS, _ADD_WARPS = size(4, simulated=2), size(8, simulated=2)
_DOT_THREADS, _ADD_THREADS = _DOT_WARPS * _LANES, _ADD_WARPS * _LANES
_OUTPUTS = 4 * _LANES  # the outputs of a block that adds the sums of its warps
_ROOM = _ADD_WARPS * _OUTPUTS
_DOT_TERMS, _ADD_TERMS = size(1024, simulated=16), size(64, simulated=4)  # minimum terms of a part, for both ways
_ALL = 0xFFFFFFFF


def gemv(
    m: int, n: int, k: int, x: DeviceArray, x_form: tuple, y: DeviceArray, y_form: tuple, target: Target, batches: int
) -> None:
    """Computes a product with m = 1 or n = 1: each output is the sum over p < k of x[output, p] * y[p].

    x_form: the offset of the first matrix, the distances between outputs, terms and matrices, and whether quads load. y_form: the
    offset of the first vector, the distances between numbers and vectors, and whether quads load.
    """
    outputs, along = m * n, x_form[2] == 1
    cells = blocks(outputs, _DOT_WARPS if along else _OUTPUTS)
    maximum = max(1, k // (_DOT_TERMS if along else _ADD_TERMS))
    parts = max(1, min(maximum, 4 * device.gpu().processors // (cells * batches)))
    depth = max(4, blocks(k, parts) + -blocks(k, parts) % 4)
    parts = max(1, blocks(k, depth))
    partial = target if parts == 1 else parts_of(target, batches, parts, m, n)
    c, at, ld, step, *rest = partial
    form = at, ld if n == 1 else 1, step, outputs, int(n > 1)
    args = (outputs, k, depth), x, x_form, y, y_form, c, form, *rest
    if along:
        start(_dot, (cells, parts, batches), _DOT_THREADS, *args)
    else:
        start(_add, (cells, parts, batches), _ADD_THREADS, *args)
    if parts > 1:
        add_parts(partial, target, batches, parts, m, n)


@device_function
def _put(total, output, c, form, beta, bias, rectify):
    at, apart, step, part_step, bias_apart = form
    at += cuda.blockIdx.z * step + cuda.blockIdx.y * part_step + output * apart
    c[at] = outcome(total, c, at, beta, bias, output * bias_apart, rectify)


@kernel
def _dot(sizes, x, x_form, y, y_form, c, form, beta, bias, rectify):
    outputs, k, depth = sizes
    x_at, apart, _, x_step, quads = x_form
    y_at, y_apart, y_step, y_quads = y_form
    lane = cuda.threadIdx.x % _LANES
    output = cuda.blockIdx.x * _DOT_WARPS + cuda.threadIdx.x // _LANES
    first, last = cuda.blockIdx.y * depth, min(k, (cuda.blockIdx.y + 1) * depth)
    x_at += cuda.blockIdx.z * x_step + min(output, outputs - 1) * apart  # all lanes take part in the shuffles
    y_at += cuda.blockIdx.z * y_step
    total = c.dtype.type(0)
    if quads != 0 and y_quads != 0:
        t_1, t_2, t_3 = total, total, total
        for p in range(first + 4 * lane, last, 4 * _LANES):
            x_0, x_1, x_2, x_3 = load_quad(x, x_at + p)
            y_0, y_1, y_2, y_3 = load_quad(y, y_at + p)
            total += x_0 * y_0
            t_1 += x_1 * y_1
            t_2 += x_2 * y_2
            t_3 += x_3 * y_3
        total += t_1 + (t_2 + t_3)
    else:
        for p in range(first + lane, last, _LANES):
            total += x[x_at + p] * y[y_at + p * y_apart]
    bit = _LANES // 2
    while bit > 0:
        total += cuda.shfl_xor_sync(_ALL, total, bit)
        bit //= 2
    if lane == 0 and output < outputs:
        _put(total, output, c, form, beta, bias, rectify)


@kernel
def _add(sizes, x, x_form, y, y_form, c, form, beta, bias, rectify):
    outputs, k, depth = sizes
    x_at, _, apart, x_step, quads = x_form
    y_at, y_apart, y_step, _ = y_form
    totals = cuda.shared.array(_ROOM, c.dtype)
    lane, warp = cuda.threadIdx.x % _LANES, cuda.threadIdx.x // _LANES
    first, last = cuda.blockIdx.y * depth, min(k, (cuda.blockIdx.y + 1) * depth)
    # a thread has four contiguous outputs, or one in each quarter if a load cannot take four
    beside = 1 if quads != 0 else _LANES
    mine = 4 * lane if quads != 0 else lane
    output = cuda.blockIdx.x * _OUTPUTS + mine
    x_at += cuda.blockIdx.z * x_step + output
    y_at += cuda.blockIdx.z * y_step
    zero = c.dtype.type(0)
    t_0, t_1, t_2, t_3 = zero, zero, zero, zero
    for p in range(first + warp, last, _ADD_WARPS):
        factor, at = y[y_at + p * y_apart], x_at + p * apart
        if quads != 0:
            if output < outputs:
                x_0, x_1, x_2, x_3 = load_quad(x, at)
                t_0 += x_0 * factor
                t_1 += x_1 * factor
                t_2 += x_2 * factor
                t_3 += x_3 * factor
        else:
            if output < outputs:
                t_0 += x[at] * factor
            if output + beside < outputs:
                t_1 += x[at + beside] * factor
            if output + 2 * beside < outputs:
                t_2 += x[at + 2 * beside] * factor
            if output + 3 * beside < outputs:
                t_3 += x[at + 3 * beside] * factor
    at = warp * _OUTPUTS + mine
    totals[at], totals[at + beside], totals[at + 2 * beside], totals[at + 3 * beside] = t_0, t_1, t_2, t_3
    cuda.syncthreads()
    for i in range(cuda.threadIdx.x, _OUTPUTS, _ADD_THREADS):
        output = cuda.blockIdx.x * _OUTPUTS + i
        if output < outputs:
            total = totals[i]
            for other in range(i + _OUTPUTS, _ROOM, _OUTPUTS):
                total += totals[other]
            _put(total, output, c, form, beta, bias, rectify)
