"""python -m benchmarks.eager [--peer-python PATH] [--rounds N] [--level x86-64-v3]: the cost of eager ops, calls and steps.

Each framework runs in one process on one processor; rounds alternate (run_eager.py). The table shows the medians and minima over
rounds in microseconds of processor time, and the ratios of the minima with the goals: ops compared with JAX's without jit,
`model(x)` and a step with a GradientTape with PyTorch's, and `train_on_batch` and `test_on_batch` with the batches of `fit` and
`evaluate`.
"""

import argparse
import os
import statistics
import sys

from benchmarks import levels
from benchmarks.runners import FOLDER, Missing, Process

GOALS = {  # case of nbkeras -> (framework and case that it is compared with, the largest ratio)
    "add": ("jax", "add", 1.0),
    "matmul": ("jax", "matmul", 1.0),
    "exp": ("jax", "exp", 1.0),
    "sum": ("jax", "sum", 1.0),
    "reshape": ("jax", "reshape", 1.0),
    "model(x)": ("torch", "model(x)", 2.0),
    "tape step": ("torch", "tape step", 1.0),
    "train_on_batch": ("nbkeras", "fit", 1.25),
    "test_on_batch": ("nbkeras", "evaluate", 1.25),
}
Times = dict[str, dict[str, list[float]]]  # framework -> case -> seconds in each round


def measured(peer_python: str, rounds: int, level: str | None) -> Times:
    """Measure all frameworks that are installed."""
    environment = {**os.environ, **levels.variables(level, os.environ)}
    processes, times = {}, {}
    try:
        for name in ("nbkeras", "torch", "jax"):
            python = sys.executable if name == "nbkeras" else peer_python
            try:
                processes[name] = Process(name, [python, str(FOLDER / "run_eager.py"), name], environment)
            except Missing as missing:
                print(f"{name}: {missing}", file=sys.stderr)
        for _ in range(rounds):
            for name, process in processes.items():
                process.ask("round")
                for case, value in process.answer().items():
                    times.setdefault(name, {}).setdefault(case, []).append(value)
    finally:
        for process in processes.values():
            process.close()
    return times


def table(times: Times) -> list[str]:
    """A line for each case."""
    lines = [f"{'case':16}" + "".join(f"{name:>18}" for name in times) + f"{'ratio':>8}{'goal':>6}"]
    for case in times["nbkeras"]:
        line = f"{case:16}"
        for found in times.values():
            each = found.get(case)
            line += f"{1e6 * statistics.median(each):9.1f}{1e6 * min(each):9.1f}" if each else f"{'':18}"
        peer, other, limit = GOALS.get(case, ("", "", 0.0))
        if case in times.get(peer, {}) or other in times.get(peer, {}):
            ratio = min(times["nbkeras"][case]) / min(times[peer][other])
            line += f"{ratio:8.2f}{limit:6.2f} {'pass' if ratio <= limit else 'MISS'}"
        lines.append(line.rstrip())
    return lines


def main(argv: list[str] | None = None) -> None:
    """Measure, and print the table."""
    usage, _, description = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog=usage.split(" [")[0], description=description)
    parser.add_argument("--peer-python", metavar="PATH", default=sys.executable, help="the Python with PyTorch and JAX")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds (default 7)")
    parser.add_argument("--level", choices=list(levels.VARIABLES), help="limit the instructions of all frameworks")
    options = parser.parse_args(argv)
    print("microseconds: median and minimum")
    print("\n".join(table(measured(options.peer_python, options.rounds, options.level))))


if __name__ == "__main__":
    main()
