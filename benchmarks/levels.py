"""Levels of vector instructions, and the variables that limit frameworks to a level: `python -m benchmarks --level`.

Checked on a processor with AVX-512, by the libraries' own reports, and by sampling a process that repeats one operation: do its
instructions use registers of 512 bits (zmm) or 256 (ymm)?

    NUMBA_CPU_NAME           acts on nbkeras: all code that it compiles
    OPENBLAS_CORETYPE        acts on NumPy: its library names the chosen kernels (openblas_get_corename)
    ATEN_CPU_CAPABILITY      acts on PyTorch 2.13: torch.backends.cpu.get_cpu_capability()
    ONEDNN_MAX_CPU_ISA       acts on oneDNN in PyTorch, TensorFlow 2.21 and OpenVINO 2026.4: ONEDNN_VERBOSE=1 names `isa` and
                             `jit:avx2`. OpenVINO's own code for functions of single numbers is ymm with it too
    MKL_ENABLE_INSTRUCTIONS  is for PyTorch's products, which are MKL's. Its manual says that it acts on Intel's processors; on
                             AMD's, MKL has AVX2 kernels with it and without it
    XLA_FLAGS                acts on the code that XLA compiles, in JAX 0.10: ymm instead of zmm

TensorFlow's products and convolutions are oneDNN's (TF_ENABLE_ONEDNN_OPTS is 1 by default). Its other kernels, Eigen's, are
compiled for processors with AVX, as it logs at its start. No variable acts on them, and they are below all levels here.

These choose by the processor and have no limit: onnxruntime (not checked: it has no such variable), XNNPACK in LiteRT (zmm), and
YNNPACK, which JAX uses for products and convolutions (zmm under --xla_cpu_max_isa=AVX2). JAX without YNNPACK, by
--xla_cpu_experimental_ynn_fusion_type=, uses oneDNN there and can be limited; but its users do not run it so.
"""

from collections.abc import Mapping

# the best level first
VARIABLES = {
    "x86-64-v4": {
        "NUMBA_CPU_NAME": "x86-64-v4",
        "NUMBA_CPU_FEATURES": "",
        "OPENBLAS_CORETYPE": "SkylakeX",
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX512",
    },
    "x86-64-v3": {
        "NUMBA_CPU_NAME": "x86-64-v3",
        "NUMBA_CPU_FEATURES": "",
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    },
}
NOT_TOLD = "onnxruntime and litert, and jax and keras-jax in products and convolutions, use all that the processor has"

# Prints the level that nbkeras compiles for in a process; the kind of the machine if it has no levels
OWN = """
import platform
from nbkeras.kernels.runtime.processor import level, levels
print(level() or next(iter(levels()), platform.machine()))
"""


def variables(level: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process at a level (None: the machine's own), in addition to its own; flags are appended to XLA's."""
    told = dict(VARIABLES[level]) if level else {}
    if told:
        told["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {told['XLA_FLAGS']}".strip()
    return told


def chosen(environment: Mapping[str, str]) -> str | None:
    """The level that a user has chosen for nbkeras, by Numba's variable."""
    return next((level for level in VARIABLES if level == environment.get("NUMBA_CPU_NAME")), None)


def has(own: str, level: str) -> bool:
    """Whether a processor whose best level is `own` has a level."""
    order = list(VARIABLES)
    return own in order and order.index(own) <= order.index(level)
