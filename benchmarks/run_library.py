"""Compares models as libraries with `predict`, for one sample and one thread: `python benchmarks/run_library.py [SECONDS]` prints
a table.

A time is the minimum over calls in SECONDS (default 2): of `predict`, of the Python module beside the library, and of the library
called by a C program, which this system's C compiler builds. Sizes are file sizes in bytes; memory is the peak resident memory of
the calling process in KB: of the C program, and of Python for LiteRT.

--python PATH measures LiteRT too, in a Python with ai-edge-litert and tensorflow; --keras2c FOLDER, the repository of keras2c,
measures its code, as a stripped library that the same program calls (the Python then needs pydantic<2). A "!" follows the time if
the answer differs from `predict`.
"""

import argparse
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import protocol
from runners import FOLDER, Failed, Runner, output
from workloads import WORKLOADS, data

import nbkeras

NAMES = ("mlp", "lstm_stack", "cnn", "resnet8", "ds_cnn", "mobilenet", "autoencoder", "wake_word")
CLOCK = """
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e6 + t.tv_nsec * 1e-3; }
static long peak(void) {  /* KB of 1024 bytes */
    long found = 0;
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL && sscanf(line, "VmHWM: %ld", &found) != 1) {}
    return found;
}
"""
PROGRAM = """
#include <dlfcn.h>
int main(int count, char **arguments) {  /* library, floats of the input, floats of the output, seconds; reads the input */
    void *library = dlopen(arguments[1], RTLD_NOW);
    if (count < 5 || library == NULL) return 1;
    int (*predict)(const float *, float *, void *) = (int (*)(const float *, float *, void *))dlsym(library, "net_predict");
    size_t (*size)(void) = (size_t (*)(void))dlsym(library, "net_workspace_size");
    size_t n = atol(arguments[2]), m = atol(arguments[3]);
    float *x = malloc(n * 4), *y = malloc(m * 4);
    void *workspace = malloc(size());
    if (fread(x, 4, n, stdin) != n) return 3;
    double least = 1e300, end = now() + atof(arguments[4]) * 1e6;
    do {
        double start = now();
        if (predict(x, y, workspace) != 0) return 2;
        double took = now() - start;
        if (took < least) least = took;
    } while (now() < end);
    printf("%f %ld", least, peak());
    for (size_t i = 0; i < m; i++) printf(" %.9g", y[i]);
    return 0;
}
"""
KERAS2C = """
unsigned long net_workspace_size(void) { return 1; }
int net_predict(const float *x, float *y, void *workspace) {
    (void)workspace;
    k2c_tensor input = {(float *)x, %s}, output = {y, %s};
    net(&input, &output);
    return 0;
}
"""
INSTALLED = (
    "from importlib.metadata import files; print(sum(f.locate().stat().st_size for f in files('ai-edge-litert')))"
)
CC = ["cc", "-O3", "-march=native"]  # as the makefile of keras2c


def minimum(function: Callable[[], Any], seconds: float) -> float:
    """Microseconds of the fastest call."""
    clock, best, end = time.perf_counter, float("inf"), time.perf_counter() + seconds
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


def microseconds(value: float, answer: Any, expected: np.ndarray) -> str:
    """A time as a string, with a "!" if the answer is wrong."""
    same = np.allclose(np.ravel(answer), np.ravel(expected), rtol=1e-4, atol=1e-4)
    return f"{value:.1f}" if same else f"{value:.1f}!"


def shape(array: np.ndarray) -> str:
    """The number of dimensions, the size and the dimensions of one sample in a k2c_tensor."""
    sizes = [*array.shape[1:], 1, 1, 1, 1][:5]
    return f"{array.ndim - 1}, {array.size}, {{{', '.join(map(str, sizes))}}}"


class Comparison:
    """The measurements of one network after the other."""

    def __init__(self, folder: str, options: argparse.Namespace):
        self.folder, self.seconds, self.python = Path(folder), options.seconds, options.python
        self.keras2c = options.keras2c and Path(options.keras2c).resolve()
        self.program, self.unsupported = self.folder / "main", dict[str, str]()
        (self.folder / "main.c").write_text(CLOCK + PROGRAM, encoding="utf-8")
        subprocess.run(["cc", "-O2", self.folder / "main.c", "-o", self.program, "-ldl"], check=True)
        if self.keras2c:
            (self.folder / "keras2c").mkdir()  # both write a net.h
            (self.folder / "keras2c" / "include").symlink_to(self.keras2c / "include")

    def from_c(self, library: Path, x: np.ndarray, y: np.ndarray) -> tuple[str, str]:
        """The minimum time of a library's calls from C, and the memory of the process."""
        command = [self.program, library, str(x.size), str(y.size), str(self.seconds)]
        found = subprocess.run(command, input=x.tobytes(), capture_output=True, check=True).stdout.split()
        return microseconds(float(found[0]), np.array(found[2:], "float32"), y), found[1].decode()

    def nbkeras(self, model: Any, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """The measurements of `predict` and of the library."""
        path = self.folder / "libnet.so"
        start = time.perf_counter()
        model.export(str(path), verbose=False)
        took = time.perf_counter() - start
        library = module(str(self.folder / "net.py"))
        if library.predict(x).tobytes() != y.tobytes():
            raise RuntimeError("the library gives other bits than predict")
        row: dict[str, Any] = {"predict us": f"{minimum(lambda: model.predict(x, verbose=0), self.seconds):.1f}"}
        row["module us"] = f"{minimum(lambda: library.predict(x), self.seconds):.1f}"
        row["C us"], row["C KB"] = self.from_c(path, x, y)
        row |= {"library": path.stat().st_size, "weights": sum(w.nbytes for w in model.get_weights())}
        return row | {"workspace": library._size("workspace"), "export s": f"{took:.2f}"}

    def runner(self, framework: str, script: str, name: str, file: Path) -> Runner:
        """A process that serves this network; `file` has the network or its weights."""
        environment = os.environ | ({"PYTHONPATH": str(self.keras2c / "src")} if self.keras2c else {})
        command = [
            self.python,
            str(FOLDER / script),
            framework,
            f"latency_{name}",
            "1",
            str(self.seconds),
            "cpu",
            str(file),
        ]
        return Runner(framework, command, environment)

    def peers(self, name: str, model: Any, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """keras2c's and LiteRT's measurements of the same network with the same weights."""
        weights, converted, source = (self.folder / name for name in ("net.npz", "net.tflite", "keras2c/net.c"))
        np.savez(weights, *model.get_weights())
        row: dict[str, Any] = {}
        with self.runner("keras-tensorflow", "run_keras.py", name, weights) as writer:
            writer.write(str(converted))
            if self.keras2c:
                try:
                    writer.write(str(source))
                except Failed as error:
                    layer = re.search(r"Layer type '(\w+)' is not supported", str(error))
                    if layer is None:
                        raise
                    row = {"keras2c us": "-", "keras2c KB": "-", "keras2c": "-"}
                    self.unsupported[name] = layer[1]
        if self.keras2c and not row:
            with open(source, "a", encoding="utf-8") as file:
                file.write(KERAS2C % (shape(x), shape(y)))
            library = source.with_suffix(".so")
            sources = [source, *sorted(self.keras2c.glob("include/*.c"))]
            subprocess.run([*CC, "-s", "-shared", "-fPIC", *sources, "-o", library, "-lm"], check=True)
            row["keras2c us"], row["keras2c KB"] = self.from_c(library, x, y)
            row["keras2c"] = library.stat().st_size
        with self.runner("litert-1", "run_files.py", name, converted) as litert:
            found = litert.round()
            row["LiteRT us"] = microseconds(min(found["times"]) * 1e6, litert.ready["answer"], y)
            row |= {"LiteRT KB": f"{found['peak'] * 1024:.0f}", "LiteRT": converted.stat().st_size}
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=2.0)
    parser.add_argument("--python", help="a Python that has ai-edge-litert and tensorflow")
    parser.add_argument("--keras2c", help="the folder of keras2c's repository; needs --python")
    options = parser.parse_args()
    if options.keras2c and not options.python:
        parser.error("--keras2c needs --python")
    sys.argv = [sys.argv[0], "nbkeras"]  # chosen_keras.py reads it
    protocol.serve = lambda prepare: None  # run_keras.py calls it when it is imported
    networks = importlib.import_module("run_keras").NETWORKS
    nbkeras.set_threads(1)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(folder, options)
        for name in NAMES:
            model = networks[name](1)
            model.set_weights([w + 0.02 * random.standard_normal(w.shape, "float32") for w in model.get_weights()])
            x = data(WORKLOADS[f"latency_{name}"], 1)[0][0]
            y = model.predict(x, verbose=0)
            row = {"network": name} | comparison.nbkeras(model, x, y)
            if options.python:
                row |= comparison.peers(name, model, x, y)
            if name == NAMES[0]:
                print("".join(f"{title:>12}" for title in row))
            print("".join(f"{value:>12}" for value in row.values()), flush=True)
    if options.python:
        for name, layer in comparison.unsupported.items():
            print(f"{name}: keras2c does not support {layer}")
        print(f"LiteRT installed: {output([options.python, '-c', INSTALLED], dict(os.environ)).strip()} bytes")


if __name__ == "__main__":
    main()
