"""Launches by Python's objects, native programs, and processes without Numba."""

import ctypes
import functools
import gc
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from in_threads import at_once
from mistakes import mistakes

import nbkeras
from nbkeras import layers
from nbkeras.kernels import compiled, device, launch_shares, reduce
from nbkeras.kernels.runtime import cache_files, code, compiler, messages, native, processor
from nbkeras.testing import Recorder

pytestmark = pytest.mark.cpu("launches of the CPU")


@compiled
def scale(x, factor, y):
    for i in np.ndindex(x.shape):
        y[i] = x[i] * factor


@compiled
def copy_numbers(x, y):
    for i in range(x.size):
        y[i] = x[i]


@compiled
def copy_field(x, y):
    for i in range(x.size):
        y[i] = x[i].a


@compiled
def pack(flag, count, real, sizes, nothing, out):
    out[0], out[1], out[2] = flag, count, real
    out[3] = sizes[0] * 10 + sizes[1]
    out[4] = nothing is None


@compiled
def number(x, share, shares):
    x[share] = 10 * shares + share


@compiled
def refuse_negative(x):
    for i in range(x.size):
        if x[i] < 0:
            raise ValueError("a number is negative")
        x[i] += 1


@compiled
def refuse_share(x, share, shares):
    if share == x[0]:
        raise OverflowError("this share")


@compiled
def add_one(x):
    for i in range(x.size):
        x[i] += 1


class Subclass(np.ndarray):
    pass


def test_an_array_of_another_dtype_number_of_axes_or_layout_has_code_of_its_own():
    base = np.arange(24.0)
    arrays = [base, base.reshape(4, 6), base.reshape(2, 3, 4), base.astype(np.float32), base.reshape(4, 6).T, base[::3]]
    arrays += [base.reshape(4, 6)[::-1, ::2], base.astype(np.int16), base.view(Subclass), base[:0]]
    for _ in range(2):  # compiled or loaded; then found by its guard
        for x in arrays:
            y = np.zeros(x.shape, x.dtype)
            scale(x, 2, y)
            assert np.array_equal(y, x * 2), (x.dtype, x.shape, x.strides)
            out = np.zeros((*x.shape, 2), x.dtype)[..., 0]
            scale(x, 3, out)
            assert np.array_equal(out, x * 3), (x.dtype, x.shape, x.strides)


OTHER_DTYPES = {
    "unpickled": lambda dtype: pickle.loads(pickle.dumps(np.zeros(1, dtype))).dtype,
    "native": lambda dtype: dtype.newbyteorder("="),
    "little": lambda dtype: dtype.newbyteorder("<"),
    "with metadata": lambda dtype: np.dtype(dtype, metadata={"a": 1}),
}


@pytest.mark.parametrize("char", "?bhilBHILfd")
def test_a_dtype_that_is_not_numpys_own_object_is_known_by_what_it_is(char):
    dtype = np.dtype(char)
    given = np.arange(3).astype(dtype)
    copy_numbers(given, np.zeros(3, dtype))
    guards = len(copy_numbers._calls._guards._known)
    play = device.Replayer([(copy_numbers, (np.zeros(3, dtype), y := np.zeros(3, dtype)))], [np.zeros(3, dtype)], [y])
    for name, make in OTHER_DTYPES.items():
        other = make(dtype)
        x, result = given.astype(other), np.zeros(3, other)
        assert x.dtype is not dtype, name
        copy_numbers(x, result)
        assert np.array_equal(result, given), name
        assert play.copying(x, result), name
    assert len(copy_numbers._calls._guards._known) == guards


def test_arrays_whose_dtypes_only_look_alike_are_told_apart():
    x, y = np.zeros((2, 3)), np.zeros((2, 3))
    play = device.Replayer([(scale, (x, 2.0, y))], [x], [y])
    for dtype in (">f8", "i8", "c8", "M8[s]", "V8", "S8", [("a", "f8")], [("a", "f4"), ("b", "f4")]):
        assert not play.copying(np.zeros((2, 3), dtype), y) and not play.copying(x, np.zeros((2, 3), dtype)), dtype
    assert not play.copying(x.view(Subclass), y)
    kinds = [[("a", "f8"), ("b", "i8")], [("b", "i8"), ("a", "f8")], [("a", "i8"), ("b", "i8")]]
    kinds += [("i4", {"a": ("i2", 0), "b": ("i2", 2)}), ("i4", {"a": ("i2", 2), "b": ("i2", 0)})]
    for kind in kinds + kinds:
        records = np.frombuffer(np.arange(8, dtype="i4"), kind)[:2]
        copy_field(records, found := np.zeros(2))
        assert np.array_equal(found, records["a"]), kind


KINDS = [float, np.float32, np.float64, int, np.int8, np.int64, np.uint64, bool, np.bool_]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_numbers_of_each_kind(kind):
    y = np.zeros(2)
    for value in (kind(1), kind(0)):
        scale(np.array([1.0, 2.0]), value, y)
        assert y.tolist() == [value, 2.0 * value]


def test_flags_tuples_and_none():
    out = np.zeros(5)
    for flag, count, real in ((True, -5, 0.25), (False, 2**62, -1e300)):
        pack(flag, count, real, (3, 4), None, out)
        assert out.tolist() == [flag, count, real, 34, 1]


def test_a_function_that_returns_a_value_is_compiled_once_for_calls_from_python():
    @compiled
    def twice(x):
        return 2 * x

    assert [twice(x) for x in (1.5, 2.5, 3.5)] == [3.0, 5.0, 7.0] and twice.compiled == 1


def packed(real=1.0, sizes=(3, 4)):
    pack(True, 1, real, sizes, None, np.zeros(5))


@compiled
def take(many, x):
    x[0] = many[0]


test_mistakes_are_explained = mistakes(
    [
        (lambda: packed("a"), TypeError, "expects an array or a number for 'real', received 'a'"),
        *(
            (call, TypeError, "expects an array or a number for 'sizes', received a tuple of 2")
            for call in (
                *(lambda: packed(sizes=(1, np.ones(2))), lambda: packed(sizes=(1, (2, 3)))),
                *(lambda: packed(sizes=(1, None)), lambda: packed(sizes=(1, "a"))),
            )
        ),
        (lambda: scale(np.ones(2), 2**64, np.ones(2)), OverflowError, "'factor' of the kernel 'scale'"),
        (lambda: scale(np.ones(2, ">f8"), 2, np.ones(2)), TypeError, "in the machine's own byte order"),
        (lambda: take((*range(513),), np.zeros(1)), TypeError, "takes 515 numbers in total; the limit is 512"),
    ]
)


def test_dtypes_that_are_made_anew_do_not_pile_up():
    for _ in range(300):
        x = np.array([(0.0,), (1.0,)], np.dtype([("a", "f8")]))
        copy_field(x, y := np.zeros(2))
        assert y.tolist() == [0, 1]
    assert len(copy_field._calls._guards._known) <= native._MAX_GUARDS


def test_threads_that_launch_a_kernel_first_with_other_types_all_find_their_code(monkeypatch):
    """Both threads have their code before either of them adds its guard."""

    @compiled
    def halve(x, y):
        for i in range(x.size):
            y[i] = x[i] / 2

    entry, both = halve.entry, threading.Barrier(2)

    def wait(signature):
        address = entry(signature)
        both.wait(60)
        return address

    kinds, results = (np.float32, np.float64), [np.zeros(3, kind) for kind in (np.float32, np.float64)]
    monkeypatch.setattr(halve, "entry", wait)
    at_once(*[functools.partial(halve, np.arange(3, dtype=kind), y) for kind, y in zip(kinds, results, strict=True)])
    for kind, y in zip(kinds, results, strict=True):
        assert y.tolist() == [0, 0.5, 1]
        halve(
            np.arange(3, dtype=kind), y
        )  # its guard is found: otherwise it waits for another thread, which is not there


def test_a_launch_whose_guard_another_thread_has_dropped_makes_it_anew(monkeypatch):
    monkeypatch.setattr(native, "_MAX_GUARDS", 1)

    @compiled
    def double(x, y):
        for i in range(x.size):
            y[i] = x[i] * 2

    calls, others = double._calls, iter([np.float64])
    prepare = calls._prepare

    def interrupted(args):
        prepared = prepare(args)
        for kind in others:
            double(np.arange(3, dtype=kind), np.zeros(3, kind))  # what another thread may do here
        return prepared

    monkeypatch.setattr(calls, "_prepare", interrupted)
    double(np.arange(3, dtype=np.float32), y := np.zeros(3, np.float32))
    assert y.tolist() == [0, 2, 4]


def test_a_kernel_does_not_write_into_what_is_read_only():
    fixed = np.zeros(2)
    fixed.flags.writeable = False
    with pytest.raises(TypeError, match="(?i)cannot compile the kernel 'scale'.*readonly"):
        scale(np.ones(2), 2, fixed)
    scale(fixed, 2, y := np.ones(2))
    assert not y.any() and not fixed.any()


def test_a_share_by_itself_and_all_of_them():
    x = np.zeros(4, np.int64)
    number(x, 2, 4)
    assert x.tolist() == [0, 0, 42, 0]
    launch_shares(number, 4, x)
    assert x.tolist() == [40, 41, 42, 43]


def test_exceptions_of_kernels_reach_python():
    x = np.array([1.0, -1.0, 1.0])
    for _ in range(2):
        with pytest.raises(ValueError, match="^a number is negative\nraised by the kernel .refuse_negative"):
            refuse_negative(x)
    assert x.tolist() == [3.0, -1.0, 1.0]
    for shares in (1, 2, 8):
        launch_shares(refuse_share, shares, np.array([-1]))
        with pytest.raises(OverflowError, match="^this share\nraised by the kernel .refuse_share"):
            launch_shares(refuse_share, shares, np.array([shares - 1]))


def recorded(*launches):
    recorder = Recorder()
    with device.record(recorder):
        for launch in launches:
            launch()
    program = recorder.sealed([]).bind()
    return program


def test_an_exception_ends_a_program_and_the_program_can_run_again():
    first, second, third = (device.persistent(np.zeros(2)) for _ in range(3))
    program = recorded(*(lambda kernel=k, x=x: device.launch(kernel, x) for k, x in (
        (add_one, first), (refuse_negative, second), (add_one, third),
    )))  # fmt: skip
    program.run()
    second[1] = -5
    with pytest.raises(
        ValueError, match="^a number is negative\nraised by the kernel 'refuse_negative' .*in a recorded step"
    ):
        program.run()
    assert (first[0], third[0]) == (3, 2)
    second[:] = 0
    program.run()
    assert (first[0], second[0], third[0]) == (4, 1, 3)


def test_a_program_obeys_flags_and_flags_within_flags():
    a, b, c = (device.persistent(np.zeros(1)) for _ in range(3))
    outer, inner = (device.persistent(np.ones(1, np.int64)) for _ in range(2))

    def launch():
        device.launch(add_one, a)
        with device.only_if(outer):
            device.launch(add_one, b)
            with device.only_if(inner):
                device.launch(add_one, c)

    program = recorded(launch)
    for flags in ((1, 1), (0, 1), (1, 0), (0, 0), (2, -3)):
        outer[0], inner[0] = flags
        program.run()
    assert (a[0], b[0], c[0]) == (6, 4, 3)  # recording is a run


def test_a_program_keeps_the_memory_of_flags_within_flags():
    a = device.persistent(np.zeros(1))
    flags = [device.persistent(np.ones(1, np.int64)) for _ in range(3)]

    def launch():
        with device.only_if(flags[0]), device.only_if(flags[1]), device.only_if(flags[2]):
            for _ in range(20):
                device.launch(add_one, a)

    program = recorded(launch)
    gc.collect()
    taken = [np.zeros(size, np.int64) for size in range(1, 20) for _ in range(50)]  # overwrites what was freed
    program.run()
    assert a[0] == 40 and len(taken) == 950


def test_functions_of_python_run_between_native_launches_in_order():
    x = device.persistent(np.zeros(2))

    @device.host
    def double(x):
        x *= 2

    program = recorded(lambda: [device.launch(k, x) for k in (add_one, double, add_one, add_one, double, double)])
    x[:] = 1
    program.run()
    assert x.tolist() == [24, 24]


def test_what_a_launch_launches_is_recorded_and_profiled_as_a_part_of_it():
    x = device.persistent(np.zeros(2))

    @device.host
    def twice(x):
        y = device.empty(2, np.float64)
        for _ in range(2):
            device.launch(np.add, x, 1, y)
            device.launch(add_one, x)

    program = recorded(lambda: device.launch(twice, x))
    assert x.tolist() == [2, 2]
    with nbkeras.profile() as profile:
        program.run()
        device.launch(twice, x)
    assert x.tolist() == [6, 6] and profile.calls == {"twice": 2}


def test_python_threads_run_programs_of_their_own_at_the_same_time():
    model = nbkeras.Sequential([layers.Input((64,)), layers.Dense(256, activation="relu"), layers.Dense(4)])
    data = np.random.default_rng(0).standard_normal((8, 16, 64)).astype(np.float32)
    expected = [model.predict(x, verbose=0) for x in data]

    def work(i):
        for _ in range(50):
            np.testing.assert_array_equal(model.predict_on_batch(data[i]), expected[i])

    at_once(*(functools.partial(work, i) for i in range(len(data))))


def test_a_kernel_without_a_module_is_compiled():
    names = {"compiled": compiled}  # no __name__
    exec("@compiled\ndef twice(x, y):\n    for i in range(x.size):\n        y[i] = 2 * x[i]", names)
    x, y = np.arange(3.0), np.empty(3)
    names["twice"](x, y)
    assert names["twice"].__module__ is None
    assert y.tolist() == [0, 2, 4]


# -------------------- processes without Numba --------------------

WORK = """
import sys
if sys.argv[1:] == ["without"]:
    class Absent:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.partition(".")[0] in ("numba", "llvmlite"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Absent)
import numpy as np
import nbkeras
from nbkeras import layers, ops, testing

x = np.random.default_rng(0).standard_normal((8, 5, 6)).astype("float32")
nbkeras.utils.set_random_seed(1)
model = nbkeras.Sequential([layers.Input((5, 6)), layers.LSTM(4), layers.Dropout(0.5), layers.Dense(3, "softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, np.arange(8) % 3, batch_size=4, epochs=2, verbose=0)
testing.check_op(lambda a: ops.tanh(a) * 2, x[0, 0])
testing.check_layer(lambda: layers.Dense(3), x[0])
print(float(model.predict(x, verbose=0)[0, 0]), *sorted({"numba", "llvmlite"} & {*sys.modules}))
"""


def work(folder, *args):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-c", WORK, *args]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    return done.stdout.split(), done.stderr


@pytest.mark.process
def test_a_process_that_finds_its_kernels_imports_no_numba(tmp_path):
    first, error = work(tmp_path)
    assert first[1:] == ["llvmlite", "numba"] and not error
    assert work(tmp_path) == (first[:1], "")


@pytest.mark.process
def test_an_installation_without_numba_says_what_is_missing(tmp_path):
    output, error = work(tmp_path, "without")
    assert not output
    assert (
        "is not among the compiled kernels of this installation" in error and "pip install 'nbkeras[compiler]'" in error
    )


def test_code_is_kept_by_processor(monkeypatch):
    for function in (processor.key, processor.has, processor.level, processor.levels, processor.extras):
        monkeypatch.setattr(processor, function.__name__, function.__wrapped__)
    told = {"vendor_id": "A", "flags": " ".join(processor.LEVELS["x86-64-v3"])}
    monkeypatch.setattr(processor, "_cpu_info", lambda: told)
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    own = processor.key()
    assert processor.levels() == ["x86-64-v3", "x86-64-v2"]
    told["flags"] += " avx512f"
    other = processor.key()
    assert other != own
    for name, value in processor.variables_of("x86-64-v4").items():
        monkeypatch.setenv(name, value)
    assert processor.key() == "x86-64-v4" and processor.has("avx512f") and not processor.has("neon")
    made = object.__new__(compiler._Codegen)
    own_features = "+avx512f"  # what Numba compiles for if none are chosen
    monkeypatch.setattr(compiler._Codegen, "_get_host_cpu_features", lambda self: own_features)
    for name, features in (("x86-64-v3", ""), ("haswell", own_features)):
        monkeypatch.setenv("NUMBA_CPU_NAME", name)
        monkeypatch.setenv("NUMBA_CPU_FEATURES", "")
        assert made._customize_tm_features() == features
        monkeypatch.delenv("NUMBA_CPU_FEATURES")
        assert made._customize_tm_features() == features
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+avx,-avx2")
    assert processor.has("avx") and not processor.has("avx2")
    names = []
    for key in (own, other):
        monkeypatch.setattr(processor, "key", lambda key=key: key)
        names.append(code.file_name(add_one.py_func, "a"))
    assert names[0] != names[1]


def test_a_program_copies_inputs_and_outputs_that_fit_and_does_nothing_with_others():
    x, y = np.zeros((2, 3)), np.zeros((2, 3))
    play = device.Replayer([(scale, (x, 2.0, y))], [x], [y])
    given, result = np.arange(6.0).reshape(2, 3), np.empty((2, 3))
    assert play.copying(given, result)
    np.testing.assert_array_equal(result, 2 * given)
    wrong = (given.T, given.astype("f4"), given[:1], given.ravel(), given[None], given[:, :2], [1.0], None)
    for each in wrong:
        assert not play.copying(each, result) and not play.copying(given, each)
    assert not play.copying(given) and not play.copying(given, given, result)
    np.testing.assert_array_equal(result, 2 * given)
    for _ in range(30):  # beyond the runs that are timed
        assert play.copying(given + 1, result)
    np.testing.assert_array_equal(result, 2 * given + 2)


def test_functions_of_c_that_tell_no_signature_take_any_arguments():
    assert messages.takes(min, 1, 2) and messages.takes(lambda x: x, 1) and not messages.takes(lambda x: x)


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("win32", "LOCALAPPDATA", "chosen"),
        ("win32", None, os.path.join("~", "AppData", "Local")),
        ("darwin", "XDG_CACHE_HOME", os.path.join("~", "Library", "Caches")),
        ("linux", "XDG_CACHE_HOME", "chosen"),
        ("linux", None, os.path.join("~", ".cache")),
    ],
)
def test_the_users_folder_is_where_each_system_has_it(platform, variable, expected, monkeypatch):
    monkeypatch.setattr(cache_files.sys, "platform", platform)
    for name in ("LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "chosen")
    assert cache_files._users_folder() == os.path.join(os.path.expanduser(expected), "nbkeras")


def test_a_package_that_is_not_installed_has_no_version():
    assert code.version("nbkeras_of_another_time") == "" and code.version("numba")[0].isdigit()


def test_threads_that_make_the_first_function_of_a_name_use_one_definition(monkeypatch):
    """A function has the address of its definition, which must not be freed."""
    barrier, address, name = threading.Barrier(2), code.address, "nbkeras_start"

    def at_the_same_time(name):
        found = address(name)
        barrier.wait(30)
        return found

    monkeypatch.setattr(native, "_methods", {})
    monkeypatch.setattr(code, "address", at_the_same_time)
    made = at_once(*[lambda: native.python_function(name, np.zeros(4, np.int64))] * 2)
    used = {ctypes.c_void_p.from_address(id(function) + object.__basicsize__).value for function in made}
    assert used == {ctypes.addressof(native._methods[name])}


# -------------------- launches by the interpreter --------------------


def launched(function, *args):
    device.launch(function, *args)
    return args[-1].copy()


def test_small_launches_by_the_interpreter():
    """More shapes than are kept, the same array twice, arrays that are not contiguous, other dtypes."""
    x = np.random.default_rng(0).standard_normal(1000)
    for dtype in ("float32", "float64"):
        numbers = x.astype(dtype)
        whole = launched(np.exp, numbers, np.empty(1000, dtype))
        for _ in range(2):
            for n in range(1, 300 if dtype == "float32" else 20):
                assert (launched(np.exp, numbers[:n].copy(), np.empty(n, dtype)) == whole[:n]).all()
        same = numbers[:12].copy()
        assert (launched(np.exp, same, same) == whole[:12]).all()  # the plan for two arrays does not fit one array
        assert (launched(np.exp, numbers[:24:2], np.empty(12, dtype)) == whole[:24:2]).all()
        matrix = numbers[:12].reshape(3, 4)
        assert (launched(np.exp, matrix, np.empty((3, 4), dtype)) == whole[:12].reshape(3, 4)).all()
        assert (launched(np.exp, matrix.T, np.empty((4, 3), dtype)) == whole[:12].reshape(3, 4).T).all()


def test_small_folds_match_their_axes_and_ufunc():
    x = np.arange(24, dtype="float32").reshape(2, 3, 4) + 1
    for _ in range(2):
        for ufunc in (np.add, np.multiply):
            for axes in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)):
                expected = ufunc.reduce(x.astype("float64"), axes)
                found = launched(reduce.fold, x, ufunc, axes, np.empty(expected.shape, "float32"))
                np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_several_threads_launch_the_same_plan():
    x = np.random.default_rng(0).standard_normal((4, 100)).astype("float32")
    expected = [launched(np.exp, row.copy(), np.empty(100, "float32")) for row in x]

    def work(number):
        for _ in range(300):
            assert (launched(np.exp, x[number], np.empty(100, "float32")) == expected[number]).all()

    at_once(*(functools.partial(work, number) for number in range(4)))


def test_error_state_of_numpy_is_not_changed():
    zero = np.zeros(3, "float32")
    with np.errstate(all="raise"):
        assert np.isinf(launched(np.divide, zero + 1, zero, np.empty(3, "float32"))).all()
        with pytest.raises(FloatingPointError, match="divide by zero"):
            np.divide(zero + 1, zero)
