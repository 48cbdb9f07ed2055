"""Arrays to and from other libraries: __dlpack__ and __cuda_array_interface__, on the CPU and on a GPU (or the simulator)."""

import ctypes
import gc
import weakref

import numpy as np
import pytest
import twins

import nbkeras
from nbkeras import Sequential, ops
from nbkeras.engine import dlpack
from nbkeras.engine.tensor import Tensor, Variable, as_tensor
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray, layout_at
from nbkeras.layers import Dense

CPU, GPU = (1, 0), (2, 0)


class DLTensor(ctypes.Structure):
    """The struct of dlpack.h, in full."""

    _fields_ = [
        ("data", ctypes.c_uint64),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class DLManagedTensor(ctypes.Structure):
    _fields_ = [
        ("tensor", DLTensor),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    ]


class DLManagedTensorVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


def api(name, result, *arguments):
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


name_of = api("PyCapsule_GetName", ctypes.c_char_p, ctypes.py_object)
pointer_of = api("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
set_name = api("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
new_capsule = api("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
NAMES = {DLManagedTensor: b"dltensor", DLManagedTensorVersioned: b"dltensor_versioned"}
USED = {kind: b"used_" + name for kind, name in NAMES.items()}


def opened(capsule):
    kind = next(kind for kind, name in NAMES.items() if name == name_of(capsule))
    managed = kind.from_address(pointer_of(capsule, NAMES[kind]))
    managed.capsule = capsule  # when it ends, the memory is freed
    return managed


def taken(capsule):
    """The contents of a capsule, taken out of it: the capsule no longer frees them."""
    managed = opened(capsule)
    assert set_name(managed.__dict__.pop("capsule"), USED[type(managed)]) == 0
    return managed


def values(tensor, dtype):
    """The values in simulated device memory."""
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = (
        tuple(tensor.strides[i] * np.dtype(dtype).itemsize for i in range(tensor.ndim)) if tensor.strides else None
    )
    return layout_at(tensor.data + tensor.byte_offset, shape, dtype, strides).copy()


@pytest.fixture(autouse=True)
def cpu():
    """The CPU, also where NBKERAS_DEVICE names a GPU."""
    with device.on(None):
        yield


@pytest.fixture
def gpu(cpu):
    with device.on(twins.gpu()):
        yield twins.gpu()


@pytest.fixture
def orders(gpu, monkeypatch):
    """The pairs of streams of which one has to wait for the other."""
    heard = []
    monkeypatch.setattr(gpu, "order", lambda before, after: heard.append((before, after)))
    return heard


class Foreign:
    """An array of another library in device memory, by __cuda_array_interface__."""

    def __init__(self, value, gpu, **described):
        self.value = np.asarray(value)
        self.array = gpu.upload(np.ascontiguousarray(self.value))
        self.described = described

    @property
    def __cuda_array_interface__(self):
        described = {**self.array.__cuda_array_interface__, "stream": None, **self.described}
        return {key: value for key, value in described.items() if value is not ...}


class ForeignCapsule(Foreign):
    """The same by __dlpack__, with a deleter that counts."""

    __cuda_array_interface__ = property(lambda self: (_ for _ in ()).throw(AttributeError("not offered")))

    def __init__(self, value, gpu, kind=DLManagedTensorVersioned, where=GPU, **fields):
        super().__init__(value, gpu)
        self.kind, self.where, self.fields = kind, where, fields
        self.asked, self.deleted = [], []

    def __dlpack_device__(self):
        return self.where

    def __dlpack__(self, *, stream=None, max_version=None):
        self.asked.append((stream, max_version))
        array = self.array
        managed = self.kind()
        if self.kind is DLManagedTensorVersioned:
            managed.major, managed.minor = self.fields.get("version", (1, 1))
            managed.flags = self.fields.get("flags", 0)
        tensor = managed.tensor
        tensor.data, tensor.ndim, tensor.lanes = array.address, array.ndim, 1
        tensor.device_type, tensor.device_id = self.where
        tensor.code = self.fields.get("code", "iufb".index(array.dtype.kind) if array.dtype.kind != "b" else 6)
        tensor.bits = 8 * array.itemsize
        shape = self.fields.get("shape", array.shape)
        tensor.shape = (ctypes.c_int64 * len(shape))(*shape)
        if "strides" in self.fields:
            tensor.strides = (ctypes.c_int64 * len(shape))(*self.fields["strides"])
        tensor.byte_offset = self.fields.get("offset", 0)
        managed.deleter = type(managed.deleter)(lambda address: self.deleted.append(address))
        self.kept = managed
        return new_capsule(ctypes.addressof(managed), NAMES[self.kind], None)


class Legacy(ForeignCapsule):
    """An array with the protocol from before DLPack 1.0."""

    def __init__(self, value, gpu, **fields):
        super().__init__(value, gpu, DLManagedTensor, **fields)

    def __dlpack__(self, stream=None):
        return super().__dlpack__(stream=stream)


# -------------------- the CPU --------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool"])
def test_numpy_takes_a_tensor_on_the_cpu(dtype):
    tensor = as_tensor(np.arange(6).reshape(2, 3).astype(dtype))
    assert tensor.__dlpack_device__() == CPU
    array = np.from_dlpack(tensor)
    np.testing.assert_array_equal(array, tensor.numpy())
    assert array.dtype == dtype and np.shares_memory(array, tensor.data)


class _Lent:
    """Gives the memory of a tensor itself: NumPy asks for copy=False since 2.1 only."""

    def __init__(self, tensor):
        self._tensor = tensor

    def __dlpack_device__(self):
        return self._tensor.__dlpack_device__()

    def __dlpack__(self, **options):
        return self._tensor.__dlpack__(copy=False)


def test_a_variable_changes_under_the_array_that_it_lent_and_not_under_one_that_it_gave():
    variable = Variable(np.zeros(3, np.float32))
    view = variable.value
    given, of_view, lent = (np.from_dlpack(each) for each in (variable, view, _Lent(variable)))
    variable.assign([1, 2, 3])
    assert given.tolist() == of_view.tolist() == [0, 0, 0]
    assert lent.tolist() == [1, 2, 3]


def test_a_tensor_on_the_cpu_offers_no_cuda_interface():
    assert not hasattr(as_tensor([1.0]), "__cuda_array_interface__")


def test_what_knows_only_dlpack_becomes_a_tensor():
    class Other:
        def __init__(self, array):
            self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__

    value = np.arange(4, dtype=np.float64)
    tensor = as_tensor(Other(value))
    assert tensor.dtype == np.float64 and tensor.numpy().tolist() == value.tolist()
    model = Sequential([Dense(1, input_shape=(4,), kernel_initializer="ones")])
    assert model.predict(Other(value[None]), verbose=0).tolist() == [[6]]


def test_a_capsule_lets_a_step_run_eagerly():
    """A recorded step would hand out the memory of the recording, without the results of replays."""
    heard = []

    class Recorder:
        def value_read(self):
            heard.append("read")

    tensor = as_tensor([1.0])
    with device.record(Recorder()):
        np.from_dlpack(tensor)
    assert heard == ["read"]


def test_other_devices_are_refused():
    class Elsewhere:
        def __dlpack_device__(self):
            return 10, 0  # kDLROCM

        def __dlpack__(self, **options):
            raise AssertionError

    with pytest.raises(TypeError, match=r"a Elsewhere on the DLPack device \(10, 0\) cannot be used"):
        as_tensor(Elsewhere())


# -------------------- ours on a GPU, for others --------------------


@twins.needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("max_version", [None, (0, 8), (1, 0), (1, 1), (2, 0)])
def test_a_capsule_tells_where_the_array_is(gpu, dtype, max_version):
    tensor = as_tensor(np.arange(6).reshape(2, 3).astype(dtype))
    assert tensor.__dlpack_device__() == GPU
    managed = opened(tensor.__dlpack__(max_version=max_version))
    if max_version is None or max_version[0] < 1:
        assert type(managed) is DLManagedTensor
    else:
        assert type(managed) is DLManagedTensorVersioned and managed.major == 1 and managed.flags == 0
    found = managed.tensor
    assert (found.device_type, found.device_id, found.ndim, found.lanes) == (2, 0, 2, 1)
    assert (found.code, found.bits) == ("iufxxxb".index(np.dtype(dtype).kind), 8 * np.dtype(dtype).itemsize)
    assert found.data + found.byte_offset == tensor.data.address
    assert [found.shape[0], found.shape[1]] == [2, 3]
    if twins.SIMULATED:
        np.testing.assert_array_equal(values(found, dtype), tensor.numpy())


@twins.needs_cuda
def test_an_array_without_elements(gpu):
    found = opened(as_tensor(np.zeros((0, 3), np.float32)).__dlpack__()).tensor
    assert [found.shape[0], found.shape[1]] == [0, 3]


@twins.needs_cuda
@pytest.mark.parametrize("max_version", [None, (1, 0)])
def test_memory_lives_as_long_as_who_took_it(gpu, max_version):
    tensor = as_tensor(np.arange(1000, dtype=np.float32))
    alive = weakref.ref(tensor.data)
    managed = taken(tensor.__dlpack__(max_version=max_version))
    del tensor
    gc.collect()
    assert alive() is not None
    if twins.SIMULATED:
        assert values(managed.tensor, np.float32)[-1] == 999
    managed.deleter(ctypes.addressof(managed))
    gc.collect()
    assert alive() is None


@twins.needs_cuda
@pytest.mark.parametrize("max_version", [None, (1, 0)])
def test_a_capsule_that_nobody_took_lets_go(gpu, max_version):
    tensor = as_tensor(np.arange(4, dtype=np.float32))
    alive = weakref.ref(tensor.data)
    capsule = tensor.__dlpack__(max_version=max_version)
    del tensor
    assert alive() is not None
    del capsule
    assert alive() is None


@twins.needs_cuda
def test_who_takes_it_waits(orders, gpu):
    tensor = as_tensor([1.0, 2.0])
    for stream in (None, 1, 2, 12345, -1):
        tensor.__dlpack__(stream=stream)
    assert orders == [(gpu.stream, 1), (gpu.stream, 1), (gpu.stream, 2), (gpu.stream, 12345)]
    for stream in (0, -2, "1"):
        with pytest.raises(ValueError, match="stream must be None, -1, 1, 2 or a stream's handle"):
            tensor.__dlpack__(stream=stream)


@twins.needs_cuda
def test_copies_on_request(gpu):
    tensor = as_tensor(np.arange(3, dtype=np.float32))
    copied = opened(tensor.__dlpack__(copy=True, max_version=(1, 0)))
    assert copied.flags == 2 and copied.tensor.data != tensor.data.address and copied.tensor.device_type == 2
    capsule = tensor.__dlpack__(dl_device=CPU, max_version=(1, 0))
    assert opened(capsule).flags == 2 and opened(capsule).tensor.device_type == 1
    assert values(opened(capsule).tensor, np.float32).tolist() == [0, 1, 2]
    assert np.from_dlpack(tensor, device="cpu").tolist() == [0, 1, 2]
    with pytest.raises(BufferError, match="without copy=False"):
        tensor.__dlpack__(dl_device=CPU, copy=False)
    with pytest.raises(BufferError, match=r"not to the DLPack device \(2, 1\)"):
        tensor.__dlpack__(dl_device=(2, 1))
    with pytest.raises(ValueError, match="a copy on the CPU has no stream, received stream=1"):
        tensor.__dlpack__(dl_device=CPU, stream=1)


@twins.needs_cuda
def test_the_cuda_interface(gpu):
    tensor = as_tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
    described = tensor.__cuda_array_interface__
    assert described["shape"] == (2, 3) and described["typestr"] == "<f4" and described["version"] == 3
    assert described["data"] == (tensor.data.address, False) and described["strides"] is None
    turned = dlpack.received(Foreign(np.zeros((2, 3)), gpu)).T
    assert turned.__cuda_array_interface__["strides"] == (8, 24)


# -------------------- others' for us --------------------


@twins.needs_cuda
@pytest.mark.parametrize("kind", [Foreign, ForeignCapsule, Legacy])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_an_array_on_this_gpu_is_taken_without_a_copy(gpu, kind, dtype):
    foreign = kind(np.arange(6).reshape(2, 3).astype(dtype), gpu)
    tensor = as_tensor(foreign)
    assert tensor.data.address == foreign.array.address and tensor.dtype == dtype and tensor.shape == (2, 3)
    np.testing.assert_array_equal(tensor.numpy(), foreign.value)
    assert device.is_persistent(tensor.data)


@twins.needs_cuda
def test_a_round_trip_is_the_same_memory(gpu):
    tensor = as_tensor(np.arange(4, dtype=np.float32))

    class Passed:
        __dlpack__, __dlpack_device__ = tensor.__dlpack__, tensor.__dlpack_device__

    again = as_tensor(Passed())
    assert again.data is not tensor.data and again.data.address == tensor.data.address
    alive = weakref.ref(tensor.data)
    del tensor, Passed
    gc.collect()
    assert again.numpy().tolist() == [0, 1, 2, 3] and alive() is not None
    del again
    gc.collect()
    assert alive() is None


@twins.needs_cuda
@pytest.mark.parametrize("kind", [ForeignCapsule, Legacy])
def test_the_owner_hears_when_we_are_done(gpu, kind):
    foreign = kind(np.arange(4, dtype=np.float32), gpu)
    tensor = as_tensor(foreign)
    view = tensor.data[1:]
    del tensor
    gc.collect()
    assert not foreign.deleted
    assert view.copy().tolist() == [1, 2, 3]
    del view
    gc.collect()
    assert foreign.deleted == [ctypes.addressof(foreign.kept)]
    assert (foreign.kept.tensor.device_type, foreign.kept.tensor.device_id) == GPU, "the capsule is as it was made"


@twins.needs_cuda
def test_the_owner_of_an_interface_is_kept(gpu):
    foreign = Foreign(np.arange(4, dtype=np.float32), gpu)
    tensor, alive = as_tensor(foreign), weakref.ref(foreign)
    del foreign
    assert tensor.numpy().tolist() == [0, 1, 2, 3]
    del tensor
    gc.collect()
    assert alive() is None


@twins.needs_cuda
def test_memory_goes_back_when_our_work_with_it_is_done(gpu, monkeypatch):
    order = []
    foreign = ForeignCapsule(np.ones(3, np.float32), gpu)
    foreign.deleted = type("Heard", (), {"append": lambda self, address: order.append("deleted")})()
    tensor = as_tensor(foreign)
    monkeypatch.setattr(gpu, "synchronize", lambda: order.append("synchronized"))
    del tensor
    gc.collect()
    assert order == ["synchronized", "deleted"]


@twins.needs_cuda
def test_streams_are_ordered_before_we_read(orders, gpu):
    for stream in (None, 1, 2, 777):
        as_tensor(Foreign(np.ones(2, np.float32), gpu, stream=stream))
    as_tensor(Foreign(np.ones(2, np.float32), gpu, stream=...))
    assert orders == [(1, gpu.stream), (2, gpu.stream), (777, gpu.stream)]
    with pytest.raises(ValueError, match="stream 0 .* ambiguous"):
        as_tensor(Foreign(np.ones(2, np.float32), gpu, stream=0))
    new, old = ForeignCapsule(np.ones(2, np.float32), gpu), Legacy(np.ones(2, np.float32), gpu)
    as_tensor(new), as_tensor(old)
    assert new.asked == [(gpu.stream, (1, 0))] and old.asked == [(gpu.stream, None)]


@twins.needs_cuda
def test_strides_and_offsets(gpu):
    value = np.arange(12, dtype=np.float32).reshape(3, 4)
    turned = ForeignCapsule(value, gpu, shape=(4, 3), strides=(1, 4))
    tensor = as_tensor(turned)
    np.testing.assert_array_equal(tensor.numpy(), value.T)
    assert tensor.data.flags.c_contiguous and tensor.data.address != turned.array.address
    part = ForeignCapsule(value, gpu, shape=(2, 4), offset=16)
    np.testing.assert_array_equal(as_tensor(part).numpy(), value[1:])
    assert as_tensor(part).data.address == part.array.address + 16
    turned = Foreign(value, gpu, shape=(4, 3), strides=(4, 16))
    np.testing.assert_array_equal(as_tensor(turned).numpy(), value.T)


@twins.needs_cuda
@pytest.mark.parametrize("make", [lambda v, p: ForeignCapsule(v, p, flags=1), lambda v, p: Foreign(v, p)])
def test_what_must_not_be_written_to_is_copied(gpu, make):
    foreign = make(np.arange(3, dtype=np.float32), gpu)
    foreign.described["data"] = (foreign.array.address, True)
    tensor = as_tensor(foreign)
    assert tensor.data.address != foreign.array.address and tensor.numpy().tolist() == [0, 1, 2]


@twins.needs_cuda
def test_an_empty_array_has_no_address(gpu):
    empty = np.zeros((0, 3), np.float32)
    assert as_tensor(Foreign(empty, gpu, data=(0, False))).shape == (0, 3)
    assert as_tensor(ForeignCapsule(empty, gpu)).shape == (0, 3)


@twins.needs_cuda
def test_another_dtype_is_a_cast_on_the_gpu(gpu):
    tensor = as_tensor(Foreign(np.arange(3), gpu), "float32")
    assert isinstance(tensor.data, DeviceArray) and tensor.dtype == np.float32 and tensor.numpy().tolist() == [0, 1, 2]


@twins.needs_cuda
@pytest.mark.parametrize("kind", [Foreign, ForeignCapsule])
def test_an_array_on_a_gpu_is_copied_to_the_cpu_where_that_is_the_device(kind):
    foreign = kind(np.arange(3, dtype=np.float64), twins.gpu())
    tensor = as_tensor(foreign)
    assert isinstance(tensor.data, np.ndarray) and tensor.dtype == np.float64 and tensor.numpy().tolist() == [0, 1, 2]


@twins.needs_cuda
def test_refusals(gpu):
    value = np.ones(3, np.float32)
    with pytest.raises(TypeError, match="a masked Foreign cannot be used"):
        as_tensor(Foreign(value, gpu, mask=object()))
    with pytest.raises(TypeError, match="expected numbers or booleans, received a Foreign with dtype complex64"):
        as_tensor(Foreign(value.astype(np.complex64), gpu))
    with pytest.raises(TypeError, match="expected numbers or booleans, received a Foreign with dtype >f4"):
        as_tensor(Foreign(value, gpu, typestr=">f4"))
    bfloat = ForeignCapsule(value, gpu, code=4)
    with pytest.raises(TypeError, match="expected numbers or booleans, received a ForeignCapsule"):
        as_tensor(bfloat)
    assert (bfloat.kept.tensor.device_type, bfloat.kept.tensor.device_id) == GPU
    if twins.SIMULATED:
        with pytest.raises(nbkeras.DeviceError, match="device 'cuda:3' does not exist: there is 1 GPU"):
            as_tensor(ForeignCapsule(value, gpu, where=(2, 3)))


@twins.needs_cuda
def test_ops_variables_and_models_take_them(gpu):
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    foreign = ForeignCapsule(value, gpu)
    np.testing.assert_array_equal(ops.add(as_tensor(value), foreign).numpy(), 2 * value)
    np.testing.assert_array_equal(ops.exp(Foreign(value, gpu)).numpy(), ops.exp(value).numpy())
    whole = ops.add(as_tensor(np.arange(3)), Foreign(np.arange(3), gpu))
    assert whole.dtype == np.int64 and whole.numpy().tolist() == [0, 2, 4]
    variable = Variable(foreign)
    assert variable.data.address != foreign.array.address and variable.numpy().tolist() == value.tolist()
    variable.assign(Foreign(value + 1, gpu))
    assert variable.numpy().tolist() == (value + 1).tolist()


@twins.needs_cuda
@pytest.mark.parametrize("kind", [Foreign, ForeignCapsule])
def test_models_take_them(kind):
    value, targets = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 1), np.float32)
    model = Sequential([Dense(1, kernel_initializer="ones")])
    model.compile("sgd", "mse")
    x, y = kind(value, twins.gpu()), kind(targets, twins.gpu())
    assert model.predict(x, verbose=0).tolist() == [[3], [12]]
    model.set_weights([kind(np.zeros((3, 1), np.float32), twins.gpu()), np.ones(1, np.float32)])
    assert model.evaluate(x, y, verbose=0) == 0
    model.fit(x, y, verbose=0)
    assert isinstance(model(value), Tensor)
