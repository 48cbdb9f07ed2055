"""All tests and measurements on a machine with an NVIDIA GPU in one command: python3 -m benchmarks.gpu --out FOLDER

Run it in the source folder; it needs only Python with its venv module. It installs nbkeras and the peers into their own
environments and runs the test suite on the GPU, NVIDIA's compute-sanitizer with the kernels' tests, and the benchmarks. It writes
a log of each step, the results as JSON, and report.md to FOLDER. If a step cannot run, it prints the reason and continues with
the next step.

--installed: without network; nbkeras is copied, all other packages are this Python's. Steps can run in several commands (--steps,
--part 1/3, --limit), for a machine that limits each command to some minutes; build/gpu keeps the compiled kernels:

    python3 -m benchmarks.gpu --installed --out OUT --steps machine,tests --limit 500
    python3 -m benchmarks.gpu --installed --out OUT --steps sanitizer --limit 500
    python3 -m benchmarks.gpu --installed --out OUT --steps kernels --limit 560
    python3 -m benchmarks.gpu --installed --out OUT --steps equality --limit 560
    python3 -m benchmarks.gpu --installed --out OUT --steps workloads --part 1/2 --limit 560
    python3 -m benchmarks.gpu --installed --out OUT --steps workloads --part 2/2 --limit 560
    python3 -m benchmarks.gpu --installed --out OUT --steps report
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "gpu"
GPU_WORKLOADS = (
    "mlp mlp_32 lstm_stack lstm_stateful headline tweets cnn lstm_imdb resnet8 ds_cnn mobilenet autoencoder wake_word "
    "transformer unet wgan_gp burgers maml lstm_slopes latency_mlp latency_lstm_stack latency_cnn "
    "throughput_mlp throughput_cnn start"
).split()
SANITIZERS = ("memcheck", "racecheck")
SANITIZER_PLACES = ("/usr/local/cuda/bin", "/opt/cuda/bin", "/usr/local/cuda/compute-sanitizer")
NEWEST_CUDA = 13


class CannotError(Exception):
    """A step cannot run here; the message gives the reason."""


def interpreter(folder: Path) -> str:
    return str(folder / "bin" / "python")


def part_of(names: Sequence[str], part: str) -> list[str]:
    """A part of the names: '2/3' gives the 2nd, 5th, 8th, ... of them."""
    number, parts = map(int, part.split("/"))
    return list(names)[number - 1 :: parts]


class Run:
    """The settings, and the Pythons of each framework."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.out = options, Path(options.out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        BUILD.mkdir(parents=True, exist_ok=True)
        self.pythons = dict.fromkeys(("nbkeras", "torch", "jax"), sys.executable)
        if not options.installed:
            self.pythons = {name: interpreter(BUILD / name) for name in self.pythons}
        self.suffix = "" if options.part == "1/1" else "-" + options.part.replace("/", "of")

    def environment(self, **more: str) -> dict[str, str]:
        found = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        found |= {"NUMBA_CACHE_DIR": str(BUILD / "cache"), "PYTHONUNBUFFERED": "1"} | more
        if self.options.installed:
            found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(BUILD / "site"), os.environ.get("PYTHONPATH")]))
        return found

    def command(self, log: str, command: Sequence[str], limit: float | None = None, **environment: str) -> int:
        """Run a command, write its output to a log and the end of the output to the screen; return its exit code, 124 after the
        limit."""
        limit = limit or self.options.limit
        with open(self.out / log, "a", encoding="utf-8") as file:
            print(f"$ {' '.join(command)}", flush=True)
            file.write(f"$ {' '.join(command)}\n")
            file.flush()
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment(**environment),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                end(process)
                code = 124
                file.write(f"\nended after {limit:.0f} s\n")
        print("\n".join((self.out / log).read_text(encoding="utf-8", errors="replace").splitlines()[-12:]), flush=True)
        return code


def end(process: subprocess.Popen) -> None:
    """Kill a process and the processes that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def judged(code: int, what: str) -> str:
    if code == 124:
        raise CannotError(f"{what}: it reached its time limit (--limit)")
    if code:
        raise CannotError(f"{what}: exit code {code}")
    return "done"


# -------------------- the steps: each returns a result in words, or raises CannotError --------------------


def machine(run: Run) -> str:
    """The machine: GPU, driver, Python, packages."""
    for command in (
        ["nvidia-smi"],
        ["nvidia-smi", "-q", "-d", "CLOCK,POWER,ECC"],
        ["uname", "-a"],
        ["nvcc", "--version"],
    ):
        if shutil.which(command[0]):
            run.command("machine.log", command, 60)
    run.command("machine.log", [sys.executable, "--version"], 60)
    run.command("machine.log", [sys.executable, "-m", "pip", "list"], 120)
    if shutil.which("nvidia-smi") is None:
        raise CannotError("there is no nvidia-smi: is an NVIDIA driver installed?")
    return "done"


def cuda_version() -> int:
    """The major version of the newest CUDA that the driver supports."""
    try:
        output = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=60).stdout
    except OSError:
        return NEWEST_CUDA
    found = re.search(r"CUDA (?:UMD )?Version: (\d+)", output)
    return int(found[1]) if found else NEWEST_CUDA


def setup(run: Run) -> str:
    """Environments with nbkeras, PyTorch and JAX; with --installed only a copy of nbkeras."""
    if run.options.installed:
        site = BUILD / "site" / "nbkeras"
        shutil.rmtree(site, ignore_errors=True)
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "nbkeras", site, ignore=leave)
        shutil.copytree(ROOT / "kernels", site / "kernels", ignore=leave)
        return "nbkeras copied; all other packages are this Python's"
    old = cuda_version() < NEWEST_CUDA
    wanted = {
        "nbkeras": ["-e", f"{ROOT}[{'cuda12' if old else 'cuda'},test]", "pytest-xdist"],
        "torch": ["torch", "numpy"],
        "jax": [f"jax[{'cuda12' if old else 'cuda13'}]"],
    }
    failed = []
    for name, packages in wanted.items():
        if not Path(run.pythons[name]).exists():
            venv.create(BUILD / name, with_pip=True)
        if run.command("setup.log", [run.pythons[name], "-m", "pip", "install", *packages], 1800):
            failed.append(name)
    if "nbkeras" in failed:
        raise CannotError("nbkeras and its dependencies could not be installed: see setup.log")
    cublas = ["nvmath-python[cu12]" if old else "nvmath-python[cu13]"]
    if run.command("setup.log", [run.pythons["nbkeras"], "-m", "pip", "install", *cublas], 1800):
        failed.append("cuBLAS for nbkeras")
    return f"not installed: {', '.join(failed)}" if failed else "done"


def has(run: Run, module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([run.pythons["nbkeras"], "-c", code], env=run.environment()).returncode == 0


def tests(run: Run) -> str:
    """The whole test suite, computed on the GPU."""
    files = part_of(
        sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")), run.options.part
    )
    command = [run.pythons["nbkeras"], "-m", "pytest", "-rfE", "--tb=short", *files]
    if has(run, "xdist"):
        command += ["-n", str(min(6, os.cpu_count() or 1))]
    code = run.command(f"tests{run.suffix}.log", command, NBKERAS_DEVICE="cuda", PYTHONSAFEPATH="1")
    return judged(code, "the suite")


def sanitizer(run: Run) -> str:
    """compute-sanitizer's memcheck and racecheck with the tests of CUDA kernels, file by file."""
    tool = shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ.get("PATH", ""), *SANITIZER_PLACES]))
    if tool is None:
        raise CannotError("compute-sanitizer, a part of the CUDA toolkit, is not installed")
    stop, found, skipped = time.monotonic() + run.options.limit, [], []
    files = part_of(sorted((ROOT / "tests" / "kernels" / "cuda").glob("test_*.py")), run.options.part)
    for check in SANITIZERS:
        for path in files:
            left = stop - time.monotonic()
            if left < 10:
                skipped.append(f"{check} {path.name}")
                continue
            command = [tool, "--tool", check, "--error-exitcode", "99", run.pythons["nbkeras"], "-m", "pytest", "-x"]
            command += ["-p", "no:cacheprovider", str(path.relative_to(ROOT))]
            log = f"sanitizer{run.suffix}.log"
            code = run.command(log, command, left, NBKERAS_DEVICE="cuda", PYTHONSAFEPATH="1")
            if code not in (0, 5):  # 5: no test was collected
                found.append(f"{check} {path.name}: {'over time' if code == 124 else f'exit code {code}'}")
    notes = ([f"not run, for time: {', '.join(skipped)}"] if skipped else []) + found
    if found:
        raise CannotError("; ".join(notes))
    return "; ".join(notes) or "nothing found"


def measured(run: Run, log: str, names: Sequence[str]) -> str:
    """Run benchmarks, and write the results to a JSON file with the log's name."""
    command = [
        run.pythons["nbkeras"],
        "-m",
        "benchmarks",
        *names,
        "--device",
        "cuda",
        "--json",
        str(run.out / f"{log}.json"),
    ]
    for peer, of in (("torch", "torch"), ("torch-tf32", "torch"), ("torch-compile", "torch"), ("jax", "jax")):
        command += ["--python", f"{peer}={run.pythons[of]}"]
    if run.options.rounds:
        command += ["--rounds", str(run.options.rounds)]
    if run.options.quick:
        command.append("--quick")
    if run.options.peers:
        command += ["--peers", run.options.peers]
    return judged(run.command(f"{log}.log", command), log)


def kernels(run: Run) -> str:
    """Each kernel separately, and the card's limits."""
    return measured(run, "kernels", ["kernels"])


def equality(run: Run) -> str:
    """The first losses on the GPU and on the CPU."""
    return measured(run, "equality", ["equality"])


def workloads(run: Run) -> str:
    """Training, latency and throughput in nbkeras, PyTorch and JAX."""
    return measured(run, f"workloads{run.suffix}", part_of(GPU_WORKLOADS, run.options.part))


def report(run: Run) -> str:
    """All tables from the folder's JSON files, and the goals, as one document."""
    files = sorted(run.out.glob("*.json"))
    if not files:
        raise CannotError(f"there is no result in {run.out}")
    command = [run.pythons["nbkeras"], "-m", "benchmarks", "--markdown", str(run.out / "report.md")]
    for file in files:
        command += ["--from", str(file)]
    run.command("report.log", command)
    return "report.md"


STEPS: dict[str, Callable[[Run], str]] = {
    step.__name__: step for step in (machine, setup, tests, sanitizer, kernels, equality, workloads, report)
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="gpu-report", help="the folder for logs and results (default gpu-report)")
    parser.add_argument("--installed", action="store_true", help="install nothing: use this Python's packages")
    parser.add_argument("--steps", default=",".join(STEPS), help=f"of {', '.join(STEPS)} (default all)")
    parser.add_argument("--part", default="1/1", help="2/3: the second third of the tests and workloads")
    parser.add_argument("--limit", type=float, default=7200, help="the most seconds for a step (default 7200)")
    parser.add_argument("--rounds", type=int, help="see `python -m benchmarks --help`")
    parser.add_argument("--peers", help="see `python -m benchmarks --help`")
    parser.add_argument("--quick", action="store_true", help="see `python -m benchmarks --help`")
    options = parser.parse_args(arguments)
    names = options.steps.split(",")
    for name in names:
        if name not in STEPS:
            parser.error(f"unknown step {name!r}: choose from {', '.join(STEPS)}")
    if options.installed and "setup" not in names:
        names = ["setup", *names]  # copy nbkeras again: it may have changed
    run, lines, failed = Run(options), [], False
    for name in names:
        print(f"\n== {name}: {STEPS[name].__doc__}", flush=True)
        start = time.monotonic()
        try:
            what = STEPS[name](run)
        except (CannotError, OSError, subprocess.SubprocessError) as error:
            what, failed = f"NOT DONE: {error}", True
        lines.append(f"| {name} | {time.monotonic() - start:.0f} s | {what} |")
    table = "\n".join(["| step | took | result |", "| --- | ---: | --- |", *lines])
    with open(run.out / "summary.md", "a", encoding="utf-8") as file:
        file.write(f"{table}\n\n")
    print(f"\n{table}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
