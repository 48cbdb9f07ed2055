"""Matrix products inside compiled kernels: `gemm`, row-major, any transpose, leading dimension, offset and beta.

scipy's BLAS is called by *symbol name*, so callers stay cacheable across processes. BLAS runs on one thread; kernels
split their work with `prange` and call `gemm` on the pieces. OpenBLAS has a path without packing for products of at
most about a million multiply-adds on AVX-512 machines; there `gemm` tiles float32 products to stay on it (71 to
114 GF/s for an LSTM's 32 x 128 x 512 product, in the study before the design). That tiling is compiled once and linked
by symbol too: inlined into each caller it cost a second of compile time per kernel.

A kernel that calls `gemm` must be run by `device.launch`, which calls `start` first.
"""

import ctypes
import importlib.machinery
import importlib.util
import os

import llvmlite.binding as llvm
import numpy as np
import scipy
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from nbkeras.kernels.cache import cached_cfunc


def _cython_blas():
    """scipy.linalg.cython_blas, loaded by its file: importing it by name brings all of scipy.linalg, 0.1 s."""
    name, folder = "scipy.linalg.cython_blas", os.path.join(scipy.__path__[0], "linalg")
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = os.path.join(folder, "cython_blas" + suffix)
        if os.path.exists(path):
            loader = importlib.machinery.ExtensionFileLoader(name, path)
            module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
            loader.exec_module(module)
            return module
    return importlib.import_module(name)


def _address(module, name: str) -> int:
    """Address of a function that a Cython module offers to others."""
    capsule = module.__pyx_capi__[name]
    get_name, get_pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature = get_name(capsule)
    if b"int *" not in signature or b"long" in signature:
        raise ImportError(
            f"scipy's BLAS has 64-bit integers ({signature.decode()}), but nbkeras's kernels call it with 32-bit ones: "
            "install scipy's ordinary build"
        )
    return get_pointer(capsule, signature)


_MODULE = _cython_blas()
_LIBRARY = ctypes.CDLL(_MODULE.__file__)  # dlsym follows its dependencies, so this finds OpenBLAS's own functions
_SMALL_MATRIX_CORES = {"SkylakeX", "Cooperlake", "Sapphirerapids"}
_TILE_LIMIT = 1_000_000  # m * n * k up to which OpenBLAS takes its path without packing (seen as a cliff in a sweep)

for _name in ("sgemm", "dgemm"):
    llvm.add_symbol("nbkeras_" + _name, _address(_MODULE, _name))


def _openblas(name: str):
    """An OpenBLAS function of scipy's library under either of its names, or None for another BLAS."""
    return getattr(_LIBRARY, "scipy_" + name, None) or getattr(_LIBRARY, name, None)


def start_single_threaded() -> None:
    """Set scipy's BLAS to one thread: kernels bring their own, and two pools fight over the cores."""
    set_threads = _openblas("openblas_set_num_threads")
    if set_threads is not None:
        set_threads(1)


def core_name() -> str:
    """The processor family that OpenBLAS chose its kernels for, or '' with another BLAS."""
    get = _openblas("openblas_get_corename")
    if get is None:
        return ""
    get.restype = ctypes.c_char_p
    return get().decode()


def _call(builder, symbol, float_type, transa, transb, m, n, k, a, lda, b, ldb, beta, c, ldc):
    """Emit a call of Fortran's gemm for row-major operands: C^T = op(B)^T op(A)^T."""
    int8, int32 = ir.IntType(8), ir.IntType(32)
    real = ir.PointerType(float_type)
    plain, transposed = ir.Constant(int8, ord("N")), ir.Constant(int8, ord("T"))

    def slot(value):
        return cgutils.alloca_once_value(builder, value)

    def flag(value):
        zero = ir.Constant(value.type, 0)
        return slot(builder.select(builder.icmp_signed("!=", value, zero), transposed, plain))

    def integer(value):
        return slot(builder.trunc(value, int32))

    chars, ints = ir.PointerType(int8), ir.PointerType(int32)
    arguments = [chars, chars, ints, ints, ints, real, real, ints, real, ints, real, real, ints]
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), arguments), symbol)
    one = slot(ir.Constant(float_type, 1.0))
    operands = [integer(n), integer(m), integer(k), one, b, integer(ldb), a, integer(lda), slot(beta), c, integer(ldc)]
    builder.call(function, [flag(transb), flag(transa), *operands])


_INT = types.int64
_POINTER = types.CPointer(types.float32)


@intrinsic
def _sgemm_pointers(typing, ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc):
    signature = types.void(
        _INT, _INT, _INT, _INT, _INT, _POINTER, _INT, _INT, _POINTER, _INT, _INT, types.float32, _POINTER, _INT, _INT
    )

    def generate(context, builder, signature, args):
        ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc = args
        a, b, c = builder.gep(a, [ao]), builder.gep(b, [bo]), builder.gep(c, [co])
        _call(builder, "nbkeras_sgemm", ir.FloatType(), ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc)
        return context.get_dummy_value()

    return signature, generate


def _tiled(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc):
    if m * n * k <= _TILE_LIMIT or (tb != 0 and (k < 96 or m > 2048)) or m * n * k > 500_000_000:
        _sgemm_pointers(ta, tb, m, n, k, a, 0, lda, b, 0, ldb, beta, c, 0, ldc)
        return
    if tb != 0:
        tile_m, tile_n, tile_k = 32, 32, 784
    else:
        tile_m, tile_n, tile_k = 32, 64, 256
    if k < tile_k:
        tile_n = min(128, min(n, max(tile_n, _TILE_LIMIT // (tile_m * max(k, 32)) // 32 * 32)))
    for block in range(0, m, 192):  # rows of A that stay in L2 while B's tiles pass
        end = min(m, block + 192)
        for k0 in range(0, k, tile_k):
            depth = min(tile_k, k - k0)
            tile_beta = beta if k0 == 0 else np.float32(1)
            for n0 in range(0, n, tile_n):
                width = min(tile_n, n - n0)
                for m0 in range(block, end, tile_m):
                    height = min(tile_m, end - m0)
                    a_at = k0 * lda + m0 if ta != 0 else m0 * lda + k0
                    b_at = n0 * ldb + k0 if tb != 0 else k0 * ldb + n0
                    c_at = m0 * ldc + n0
                    _sgemm_pointers(ta, tb, height, width, depth, a, a_at, lda, b, b_at, ldb, tile_beta, c, c_at, ldc)


def _direct(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc):
    _sgemm_pointers(ta, tb, m, n, k, a, 0, lda, b, 0, ldb, beta, c, 0, ldc)


_SIGNATURE = types.void(_INT, _INT, _INT, _INT, _INT, _POINTER, _INT, _POINTER, _INT, types.float32, _POINTER, _INT)
_started: list = []  # keeps the compiled gemm alive: its address is a symbol


def start() -> None:
    """Compile (or load) the float32 gemm and give it its symbol; `device.launch` calls this once."""
    chosen = _tiled if core_name() in _SMALL_MATRIX_CORES else _direct
    _started.append(cached_cfunc(_SIGNATURE)(chosen))
    llvm.add_symbol("nbkeras_tiled_sgemm", _started[0].address)


@intrinsic
def gemm(typing, ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc):
    """C[m, n] = op(A)[m, k] @ op(B)[k, n] + beta * C, row-major, in a compiled kernel.

    ta, tb: 0 or 1, whether A or B is stored transposed. a, b, c: arrays of one dtype, float32 or float64, taken as flat
    memory; ao, bo, co: offsets of the first element; lda, ldb, ldc: elements from one stored row to the next.
    """
    if not (isinstance(a, types.Array) and a.dtype == b.dtype == c.dtype and a.dtype in (types.float32, types.float64)):
        return None
    real = a.dtype
    signature = types.void(_INT, _INT, _INT, _INT, _INT, a, _INT, _INT, b, _INT, _INT, real, c, _INT, _INT)

    def generate(context, builder, signature, args):
        ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc = args
        types_ = signature.args

        def pointer(position, value, offset):
            return builder.gep(make_array(types_[position])(context, builder, value).data, [offset])

        a, b, c = pointer(5, a, ao), pointer(8, b, bo), pointer(12, c, co)
        if real == types.float64:
            _call(builder, "nbkeras_dgemm", ir.DoubleType(), ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc)
        else:
            integer, floats = ir.IntType(64), ir.PointerType(ir.FloatType())
            arguments = [integer] * 5 + [floats, integer, floats, integer, ir.FloatType(), floats, integer]
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), arguments), "nbkeras_tiled_sgemm"
            )
            builder.call(function, [ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc])
        return context.get_dummy_value()

    return signature, generate
