"""Make tests/parity/references.json: the results of real Keras for the calls in tests/parity/calls.

pip install keras==3.15.1 jax tensorflow-cpu pillow scikit-learn matplotlib
KERAS_BACKEND=jax python scripts/make_call_references.py [NAMES]
KERAS_BACKEND=tensorflow python scripts/make_call_references.py [NAMES]

Each run makes the calls of its backend that have no result yet, and those whose names contain one of NAMES again. A call that
raises an error is reported at the end and has no result: a call that should raise one says so by `raises`.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "tests" / "parity"


def aliases(table) -> dict[str, str]:
    """Public name of Keras without calls -> the name in the table that means the same object."""
    known = json.loads((FOLDER.parents[1] / "scripts" / "keras_3_names.json").read_text(encoding="utf-8"))["names"]
    own = {call.name: None for call in table.calls()}
    called = {id(table.find("keras", name)): name for name in reversed(own)}
    names = [f"{path}.{name}" for path, each in known.items() for name in each]
    found = {name: called.get(id(table.find("keras", name)), name) for name in names if name not in own}
    return {name: same for name, same in found.items() if name != same}


def write(target: pathlib.Path, results: dict, table) -> None:
    lines = [f"{json.dumps(name)}: {json.dumps(each, separators=(',', ':'))}" for name, each in sorted(results.items())]
    text = ",\n".join(lines) + "\n},\n" + f'"aliases": {json.dumps(aliases(table), indent=0)}'
    target.write_text('{"results": {\n' + text + "\n}\n", encoding="utf-8")


def main() -> None:
    sys.path.insert(0, str(FOLDER))
    import keras
    import table

    target, parts = FOLDER / "references.json", sys.argv[1:]
    known = json.loads(target.read_text(encoding="utf-8"))["results"] if target.exists() else {}
    results: dict = {}
    failed = []
    for number, call in enumerate(table.calls()):
        result = known.get(call.name, {}).get(call.expression)
        is_new = call.expression not in known.get(call.name, {})
        if call.backend == keras.backend.backend() and (is_new or any(part in call.name for part in parts)):
            result = table.evaluate("keras", table.find("keras", call.name), call.expression)
            if isinstance(result, dict) and "error" in result:
                failed.append(f"{call.name}: {call.expression}: {result}")
                continue
        elif is_new:
            continue
        results.setdefault(call.name, {})[call.expression] = result
        if number % 200 == 0:  # a run takes minutes
            write(target, known | results, table)
    write(target, results, table)
    print(len(results), "names,", sum(map(len, results.values())), "calls,", target.stat().st_size, "bytes")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
