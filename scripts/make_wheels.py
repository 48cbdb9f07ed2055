"""Builds dist/: a wheel with compiled kernels for each kind of machine, a wheel without them, and the source distribution.

`tox -e wheels` runs it, on Linux with x86-64. No list of kernels is kept by hand:

1. Tests and programs run, and note each kernel that they use, with the types of its arguments (NBKERAS_USED_KERNELS).
2. Processes compile these kernels for each target. A file `TARGET.pack` holds the objects (kernels/runtime/pack.py).
3. The build of each wheel takes the files of its kind of machine (setup.py). scripts/make_sbom.py adds what a wheel consists of.

    python scripts/make_wheels.py                                   # everything
    python scripts/make_wheels.py --used notes.txt --only packs     # only step 2, from notes of another run
"""

import argparse
import base64
import concurrent.futures
import functools
import itertools
import os
import pathlib
import pickle
import platform
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "wheels"
# target: the sets of instructions above it for which the kernels that use them are compiled too
TARGETS = {
    "x86-64-v3": ((), ("avxvnni",)),
    "x86-64-v4": ((), ("avx512vnni",), ("avx512vnni", "avx512bf16")),
    "aarch64": ((),),
}
WHEELS = {"x86_64": ("x86-64-v3", "x86-64-v4"), "aarch64": ("aarch64",), "any": ()}
LOWEST = "x86-64-v3"  # the tests run at this level, which every machine that builds has
COVER = (
    ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "auto", "-m", "unit", "tests"],
    ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "auto", "tests/test_examples.py", "tests/gallery"],
    ["-m", "nbkeras", "warmup"],
    ["-m", "nbkeras", "warmup", "--float64"],
    ["-m", "nbkeras", "bench"],
    ["-m", "nbkeras", "digits", "--epochs", "1"],
)


def main() -> None:
    """Runs the steps that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--used", type=pathlib.Path, help="notes of a run; default: run the tests and programs")
    parser.add_argument(
        "--only", choices=("notes", "packs", "wheels"), help="stop after this step; 'wheels' does it alone"
    )
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "dist", help="folder of the wheels (default dist)")
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    if chosen.only != "wheels":
        used = chosen.used or cover()
        if chosen.only != "notes":
            for target in TARGETS:
                make_pack(target, wanted(used))
    if chosen.only in (None, "wheels"):
        build(chosen.out)


# -------------------- the kernels that programs use --------------------


def cover() -> pathlib.Path:
    """Runs tests and programs; returns the file with their notes."""
    used = WORK / "used.txt"
    used.unlink(missing_ok=True)
    for command in COVER:
        environment = os.environ | {
            "NUMBA_CPU_NAME": LOWEST,
            "NUMBA_CACHE_DIR": str(WORK / "cache"),
            "NBKERAS_USED_KERNELS": str(used),
        }
        print("running", *command, flush=True)
        subprocess.run([sys.executable, "-P", *command], cwd=ROOT, env=environment, check=True)
    return used


def wanted(used: pathlib.Path) -> list[tuple]:
    """Returns (module, name, types) of each kernel of the package in notes; the types are None for a registered function."""
    found = {pickle.loads(base64.b64decode(line)) for line in used.read_bytes().splitlines()}
    return sorted((each for each in found if each[0] and each[0].startswith("nbkeras.")), key=repr)


# -------------------- files of objects --------------------


def make_pack(target: str, jobs: list[tuple]) -> None:
    """Compiles the kernels for a target, and writes the file."""
    from nbkeras.kernels.runtime import code, pack, processor

    start = time.perf_counter()
    objects: dict[bytes, bytes] = {}
    failures: list[str] = []
    for extras in TARGETS[target]:
        environment = os.environ | processor.variables_of(target, extras) | {"NUMBA_CACHE_DIR": str(WORK / "cache")}
        count = len(os.sched_getaffinity(0))
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            work = functools.partial(compiled_by_child, environment)
            parts = list(pool.map(work, [jobs[i::count] for i in range(count)]))
        for made, failed in parts:
            objects |= made
            failures += failed
    tools = {"python": platform.python_version(), **{name: code.version(name) for name in ("numba", "llvmlite")}}
    description = {"target": target, "tools": tools, "sources": code.sources()}
    content = pack.packed(objects, description)
    (WORK / f"{target}.pack").write_bytes(content)
    print(
        f"{target}: {len(objects)} kernels, {len(content) / 1e6:.1f} MB, {time.perf_counter() - start:.0f} s, "
        f"{len(failures)} not compiled",
        flush=True,
    )
    for failure, group in itertools.groupby(sorted(failures)):
        print(f"  {failure} ({len(list(group))} times)", flush=True)


def compiled_by_child(environment: dict[str, str], jobs: list[tuple]) -> tuple[dict[bytes, bytes], list[str]]:
    """Returns objects by key, and failures, which a process with this environment made."""
    command = [sys.executable, "-P", __file__, "--part"]
    done = subprocess.run(command, env=environment, input=pickle.dumps(jobs), capture_output=True, check=False)
    if done.returncode:  # LLVM ends a process, for example if a target lacks an instruction
        raise SystemExit(f"a process that compiles kernels failed:\n{done.stderr.decode(errors='replace')[-4000:]}")
    return pickle.loads(done.stdout)


def compile_part() -> None:
    """Runs in a process for a target: reads jobs from the input, and writes objects by key, and failures."""
    from nbkeras.kernels.runtime import cache, code, elf, objects, processor

    jobs = pickle.load(sys.stdin.buffer)
    out, sys.stdout = sys.stdout, sys.stderr  # because a module may print
    made: dict[bytes, bytes] = {}
    failed: list[str] = []
    for module, name, signature in jobs:
        kernel = cache.named(module, name)
        label = f"{module}.{name}"
        try:
            if signature is not None:
                if not isinstance(kernel, cache.Kernel):
                    failed.append(f"{label}: not found by its name")
                    continue
                function, what = kernel.identified(signature)
            elif code.is_registered(name):
                function, what = code.identified(name)
            else:
                failed.append(f"{label}: not registered for this target")
                continue
            if processor.extras() and not code.asked_extras(function):
                continue  # its code is that of the plain level
            content = code.object_of(name) if signature is None else kernel.object_for(signature)
        except Exception as error:  # a kernel that one target has and another one lacks may raise anything
            failed.append(f"{label}: {type(error).__name__}: {error}")
            continue
        foreign = [each for each in elf.File(content).undefined() if not code.is_registered(each)]
        missing = [each for each in foreign if objects.library_symbol(each) is None]
        if missing or signature is not None and signature in kernel.bound:
            failed.append(f"{label}: it uses {missing or 'an address of this process'}")
        else:
            made[code.pack_key(function, what)] = content
    out.buffer.write(pickle.dumps((made, failed)))


# -------------------- wheels --------------------


def build(out: pathlib.Path) -> None:
    """Builds the wheels and the source distribution."""
    out.mkdir(parents=True, exist_ok=True)
    for kind, targets in WHEELS.items():
        packs = [WORK / f"{target}.pack" for target in targets]
        environment = os.environ | {"NBKERAS_WHEEL": kind, "NBKERAS_PACKS": os.pathsep.join(map(str, packs))}
        options = ["--wheel"] if packs else []  # the others come through the source distribution
        command = [sys.executable, "-m", "build", *options, "--outdir", str(out), str(ROOT)]
        subprocess.run(command, env=environment, check=True)
    wheels = sorted(out.glob("*.whl"))
    subprocess.run([sys.executable, "-P", str(ROOT / "scripts" / "make_sbom.py"), *map(str, wheels)], check=True)
    for path in sorted(out.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    compile_part() if sys.argv[1:] == ["--part"] else main()
