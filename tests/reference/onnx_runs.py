"""Exported ONNX files, computed by ONNX Runtime."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the package onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


def session(path):
    """A session of ONNX Runtime for a file, which is checked before."""
    onnx.checker.check_model(str(path), full_check=True)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def outputs(opened, inputs):
    """The outputs of a session, by name; inputs: arrays in the order of the file."""
    names = [entry.name for entry in opened.get_inputs()]
    results = opened.run(None, dict(zip(names, inputs, strict=True)))
    return dict(zip([entry.name for entry in opened.get_outputs()], results, strict=True))


def run(model, path, *inputs, **options):
    """The outputs of the exported model in ONNX Runtime, by name. path: a folder."""
    model.export(str(path / "model.onnx"), verbose=False, **options)
    return outputs(session(path / "model.onnx"), inputs)


def assert_same(model, path, *inputs, **options):
    """Assert that the exported model computes what `predict` computes."""
    expected = model.predict(inputs[0] if len(inputs) == 1 else list(inputs), verbose=0)
    expected = expected if isinstance(expected, list) else [expected]
    found = list(run(model, path, *inputs, **options).values())
    for ours, theirs in zip(expected, found, strict=True):
        assert (theirs.dtype, theirs.shape) == (ours.dtype, ours.shape)
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5 * np.abs(ours).max())
