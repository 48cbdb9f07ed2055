"""Compares predictions of one sample in WebAssembly with onnxruntime-web, in Node.js: `python benchmarks/web.py FOLDER` prints a
table. FOLDER has node_modules with onnxruntime-web (`npm install onnxruntime-web`).

Both have one thread and SIMD, and read the same weights; "!" marks an answer that differs from `predict` by more than 1e-4. Sizes
are those of what a page loads: JavaScript, WebAssembly and the model. The first prediction is timed in a new process from the
import on, with files on disk, the median of five; the others are the minimum over two seconds.
"""

import importlib
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import protocol
from workloads import WORKLOADS, data

NAMES = ("mlp", "cnn", "lstm_stack", "resnet8", "ds_cnn", "autoencoder")
DIST = "node_modules/onnxruntime-web/dist"
PEER = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PROGRAM = """
import { readFileSync } from "node:fs";
const bytes = readFileSync("x.bin"), x = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
const start = performance.now();
LOAD
let y = await predict();
const first = performance.now() - start;
let best = Infinity;
for (const end = performance.now() + 2000; performance.now() < end;) {
  const begin = performance.now();
  y = await predict();
  best = Math.min(best, performance.now() - begin);
}
console.log(JSON.stringify({ first, best, y: Array.from(y) }));
"""
OWN = """const { Model } = await import("./net.mjs"), model = await Model.load();
const predict = () => model.predict(x);"""
OTHER = """const ort = await import("DIST/ort.wasm.min.mjs");
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = "file://DIST/";
const session = await ort.InferenceSession.create(new Uint8Array(readFileSync("net.onnx")), { executionProviders: ["wasm"] });
const given = { [session.inputNames[0]]: new ort.Tensor("float32", x, SHAPE) };
const predict = async () => (await session.run(given))[session.outputNames[0]].data;"""


def run(folder: Path, load: str) -> dict:
    """The measurements of a program that loads a model so."""
    (folder / "main.mjs").write_text(PROGRAM.replace("LOAD", load), encoding="utf-8")
    runs = []
    for _ in range(5):
        done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    first = statistics.median(each["first"] for each in runs)
    return {"first": first, "best": min(each["best"] for each in runs), "y": runs[0]["y"]}


def size(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)


def main() -> None:
    dist = Path(sys.argv[1]).resolve() / DIST
    sys.argv = [sys.argv[0], "nbkeras"]  # chosen_keras.py reads it
    protocol.serve = lambda prepare: None  # run_keras.py calls it when it is imported
    networks = importlib.import_module("run_keras").NETWORKS
    random = np.random.default_rng(0)
    titles = ["network", "KB", "ort KB", "ratio", "first ms", "ort ms", "ratio", "predict us", "ort us", "ratio"]
    print("".join(f"{title:>12}" for title in titles))
    for name in NAMES:
        model = networks[name](1)
        model.set_weights([w + 0.02 * random.standard_normal(w.shape, "float32") for w in model.get_weights()])
        x = data(WORKLOADS[f"latency_{name}"], 1)[0][0]
        y = model.predict(x, verbose=0)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "x.bin").write_bytes(x.tobytes())
            model.export(folder / "net.wasm", verbose=False)
            model.export(folder / "net.onnx", verbose=False)
            own = run(folder, OWN)
            other = run(folder, OTHER.replace("DIST", str(dist)).replace("SHAPE", str(list(x.shape))))
            sizes = (
                size(folder / "net.wasm", folder / "net.mjs"),
                size(folder / "net.onnx", *(dist / each for each in PEER)),
            )
        marks = ["" if np.allclose(each["y"], y.ravel(), rtol=1e-4, atol=1e-4) else "!" for each in (own, other)]
        row = [name, *(f"{each / 1000:,.0f}" for each in sizes), f"{sizes[0] / sizes[1]:.3f}"]
        row += [f"{own['first']:.1f}", f"{other['first']:.1f}", f"{own['first'] / other['first']:.3f}"]
        times = [each["best"] * 1000 for each in (own, other)]
        row += [*(f"{time:.1f}{mark}" for time, mark in zip(times, marks, strict=True)), f"{times[0] / times[1]:.2f}"]
        print("".join(f"{value:>12}" for value in row), flush=True)


if __name__ == "__main__":
    main()
