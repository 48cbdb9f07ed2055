"""Each call in tests/parity/calls gives the result that real Keras gave for it, or differs for the reason that the table says."""

import pytest
import table

NAMES = list(dict.fromkeys(call.name for call in table.calls())) + list(table.stored()["aliases"])


@pytest.mark.cpu(
    "the table is of Keras's meaning; tests/kernels and tests/layers compare a GPU's results with the CPU's"
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.process] * name.startswith("keras.wrappers")) for name in NAMES]
)
def test_calls_give_the_results_of_keras(name):
    """The wrappers are not unit tests: scikit-learn's import takes a second."""
    if table.find("nbkeras", name) is None:
        pytest.skip(f"nbkeras has no {name}: docs/keras-parity.md says so")
    assert not [text for text in table.differences(name) if text]


def test_every_call_has_a_result_of_keras():
    results = {(name, expression) for name, each in table.stored()["results"].items() for expression in each}
    assert results == {(call.name, call.expression) for call in table.calls()}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (1, 1.0),
        (True, 1),
        ("a", "b"),
        ([1, 2], [1]),
        ({"dict": {"a": 1}}, {"dict": {"b": 1}}),
        ({"int32[1]": [1]}, {"int64[1]": [1]}),
        ({"float32[1]": [1.0]}, {"float32[]": [1.0]}),
        ({"float32[1]": [1.0]}, {"float32[1]": [1.0001]}),
        ({"float32[2]": [1.0, 2e-5]}, {"float32[2]": [1.0, 0.0]}),
        ({"config": {}}, {"config": {"units": 2}}),
        ({"error": "TypeError", "message": "no"}, 1.0),
    ],
    ids=["int", "bool", "text", "length", "keys", "dtype", "shape", "value", "small value", "option", "error"],
)
def test_differences_are_found(found, expected):
    assert table.difference([found], [expected])


def test_what_is_no_difference():
    assert not table.difference({"config": {"units": 2, "more": 1}}, {"config": {"units": 2.0, "off": None}})
    assert not table.difference([1.000001, float("nan")], [1.0, float("nan")])
