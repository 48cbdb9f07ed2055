"""ExportArchive: functions of a model as ONNX files and libraries that compute what the functions compute."""

import numpy as np
import pytest
from libraries import loaded, needs_linker

import nbkeras as keras
from nbkeras import layers, ops

SPEC = [keras.InputSpec(shape=(None, 3), dtype="float32")]
X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


@pytest.fixture
def model():
    return keras.Sequential(
        [layers.Dense(5, activation="relu", input_shape=(3,)), layers.Dropout(0.5), layers.Dense(2, name="last")]
    )


def answers(path, *inputs):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {each.name: x for each, x in zip(session.get_inputs(), inputs, strict=True)})


@pytest.mark.cpu("ONNX Runtime is compared with the CPU")
def test_functions_become_onnx_files(model, tmp_path, capsys):
    archive = keras.export.ExportArchive()
    archive.track(model)
    assert archive.add_endpoint("serve", model.call, SPEC) == model.call
    archive.add_endpoint("probabilities", lambda x: ops.softmax(model(x, training=False)), SPEC)
    archive.track_and_add_endpoint("whole", model)
    archive.add_variable_collection("start", model.trainable_variables)
    archive.write_out(tmp_path / "out")
    assert "'serve' and 'probabilities' and 'whole'" in capsys.readouterr().out
    expected = model.predict(X, verbose=0)
    for name in ("serve", "whole"):
        np.testing.assert_allclose(answers(tmp_path / "out" / f"{name}.onnx", X)[0], expected, rtol=1e-5, atol=1e-6)
    found = answers(tmp_path / "out" / "probabilities.onnx", X)[0]
    np.testing.assert_allclose(found, ops.softmax(expected).numpy(), rtol=1e-5, atol=1e-6)
    with np.load(tmp_path / "out" / "start.npz") as values:
        assert sorted(values) == sorted(weight.path for weight in model.trainable_variables)
    assert [len(each) for each in (archive.variables, archive.trainable_variables)] == [len(model.variables), 4]
    assert len(archive.non_trainable_variables) == len(model.non_trainable_variables)


@pytest.mark.cpu("ONNX Runtime is compared with the CPU")
@pytest.mark.parametrize(
    ("signature", "function"),
    [
        ([*SPEC, *SPEC], lambda a, b: a - b),
        ([[*SPEC, *SPEC]], lambda both: both[0] - both[1]),
        ([{"a": SPEC[0], "b": SPEC[0]}], lambda both: both["a"] - both["b"]),
    ],
    ids=["two arguments", "a list", "a dict"],
)
def test_signatures(signature, function, tmp_path):
    archive = keras.export.ExportArchive("onnx")
    archive.add_endpoint("difference", function, signature)
    archive.write_out(tmp_path, verbose=False)
    np.testing.assert_array_equal(answers(tmp_path / "difference.onnx", X, 2 * X)[0], -X)


@needs_linker
@pytest.mark.cpu("libraries are for the CPU")
def test_functions_become_libraries(model, tmp_path):
    archive = keras.export.ExportArchive(format="library")
    archive.add_endpoint("serve", model.call, SPEC)
    archive.write_out(tmp_path, {"batch": 4}, verbose=False)
    found = loaded(str(tmp_path / "libserve.so")).predict(X)
    np.testing.assert_array_equal(found, model.predict(X, batch_size=4, verbose=0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, m: keras.export.ExportArchive("saved_model"), "nbkeras writes no TensorFlow SavedModel"),
        (lambda a, m: a.write_out("out"), "has no endpoints: call add_endpoint"),
        (lambda a, m: a.add_endpoint("x", m.call), "endpoint 'x' needs input_signature"),
        (lambda a, m: a.add_endpoint("../x", m.call, SPEC), "an identifier that is not taken, received '../x'"),
        (lambda a, m: a.add_endpoint("x", m.call, [3]), "a list with an InputSpec, or a list or dict of them"),
        (lambda a, m: a.track(3), "takes a layer or a model, received 3"),
        (lambda a, m: a.add_variable_collection("a/b", []), "must be an identifier, received 'a/b'"),
        (lambda a, m: [a.add_endpoint("x", m.call, SPEC) for _ in "ab"], "must be an identifier that is not taken"),
        (
            lambda a, m: (a.add_endpoint("x", m.call, SPEC), a.write_out("out", {"batch": 1})),
            "ONNX files have no options",
        ),
    ],
)
def test_mistakes_are_explained(call, message, model):
    with pytest.raises(ValueError, match=message):
        call(keras.export.ExportArchive(), model)
