"""Models in files, the same under real Keras and nbkeras: `k` is the keras-like module. Used by make_files.py and test_files.py.

A model is built, trained two steps, saved; what it then gives (`outcome`) is stored beside it: outputs, the losses of three
further steps, and the weights after them. Whoever loads the file must give the same.
"""

import numpy as np
from cases import CASES
from file_cases import FILE_CASES
from protocol import Case, draw, grouped, initial_weights, one_or_list, reset_states

ALL: dict[str, Case] = {**CASES, **FILE_CASES}


def _batch(case: Case, arrays: list):
    return one_or_list([array[: case.batch] for array in arrays])


def _step(model, case: Case, data: dict) -> dict:
    sample = grouped(data, "s")
    extra = {"sample_weight": _batch(case, sample)} if sample else {}
    model.reset_metrics()
    x, y = _batch(case, grouped(data, "x")), _batch(case, grouped(data, "y"))
    fit = {key: value for key, value in case.fit.items() if key not in ("random", "lora")}
    return model.train_on_batch(x, y, return_dict=True, **extra, **fit)


def trained(k, name: str):
    """(model, data) of a case, after two training steps from weights that are the same everywhere."""
    case = ALL[name]
    data, weights = draw(case), initial_weights(k, case)
    model = case.build(k)
    model.set_weights(weights)
    for _ in range(2):
        _step(model, case, data)
    if case.after is not None:
        case.after(k, model)
    if case.stateful:
        reset_states(model)
    return model, data


def outcome(model, name: str, data: dict) -> dict[str, np.ndarray]:
    """Outputs, losses of three steps, weights after them, by 'kind/name'; with LoRA the outputs alone."""
    case, found = ALL[name], {}
    outputs = model.predict(_batch(case, grouped(data, "x")), batch_size=case.batch, verbose=0)
    flat = list(outputs.values()) if isinstance(outputs, dict) else outputs if isinstance(outputs, list) else [outputs]
    found |= {f"outputs/{i}": np.asarray(array) for i, array in enumerate(flat)}
    if case.fit.get("lora"):  # the small matrices start again
        return found
    if case.stateful:
        reset_states(model)
    for step in range(0 if case.fit.get("random") else 3):
        for key, value in _step(model, case, data).items():
            found[f"steps/{key} {step}"] = np.asarray(value)
    return found | {f"weights/{i}": weight for i, weight in enumerate(model.get_weights())}


def outline(config: dict) -> list:
    """The layers of a model's configuration in Keras 3's form, by class; an input with its shape, a model with its layers."""
    found = []
    for entry in config["layers"]:
        inner = entry["config"]
        more = inner.get("batch_shape", outline(inner) if "layers" in inner else None)
        found.append([entry["class_name"], *([] if more is None else [more])])
    return found


def worst(expected: dict, found: dict) -> tuple[float, str]:
    """The largest relative difference, max |a - b| / max |a|, and where; infinite where something is missing."""
    result = (0.0, "")
    for key in expected.keys() | found.keys():
        if key not in expected or key not in found or np.shape(expected[key]) != np.shape(found[key]):
            return float(
                "inf"
            ), f"{key}: {np.shape(expected.get(key, 'missing'))} {np.shape(found.get(key, 'missing'))}"
        a, b = np.asarray(expected[key], "float64"), np.asarray(found[key], "float64")
        if a.size:
            error = float(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-6))
            result = max(result, (error if np.isfinite(error) else float("inf"), key))
    return result
