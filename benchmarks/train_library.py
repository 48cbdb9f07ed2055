"""Compares train steps of models as libraries with `fit`, with one thread: `python benchmarks/train_library.py [SECONDS]`
prints a table.

Each network trains 50 steps in the library and in `fit`, which must give the same bits. Then a time is the minimum over SECONDS
(default 4), in rounds that alternate: of the mean step of `fit` in an epoch, of the module beside the library, and of the library
called by a C program, which this system's C compiler builds. Sizes are in KB of 1000 bytes: the library without the model's
weights, its state, and the peak resident memory of the C program, which holds the weights, the state, the workspace and a batch.
"""

import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import protocol
from run_library import CLOCK, module

import nbkeras
from nbkeras.export import variables_by_name

BATCH, STEPS, ROUNDS = 32, 50, 4
PROGRAM = """
#include "net.h"
static void *memory(long size) { return aligned_alloc(64, (size + 63) / 64 * 64); }
static void *data(long size) {
    void *found = memory(size);
    if (fread(found, size, 1, stdin) != 1) exit(1);
    return found;
}
int main(int count, char **arguments) {  /* seconds; reads the arrays of a batch */
    void *x[] = {%(reads)s}, *state = memory(net_state_size()), *workspace = memory(net_workspace_size());
    static double logs[64];
    double least = 1e300, end = now() + atof(arguments[count - 1]) * 1e6;
    if (net_init(state, 0) != 0) return 2;
    do {
        double start = now();
        if (net_train_step(state, %(given)s, (void *)logs, workspace) != 0) return 3;
        double took = now() - start;
        if (took < least) least = took;
    } while (now() < end);
    printf("%%f %%ld", least, peak());
    return 0;
}
"""


def c_program(folder: Path, arrays: list) -> Callable[[float], tuple[float, float]]:
    """Runs a C program for some seconds: microseconds of a step, and its peak memory in KB of 1000 bytes."""
    reads = ", ".join(f"data({each.nbytes})" for each in arrays)
    given = ", ".join(f"x[{i}]" for i in range(len(arrays)))
    (folder / "main.c").write_text(CLOCK + PROGRAM % {"reads": reads, "given": given}, encoding="utf-8")
    command = ["cc", "-O2", folder / "main.c", folder / "libnet.so", f"-Wl,-rpath,{folder}", "-o", folder / "main"]
    subprocess.run(command, check=True)
    content = b"".join(np.ascontiguousarray(each).tobytes() for each in arrays)

    def run(seconds: float) -> tuple[float, float]:
        command = [folder / "main", str(seconds)]
        step, peak = subprocess.run(command, input=content, capture_output=True, check=True).stdout.split()
        return float(step), float(peak) * 1.024

    return run


def measured(model, xs: list, ys: list, folder: Path, seconds: float) -> list[str]:
    """The row of a network."""
    x, y = (each if len(each) > 1 else each[0] for each in (xs, ys))
    model.export(str(folder / "libnet.so"), training=True, example=(x, y), verbose=False)
    library = module(str(folder / "net.py"))
    state = library.new_state()
    for _ in range(STEPS):
        library.train_step(state, *xs, *ys)
    model.fit(x, y, BATCH, STEPS, shuffle=False, verbose=0)
    own = variables_by_name(model)
    for name, array in library.variables(state).items():
        if not name.startswith("metric") and array.tobytes() != own[name].numpy().tobytes():
            raise RuntimeError(f"{name} has other bits than after fit")
    many = [[np.concatenate([each] * STEPS) for each in part] for part in (xs, ys)]
    x, y = (each if len(each) > 1 else each[0] for each in many)
    fits, steps, in_c, clock, program = [], [], [], time.perf_counter, c_program(folder, [*xs, *ys])
    for _ in range(ROUNDS):
        end = clock() + seconds / ROUNDS
        while clock() < end:
            start = clock()
            model.fit(x, y, BATCH, 1, shuffle=False, verbose=0)
            fits.append((clock() - start) / STEPS * 1e6)
            start = clock()
            for _ in range(STEPS):
                library.train_step(state, *xs, *ys)
            steps.append((clock() - start) / STEPS * 1e6)
        in_c.append(program(seconds / ROUNDS))
    step, peak = min(in_c)
    size = (folder / "libnet.so").stat().st_size - sum(each.nbytes for each in model.get_weights())
    numbers = [min(fits), min(steps), step, step / min(fits), size / 1000, state.nbytes / 1000, peak]
    return [f"{each:.2f}" if each < 10 else f"{each:,.0f}" for each in numbers]


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    sys.argv = [sys.argv[0], "nbkeras"]  # chosen_keras.py reads it
    protocol.serve = lambda prepare: None  # run_keras.py calls it when it is imported
    networks, data = importlib.import_module("run_keras").NETWORKS, importlib.import_module("workloads").NETWORKS
    nbkeras.set_threads(1)
    titles = ["network", "fit us", "module us", "C us", "C / fit", "code KB", "state KB", "C peak KB"]
    print("".join(f"{title:>14}" for title in titles))
    for name, make in networks.items():
        if name in NOT_COMPILED:
            continue
        xs, ys = data[name](np.random.default_rng(0), BATCH)
        with tempfile.TemporaryDirectory() as folder:
            row = [name, *measured(make(BATCH), list(xs), list(ys), Path(folder), seconds)]
        print("".join(f"{value:>14}" for value in row), flush=True)


NOT_COMPILED = ("wgan_gp", "burgers", "maml", "lstm_slopes", "toy")  # they train in loops of their own

if __name__ == "__main__":
    main()
