"""The calls of keras.ops in tests/parity/calls/ops.txt: gradients, replay, and NumPy's and SciPy's values in float64.

tests/parity compares their results with Keras's in float32.
"""

import re

import numpy as np
import pytest
import scipy.special
import table

import nbkeras as keras
from nbkeras.engine import structures
from nbkeras.engine.tensor import Tensor
from nbkeras.testing import check_op

NAMES = [
    name
    for name in dict.fromkeys(call.name for call in table.calls())
    if name.startswith("keras.ops.") and hasattr(table.find("nbkeras", name), "__wrapped__")
]
# Patterns of calls, "" for all of a name: of those that read values, which no program may
READ = {
    **dict.fromkeys(["bincount", "nonzero"], ""),
    **{"repeat": r"\[1, 2", "scale_and_translate": "1.3", "unique": r"f\(v_int(\)|, return)", "where": r"f\(t\)"},
}
# of those at kinks, where the result rounds or is not finite, and of ops without gradients
WITHOUT_GRADIENTS = {
    **dict.fromkeys(["ctc_decode", "lu_factor", "nextafter", "stop_gradient"], ""),
    **dict.fromkeys(["segment_max", "segment_min"], r"4\)"),
    **dict.fromkeys(["eigh", "svd"], "diag"),
    **{
        "cast": "float16",
        "divide_no_nan": "0.0",
        "map_coordinates": "1",
        "max_pool": "images",
        "nan_to_num": r"f\(inf\)",
    },
    **{"nanstd": "axis=0", "perspective_transform": r"corners, corners\)", "prod": "float32", "qr": "complete"},
    **{"rgb_to_hsv": "abs", "ssim": "images, images,"},
}


def is_in(calls, call):
    return re.search(calls.get(call.name.rpartition(".")[2], "^$"), call.expression)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.grid] * (".image." in name)) for name in NAMES])
def test_gradients_and_replay(name):
    for call in table.calls_of(name):
        if call.limit or is_in(READ, call):
            continue
        for op, args, kwargs in table.given_to(keras, call):
            function, arrays = table.of_arrays(keras, op, args, kwargs, "fiub")
            results = [y for y in structures.flatten(function(*arrays)) if isinstance(y, Tensor)]
            assert all(y.data.flags.c_contiguous for y in results)
            exact = is_in(WITHOUT_GRADIENTS, call) or not any(y.dtype.kind == "f" for y in results)
            check_op(function, *arrays, wrt=[] if exact else None, single_tolerance=None if exact else 1e-4)


def parts(z):
    return [z.real, z.imag]


REFERENCES = {  # where NumPy's function has other arguments or results, or another name means another function
    "cdist": lambda x, y: np.linalg.norm(x[..., :, None, :] - y[..., None, :, :], axis=-1),
    "fft": lambda z: parts(np.fft.fft(z[0] + 1j * z[1])),
    "fft2": lambda z: parts(np.fft.fft2(z[0] + 1j * z[1])),
    "ifft2": lambda z: parts(np.fft.ifft2(z[0] + 1j * z[1])),
    "rfft": lambda x, fft_length=None: parts(np.fft.rfft(x, fft_length)),
    "irfft": lambda z, fft_length=None: np.fft.irfft(z[0] + 1j * z[1], fft_length),
    "log_softmax": lambda x, axis=-1: scipy.special.log_softmax(x, axis),
    "logdet": lambda x: np.linalg.slogdet(x)[1],
    "lstsq": lambda a, b: np.linalg.lstsq(a, b)[0],
    "moments": lambda x, axes, **options: [f(x, tuple(axes), **options) for f in (np.mean, np.var)],
    "normalize": lambda x, axis=-1, order=2: x / np.sum(np.abs(x) ** order, axis, keepdims=True) ** (1 / order),
    "psnr": lambda x, y, max_val: 10 * np.log10(max_val**2 / np.mean((x - y) ** 2)),
    "quantile": lambda x, q, axis=None, method="linear", keepdims=False: np.quantile(
        x, q, axis, method=method, keepdims=keepdims
    ),
    "reciprocal": lambda x: 1 / x,
    "softmax": lambda x, axis=-1: scipy.special.softmax(x, axis),
    **dict.fromkeys(["cond", "dtype", "empty", "empty_like", "jvp", "shape"]),
}
OTHERWISE = {"bincount": r"\(i|array", "unique": "size"}  # patterns of calls that NumPy's function does not take


def numpys(name):
    """NumPy's or SciPy's function of that name, or None."""
    modules = (np, np.linalg, scipy.special)
    return REFERENCES.get(name, next((getattr(each, name) for each in modules if hasattr(each, name)), None))


@pytest.mark.parametrize("name", [name for name in NAMES if numpys(name.removeprefix("keras.ops.")) is not None])
def test_values_in_float64_are_numpys(name):
    """To the last places, those of sums of many products, and of decompositions less."""
    reference = numpys(name.removeprefix("keras.ops."))
    loose = reference in REFERENCES.values() or not isinstance(reference, np.ufunc)

    def in_float64(x):
        if isinstance(x, np.ndarray):
            return x.astype("float64") if x.dtype == "float32" else x
        return "float64" if x == "float32" else x

    for call in table.calls_of(name):
        if call.limit or is_in(OTHERWISE, call):
            continue
        for op, args, kwargs in table.given_to(keras, call):
            args, kwargs = keras.tree.map_structure(in_float64, (args, kwargs))
            found, expected = (structures.flatten(f(*args, **kwargs)) for f in (op, reference))
            for got, want in zip(found, expected, strict=True):
                assert got.shape == np.shape(want)
                np.testing.assert_allclose(got, np.asarray(want, got.dtype), rtol=1e-11 if loose else 1e-14, atol=1e-14)
