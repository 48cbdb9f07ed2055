"""The simulator of a GPU: the features of kernels, and the mistakes that it finds."""

import functools
import inspect
import math
import re

import numpy as np
import pytest
import twins
from in_threads import at_once

if not twins.SIMULATED:
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 (tox -e cudasim)", allow_module_level=True)

from numba import cuda

from nbkeras.kernels.cuda.loops.registers import load_quad, store_quad
from nbkeras.kernels.cuda.machine import simulator
from nbkeras.kernels.cuda.machine.checker import RaceError
from nbkeras.kernels.cuda.machine.kernel import device_function, kernel
from nbkeras.kernels.cuda.machine.simulator import BarrierError

FULL = 0xFFFFFFFF


def run(kernel, blocks, threads, *args):
    simulator.launch(kernel.function, blocks, threads, args)


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.delenv("NBKERAS_SIMULATOR", raising=False)
    monkeypatch.delenv("NBKERAS_SIMULATOR_SEED", raising=False)


@pytest.fixture
def strict(monkeypatch):
    monkeypatch.setenv("NBKERAS_SIMULATOR", "strict")


@pytest.fixture(params=["plain", "strict"])
def both(request, monkeypatch):
    monkeypatch.setenv("NBKERAS_SIMULATOR", request.param)


@pytest.fixture(params=[None, "1", "2", "3"])
def seed(request, monkeypatch):
    if request.param:
        monkeypatch.setenv("NBKERAS_SIMULATOR_SEED", request.param)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def line(kernel, text):
    """The number of the line in a kernel's source that holds a text."""
    lines, first = inspect.getsourcelines(kernel.function)
    return first + next(i for i, each in enumerate(lines) if text in each)


# -------------------- what kernels can do --------------------


@kernel
def _where(out):
    x, y, z = cuda.grid(3)
    out[z, y, x] = (
        100000 * cuda.blockIdx.z + 10000 * cuda.blockIdx.y + 1000 * cuda.blockIdx.x + 100 * cuda.threadIdx.z
    ) + (10 * cuda.threadIdx.y + cuda.threadIdx.x)


def test_threads_know_where_they_are(both, seed):
    out = zeros(2 * 1, 1 * 2, 2 * 3, dtype=np.int64)
    run(_where, (2, 1, 2), (3, 2, 1), out)
    want = [
        [[100000 * (z // 1) + 1000 * (x // 3) + 10 * (y % 2) + x % 3 for x in range(6)] for y in range(2)]
        for z in range(2)
    ]
    assert out.tolist() == want


@kernel
def _reversed(x, out):
    tile = cuda.shared.array(8, np.float32)
    t = cuda.threadIdx.x
    tile[t] = x[cuda.grid(1)]
    cuda.syncthreads()
    out[cuda.grid(1)] = tile[7 - t]


def test_a_block_shares_memory_and_meets_at_barriers(both, seed):
    x, out = np.arange(24, dtype=np.float32), zeros(24)
    run(_reversed, 3, 8, x, out)
    np.testing.assert_array_equal(out.reshape(3, 8), x.reshape(3, 8)[:, ::-1])


@kernel
def _two_tiles(out):
    t = cuda.threadIdx.x
    a, b = cuda.shared.array(2, np.float32), cuda.shared.array((2, 2), np.float64)
    a[t] = t
    b[t, 1] = 10 * t
    cuda.syncthreads()
    out[t] = a[1 - t] + b[1 - t, 1]


def test_tiles_made_in_one_line_are_two(both):
    out = zeros(2)
    run(_two_tiles, 1, 2, out)
    assert out.tolist() == [11, 0]


@kernel
def _warp(out):
    t = cuda.threadIdx.x
    out[0, t] = cuda.shfl_sync(FULL, t, 5)
    out[1, t] = cuda.shfl_up_sync(FULL, t, 2)
    out[2, t] = cuda.shfl_down_sync(FULL, t, 2)
    out[3, t] = cuda.shfl_xor_sync(FULL, t, 1)
    out[4, t] = cuda.ballot_sync(FULL, t % 2)
    out[5, t] = 2 * cuda.any_sync(FULL, t == 40) + cuda.all_sync(FULL, t < 32)
    out[6, t] = cuda.laneid
    out[7, t] = cuda.eq_sync(FULL, t // 32)


def test_warps_shuffle_and_vote(both, seed):
    out = zeros(8, 64, dtype=np.int64)
    run(_warp, 1, 64, out)
    t = np.arange(64)
    lane, start = t % 32, t // 32 * 32
    shuffled = start + 5, np.where(lane < 2, t, t - 2), np.where(lane > 29, t, t + 2), t ^ 1
    want = [*shuffled, np.full(64, 0xAAAAAAAA), np.where(t < 32, 1, 2), lane, np.ones(64)]
    np.testing.assert_array_equal(out, want)


@kernel
def _halves(out):
    t = cuda.threadIdx.x
    if t < 4:
        out[t] = cuda.shfl_xor_sync(0x0F, t, 1)
    else:
        out[t] = cuda.shfl_xor_sync(0xF0, t, 3)
    cuda.syncthreads()


def test_parts_of_a_warp_shuffle_by_themselves(both, seed):
    out = zeros(8, dtype=np.int64)
    run(_halves, 1, 8, out)
    assert out.tolist() == [1, 0, 3, 2, 7, 6, 5, 4]


@kernel
def _from_nobody(out):
    t = cuda.threadIdx.x
    out[t] = cuda.shfl_down_sync(FULL, np.float32(t), 4)


def test_a_lane_that_takes_no_part_gives_nothing_of_use():
    out = zeros(6)
    run(_from_nobody, 1, 6, out)
    assert out[:2].tolist() == [4, 5] and np.isnan(out[2:]).all()


@kernel
def _counts(out):
    t = cuda.threadIdx.x
    out[0, t] = cuda.syncthreads_count(t > 1)
    out[1, t] = cuda.syncthreads_and(t > 1)
    out[2, t] = cuda.syncthreads_or(t > 2)


def test_barriers_that_count(both, seed):
    out = zeros(3, 4)
    run(_counts, 1, 4, out)
    assert out.tolist() == [[2] * 4, [0] * 4, [1] * 4]


@kernel
def _atomics(whole, parts, changed):
    i = cuda.grid(1)
    cuda.atomic.add(whole, 0, i)
    cuda.atomic.max(parts, (1, i % 2), i)
    cuda.atomic.min(parts, (0, i % 2), i)
    cuda.atomic.inc(changed, 0, 4)
    cuda.atomic.dec(changed, 1, 2)
    cuda.atomic.exch(changed, 2, 7)
    cuda.atomic.cas(changed, 3, 0, 5)
    cuda.atomic.or_(changed, 4, 1 << i)
    cuda.atomic.and_(changed, 5, 6)
    cuda.atomic.xor(changed, 6, 1)
    cuda.atomic.sub(changed, 7, 1)


def test_atomics(both, seed):
    whole, parts, changed = zeros(1), np.full((2, 2), 5, np.float32), zeros(8, dtype=np.uint32)
    changed[5], changed[7] = 3, 10
    run(_atomics, 2, 4, whole, parts, changed)
    assert whole.tolist() == [28] and parts.tolist() == [[0, 1], [6, 7]]
    assert changed.tolist() == [3, 1, 7, 5, 255, 2, 0, 2]


@kernel
def _returns(out):
    i = cuda.grid(1)
    local = cuda.local.array(3, np.float32)
    local[i % 3] = i
    for k in range(3):
        out[i, k] = local[k]


def test_memory_that_nobody_wrote_is_not_a_number(both):
    out = zeros(4, 3)
    run(_returns, 1, 4, out)
    assert np.isnan(out).sum() == 8 and [out[i, i % 3] for i in range(4)] == [0, 1, 2, 3]


@device_function
def _summed(value):
    for offset in (2, 1):
        value += cuda.shfl_xor_sync(FULL, value, offset)
    return value


@kernel
def _calls(x, out):
    out[cuda.grid(1)] = _summed(x[cuda.grid(1)])


def test_barriers_in_functions_that_a_kernel_calls(both, seed):
    x, out = np.arange(8, dtype=np.float32), zeros(8)
    run(_calls, 2, 4, x, out)
    assert out.tolist() == [6] * 4 + [22] * 4


@kernel
def _numbers(x, factor, out):
    out[0] = max(x[0], x[1])
    out[1] = min(x[1], x[0])
    out[2] = math.exp(x[2])
    out[3] = math.log(x[3])
    out[4] = math.erf(x[4])
    out[5] = math.sqrt(-x[4])
    out[6] = max(2, 3)
    out[7] = (x[4] * factor) == x[4] * np.float64(factor)


def test_numbers_are_as_on_a_gpu(both):
    x, out = np.array([np.nan, 2, 1000, 0, 0.1], np.float32), zeros(8)
    run(_numbers, 1, 1, x, 0.3, out)
    assert out[:4].tolist() == [2, 2, np.inf, -np.inf]
    assert out[4] == np.float32(math.erf(np.float32(0.1))) and np.isnan(out[5])
    assert out[6:].tolist() == [3, 1], "a float argument is a float64"


def test_several_python_threads_may_launch():
    outs = [zeros(24) for _ in range(4)]
    x = np.arange(24, dtype=np.float32)

    def work(out):
        for _ in range(3):
            run(_reversed, 3, 8, x, out)

    at_once(*(functools.partial(work, out) for out in outs))
    for out in outs:
        np.testing.assert_array_equal(out.reshape(3, 8), x.reshape(3, 8)[:, ::-1])


@pytest.mark.parametrize(("blocks", "threads"), [(1, 1025), ((1, 65536), 1), (1, 0), (1, (32, 32, 2))])
def test_launches_beyond_a_gpu(blocks, threads):
    with pytest.raises(ValueError, match="beyond what a GPU takes"):
        run(_returns, blocks, threads, zeros(1, 3))


# -------------------- barriers --------------------


@kernel
def _some_return(out):
    t = cuda.threadIdx.x
    if t >= out.size:
        return
    cuda.syncthreads()
    out[t] = t


@kernel
def _some_elsewhere(out):
    if cuda.threadIdx.x == 1:
        cuda.syncthreads()
    else:
        cuda.syncwarp()
        cuda.syncwarp()
        cuda.syncthreads()
    out[0] = 1


@kernel
def _odd_times(out):
    for _ in range(cuda.threadIdx.x):
        cuda.syncthreads()


@kernel
def _foreign_mask(out):
    cuda.syncwarp(0b0111)


def test_a_barrier_after_some_threads_have_returned(both, seed):
    number = line(_some_return, "syncthreads")
    with pytest.raises(BarrierError, match="wait at a barrier of the block") as caught:
        run(_some_return, 2, 4, zeros(3))
    message = str(caught.value)
    assert f"wait at a barrier of the block in line {number} of test_simulator.py" in message
    assert "(3, 0, 0) have ended" in message and "in block (" in message
    run(_some_return, 1, 3, zeros(3))  # the simulator can continue


def test_a_barrier_that_some_threads_meet_elsewhere(both, seed):
    with pytest.raises(BarrierError, match="wait at a barrier of the warp") as caught:
        run(_some_elsewhere, 1, 3, zeros(1))
    first, second = line(_some_elsewhere, "syncthreads"), line(_some_elsewhere, "syncwarp")
    assert f"(1, 0, 0) wait at a barrier of the block in line {first}" in str(caught.value)
    assert f"wait at a barrier of the warp in line {second}" in str(caught.value)


def test_a_barrier_met_more_often_by_some(both, seed):
    with pytest.raises(BarrierError, match=r"threads \(0, 0, 0\) have ended"):
        run(_odd_times, 1, 3, zeros(1))


def test_a_mask_without_the_lane_itself(both, seed):
    with pytest.raises(BarrierError, match="lane 3 waits for the lanes of the mask 0x7"):
        run(_foreign_mask, 1, 4, zeros(1))


# -------------------- indices --------------------


@kernel
def _at(x, index):
    x[index] = 1


@kernel
def _local_at(out, index):
    local = cuda.local.array((2, 3), np.float32)
    out[0] = local[1, index]


@kernel
def _row_at(x, index):
    row = x[1]
    row[index] = 1


@kernel
def _rows(x, start, stop):
    x[start:stop][0, 0] = 1


def test_an_index_too_large(both):
    with pytest.raises(IndexError, match="index 3 is out of bounds|x.3. is outside its shape") as caught:
        run(_at, 1, 2, zeros(3), 3)
    assert caught.value.__notes__ == ["in CUDA thread (0, 0, 0) of block (0, 0, 0)"]


def test_a_negative_index(strict):
    x = zeros(3)
    with pytest.raises(IndexError, match=r"x\[-1\] is outside its shape \(3,\)"):
        run(_at, 1, 1, x, -1)
    assert not x.any()


@pytest.mark.parametrize(
    ("kernel", "args", "message"),
    [
        (_local_at, (zeros(1), -1), r"local\[1, -1\] is outside its shape \(2, 3\)"),
        (_row_at, (zeros(2, 3), -2), r"x\[1\]\[-2\] is outside its shape \(3,\)"),
        (_row_at, (zeros(1, 3), 0), r"x\[1\] is outside its shape \(1, 3\)"),
        (_rows, (zeros(2, 2), -1, 2), r"x\[-1:2\] is outside its shape \(2, 2\)"),
        (_rows, (zeros(2, 2), 1, 3), r"x\[1:3\] is outside"),
        (_at, (zeros(2, 2), (0, 0, 0)), r"x has 2 axes, and is indexed by \(0, 0, 0\)"),
    ],
)
def test_indices_outside(strict, kernel, args, message):
    with pytest.raises(IndexError, match=message):
        run(kernel, 1, 1, *args)


# -------------------- races --------------------


@kernel
def _no_barrier(x, out):
    tile = cuda.shared.array(4, np.float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    out[t] = tile[3 - t]


@kernel
def _second_barrier_missing(x, out):
    tile = cuda.shared.array(4, np.float32)
    t = cuda.threadIdx.x
    for k in range(2):
        tile[t] = x[t] + k
        cuda.syncthreads()
        out[t] = tile[(t + 1) % 4]


@kernel
def _one_element(out):
    out[cuda.threadIdx.x // 2] = 1


@kernel
def _blocks_meet(x, out):
    i = cuda.grid(1)
    x[i] = i
    out[i] = x[(i + 2) % x.size]


@kernel
def _all_blocks_write(out):
    out[cuda.threadIdx.x] = 1


@kernel
def _atomic_and_plain(out):
    i = cuda.threadIdx.x
    if i:
        cuda.atomic.add(out, 0, 1)
    else:
        out[0] += 1


@kernel
def _one_view_writes(x, y):
    i = cuda.threadIdx.x
    x[i] = y[i + 1]


@kernel
def _quads_of_each_other(x):
    t = cuda.threadIdx.x
    quad = load_quad(x, 4 * t)
    store_quad(x, 4 - 4 * t, quad)


@kernel
def _warps_by_themselves(x, out):
    tile = cuda.shared.array(64, np.float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncwarp()
    out[t] = tile[t ^ 1]
    cuda.syncwarp()
    tile[t] = 0


@kernel
def _warp_barrier_for_a_block(x, out):
    tile = cuda.shared.array(64, np.float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncwarp()
    out[t] = tile[63 - t]


@kernel
def _last_block(x, partial, count, out):
    last = cuda.shared.array(1, np.int32)
    t, b = cuda.threadIdx.x, cuda.blockIdx.x
    cuda.atomic.add(partial, b, x[cuda.grid(1)])
    cuda.syncthreads()
    if t == 0:
        cuda.threadfence()
        last[0] = cuda.atomic.add(count, 0, 1) == cuda.gridDim.x - 1
    cuda.syncthreads()
    if last[0] and t == 0:
        for k in range(partial.size):
            out[0] += partial[k]


@kernel
def _last_block_without_fence(x, partial, count, out):
    b = cuda.blockIdx.x
    partial[b] = x[b]
    if cuda.atomic.add(count, 0, 1) == cuda.gridDim.x - 1:
        for k in range(partial.size):
            out[0] += partial[k]


def four():
    return np.arange(4, dtype=np.float32)


def test_shared_memory_without_a_barrier(strict, seed):
    with pytest.raises(RaceError, match="a race in .*_no_barrier") as caught:
        run(_no_barrier, 1, 4, four(), zeros(4))
    message = str(caught.value)
    write, read = line(_no_barrier, "tile[t] ="), line(_no_barrier, "tile[3 - t]")
    assert re.search(
        r"_no_barrier: thread \(\d, 0, 0\) of block \(0, 0, 0\) (writes|reads) tile\[\d\] in line", message
    )
    for verb, number in (("writes", write), ("reads", read)):
        assert f"in line {number} of test_simulator.py" in message and verb in message
    assert "without a barrier in between" in message and "accesses in all" in message


def test_a_loops_second_barrier_missing(strict, seed):
    with pytest.raises(RaceError, match=r"writes tile\[\d\].* without a barrier in between"):
        run(_second_barrier_missing, 1, 4, four(), zeros(4))


def test_two_threads_write_one_element(strict, seed):
    with pytest.raises(RaceError, match=r"writes out\[\d\].*writes out\[\d\]"):
        run(_one_element, 1, 4, zeros(2))


def test_blocks_read_what_others_write(strict, seed):
    with pytest.raises(RaceError, match=r"block \(\d, 0, 0\).* x\[\d\].*block \(\d, 0, 0\).* x\[\d\].*without atomics"):
        run(_blocks_meet, 2, 2, zeros(4), zeros(4))


def test_blocks_write_one_element(strict, seed):
    with pytest.raises(RaceError, match=r"writes out\[\d\].*writes out\[\d\].*without atomics"):
        run(_all_blocks_write, 2, 2, zeros(4))
    run(_all_blocks_write, 1, 2, zeros(4))


def test_atomics_and_plain_accesses(strict, seed):
    with pytest.raises(RaceError, match=r"changes out\[0\]"):
        run(_atomic_and_plain, 1, 3, zeros(1))


def test_two_arguments_that_are_one_array(strict, seed):
    x = zeros(5)
    run(_one_view_writes, 1, 4, x, zeros(5))
    with pytest.raises(RaceError, match=r"writes x\[\d\]|reads y\[\d\]"):
        run(_one_view_writes, 1, 4, x, x)


def test_quads_are_four_elements_of_the_line_that_moves_them(strict, seed):
    load, store = line(_quads_of_each_other, "load_quad"), line(_quads_of_each_other, "store_quad")
    with pytest.raises(RaceError, match="a race in .*_quads_of_each_other") as caught:
        run(_quads_of_each_other, 1, 2, np.zeros(16, np.float32)[:8])
    message = str(caught.value)
    assert f"in line {load} of test_simulator.py" in message
    assert f"in line {store} of test_simulator.py" in message and "8 such accesses" in message
    assert re.search(r"x\[[04]:[48]\]\[\d\]", message)
    with pytest.raises(IndexError, match="outside its shape"):
        run(_quads_of_each_other, 1, 1, np.zeros(4, np.float32))


def test_a_warps_barrier_orders_its_own_lanes(strict, seed):
    x, out = np.arange(64, dtype=np.float32), zeros(64)
    run(_warps_by_themselves, 1, 64, x, out)
    np.testing.assert_array_equal(out, np.arange(64) ^ 1)
    with pytest.raises(RaceError, match=r"tile\[\d+\].* without a barrier in between"):
        run(_warp_barrier_for_a_block, 1, 64, x, out)


def test_the_last_block_may_read_what_others_handed_on(strict, seed):
    x, out = np.arange(6, dtype=np.float32), zeros(1)
    run(_last_block, 3, 2, x, zeros(3), zeros(1, dtype=np.uint32), out)
    assert out[0] == 15
    with pytest.raises(RaceError, match=r"partial\[\d\].*without atomics"):
        run(_last_block_without_fence, 3, 1, x, zeros(3), zeros(1, dtype=np.uint32), out)


def test_a_race_shows_when_the_order_is_shuffled(monkeypatch):
    """Strict mode always finds such a race; without it, threads in order of their numbers read what those before them wrote."""

    def downwards():
        out = zeros(16)
        run(_from_the_one_before, 1, 16, out)
        return out.tolist()

    assert downwards() == list(range(1, 17))
    for seed in "123":
        monkeypatch.setenv("NBKERAS_SIMULATOR_SEED", seed)
        assert downwards() != list(range(1, 17))
    monkeypatch.setenv("NBKERAS_SIMULATOR", "strict")
    monkeypatch.delenv("NBKERAS_SIMULATOR_SEED")
    with pytest.raises(RaceError, match=r"out\[\d+\].*without a barrier in between"):
        downwards()


@kernel
def _from_the_one_before(out):
    i = cuda.grid(1)
    out[i] = 1 if i == 0 else out[i - 1] + 1
