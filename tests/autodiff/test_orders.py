"""Each op that has a derivative has one of the second order; some are checked to the third: see order_cases.py."""

import contextlib
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from order_cases import CASES, ROUNDED, THIRD

from nbkeras import autodiff, kernels, ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.autodiff.nesting import rule_of
from nbkeras.engine import structures
from nbkeras.engine.tensor import Tensor, Variable, as_tensor, listening
from nbkeras.kernels import half, reduce
from nbkeras.testing import check_op

ROOT = Path(__file__).parents[2]


# The cases that also run in the simulator of a GPU.
SIMULATED = set(
    (
        "multiply gelu sum max softmax getitem take embedding dropout dense matmul attention conv2d_relu max_pool "
        "batch_normalization_training simple_rnn lstm segment_sum cond"
    ).split()
)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SIMULATED else pytest.mark.big) for n in CASES])
def test_derivatives(name):
    function, arrays = CASES[name]
    check_op(function, *arrays, order=3 if name in THIRD else 2, single_tolerance=None)


def ops_with_derivatives():
    """The ops of nbkeras.kernels that have a vjp, by name."""
    found = {"reduce.max": reduce.max, "reduce.min": reduce.min}
    for module in pkgutil.walk_packages(kernels.__path__, "nbkeras.kernels."):
        if ".cuda" not in module.name and ".runtime" not in module.name:
            names = vars(importlib.import_module(module.name))
            family = module.name.removeprefix("nbkeras.kernels.")
            found |= {
                f"{family}.{n.removesuffix('_vjp')}": names.get(n.removesuffix("_vjp")) for n in names if "_vjp" in n
            }
    return {name: op for name, op in found.items() if op is not None}


@pytest.mark.parametrize("name", ROUNDED)
def test_ops_that_round_have_the_derivatives_of_those_with_floats(name):
    """Differences of what is rounded are 0 or large. The Hessian of a sum of squares is that of the linear map."""
    rounded, exact, x = ROUNDED[name]
    direction, found = np.random.default_rng(4).standard_normal(x.shape), []
    for function in (rounded, exact):
        (product,) = autodiff.hvp(lambda x, f=function: ops.sum(ops.square(f(x))), (x,), (direction,))[1]
        found.append(product.numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-12)
    (by_rules, by_vjp) = (outputs_and_gradients(rounded, [x], inside) for inside in (True, False))
    for got, want in zip(by_rules, by_vjp, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.cpu("a GPU composes group normalization of ops")
def test_each_op_has_a_rule_and_a_case():
    called = set()
    with listening(lambda op, *_: called.add(op)):
        for function, arrays in CASES.values():
            function(*map(as_tensor, arrays))
        for function, _, x in ROUNDED.values():
            function(as_tensor(x))
    known = ops_with_derivatives()
    assert len(known) > 90
    known = {name: op for name, op in known.items() if not name.startswith("half_products.")}  # not in nested tapes
    assert [name for name, op in known.items() if rule_of(op, None) is None] == []
    called.add(half.rounded)  # only of float32: tests/engine/test_half.py
    assert [name for name, op in known.items() if op not in called] == []


@pytest.mark.documents
@pytest.mark.cpu("the table is of the ops that a CPU uses")
def test_the_table_in_the_documents_is_up_to_date():
    script = ROOT / "scripts" / "make_orders.py"
    environment = os.environ | {"PYTHONSAFEPATH": ""}  # else no script could import the files beside it
    done = subprocess.run([sys.executable, str(script), "--check"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# -------------------- rules and kernels agree --------------------

CHANGES = {
    "zeros": lambda x: x * 0,
    "the same": lambda x: x * 0 + 1,
    "large": lambda x: x * 1e3,
    "infinity": lambda x: np.where(np.arange(x.size).reshape(x.shape) % 3 == 0, np.inf, x),
    "NaN": lambda x: np.where(np.arange(x.size).reshape(x.shape) % 3 == 0, np.nan, x),
}
# What kernels give for numbers that are not finite, where no convention is right: rules give NaN or 0 there.
NOT_FINITE = {
    *("power", "reductions_of_all", "segment_prod", "segment_prod_with_zeros"),
    *("lstm_backwards", "gru_backwards", "simple_rnn_backwards"),
}


def outputs_and_gradients(function, arrays, inside):
    """With random weights of the outputs; `inside` another tape."""
    inputs, rng = [as_tensor(array) for array in arrays], np.random.default_rng(1)
    sources = [x for x in inputs if x.dtype.kind == "f"]
    with GradientTape() if inside else contextlib.nullcontext():
        with GradientTape() as tape:
            tape.watch(sources)
            outputs = [
                y for y in structures.flatten(function(*inputs)) if isinstance(y, Tensor) and y.dtype.kind == "f"
            ]
        weights = [rng.standard_normal(y.shape) for y in outputs]
        gradients = tape.gradient(outputs, sources, weights, unconnected_gradients="zero")
    return [each.numpy() for each in (*outputs, *gradients)]


@pytest.mark.cpu("kernels of GPUs give other numbers where they are not finite")
@pytest.mark.parametrize("change", CHANGES)
def test_rules_give_the_kernels_gradients(change):
    """Also at ties, and where factors are 0 or not finite."""
    compared = 0
    for name, (function, arrays) in CASES.items():
        given = [CHANGES[change](x) if x.dtype.kind == "f" else x for x in arrays]
        if change in ("infinity", "NaN") and name in NOT_FINITE:
            continue
        try:
            expected = outputs_and_gradients(function, given, inside=False)
        except ValueError:  # a matrix of zeros cannot be inverted
            continue
        received = outputs_and_gradients(function, given, inside=True)
        for got, want in zip(received, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11, err_msg=name)
        compared += 1
    assert compared > 200


@pytest.mark.cpu("the same ops compose it")
def test_rules_take_inputs_without_elements():
    compared = 0
    for name, (function, arrays) in CASES.items():
        given = [x[:0] if i == 0 and x.dtype.kind == "f" else x for i, x in enumerate(arrays)]
        try:
            expected = outputs_and_gradients(function, given, inside=False)
        except (ValueError, IndexError):  # the shapes do not fit, or there must be elements
            continue
        for got, want in zip(outputs_and_gradients(function, given, inside=True), expected, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=name, strict=True)
        compared += 1
    assert compared > 100


@ops.custom_gradient
def without_gradient(x):
    return 2 * x, lambda dy: None


@pytest.mark.parametrize("nested", [False, True])
def test_an_op_may_have_no_gradient(nested):
    x = Variable(np.ones(2))
    with GradientTape() if nested else contextlib.nullcontext():
        with GradientTape() as tape:
            y = without_gradient(ops.exp(x))
        assert tape.gradient(y, x) is None


def test_a_product_over_no_axes():
    found = autodiff.hessian(lambda x: ops.sum(ops.prod(x * x, axis=())))(np.ones(2))
    np.testing.assert_array_equal(found, 2 * np.eye(2))


def test_gradients_of_another_shape():
    x = Variable(np.ones(2))
    with GradientTape():
        with GradientTape() as tape:
            y = ops.exp(x)
        with pytest.raises(ValueError, match=r"output_gradients must have the target's shape \(2,\), received \(3,\)"):
            tape.gradient(y, x, output_gradients=np.ones(3))
