"""Arrays on a device: views, copies in and out, memory, errors; in the simulator or on a GPU."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import twins
from in_threads import at_once

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

pytestmark = twins.needs_cuda
DTYPES = [np.float32, np.float64, np.int64, np.int32, np.uint32, np.uint8, np.bool_]


@pytest.fixture
def gpu():
    return twins.gpu()


@pytest.fixture
def value():
    return np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.fixture(autouse=True)
def cpu():
    """This thread computes on the CPU: arrays are read and written from any device."""
    with device.on(None):
        yield


# -------------------- numbers in and out --------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3, 4), (0,), (3, 0, 2)])
def test_what_goes_in_comes_out(gpu, dtype, shape):
    value = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    array = twins.to(gpu, value)
    assert (array.shape, array.dtype, array.ndim, array.size, array.nbytes) == (
        *(value.shape, value.dtype, value.ndim),
        *(value.size, value.nbytes),
    )
    np.testing.assert_array_equal(array.copy(), value)
    np.testing.assert_array_equal(np.asarray(array), value)


def test_strided_and_foreign_arrays_go_in(gpu, value):
    for given in (value.T, value[:, ::-1], value.astype(">f4"), np.broadcast_to(value[0], (5, 3, 4))):
        np.testing.assert_array_equal(
            gpu.upload(np.ascontiguousarray(given, given.dtype.newbyteorder("="))).copy(), given
        )
        np.testing.assert_array_equal(twins.to(gpu, given).copy(), given)


def test_the_array_given_may_be_changed_at_once(gpu, value):
    array = gpu.upload(value)
    value[:] = 0
    assert array.copy().sum() == 276


def test_what_is_read_is_a_copy(gpu, value):
    array = gpu.upload(value)
    array.copy()[:] = 0
    assert array.copy().sum() == 276 and array[1, 2, 3].item() == 23


def test_writing(gpu, value):
    array = gpu.upload(value)
    device.write(array, 1)
    assert (array.copy() == 1).all()
    device.write(array, np.arange(4))
    assert (array.copy() == np.arange(4)).all()
    device.write(array, value.astype(np.float64))
    np.testing.assert_array_equal(array.copy(), value)
    device.write(array[:, 1], -1)
    device.write(array.transpose(2, 1, 0)[1:3, 2], np.full((2, 2), 7.0))
    value[:, 1], value[:, 2, 1:3] = -1, 7
    np.testing.assert_array_equal(array.copy(), value)
    with pytest.raises(ValueError, match="operands could not be broadcast together"):
        device.write(array, np.ones((2, 2)))


# -------------------- views --------------------

KEYS = [
    *(0, -1, slice(1, None), slice(None, None, -1), slice(None, None, 2), slice(5, 9), None, Ellipsis, (1, 2, 3)),
    *((0, slice(1, 3)), (slice(None), -1), (Ellipsis, 1), (slice(None), None, 0), (np.int64(1), slice(3, 0, -2))),
]


@pytest.mark.parametrize("key", KEYS)
def test_indexing_is_numpys(gpu, value, key):
    view = gpu.upload(value)[key]
    assert isinstance(view, DeviceArray) and view.shape == value[key].shape
    np.testing.assert_array_equal(view.copy(), value[key])


def test_other_views(gpu, value):
    array = gpu.upload(value)
    for view, want in (
        (array.reshape(6, 4), value.reshape(6, 4)),
        (array.reshape((4, -1)), value.reshape(4, -1)),
        (array.reshape(-1), value.reshape(-1)),
        (array.T, value.T),
        (array.transpose(1, 0, 2), value.transpose(1, 0, 2)),
        (array.transpose((2, 0, 1)), value.transpose(2, 0, 1)),
        (array.view(np.int32), value.view(np.int32)),
        (array.at(16, (2, 2), np.float32, (48, 4)), value[:, 1, :2]),
        (np.expand_dims(array, 1), np.expand_dims(value, 1)),
        (np.moveaxis(array, 0, 2), np.moveaxis(value, 0, 2)),
        (np.swapaxes(array, 0, 1), np.swapaxes(value, 0, 1)),
        (np.squeeze(array[:1]), np.squeeze(value[:1])),
        (np.broadcast_to(array[:, :1], (3, 2, 3, 4)), np.broadcast_to(value[:, :1], (3, 2, 3, 4))),
    ):
        assert view.shape == want.shape and view.strides == want.strides and device.root(view) is array
        assert view.flags.c_contiguous == want.flags.c_contiguous
        np.testing.assert_array_equal(view.copy(), want)
    assert len(array) == 2 and array.base is None and array[0].base is array and array[0][1].base is array
    assert repr(array) == "<DeviceArray shape=(2, 3, 4) dtype=float32 on cuda:0>"


def test_a_view_that_would_be_a_copy(gpu, value):
    with pytest.raises(ValueError, match="Unable to avoid creating a copy"):
        gpu.upload(value).T.reshape(-1)


def test_a_view_keeps_the_memory(gpu, value):
    array = gpu.upload(value)
    alive, view = weakref.ref(array), array[1]
    del array
    assert alive() is not None and view.copy().sum() == value[1].sum()
    del view
    assert alive() is None


@pytest.mark.parametrize("key", [[0, 1], np.array([True, False]), (0, [1]), "a", 1.5])
def test_indexing_that_is_not_offered(gpu, value, key):
    with pytest.raises(
        TypeError, match="an array on cuda:0 is indexed by integers, slices, None and Ellipsis, received"
    ):
        gpu.upload(value)[key]


@pytest.mark.parametrize(
    "use", [lambda a: np.add(a, 1), lambda a: a.layout + a, lambda a: np.sum(a), lambda a: np.concatenate([a, a])]
)
def test_numpy_cannot_compute_there(gpu, value, use):
    with pytest.raises(TypeError, match=r"numpy\.\w+ was called on an array that is on cuda:0"):
        use(gpu.upload(value))


# -------------------- memory --------------------


@pytest.fixture
def small(monkeypatch):
    """A device of 100,000 bytes."""
    if not twins.SIMULATED:
        pytest.skip("the simulator's memory is of any size")
    from nbkeras.kernels.cuda.machine import gpu as machine

    monkeypatch.setenv("NBKERAS_SIMULATOR_MEMORY", "100000")
    return machine.Gpu(0)


def test_memory_is_used_again_for_arrays_of_its_size(small):
    array = small.empty((1000,), np.float32)
    address, before = array.address, small.memory()
    del array
    assert small.empty((250, 4), np.float32).address == address and small.memory() == before
    array = small.empty((1000,), np.float32)
    assert small.empty((1000,), np.float32).address != array.address


def test_memory_that_is_used_again_is_undefined(small):
    array = small.upload(np.ones(8, np.float32))
    address = array.address
    del array
    again = small.empty((8,), np.float32)
    assert again.address == address and np.isnan(again.copy()).all()


def test_what_the_pool_keeps_is_given_back_where_there_is_no_room(small):
    for count in (15_000, 16_000, 17_000, 18_000):
        small.empty((count,), np.float32)
    assert small.memory() == (100_000 - 72_192, 100_000, 72_192)
    small.release()
    assert small.memory() == (100_000, 100_000, 0)


def test_no_room(small):
    from nbkeras.kernels.cuda.machine.gpu import OutOfDeviceMemoryError

    kept = small.empty((10_000,), np.float32)
    with pytest.raises(
        OutOfDeviceMemoryError, match="no room for an array of 80,000 bytes: 59,552 of its 100,000 bytes are"
    ):
        small.empty((20_000,), np.float32)
    assert issubclass(OutOfDeviceMemoryError, MemoryError)
    assert small.empty((14_000,), np.float32).size == 14_000 and kept.size == 10_000


def test_memory_freed_in_another_thread(small):
    arrays = [small.empty((1000,), np.float32) for _ in range(3)]
    at_once(arrays.clear)
    gc.collect()
    small.release()
    assert small.memory()[2] == 0


def test_scratch_is_the_same_memory_for_a_name(gpu):
    first = gpu.scratch("tests", (100,), np.uint8)
    assert first.dtype == np.uint8 and first.shape == (100,)
    assert gpu.scratch("tests", (2, 5), np.float32).address == first.address
    assert gpu.scratch("other tests", (50,), np.uint8).address != first.address
    assert gpu.scratch("tests", (10**6,), np.float64).nbytes == 8 * 10**6


def test_threads_and_graphs_have_scratch_of_their_own(gpu):
    """A twin queues several kernels: kernels of another thread must not write in between to the memory that they share."""

    def own():
        return gpu.scratch("tests", (100,), np.uint8)

    mine, others = own(), at_once(own)
    with gpu.scratch_of_its_own() as held:
        captured = own()
    assert [array.address for array in held.values()] == [captured.address]
    assert len({array.address for array in (mine, *others, captured)}) == 3
    assert own().address == mine.address


def test_a_gpu_is_one_thing(gpu):
    assert copy.deepcopy({"p": gpu})["p"] is gpu and pickle.loads(pickle.dumps(gpu)) is gpu
    assert str(gpu) == "cuda:0" and gpu.index == 0


# -------------------- launches --------------------


def _unknown(x):
    """A kernel without a twin."""


def test_a_kernel_without_a_twin(gpu, value):
    array = twins.to(gpu, value)
    with device.on(gpu), pytest.raises(NotImplementedError, match="_unknown has no twin for GPUs: write a function"):
        device.launch(_unknown, array)


def test_arrays_that_are_elsewhere(gpu, value):
    array = twins.to(gpu, value)
    with pytest.raises(
        ValueError, match=r"'fill' runs on the CPU, but was given an array of shape \(2, 3, 4\) on cuda:0"
    ):
        device.launch(device.fill, array, 1)
    with device.on(gpu), pytest.raises(ValueError, match="'fill' runs on cuda:0, but was given .* on the CPU"):
        device.launch(device.fill, value, 1)


def test_copies_fills_and_sums_in_place(gpu, value):
    with device.on(gpu):
        x, y = device.persistent(value), device.empty(value.shape, np.float64)
        device.launch(device.copy, x, y)
        device.launch(np.add, y, 1.0, y)
        device.launch(np.subtract, y[0], y[1], y[0])
        device.launch(device.copy, np.full((3, 4), 5.0), y[1])
        device.launch(device.copy, y.T[::2], y.T[::2])
        z = device.empty((3,), np.int32)
        device.launch(device.fill, z, 3)
        whole = device.contiguous(x.T)
    np.testing.assert_array_equal(y[0].copy(), value[0] - value[1])
    assert (y[1].copy() == 5).all() and z.copy().tolist() == [3, 3, 3]
    np.testing.assert_array_equal(whole.copy(), value.T)
    assert whole.flags.c_contiguous and device.is_persistent(device.root(x)) and not device.is_persistent(whole)


def test_here_brings_arrays(gpu, value):
    array = twins.to(gpu, value)
    assert device.is_on_other_device(array) and isinstance(device.to_this_device(array), np.ndarray)
    with device.on(gpu):
        assert device.to_this_device(array) is array and not device.is_on_other_device(array)
        brought = device.to_this_device(value)
        assert isinstance(brought, DeviceArray)
    np.testing.assert_array_equal(brought.copy(), value)
