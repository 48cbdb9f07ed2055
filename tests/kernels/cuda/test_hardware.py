"""The real device's code (cuda/machine/hardware.py) on a stand-in for the driver: no GPU needed. See reference/stand_in.py.

In the simulator whole programs run on it, kernels in the simulator, streams in any order that the calls allow.
"""

import contextlib
import gc
import importlib.util
import inspect
import re

import numpy as np
import pytest
import stand_in
import twins
from in_threads import at_once

import nbkeras
from nbkeras import Sequential, ops
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Tensor, Variable, as_tensor
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray, layout_at
from nbkeras.layers import Dense

ORDERS = ["late", "early", 1, 2, 3]
Code = stand_in.CUresult


@pytest.fixture(params=ORDERS)
def driver(request):
    return stand_in.Driver(order=request.param)


@pytest.fixture
def hardware(driver, monkeypatch):
    monkeypatch.delenv("NBKERAS_SYNCHRONOUS", raising=False)
    with stand_in.loaded(driver) as module:
        yield module


@pytest.fixture
def gpu_device(hardware):
    return hardware.Device(0)


class Gpu:
    """The part of a Gpu that input staging and graphs use."""

    def __init__(self, gpu_device, driver):
        self.device, self.driver, self.scratch = gpu_device, driver, {}

    def empty(self, shape, dtype):
        memory = self.device.allocate(max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1))
        return DeviceArray(layout_at(memory.address, shape, dtype), self, memory)

    @contextlib.contextmanager
    def scratch_of_its_own(self):
        yield self.scratch


@pytest.fixture
def gpu(gpu_device, driver):
    return Gpu(gpu_device, driver)


def put(gpu, value):
    array = gpu.empty(value.shape, value.dtype)
    gpu.device.upload(array.address, np.ascontiguousarray(value))
    return array


def got(array):
    result = np.empty(array.shape, array.dtype)
    array.gpu.device.download(result, array.address)
    return result


def start(gpu, function, *args, blocks=1, threads=32):
    gpu.device.start(stand_in.Kernel(gpu.driver, function), blocks, threads, args)


def double(x):
    x *= 2


def add(x, y):
    x += y


# -------------------- memory and copies --------------------


def test_the_device(gpu_device, hardware):
    assert gpu_device.name == "cuda:0 (stand-in)" and gpu_device.processors == 2 and hardware.Device.count() == 1
    assert gpu_device.memory() == (1 << 24, 1 << 24)
    assert gpu_device.number_of(gpu_device.allocate(10).address) == 0


def test_memory_is_taken_and_given_back(gpu_device, driver):
    memory = gpu_device.allocate(1000)
    assert memory.address in driver.memory and gpu_device.memory()[0] == (1 << 24) - 1000
    gpu_device.free(memory)
    assert not driver.memory


def test_no_room_is_none_and_other_errors_are_errors(gpu_device, driver, hardware):
    assert gpu_device.allocate(1 << 25) is None
    driver.failures["cuMemAlloc"] = Code.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(
        hardware.GpuError, match=r"cuMemAlloc of 1,000 bytes failed: invalid value \(CUDA_ERROR_INVALID_VALUE\)"
    ):
        gpu_device.allocate(1000)
    driver.failures["cuMemFree"] = Code.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(hardware.GpuError, match="cuMemFree failed"):
        gpu_device.free(gpu_device.allocate(1))


def test_copies_keep_their_turn(gpu):
    x = put(gpu, np.arange(5.0))
    start(gpu, double, x)
    y = gpu.empty((5,), np.float64)
    gpu.device.move(x.address, y.address, 40)
    start(gpu, double, x)
    gpu.device.upload(x.address, np.ones(5))
    start(gpu, add, x, y)
    assert got(x).tolist() == [1, 3, 5, 7, 9] and got(y).tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("count", [3, 1_000_000])
def test_what_was_uploaded_may_be_changed_at_once(gpu, count):
    value = np.ones(count)
    x = put(gpu, value)
    value[:] = 7
    del value
    start(gpu, double, x)
    assert (got(x) == 2).all()


def test_what_is_uploaded_in_passing_is_let_go(gpu, hardware):
    """Its memory is freed even if much is uploaded between two waits."""
    x = put(gpu, np.zeros(10_000))
    for i in range(2000):
        gpu.device.upload(x.address, np.full(10_000, float(i)))
    assert sum(array.nbytes for array in gpu.device._sent) <= 64 << 20
    assert (got(x) == 1999).all()
    assert not gpu.device._sent


def test_streams_of_others_are_waited_for(gpu, driver):
    theirs = driver.cuStreamCreate(1)[1]
    x = put(gpu, np.ones(3))
    gpu.device.order(gpu.device.stream, theirs)
    seen = []
    driver.give(
        driver.streams[theirs], lambda: (seen.append(layout_at(x.address, (3,), np.float64).tolist()), fill(x, 5))
    )
    gpu.device.order(theirs, gpu.device.stream)
    start(gpu, double, x)
    assert got(x).tolist() == [10, 10, 10] and seen == [[1, 1, 1]]
    assert not driver.events


def fill(x, value):
    layout_at(x.address, x.shape, x.dtype)[...] = value


@pytest.mark.parametrize(
    "action",
    [
        lambda gpu, x: start(gpu, double, x),
        lambda gpu, x: gpu.device.upload(x.address, np.full(3, 2.0)),
        lambda gpu, x: gpu.device.move(gpu.two.address, x.address, 24),
        lambda gpu, x: gpu.device.launch_graph(gpu.device.capture(lambda: start(gpu, double, x))),
        lambda gpu, x: got(x),
        lambda gpu, x: gpu.device.free(gpu.device.allocate(5)),
        lambda gpu, x: gpu.device.free(gpu.spare),
        lambda gpu, x: gpu.device.order(gpu.device.stream, 1),
        lambda gpu, x: gpu.device.input_staging([x]).arrays,
        lambda gpu, x: gpu.staging.send(),
        lambda gpu, x: gpu.device.memory(),
        lambda gpu, x: gpu.device.number_of(x.address),
        lambda gpu, x: gpu.device.synchronize(),
    ],
)
def test_every_thread_enters_the_device(gpu, action):
    x = put(gpu, np.ones(3))
    gpu.two, gpu.spare, gpu.staging = put(gpu, np.full(3, 2.0)), gpu.device.allocate(5), gpu.device.input_staging([x])
    gpu.staging.arrays[0][:] = 1
    at_once(lambda: action(gpu, x))
    assert got(x)[0] in (0, 1, 2)


# -------------------- kernels --------------------


def test_kernels_get_arrays_and_numbers(gpu):
    seen = []
    x = put(gpu, np.arange(6, dtype=np.float32).reshape(2, 3))
    start(gpu, lambda *args: seen.extend(args), x.T, x, 3, np.float32(0.5), (1, 2))
    gpu.device.synchronize()
    assert seen[0].tolist() == [[0, 3], [1, 4], [2, 5]] and seen[1].shape == (2, 3) and seen[2:] == [3, 0.5, (1, 2)]


def test_a_launch_that_is_refused(gpu, hardware):
    refused = (
        r"the kernel .*test_hardware.double could not be started with 1 blocks of 2000 threads on cuda:0 \(stand-in\)"
    )
    with pytest.raises(hardware.GpuError, match=refused):
        start(gpu, double, put(gpu, np.ones(3)), threads=2000)


def illegal():
    raise stand_in.Fault(Code.CUDA_ERROR_ILLEGAL_ADDRESS)


def test_a_kernel_that_fails(gpu, hardware):
    x = put(gpu, np.ones(3))
    gpu.device.synchronize()
    with pytest.raises(hardware.GpuError, match=r"illegal address \(CUDA_ERROR_ILLEGAL_ADDRESS\)"):
        start(gpu, illegal)
        start(gpu, double, x)
        gpu.device.synchronize()
    for call in (lambda: got(x), lambda: gpu.device.allocate(5), gpu.device.synchronize):
        with pytest.raises(hardware.GpuError, match="NBKERAS_SYNCHRONOUS=1 to find it"):
            call()


def test_a_kernel_that_fails_is_named_where_each_is_waited_for(driver, monkeypatch):
    monkeypatch.setenv("NBKERAS_SYNCHRONOUS", "1")
    with stand_in.loaded(driver) as hardware:
        gpu = Gpu(hardware.Device(0), driver)
        start(gpu, double, put(gpu, np.ones(3)))
        with pytest.raises(hardware.GpuError, match=r"the kernel .*\.illegal was the last to run"):
            start(gpu, illegal)


def test_freed_memory_is_a_fault(gpu, hardware):
    x = put(gpu, np.ones(3))
    gpu.device.synchronize()
    gpu.device.free(x.memory)
    with pytest.raises(hardware.GpuError, match="illegal address"):
        start(gpu, double, x)
        gpu.device.synchronize()


# -------------------- programs --------------------


def test_a_program_is_captured_once_and_played(gpu, driver):
    x, y, plays = put(gpu, np.ones(3)), put(gpu, np.zeros(3)), []

    def play():
        plays.append(1)
        start(gpu, double, x)
        gpu.device.move(x.address, y.address, 24)

    run = gpu.device.graph(play, gpu)
    gpu.scratch = {"products": "memory"}
    for _ in range(4):
        run()
    assert got(x).tolist() == [16] * 3 and got(y).tolist() == [16] * 3
    assert len(plays) == 1 and driver.calls.count("cuGraphLaunch") == 4
    assert run.__self__._held == {"products": "memory"} and not driver.graphs and len(driver.executables) == 1
    assert len(driver.streams) == 4, "the capture's stream is gone"
    del run, play
    gc.collect()
    assert not driver.executables


def test_work_of_a_capture_does_not_run(gpu, driver):
    x = put(gpu, np.ones(3))
    graph = gpu.device.capture(lambda: start(gpu, double, x))
    assert got(x).tolist() == [1, 1, 1]
    gpu.device.launch_graph(graph)
    assert got(x).tolist() == [2, 2, 2]


def test_what_is_uploaded_in_a_capture_is_there_when_it_plays(gpu):
    """A twin makes a table at its first use: the graph holds no copy from the CPU."""
    x, kept = put(gpu, np.ones(3)), []

    def play():
        if not kept:
            kept.append(put(gpu, np.full(3, 5.0)))
        start(gpu, add, x, kept[0])

    graph = gpu.device.capture(play)
    gpu.device.upload(kept[0].address, np.full(3, 7.0))
    gpu.device.launch_graph(graph)
    gpu.device.launch_graph(graph)
    assert got(x).tolist() == [15, 15, 15]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("cuStreamEndCapture", Code.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED),
        ("cuGraphInstantiate", Code.CUDA_ERROR_OUT_OF_MEMORY),
        ("cuStreamBeginCapture", Code.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
    ],
)
def test_what_cannot_be_captured_is_played_kernel_by_kernel(gpu, driver, name, code):
    x = put(gpu, np.ones(3))
    run = gpu.device.graph(lambda: start(gpu, double, x), gpu)
    driver.failures[name] = code
    with pytest.warns(RuntimeWarning, match=r"\(CUDA_ERROR_.*\): its kernels are launched one by one"):
        run()
    run()
    assert got(x).tolist() == [4, 4, 4]
    assert len(driver.streams) == 4 and not driver.graphs


def test_errors_while_capturing_leave_nothing_behind(gpu, driver, hardware):
    x = put(gpu, np.ones(3))

    def play():
        start(gpu, double, x)
        raise KeyError("an error of the program's own")

    with pytest.raises(KeyError, match="an error of the program's own"):
        gpu.device.graph(play, gpu)()
    assert len(driver.streams) == 4 and not driver.graphs
    start(gpu, double, x)
    assert got(x).tolist() == [2, 2, 2]


def test_a_graph_that_fails(gpu, hardware):
    run = gpu.device.graph(lambda: start(gpu, illegal), gpu)
    with pytest.raises(hardware.GpuError, match="illegal address.*one of a recorded program"):
        run()
        gpu.device.synchronize()


# -------------------- batches --------------------


def step(x, total):
    total += x.sum()


def test_batches_reach_the_step_that_they_are_for(gpu):
    """Each step reads its batch, though the next ones are written meanwhile."""
    x, total = put(gpu, np.zeros(4, np.float32)), put(gpu, np.zeros(20))
    whole = total.at(0, (1,), np.float64)
    staging = gpu.device.input_staging([x, None])
    for i in range(20):
        staging.arrays[0][:] = i
        assert staging.arrays[1] is None
        staging.send()
        start(gpu, step, x, total.at(8 * i, (1,), np.float64))
    assert got(total).tolist() == [4.0 * i for i in range(20)] and whole.size == 1


def test_batches_are_copied_beside_the_step_before(gpu, driver):
    """They are copied on a stream of their own, from page-locked memory, into a buffer that the step does not read."""
    if driver.order != "late":
        pytest.skip("only the order 'late' says what ran before")
    x = put(gpu, np.zeros(4, np.float32))
    staging = gpu.device.input_staging([x])
    assert len(driver.pinned) == 2
    gpu.device.synchronize()
    addresses = set()
    for i in (1, 2):
        addresses.add(device.address(staging.arrays[0]))
        staging.arrays[0][:] = i
        staging.send()
        start(gpu, double, x)
    assert len(addresses) == 2
    copies = driver.streams[int(gpu.device._copies)]
    driver.run(copies, copies.given)
    assert driver.streams[gpu.device.stream].done < driver.streams[gpu.device.stream].given
    assert got(x).tolist() == [4, 4, 4, 4]


def test_a_slot_is_used_again_only_when_its_batch_has_left(gpu, driver):
    x = put(gpu, np.zeros(1, np.float32))
    staging, seen = gpu.device.input_staging([x]), []
    for i in range(6):
        staging.arrays[0][0] = i
        staging.send()
        start(gpu, lambda array: seen.append(float(array[0])), x)
    gpu.device.synchronize()
    assert seen == [0, 1, 2, 3, 4, 5]


def test_an_input_staging_that_ends_gives_its_memory_back(gpu, driver):
    x = put(gpu, np.zeros(3, np.float32))
    staging = gpu.device.input_staging([x, None])
    staging.arrays[0][:] = 1
    staging.send()
    del staging
    gc.collect()
    assert not driver.pinned and not driver.events
    assert got(x).tolist() == [1, 1, 1]


def test_an_input_staging_that_ends_in_another_thread(gpu, driver):
    staging = [gpu.device.input_staging([put(gpu, np.zeros(3, np.float32))])]
    at_once(staging.clear)
    gc.collect()
    assert not driver.pinned and not driver.events


def test_an_empty_batch(gpu):
    staging = gpu.device.input_staging([gpu.empty((0, 3), np.float32)])
    assert staging.arrays[0].shape == (0, 3)
    staging.send()
    gpu.device.synchronize()


def test_a_batch_that_cannot_be_sent(gpu, driver, hardware):
    staging = gpu.device.input_staging([put(gpu, np.zeros(3, np.float32))])
    driver.failures["cuMemcpyHtoDAsync"] = Code.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(hardware.GpuError, match="cuMemcpyHtoDAsync failed: invalid value"):
        staging.send()


# -------------------- whole programs, with kernels in the simulator --------------------

needs_simulator = pytest.mark.skipif(not twins.SIMULATED, reason="needs NUMBA_ENABLE_CUDASIM=1 (tox -e cudasim)")


def simulated_kernel(driver):
    """Kernel.compiled: a dispatcher whose kernels run in the simulator when their turn comes."""
    from nbkeras.kernels.cuda.machine import simulator

    def compiled(kernel):
        def function(blocks, threads, *args):
            simulator.launch(kernel.function, blocks, threads, args)

        return stand_in.Compiled(driver, function)

    return property(compiled, lambda kernel, value: None)


@pytest.fixture
def whole(hardware, driver, monkeypatch):
    """A Gpu on the stand-in, as this thread's."""
    from nbkeras.kernels.cuda.machine import gpu as machine
    from nbkeras.kernels.cuda.machine import kernel as cuda_kernel

    monkeypatch.setattr(machine, "Device", hardware.Device)
    monkeypatch.setattr(machine, "SIMULATED", False)
    monkeypatch.setattr(cuda_kernel.Kernel, "compiled", simulated_kernel(driver), raising=False)
    gpu = machine.Gpu(0)
    with device.on(gpu):
        yield gpu


@needs_simulator
def test_a_recorded_program_with_batches(whole, driver):
    x, total = device.persistent_empty((5, 3), np.float32), Variable(np.zeros(3, np.float32))
    staging, recorder, results = device.input_staging([x]), Recorder(), []

    def step():
        y = ops.exp(ops.multiply(Tensor(x), 0.5))
        total.assign_add(ops.sum(y, axis=0))
        return [ops.add(y, total).data]

    batches = [np.full((5, 3), i, np.float32) for i in range(8)]
    staging.arrays[0][:] = batches[0]
    staging.send()
    with device.record(recorder):
        outputs = step()
    results.append(outputs[0].copy())
    program = recorder.sealed(outputs).bind()
    outputs = program.outputs
    for batch in batches[1:]:
        staging.arrays[0][:] = batch
        staging.send()
        program.run()
        results.append(outputs[0].copy() if batch[0, 0] % 3 == 0 else None)
    sums = np.cumsum([5 * np.exp(0.5 * i) for i in range(8)])
    for i, result in enumerate(results):
        if result is not None:
            np.testing.assert_allclose(result, np.exp(0.5 * i) + sums[i], rtol=1e-5)
    np.testing.assert_allclose(total.numpy(), sums[-1], rtol=1e-5)
    assert driver.calls.count("cuGraphLaunch") == 7 and driver.calls.count("cuStreamBeginCapture") == 1


def trained(gpu, x, y):
    with device.on(gpu):
        nbkeras.config.set_seed(1)
        model = Sequential([Dense(5, activation="tanh", input_shape=(3,)), Dense(1)])
        model.compile("adam", "mse", metrics=["mae"])
        history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0).history
        return history, model.get_weights(), model.predict(x, batch_size=5, verbose=0)


@needs_simulator
def test_training_is_that_of_the_cpu_in_any_order(whole, driver):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((28, 3)).astype(np.float32), rng.standard_normal((28, 1)).astype(np.float32)
    want, got = trained(None, x, y), trained(whole, x, y)
    for name, values in want[0].items():
        np.testing.assert_allclose(got[0][name], values, rtol=1e-4)
    for ours, theirs in zip([*got[1], got[2]], [*want[1], want[2]], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert driver.calls.count("cuGraphLaunch") >= 10


@needs_simulator
def test_values_go_in_and_out_whatever_their_strides(whole):
    value = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    array = whole.upload(value)
    np.testing.assert_array_equal(array.transpose(2, 0, 1).copy(), value.transpose(2, 0, 1))
    whole.write(array[:, 1:2], np.float32(7))
    whole.write(array[:, 0], value[:, 2])
    value[:, 1:2], value[:, 0] = 7, value[:, 2]
    np.testing.assert_array_equal(array.copy(), value)


@needs_simulator
def test_memory_that_is_given_back_is_used_in_its_turn(whole):
    """It is used again while its earlier readers are still queued."""
    results = []
    for i in range(20):
        x = ops.multiply(as_tensor(np.full(1000, float(i), np.float32)), 2.0)
        results.append(ops.add(x, 1.0))
        del x
    for i, result in enumerate(results):
        assert (result.numpy() == 2 * i + 1).all()


@needs_simulator
def test_the_memory_of_an_input_staging_is_not_read_by_earlier_work(whole, driver):
    """Another stream writes to that memory."""
    x = whole.upload(np.ones(256, np.float32))
    y, buffer = ops.multiply(Tensor(x), 2.0), whole.empty((256,), np.float32)
    address = x.address
    del x
    staging = whole.input_staging([buffer])
    assert address in [slot.staged[0].address for slot in staging._slots]
    for i in range(2):
        staging.arrays[0][:] = i
        staging.send()
    copies = driver.streams[int(staging._device._copies)]
    driver.run(copies, copies.given)
    assert (y.numpy() == 2).all()


@needs_simulator
def test_a_device_that_is_full(whole, driver):
    from nbkeras.kernels.cuda.machine.gpu import OutOfDeviceMemoryError

    driver.total = 100_000
    kept = whole.empty((10_000,), np.float32)
    for count in (12_000, 13_000, 14_000):  # another size each time: the pool gives back what it keeps
        whole.empty((count,), np.float32)
    with pytest.raises(
        OutOfDeviceMemoryError, match=r"no room for an array of 80,000 bytes: 59,\d+ of its 100,000 bytes"
    ):
        whole.empty((20_000,), np.float32)
    assert whole.empty((14_800,), np.float32).size == 14_800 and kept.size == 10_000


@needs_simulator
def test_a_kernel_that_fails_in_a_program_is_an_error(whole, driver, hardware):
    x = as_tensor(np.ones(3, np.float32))
    driver.broken = Code.CUDA_ERROR_LAUNCH_FAILED
    with pytest.raises(hardware.GpuError, match="launch failed"):
        ops.exp(x).numpy()


# -------------------- the stand-in itself --------------------


def test_the_stand_in_has_the_arguments_of_the_real_driver():
    real = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    for name, function in stand_in.FUNCTIONS.items():
        if hasattr(function, "kinds"):
            head = re.match(rf"{name}\((.*?)\)", getattr(real, name).__doc__, re.DOTALL)[1]
            names = [part for part in head.split(",") if part.strip()]
            assert len(names) == len(function.kinds), f"{name}({head})"
    for name in ("CUstream_flags", "CUevent_flags", "CUstreamCaptureMode", "CUpointer_attribute", "CUresult"):
        for member in getattr(stand_in, name):
            assert getattr(getattr(real, name), member.name) == member.value


@pytest.mark.skipif(
    twins.SIMULATED or not importlib.util.find_spec("numba_cuda"), reason="numba-cuda is not installed, or simulates"
)
def test_the_stand_in_has_the_arguments_of_the_real_numba():
    from numba import cuda
    from numba.cuda.cudadrv import devicearray, driver
    from numba.cuda.dispatcher import CUDADispatcher

    for real, ours in (
        (driver.MemoryPointer, stand_in.MemoryPointer),
        (devicearray.DeviceNDArray, stand_in.DeviceNDArray),
        (cuda.external_stream, stand_in.external_stream),
    ):
        wanted, offered = inspect.signature(real).parameters, inspect.signature(ours).parameters
        assert len(wanted) == len(offered), real
    assert list(inspect.signature(CUDADispatcher.configure).parameters)[1:] == [
        "griddim",
        "blockdim",
        "stream",
        "sharedmem",
    ]
    assert all(hasattr(cuda, name) for name in ("select_device", "get_current_device", "current_context", "gpus"))
