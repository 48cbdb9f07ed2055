"""Regularizers and constraints: formulas, gradients, names, configurations."""

import json

import numpy as np
import pytest

from nbkeras import constraints, ops, regularizers
from nbkeras.testing import check_op

W = np.random.default_rng(0).standard_normal((6, 4))


def value(tensor) -> np.ndarray:
    return tensor.numpy()


# -------------------- regularizers --------------------


def test_penalties_are_the_formulas():
    assert np.isclose(value(regularizers.L1(0.3)(W)), 0.3 * np.abs(W).sum())
    assert np.isclose(value(regularizers.L2(0.3)(W)), 0.3 * (W**2).sum())
    both = 0.2 * np.abs(W).sum() + 0.3 * (W**2).sum()
    assert np.isclose(value(regularizers.L1L2(0.2, 0.3)(W)), both)
    assert np.isclose(value(regularizers.l1_l2(l1=0.2, l2=0.3)(W)), both)
    assert value(regularizers.L1L2()(W)) == 0


@pytest.mark.parametrize("mode", ["rows", "columns"])
def test_orthogonal_penalty(mode):
    vectors = W if mode == "rows" else W.T
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    upper = np.abs(unit @ unit.T)[np.triu_indices(len(unit), 1)]
    assert np.isclose(value(regularizers.OrthogonalRegularizer(0.5, mode)(W)), 0.5 * upper.mean())


@pytest.mark.parametrize(
    "regularizer",
    [regularizers.L1(0.3), regularizers.L2(0.3), regularizers.L1L2(0.2, 0.3), regularizers.OrthogonalRegularizer(0.1)],
    ids=lambda r: type(r).__name__,
)
def test_penalty_gradients(regularizer):
    check_op(regularizer, W)


@pytest.mark.parametrize("name", regularizers.registry.names())
def test_regularizer_configurations(name):
    made = regularizers.get(name)
    again = regularizers.deserialize(json.loads(json.dumps(regularizers.serialize(made))))
    assert type(again) is type(made) and again.get_config() == made.get_config()


def test_what_regularizers_get_takes():
    def halves(x):
        return 0.5 * ops.sum(x)

    assert regularizers.get(None) is None
    assert regularizers.get(halves) is halves
    assert regularizers.get("l2").get_config() == {"l2": 0.01}
    assert regularizers.get(regularizers.l2).get_config() == {"l2": 0.01}
    assert regularizers.get("l1_l2").get_config() == {"l1": 0.0, "l2": 0.0}


@pytest.mark.parametrize("factor", [-1, float("nan"), float("inf"), "much", True])
def test_penalty_factors_are_checked(factor):
    with pytest.raises(ValueError, match="must be a finite number, 0 or more"):
        regularizers.L2(factor)


def test_regularizer_errors():
    with pytest.raises(ValueError, match="unknown regularizer: 'l1_l3'. Did you mean 'l1_l2'"):
        regularizers.get("l1_l3")
    with pytest.raises(ValueError, match="mode must be 'rows' or 'columns'"):
        regularizers.OrthogonalRegularizer(mode="both")
    with pytest.raises(ValueError, match=r"takes a matrix, received a tensor of shape \(3,\)"):
        regularizers.OrthogonalRegularizer()(np.ones(3))
    assert value(regularizers.OrthogonalRegularizer()(np.ones((1, 3)))) == 0  # one vector makes no pair


# -------------------- constraints --------------------


def norms(w, axis):
    return np.sqrt((value(w) ** 2).sum(axis=axis))


def test_max_norm():
    scaled = constraints.MaxNorm(1.5)(W)
    before = np.linalg.norm(W, axis=0)
    assert np.allclose(norms(scaled, 0), np.minimum(before, 1.5), atol=1e-6)
    filters = np.random.default_rng(1).standard_normal((2, 3, 4, 5))
    assert norms(constraints.max_norm(1, axis=[0, 1, 2])(filters), (0, 1, 2)).max() <= 1


def test_unit_norm_and_non_negative():
    assert np.allclose(norms(constraints.UnitNorm(axis=1)(W), 1), 1, atol=1e-6)
    assert np.array_equal(value(constraints.NonNeg()(W)), np.maximum(W, 0))


def test_min_max_norm():
    before = np.linalg.norm(W, axis=0)
    full = constraints.MinMaxNorm(1.9, 2.1)(W)
    assert np.allclose(norms(full, 0), before.clip(1.9, 2.1), atol=1e-6)
    half = constraints.MinMaxNorm(1.9, 2.1, rate=0.5)(W)
    assert np.allclose(norms(half, 0), (before + before.clip(1.9, 2.1)) / 2, atol=1e-6)


@pytest.mark.parametrize("name", constraints.registry.names())
def test_constraint_configurations(name):
    made = constraints.get(name)
    again = constraints.deserialize(json.loads(json.dumps(constraints.serialize(made))))
    assert type(again) is type(made) and again.get_config() == made.get_config()
    assert value(made(W.astype("float32"))).dtype == "float32"


def test_constraint_errors():
    with pytest.raises(ValueError, match="unknown constraint: 'max_nrm'. Did you mean 'max_norm'"):
        constraints.get("max_nrm")
