"""What a tensor does not have: the error says what does the same."""

import numpy as np
import pytest

import nbkeras
from nbkeras import ops

HINTS = [
    ("backward", r"nbkeras.GradientTape\(\) as tape.*tape.gradient\(loss, variables\)"),
    ("requires_grad", r"tape.watch\(x\)"),
    ("detach", r"ops.stop_gradient\(x\)"),
    ("astype", r"ops.cast\(x, dtype\)"),
    ("assign", r"nbkeras.Variable\(x\), has assign"),
    ("sum", r"ops.sum\(x, ...\)"),
    ("flatten_it", "has no attribute 'flatten_it'$"),
]


@pytest.mark.parametrize("name, message", HINTS)
@pytest.mark.parametrize("make", [lambda: ops.ones(3), lambda: nbkeras.Input((3,))], ids=["Tensor", "symbolic"])
def test_a_missing_attribute_names_what_does_the_same(make, name, message):
    x = make()
    assert not hasattr(x, name)
    with pytest.raises(AttributeError, match=message):
        getattr(x, name)


def test_each_named_op_exists():
    for hint in ops.operators._HINTS.values():
        if hint.startswith("ops."):
            assert callable(getattr(ops, hint.partition("(")[0].removeprefix("ops.")))


def test_a_symbolic_tensor_has_no_value():
    with pytest.raises(AttributeError, match="call the model on arrays"):
        nbkeras.Input((3,)).numpy()


@pytest.mark.parametrize(
    "make", [lambda: ops.ones(3), lambda: nbkeras.Variable(np.ones(3)), lambda: nbkeras.Input((3,))]
)
def test_item_assignment_names_the_ops_that_return_a_changed_copy(make):
    x = make()
    with pytest.raises(TypeError, match=r"ops.slice_update\(x, start_indices, updates\).*variable.assign\(copy\)"):
        x[0] = 1.0
    with pytest.raises(TypeError, match="does not support item assignment"):
        x[0] += 1.0
