"""The process that `loading.py` starts for a model's file: load it, freeze it, write the frozen file, run and compare.

It runs each recorded size once, so that all kernels are compiled and on disk before a worker maps the model, and compares the
outputs with those of `predict`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras.engine import structures
from nbkeras.inference.session import Frozen
from nbkeras.saving.archive import START, kind_of
from nbkeras.saving.files import read_model
from nbkeras.serving.errors import LoadingError

_MAX_ERROR = 2000  # characters of an error message
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl
_TOLERANCE = {"float64": 1e-6, "float32": 1e-4}  # relative difference from predict; other dtypes: 2e-2


def die_with_parent(parent: int) -> None:
    """Let the system kill this process when its parent ends. On systems other than Linux the parent kills it, if it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


def digest_of(source: Any) -> str:
    """The SHA-256 of an open file, or of all files in the folder at a path."""
    if not isinstance(source, str):
        source.seek(0)
        return hashlib.file_digest(source, "sha256").hexdigest()
    total = hashlib.sha256()
    for name in sorted(os.path.join(folder, name) for folder, _, names in os.walk(source) for name in names):
        with open(name, "rb") as file:
            total.update(os.path.relpath(name, source).encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def state_of(source: Any) -> dict[str, Any]:
    """The time and the bytes of an open file, or of all files in the folder at a path: the last time."""
    if isinstance(source, str):
        found = [os.stat(os.path.join(folder, name)) for folder, _, names in os.walk(source) for name in names]
    else:
        found = [os.fstat(source.fileno())]
    return {"modified": max(each.st_mtime for each in found), "size": sum(each.st_size for each in found)}


def made(job: dict) -> dict[str, Any]:
    """Write the frozen file of a job, unless the caller knows the model's file; returns the result for the server.

    The file is opened once, so that a file that replaces it meanwhile is neither hashed nor loaded. A write into it, or into a
    folder, changes the digest.
    """
    start, path = time.perf_counter(), job["path"]
    with contextlib.nullcontext(path) if os.path.isdir(path) else open(path, "rb") as source:
        state, digest = state_of(source), digest_of(source)
        if digest == job["known"]:
            return {"digest": digest, "warnings": [], "is_same": True}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            _write(source, job)
        if digest_of(source) != digest:
            raise LoadingError(
                f"{path!r} was changed while it was loaded: write a new file beside it, rename it over the old one, and load it "
                "again"
            )
    return {
        "digest": digest,
        **state,
        "bytes": os.path.getsize(job["target"]),
        "seconds": time.perf_counter() - start,
        "warnings": [_brief(str(each.message)) for each in caught[:20]],
    }


def _write(source: Any, job: dict) -> None:
    """Load, freeze, save, run and compare. source: an open file, or the path of a folder."""
    path, target = job["path"], job["target"]
    if _is_frozen(source):
        frozen = Frozen.read(source, path, safe_mode=job["safe_mode"])
        if frozen.is_stream != job["stream"]:
            kind = "a stream" if frozen.is_stream else "no stream"
            raise LoadingError(f"{path!r} holds {kind}: set stream = {str(frozen.is_stream).lower()} for this model")
        frozen.save(target)
        return
    model = read_model(source, compile=False)
    if job["stream"]:
        stream = model.stream(window=job["window"])
        stream.frozen(batch_sizes=job["batch_sizes"], steps=job["steps"]).save(target)
        _compare_stream(stream, Frozen.load(target, safe_mode=False, mapped=True))
    else:
        model.frozen(batch_sizes=job["batch_sizes"], input_signature=job["input_signature"]).save(target)
        _compare(model, Frozen.load(target, safe_mode=False, mapped=True))


def _is_frozen(source: Any) -> bool:
    """Whether an open file is one of Frozen.save."""
    if isinstance(source, str):
        return False
    source.seek(0)
    return kind_of(source.read(START)) == "frozen"


def _compare(model: Any, frozen: Frozen) -> None:
    """Run each size once. Raises LoadingError if an output differs from that of predict."""
    for size in frozen.batch_sizes:
        arrays = [_sample(spec, size) for spec in frozen.inputs]
        expected = structures.flatten(model.predict(_structured(frozen, arrays), batch_size=size, verbose=0))
        _check_equal(frozen, size, frozen.run(arrays), expected)


def _compare_stream(stream: Any, frozen: Frozen) -> None:
    """The same for a stream, over two calls of each size."""
    for size in frozen.batch_sizes:
        for count in frozen.steps:
            arrays = [_sample(spec, size, count) for spec in frozen.inputs]
            own = other = frozen.initial(size)
            for _ in range(1 if frozen.window is not None and frozen.window < 2 * count else 2):
                expected, own = stream(_structured(frozen, arrays), own)
                outputs, other = frozen.run(arrays, other)
                _check_equal(frozen, size, [*outputs, other], [*structures.flatten(expected), own])


def _structured(frozen: Frozen, arrays: list[np.ndarray]) -> Any:
    """The inputs in the structure that the model expects."""
    packed = structures.pack(frozen.structures[0], arrays)
    return packed[0] if len(arrays) == 1 and isinstance(packed, list) else packed


def _check_equal(frozen: Frozen, size: int, outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for place, (found, correct) in enumerate(zip(outputs, expected, strict=True)):
        found, correct = np.asarray(found), np.asarray(correct)
        if found.dtype.kind not in "fc":
            is_equal = np.array_equal(found, correct)
        else:
            tolerance = _TOLERANCE.get(found.dtype.name, 2e-2)
            scale = np.max(np.abs(correct), initial=0.0, where=np.isfinite(correct))
            is_equal = np.allclose(found, correct, rtol=tolerance, atol=tolerance * float(scale), equal_nan=True)
        if found.shape != correct.shape or not is_equal:
            name = frozen.outputs[place].name if place < len(frozen.outputs) else "the state"
            raise LoadingError(
                f"the frozen program of {size} rows does not answer as predict does, for {name!r}: please report it"
            )


def _sample(spec: Any, rows: int, steps: int = 1) -> np.ndarray:
    """Sample values of an input: numbers around zero; zeros for integers, since an Embedding allows only some; short strings."""
    shape = [rows, *(steps if size is None else size for size in spec.shape[1:])]
    if spec.dtype == object:
        return np.full(shape, "a", object)
    if np.dtype(spec.dtype).kind == "f":
        return np.random.default_rng(0).standard_normal(shape).astype(spec.dtype)
    return np.zeros(shape, spec.dtype)


def _brief(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_ERROR else text[: _MAX_ERROR - 3] + "..."


def _is_memory_error(error: BaseException | None) -> bool:
    """Whether an error means a lack of memory, for arrays, files, or the code of a library."""
    while error is not None:
        out = isinstance(error, OSError) and error.errno == errno.ENOMEM
        if out or isinstance(error, MemoryError) or "failed to map segment" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _run(job: dict) -> bytes:
    """Do a job; returns the result in JSON. The error None is a lack of memory."""
    die_with_parent(job["parent"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # if memory is short, the system kills this process first, and no worker
    if job["memory"] is not None:
        resource.setrlimit(resource.RLIMIT_AS, (job["memory"], job["memory"]))
    try:
        answer = made(job)
    except Exception as error:  # a file that is not a model may raise anything
        known = isinstance(error, LoadingError | ValueError | OSError | ImportError)
        text = _brief(str(error) if known else f"{type(error).__name__}: {error}")
        answer = {"error": None if _is_memory_error(error) else text}
    return json.dumps(answer).encode()


if __name__ == "__main__":
    result = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries may print
    with open(result, "wb") as pipe:
        pipe.write(_run(json.loads(sys.argv[1])))
    os._exit(0)  # the server waits for the end
