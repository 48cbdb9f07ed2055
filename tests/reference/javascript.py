"""WebAssembly modules in Node.js, for tests."""

import json
import shutil
import subprocess
from importlib.util import find_spec

import pytest

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js (node)")
needs_wasm_linker = pytest.mark.skipif(
    shutil.which("wasm-ld") is None and find_spec("ziglang") is None,
    reason="needs wasm-ld (lld) or ziglang to link WebAssembly",
)
# {data, type, shape} of JSON as a typed array, and back
PROGRAM = """
import { readFileSync } from "node:fs";
import { Model } from "./net.mjs";
const given = JSON.parse(readFileSync(0)).map(([type, values]) =>
  globalThis[type].from(values, type.startsWith("Big") ? BigInt : Number));
const plain = (value) => ArrayBuffer.isView(value) ? [value.constructor.name, Array.from(value, Number)]
  : Array.isArray(value) ? value.map(plain) : value;
const caught = (call) => { try { call(); return null; } catch (error) { return `${error.name}: ${error.message}`; } };
const print = (value) => console.log(JSON.stringify(plain(value)));
"""
LOADED = "const model = await Model.load();\n"
TYPES = {"int64": "BigInt64Array", "uint64": "BigUint64Array", "bool": "Uint8Array"}


def in_node(folder, code, *arrays):
    """What a program prints, as JSON. `given`: the arrays as typed arrays."""
    (folder / "main.mjs").write_text(PROGRAM + code)
    given = [[TYPES.get(a.dtype.name, f"{a.dtype.name.capitalize()}Array"), a.ravel().tolist()] for a in arrays]
    done = subprocess.run(
        ["node", "main.mjs"],
        cwd=folder,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
