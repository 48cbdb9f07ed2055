"""Compile every CUDA kernel at every signature that the tests used, without a GPU, and print the resources of each.

    NUMBA_ENABLE_CUDASIM=1 NBKERAS_CUDA_SIGNATURES=signatures.jsonl NBKERAS_DEVICE=cuda pytest   # collects
    python -m benchmarks.cuda_resources signatures.jsonl [--only conv] [--markdown FILE]     # needs numba-cuda[cu13]

Numba compiles to NVVM's intermediate code and nvJitLink to machine code for sm_75, sm_80 and sm_90, as on a GPU. (Code
compiled through PTX may be linked with other code, and gets fewer registers for that reason.) The exit code is 1 if a kernel
does not compile, or if it spills registers in sm_80 or sm_90.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace
from typing import Any, NamedTuple

ARCHITECTURES = ((7, 5), (8, 0), (9, 0))


class Resources(NamedTuple):
    """The assembler's figures for a kernel on one architecture: the number of registers, and bytes for the others."""

    registers: int
    shared: int
    stack: int
    spills: int


def read_signatures(paths: list[str]) -> list[tuple[str, str, list]]:
    """(module, kernel, names of argument types), each once; without kernels and formulas defined in tests.

    The kernel of a formula is named "module of the formula:name:...", that of an elementwise chain "dtype:kinds|ops|results".
    """
    lines = set()
    for path in paths:
        with open(path, encoding="utf-8") as file:
            lines.update(file)
    found = [json.loads(line) for line in sorted(lines)]
    own = [
        (module, name, types)
        for module, name, types in found
        if module == "card"
        or (module.startswith("nbkeras.kernels.") and (":" not in name or "|" in name or name.startswith("nbkeras.")))
    ]
    return [(module, name, json.loads(types)) for module, name, types in own]


def numba_type(name: Any) -> Any:
    """Numba's type for a type name in a signatures file."""
    from numba import types

    if isinstance(name, list):
        return types.Tuple([numba_type(item) for item in name])
    array = re.fullmatch(r"Array\((\w+), (\d+), ([CFA])\)", name)
    if array:
        dtype = types.boolean if array[1] == "bool" else getattr(types, array[1])
        return types.Array(dtype, int(array[2]), array[3])
    return types.boolean if name == "bool" else getattr(types, name)


def assemble(code: bytes, architecture: tuple[int, int]) -> Resources:
    """The resources of a kernel in NVVM's intermediate code; RuntimeError with the assembler's log if it fails."""
    from cuda.bindings import nvjitlink

    options = [f"-arch=sm_{architecture[0]}{architecture[1]}", "-lto", "-verbose", "-Xptxas=-v"]
    handle = nvjitlink.create(len(options), options)
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, code, len(code), "kernel")
        nvjitlink.complete(handle)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    except Exception as error:
        log = bytearray(nvjitlink.get_error_log_size(handle))
        nvjitlink.get_error_log(handle, log)
        raise RuntimeError(log.decode()) from error
    finally:
        nvjitlink.destroy(handle)
    return _resources(log.decode())


def _resources(log: str) -> Resources:
    used = re.findall(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?", log)
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    if not used or not spills:
        raise RuntimeError(f"the assembler's log is not as expected:\n{log}")
    return Resources(
        max(int(registers) for registers, _ in used),
        max(int(shared or 0) for _, shared in used),
        max(int(stack) for stack, _, _ in spills),
        sum(int(stores) + int(loads) for _, stores, loads in spills),
    )


def compile_kernel(module: str, name: str, types: list) -> dict[tuple[int, int], Resources]:
    """The resources of a kernel on each architecture."""
    from numba import cuda
    from numba.cuda import dispatcher

    kernel = getattr(importlib.import_module(module), name)
    signature = tuple(numba_type(name) for name in types)
    options = {key: value for key, value in kernel.options.items() if key in ("fastmath", "launch_bounds")}
    found = {}
    for architecture in ARCHITECTURES:
        # Numba takes the architecture for functions that a kernel calls from the current GPU; here there is none
        dispatcher.get_current_device = lambda cc=architecture: SimpleNamespace(compute_capability=cc)
        code, _ = cuda.compile(
            kernel.function, signature, cc=architecture, device=False, abi="numba", output="ltoir", **options
        )
        found[architecture] = assemble(code, architecture)
    return found


def _compiled(signature: tuple[str, str, list]) -> dict[tuple[int, int], Resources] | str:
    """The resources of a kernel, or the reason why it could not be compiled."""
    try:
        return compile_kernel(*signature)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _short(types: list) -> str:
    text = json.dumps(types).replace('"', "")
    return re.sub(r"Array\((\w+), (\d+), ([CFA])\)", r"\1[\2\3]", text)[1:-1]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda_resources", description=__doc__)
    parser.add_argument("signatures", nargs="+")
    parser.add_argument("--only", default="", help="kernels whose module or name contains this")
    parser.add_argument(
        "--chains", type=int, help="the number of elementwise chains to compile: tests make very many (default all)"
    )
    parser.add_argument("--markdown", help="write the table to this file too")
    chosen = parser.parse_args(arguments)
    sys.path.append(os.path.dirname(__file__))  # for card.py
    for name in ("NUMBA_ENABLE_CUDASIM", "NBKERAS_DEVICE"):  # set for collecting; here no kernel runs
        os.environ.pop(name, None)
    rows, failures = [], []
    signatures = [entry for entry in read_signatures(chosen.signatures) if chosen.only in f"{entry[0]}.{entry[1]}"]
    if chosen.chains is not None:
        chains = [entry for entry in signatures if entry[0].endswith(".cuda.interpreter.launches")]
        kept = chains[:: max(1, -(-len(chains) // chosen.chains))]
        signatures = [entry for entry in signatures if entry not in chains or entry in kept]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(_compiled, signatures, chunksize=4))
    for (module, name, types), found in zip(signatures, results, strict=True):
        if isinstance(found, str):
            failures.append(f"{module}.{name}({_short(types)}): {found}")
            continue
        for architecture, needs in found.items():
            if needs.spills and architecture >= (8, 0):
                failures.append(f"{module}.{name}({_short(types)}) spills {needs.spills} bytes on sm_{architecture}")
        rows.append((module.rpartition(".")[2], name, _short(types), found))
    title = " | ".join(f"sm_{major}{minor}: registers, shared, stack, spills" for major, minor in ARCHITECTURES)
    lines = [f"| file | kernel | arguments | {title} |", "|---|---|---|" + "---|" * len(ARCHITECTURES)]
    for module, name, types, found in rows:
        needs = " | ".join(f"{r.registers}, {r.shared}, {r.stack}, {r.spills}" for r in found.values())
        lines.append(f"| {module} | {name.replace(chr(124), chr(92) + chr(124))} | {types} | {needs} |")
    print("\n".join(lines))
    if chosen.markdown:
        with open(chosen.markdown, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    print(f"\n{len(rows)} kernels compiled for {len(ARCHITECTURES)} architectures, {len(failures)} failures")
    for failure in failures:
        print("FAILED", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
