"""Comparing the results of a family of kernels on the GPU (or in the simulator) with those on the CPU."""

import importlib.util
import os

import numpy as np
import pytest

from nbkeras.kernels.runtime import device

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("0", "")


def has_gpu():
    if not importlib.util.find_spec("numba_cuda"):
        return False
    from numba import cuda

    return cuda.is_available()


needs_cuda = pytest.mark.skipif(
    not (SIMULATED or has_gpu()), reason="needs a GPU, or NUMBA_ENABLE_CUDASIM=1 (tox -e cudasim)"
)


def gpu():
    from nbkeras.kernels.cuda.machine import gpu as cuda_place

    return cuda_place.get(0)


def to(where, value):
    """Arrays of a structure of tuples, on a device; everything else as it is."""
    if isinstance(value, tuple | list):
        return type(value)(to(where, each) for each in value)
    if isinstance(value, np.ndarray):
        with device.on(where):
            return device.persistent(value.copy())
    return value


def host(value):
    """The structure with all arrays as NumPy arrays."""
    if isinstance(value, tuple | list):
        return tuple(host(each) for each in value)
    if hasattr(value, "dense"):
        return host(value.dense())
    return value.copy() if isinstance(value, device.ARRAYS) else value


def run(where, op, vjp, arrays, constants, needs, seed=0):
    """(y, gradients) of an op and its vjp on a device, and the inputs afterwards; dy is random, the same everywhere."""
    with device.on(where):
        inputs = to(where, tuple(arrays))
        y, saved = op(*inputs, **constants)
        results = host(y)
        gradients = None
        if vjp is not None:
            rng = np.random.default_rng(seed)
            shapes = results if isinstance(results, tuple) else (results,)
            dy = tuple(
                to(where, np.asarray(rng.standard_normal(a.shape), a.dtype)) if a.dtype.kind == "f" else None
                for a in shapes
            )
            needs = (True,) * len(arrays) if needs is None else needs
            gradients = host(vjp(saved, dy if isinstance(y, tuple) else dy[0], needs))
        afterwards = host(inputs)
    return results, gradients, afterwards


def both(op, *arrays, **constants):
    """The outputs of an op on the GPU and on the CPU, two lists of NumPy arrays; None among the arrays stays None."""
    found = []
    for where in (gpu(), None):
        with device.on(where):
            y, _ = op(*to(where, arrays), **constants)
            found.append([host(each) for each in (y if isinstance(y, tuple) else (y,))])
    return found


def check(op, vjp, arrays, constants=None, needs=None, rtol=None):
    """Assert that an op (and its vjp, unless None) gives the same on the GPU as on the CPU, for arrays of one float dtype.

    rtol: relative to the largest number of each result; 1e-5 for float32 and 1e-12 for float64 by default.
    """
    want = run(None, op, vjp, arrays, constants or {}, needs)
    got = run(gpu(), op, vjp, arrays, constants or {}, needs)
    _same(got[0], want[0], f"{op.__name__}: output", rtol)
    if vjp is not None:
        _same(got[1], want[1], f"{op.__name__}: gradient", rtol)
    _same(got[2], want[2], f"{op.__name__}: input after the calls", rtol)


def _same(got, want, what, rtol):
    if isinstance(want, tuple):
        assert len(got) == len(want), what
        for i, (g, w) in enumerate(zip(got, want, strict=True)):
            _same(g, w, f"{what} {i}", rtol)
        return
    if want is None:
        assert got is None, f"{what}: expected None"
        return
    assert got.shape == want.shape and got.dtype == want.dtype, f"{what}: {got.shape} {got.dtype}"
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    tolerance = rtol or (1e-5 if want.dtype == np.float32 else 1e-12)
    scale = np.abs(want[np.isfinite(want)]).max(initial=0) or 1
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale, err_msg=what)
