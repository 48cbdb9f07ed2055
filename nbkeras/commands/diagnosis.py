"""`nbkeras doctor`: reports what is installed, what this machine has, and what is wrong."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys

import numpy as np

from nbkeras import ops
from nbkeras.engine import devices
from nbkeras.engine.progress import print_message
from nbkeras.engine.user_errors import install
from nbkeras.kernels.runtime import cgroups, machine, threads

_MINIMUM = {"Python": (3, 11), "numpy": (1, 26), "numba": (0, 61)}  # the same as in pyproject.toml
# Extra -> (its purpose, its packages by import name)
_EXTRAS = {
    "files": ("model files of Keras, safetensors", {"h5py": "h5py", "safetensors": "safetensors"}),
    "images": ("image files", {"PIL": "pillow"}),
    "onnx": ("model.export('m.onnx')", {"onnx": "onnx"}),
    "tensorboard": ("logs for TensorBoard", {"tensorboardX": "tensorboardX"}),
    "dot": ("utils.plot_model, with Graphviz", {"pydot": "pydot"}),
    "mpi": ("nbkeras.distribution", {"mpi4py": "mpi4py"}),
}
_OTHERS = {
    "matplotlib": ("history.plot()", "matplotlib"),
    "scikit-learn": ("nbkeras.wrappers", "sklearn"),
    "pandas": ("tables as data", "pandas"),
}


def doctor(version: str) -> int:
    """Print a report on this installation; returns the exit code.

    Args:
        version: nbkeras's version.

    Returns:
        1 if something that ordinary use needs is wrong, else 0.

    Example:
        >>> from nbkeras import commands
        >>> commands.doctor(keras.__version__)  # doctest: +SKIP
        0
    """
    problems: list[str] = []
    _versions(version, problems)
    _processor(problems)
    _cache(problems)
    _kernels(problems)
    _gpu()
    _extras()
    _say("")
    for problem in problems:
        _say(f"Problem: {problem}")
    if not problems:
        _say("No problems were found.")
    return 1 if problems else 0


_say = print_message


def _line(name: str, value: str) -> None:
    _say(f"{name:<16}{value}")


def _versions(version: str, problems: list[str]) -> None:
    found = {
        "Python": platform.python_version(),
        "numpy": np.__version__,
        **machine.versions(),
    }
    _line("nbkeras", f"{version} ({os.path.dirname(os.path.dirname(os.path.abspath(__file__)))})")
    for name, value in found.items():
        if name == "Python":
            value = f"{value} ({sys.executable})"
        elif name == "numba" and value == "not installed":
            value += ": kernels of your own need it, pip install 'nbkeras[compiler]'"
        _line(name, value)
        numbers = tuple(map(int, re.findall(r"\d+", value)[:2]))
        minimum = _MINIMUM.get(name, (0, 0))
        wanted = ".".join(map(str, minimum))
        if numbers and numbers < minimum:
            problems.append(
                f"{name} {value} is too old: {wanted} or newer is needed. pip install '{name.lower()}>={wanted}'"
            )
        elif not numbers and name == "numba" and not machine.packed_kernels()[1]:
            problems.append(
                "this installation has no compiled kernels, and Numba, which compiles them, is not installed: "
                f"pip install 'numba>={wanted}'"
            )
    _line("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    if sys.maxsize < 2**32:
        problems.append("this Python has 32 bits: install a Python with 64 bits")


def _processor(problems: list[str]) -> None:
    allowed, cores, quota = cgroups.allowed_processors(), cgroups.allowed_cores(), cgroups.processors()
    _line("processor", machine.processor_name())
    _line("vectors", ", ".join(machine.vector_features()) or "none that is known")
    limit = "" if quota is None else f", {quota:g} by the quota of the container"
    shared = "" if cores == allowed else f", on {cores} cores"
    use = f"kernels use {threads.get_threads()} threads"
    _line("processors", f"{allowed} of {os.cpu_count()} may be used{shared}{limit}; {use}")


def _cache(problems: list[str]) -> None:
    why, (count, size) = machine.why_not_cached(), machine.cached_kernels()
    state = f"not writable: {why}" if why else "writable"
    target, number = machine.packed_kernels()
    _line(
        "package",
        f"{number} compiled kernels for {target}" if number else "no kernels: this installation compiles its kernels",
    )
    _line("kernel cache", f"{machine.cache_folder()} ({state}), {count} kernels, {size / 1e6:.1f} MB")
    if why and not number:
        problems.append(
            f"compiled kernels cannot be kept ({why}), so each process compiles them again: set NUMBA_CACHE_DIR to a folder "
            "where this user can write"
        )


def _kernels(problems: list[str]) -> None:
    """Compile or load two kernels, and check their results."""
    try:
        product = np.asarray(ops.matmul(np.ones((3, 4), "float32"), np.full((4, 2), 2, "float32")))
        total = float(ops.sum(ops.relu(ops.subtract(product, 7.0))))
        right = bool((product == 8).all()) and total == 6
    except Exception as error:  # a broken installation may raise anything; the report shows it
        problems.append(f"a kernel cannot be compiled or run: {type(error).__name__}: {error}")
        _line("kernels", "fail")
        return
    runs = "run" if machine.packed_kernels()[1] else "compile and run"
    _line("kernels", runs if right else "run, with wrong results")
    if not right:
        problems.append(f"a kernel computes wrong results: {product.tolist()}, {total}")


def _gpu() -> None:
    packages = [
        f"{name} {version}" for name in ("numba-cuda", "cuda-bindings", "nvmath-python") if (version := _version(name))
    ]
    _line("GPU packages", ", ".join(packages) or "none")
    try:
        gpu = devices.gpu_named("cuda")
    except (devices.DeviceError, OSError) as error:
        _line("GPU", f"none: {error}")
    else:
        _line("GPU", f"{gpu.name}, {gpu.processors} multiprocessors")


def _extras() -> None:
    for extra, (purpose, packages) in _EXTRAS.items():
        missing = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
        have = ", ".join(f"{package} {_version(package)}" for package in packages.values() if package not in missing)
        wanted = f"missing {', '.join(missing)}: {install(extra)}" if missing else ""
        _line(extra, f"{'; '.join(part for part in (have, wanted) if part)} ({purpose})")
    _line("MPI", _mpi())
    for package, (purpose, module) in _OTHERS.items():
        is_there = importlib.util.find_spec(module) is not None
        _line(package, f"{_version(package) if is_there else f'missing: pip install {package}'} ({purpose})")


def _mpi() -> str:
    """The MPI library that mpi4py finds, and the launcher. Another process looks for it, because loading MPI starts it."""
    launcher = shutil.which("mpiexec", path=os.path.dirname(sys.executable)) or shutil.which("mpiexec")
    program = "from mpi4py import MPI; print(MPI.Get_library_version().split(chr(10))[0])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    library = " ".join(found.stdout.replace("\0", "").split()) if found.returncode == 0 else "no library"
    return f"{library}, {launcher or 'no mpiexec'}"


def _version(package: str) -> str:
    """A package's version; '' if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
