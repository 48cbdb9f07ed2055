"""300 random functional models as ONNX files: ONNX Runtime must compute what `predict` computes."""

import re
from collections import Counter

import numpy as np
import pytest
import random_models
from onnx_runs import outputs, session

from nbkeras import layers
from nbkeras.building import layer as layer_module
from nbkeras.export import onnx_model

pytestmark = [pytest.mark.cpu("ONNX Runtime is compared with the CPU"), pytest.mark.filterwarnings("ignore:overflow")]
COUNT = 300
# op families of quantized models (test_onnx_quantized.py), and ops of parts that are not drawn
ELSEWHERE = ("quantized.", "integers.", "packing.", "packed.", "indexing.whole", "transforms._identity")
REFUSED = {
    "Hashing",
    "HashedCrossing",
    "IntegerLookup",
    "MelSpectrogram",
    "ContrastLimitedAdaptiveHistogramEqualization",
}
NOT_IN_GRAPHS = {  # cells, base classes, layers of texts, and Operation, which every op on a symbolic tensor makes
    *("LSTMCell", "GRUCell", "SimpleRNNCell", "StackedRNNCells", "ConvLSTM1DCell", "ConvLSTM2DCell", "ConvLSTM3DCell"),
    *("InputLayer", "Wrapper", "Operation", "StringLookup", "TextVectorization", "HostLayer"),
}


def failure(program, path):
    """(class, text) of what is wrong with the file of a program's model; None if nothing is."""
    step = "building"
    try:
        model = program.model()
        step = "exporting"
        try:
            model.export(path, verbose=False)
        except ValueError as error:
            if "in input_signature" not in str(error):
                raise
            sizes = [(shape[0], *own[1:]) for _, shape, _, own in program.used_inputs()]
            model.export(path, verbose=False, input_signature=sizes)
        step = "opening"
        opened = session(path)
        for batch in (1, 3) if program.inputs[0][1][0] is None else (3,):
            step = f"computing {batch} rows"
            x = program.arrays(batch, batch)
            expected = model.predict(x if len(x) > 1 else x[0], batch_size=batch, verbose=0)
            expected = expected if isinstance(expected, list) else [expected]
            found = outputs(opened, x).values()
            for name, ours, theirs in zip(program.outputs(), expected, found, strict=True):
                step = f"comparing {name}"
                assert (theirs.dtype, theirs.shape) == (ours.dtype, ours.shape)
                if ours.dtype.kind == "f":
                    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4 * np.abs(ours).max(initial=1e-6))
                else:
                    np.testing.assert_array_equal(theirs, ours)
    except Exception as error:
        return step.split()[0], f"{step}: {type(error).__name__}: {error}"
    return None


def smaller(program, kind, path):
    """The program without lines that the failure does not need."""
    for line in reversed(program.lines):
        less = program.without(line.name)
        if less.lines and (found := failure(less, path)) and found[0] == kind:
            return smaller(less, kind, path)
    return program


@pytest.mark.grid
def test_random_models(tmp_path, monkeypatch):
    """Every layer that can be exported, and every handler of an op, must occur."""
    written, path = Counter(), str(tmp_path / "model.onnx")

    def counted(name, handler):
        def write(*args, **kwargs):
            written[name] += 1
            return handler(*args, **kwargs)

        return write

    handlers = {name: counted(name, handler) for name, handler in onnx_model.HANDLERS.items()}
    monkeypatch.setattr(onnx_model, "HANDLERS", handlers)
    failures, code = [], []
    for seed, names in enumerate(random_models.plan(COUNT)):
        program = random_models.program(seed, names)
        code.append(program.text())
        if (found := failure(program, path)) is not None:
            minimum = smaller(program, found[0], path) if len(failures) < 5 else program
            failures.append(f"{(failure(minimum, path) or found)[1]}\n{minimum.text()}")
    assert not failures, f"{len(failures)} of {COUNT} models:\n\n" + "\n\n".join(failures)
    occur = set(re.findall(r"\b(?:L\.)?(\w+)\(", "\n".join(code))) | {"Model"}
    classes = [each for each in layer_module.layers.items().values() if isinstance(each, type)]
    own = {
        each.__name__
        for each in classes
        if each.__module__.startswith("nbkeras.layers.") or hasattr(layers, each.__name__)
    }
    assert own - NOT_IN_GRAPHS - REFUSED <= occur, sorted(own - NOT_IN_GRAPHS - REFUSED - occur)
    missing = {name for name in handlers if not name.startswith(ELSEWHERE)} - set(written)
    assert not missing, sorted(missing)
