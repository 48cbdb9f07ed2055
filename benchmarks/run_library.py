"""Models as libraries beside `predict`, one sample, one thread: `python benchmarks/run_library.py [SECONDS]` prints a table.

Times are the least of calls that go on for so many seconds (default 2) each: `predict`, the Python module beside the library, and
the library itself from a program in C, which a C compiler of this system makes. Sizes are those of files, in bytes.
"""

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import serving

import nbkeras

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
sys.argv = [sys.argv[0], "nbkeras"]  # chosen_keras.py reads it
serving.serve = lambda prepare: None  # run_keras.py calls it when it is imported
NETWORKS = importlib.import_module("run_keras").NETWORKS
NAMES = ("mlp", "lstm_stack", "cnn", "resnet8", "ds_cnn", "mobilenet", "autoencoder", "wake_word")
PROGRAM = """
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e6 + t.tv_nsec * 1e-3; }
int main(int count, char **arguments) {  /* library, floats of the input, floats of the output, seconds */
    void *library = dlopen(arguments[1], RTLD_NOW);
    if (count < 5 || library == NULL) return 1;
    int (*predict)(const float *, float *, void *) = (int (*)(const float *, float *, void *))dlsym(library, "net_predict");
    size_t (*size)(void) = (size_t (*)(void))dlsym(library, "net_workspace_size");
    size_t n = atol(arguments[2]);
    float *x = malloc(n * 4), *y = malloc(atol(arguments[3]) * 4);
    void *workspace = malloc(size());
    for (size_t i = 0; i < n; i++) x[i] = (float)(i % 17) / 17;
    double least = 1e300, end = now() + atof(arguments[4]) * 1e6;
    do {
        double start = now();
        if (predict(x, y, workspace) != 0) return 2;
        double took = now() - start;
        if (took < least) least = took;
    } while (now() < end);
    printf("%f", least);
    return 0;
}
"""


def least(function: Callable[[], Any]) -> float:
    """Microseconds of the fastest call."""
    clock, best, end = time.perf_counter, float("inf"), time.perf_counter() + SECONDS
    while clock() < end:
        start = clock()
        function()
        best = min(best, clock() - start)
    return best * 1e6


def module(path: str) -> Any:
    """The Python module beside a library."""
    spec: Any = importlib.util.spec_from_file_location(f"net_{time.monotonic_ns()}", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def main() -> None:
    nbkeras.set_threads(1)
    titles = ("network", "predict us", "module us", "C us", "library", "weights", "workspace", "export s")
    print("".join(f"{title:>12}" for title in titles))
    with tempfile.TemporaryDirectory() as folder:
        source, program, path = (os.path.join(folder, name) for name in ("main.c", "main", "libnet.so"))
        with open(source, "w", encoding="utf-8") as file:
            file.write(PROGRAM)
        subprocess.run(["cc", "-O2", source, "-o", program, "-ldl"], check=True)
        for name in NAMES:
            model = NETWORKS[name](1)
            x = np.random.default_rng(0).random((1, *model.inputs[0].shape[1:])).astype("float32")
            start = time.perf_counter()
            model.export(path, verbose=False)
            took = time.perf_counter() - start
            library = module(os.path.join(folder, "net.py"))
            y = model.predict(x, verbose=0)
            if library.predict(x).tobytes() != y.tobytes():
                raise RuntimeError(f"{name}: the library gives other bits than predict")
            command = [program, path, str(x.size), str(y.size), str(SECONDS)]
            from_c = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            times = least(lambda: model.predict(x, verbose=0)), least(lambda: library.predict(x)), float(from_c)  # noqa: B023
            weights = sum(w.nbytes for w in model.get_weights())
            row = f"{name:>12}" + "".join(f"{each:12.1f}" for each in times)
            print(
                row + f"{os.path.getsize(path):12}{weights:12}{library._size('workspace'):12}{took:12.2f}", flush=True
            )


if __name__ == "__main__":
    main()
