"""Model files exchanged with real Keras, both ways (see exchange.py):

    KERAS_BACKEND=jax python tests/reference/make_files.py write FOLDER [case ...]     # real Keras 3 writes .keras
    python tests/reference/make_files.py --keras tf_keras write FOLDER [case ...]      # Keras 2 writes .h5
    python tests/reference/make_files.py --keras nbkeras [--h5] write FOLDER [case ...]
    KERAS_BACKEND=jax python tests/reference/make_files.py read FOLDER [case ...]      # loads them and compares
    KERAS_BACKEND=jax python tests/reference/make_files.py ops .                       # saving/keras_ops.py against real Keras
    KERAS_BACKEND=jax python tests/reference/make_files.py configs .                   # keras_3_configs.json

in an environment with keras 3, jax, tf_keras (for nbkeras: with nbkeras). `pack FOLDER` puts those of the named
cases into files/, where test_files.py reads them.
"""

import argparse
import importlib
import inspect
import json
import os
import sys
import traceback
import zipfile
from pathlib import Path

import numpy as np
from exchange import ALL, outcome, outline, trained, worst
from file_cases import SHAPES

HERE = Path(__file__).parent


def write(k, folder: Path, names: list[str], ending: str) -> None:
    for name in names:
        try:
            model, data = trained(k, name)
            model.save(folder / f"{name}{ending}")
            np.savez(folder / f"{name}.npz", **outcome(model, name, data))
        except Exception as error:  # a model that this Keras does not have
            print(f"{name}: not written: {type(error).__name__}: {str(error)[:200]}", flush=True)


def read(k, folder: Path, names: list[str], tolerance: float) -> int:
    from protocol import draw

    wrong = 0
    for name in names:
        for path in sorted(folder.glob(f"{name}.keras")) + sorted(folder.glob(f"{name}.h5")):
            try:
                with np.load(folder / f"{name}.npz") as file:
                    expected = dict(file)
                model = k.models.load_model(path)
                error, where = worst(expected, outcome(model, name, draw(ALL[name])))
            except Exception as problem:
                error, where = float("inf"), f"{type(problem).__name__}: {str(problem)[-400:]}"
                if os.environ.get("TRACE"):
                    traceback.print_exc()
            wrong += not error <= tolerance
            print(f"{'ok   ' if error <= tolerance else 'WRONG'} {path.name} {error:.1e} {where}", flush=True)
    return wrong


def pack(folder: Path, names: list[str]) -> None:
    """One zip, files/<folder's name>.zip, of the files and outcomes of the named cases."""
    target = HERE / "files" / f"{folder.name}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(folder.iterdir()):
            if path.name.split(".")[0] in names:
                archive.write(path, path.name)
    print(target.name, target.stat().st_size)


def check_ops() -> int:
    """Counts the ops that nbkeras names in files and that this Keras does not confirm; keras_3_ops.json: their arguments."""
    from nbkeras.saving import keras_ops

    wrong = 0
    for (module, name), function in keras_ops._FUNCTIONS.items():
        cls = getattr(importlib.import_module(module), name, None)
        arguments = (
            [] if cls is None else [p for p in inspect.signature(cls.__init__).parameters if p not in ("self", "name")]
        )
        arguments = [each for each in arguments if each != "kwargs"]
        if cls is None or tuple(arguments) != keras_ops.arguments_of(function):
            wrong += 1
            print("WRONG", module, name, arguments)
    print(len(keras_ops._FUNCTIONS), "ops")
    return wrong


def configs(k) -> None:
    """keras_3_configs.json: what each layer's configuration may hold, and what a shape becomes (null: Keras 3 refuses it)."""
    arguments, shapes = {}, {}
    for name, cls in vars(k.layers).items():
        if not isinstance(cls, type):
            continue
        names: set = set()
        for base in cls.__mro__[:-1]:
            names |= set(inspect.signature(base.__init__).parameters) if "__init__" in vars(base) else set()
            for method in ("__init__", "get_config"):  # the names that it pops out of kwargs, and those that it writes
                constants = vars(base)[method].__code__.co_consts if method in vars(base) else ()
                flat = [each for c in constants for each in (c if isinstance(c, tuple) else (c,))]
                names |= {each for each in flat if isinstance(each, str) and each.isidentifier()}
        arguments[name] = sorted(each for each in names - {"self", "args", "kwargs"} if not each.startswith("_"))
    for name, build in SHAPES.items():
        try:
            shapes[name] = outline(json.loads(build(k).to_json())["config"])
        except ValueError:
            shapes[name] = None
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(arguments.items())]
    text = '{"arguments": {\n' + ",\n".join(lines) + '},\n"shapes": ' + json.dumps(shapes) + "}\n"
    (HERE / "keras_3_configs.json").write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras", default="keras", choices=("keras", "tf_keras", "nbkeras"))
    parser.add_argument("--h5", action="store_true", help="Keras 2's HDF5 instead of .keras")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("job", choices=("write", "read", "pack", "ops", "configs"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="cases; all by default")
    options = parser.parse_args()
    names = options.names or list(ALL)
    if options.job == "pack":
        pack(options.folder, names)
        return 0
    if options.job == "ops":
        return check_ops()
    k = importlib.import_module(options.keras)
    if options.job == "configs":
        configs(k)
        return 0
    if options.job == "read":
        return read(k, options.folder, names, options.tolerance)
    options.folder.mkdir(parents=True, exist_ok=True)
    write(k, options.folder, names, ".h5" if options.h5 or options.keras == "tf_keras" else ".keras")
    return 0


if __name__ == "__main__":
    sys.exit(main())
