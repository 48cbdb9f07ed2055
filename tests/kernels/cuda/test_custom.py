"""A user's own ops on a GPU: of loops, as docs/custom-ops.md shows them, and of formulas."""

import re
from pathlib import Path

import numpy as np
import pytest
import twins

import nbkeras
from nbkeras import autodiff, ops
from nbkeras.tensor import formula
from nbkeras.testing import check_op

pytestmark = twins.needs_cuda
DOCUMENT = Path(__file__).parents[3] / "docs" / "custom-ops.md"


def test_the_documented_op_has_a_twin_that_agrees(tmp_path, monkeypatch):
    for name, code in re.findall(
        r"```python[^\n]*\n# (snake(?:_cuda)?\.py)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL
    ):
        (tmp_path / name).write_text(code)
    assert (tmp_path / "snake_cuda.py").exists()
    monkeypatch.syspath_prepend(str(tmp_path))
    from snake import snake

    x = np.random.default_rng(0).standard_normal((3, 5))
    with nbkeras.device("cuda"):
        check_op(snake, x)
        y = snake(x)
        assert nbkeras.config.get_device() == "cuda:0"
    np.testing.assert_allclose(y.numpy(), x + np.sin(x) ** 2, rtol=1e-12)


OF_ALL_OPERATIONS = {
    "log": lambda x, y: ops.log(3 + x) + ops.log2(3 + x) - ops.log1p(y * y) + ops.rsqrt(3 + x),
    "sin": lambda x, y: ops.sin(x) * ops.cos(y) + ops.tan(x / 9) * ops.arctan(y) + ops.sinh(x) / ops.cosh(y),
    "exp": lambda x, y: ops.exp(-x) + ops.expm1(y) + ops.erf(x) * ops.erfc(y) + ops.sigmoid(x) * ops.tanh(y),
    "sign": lambda x, y: ops.sign(x) * ops.sqrt(abs(y) + 1) + ops.square(x) * ops.reciprocal(3 + y) - x**3 + 2**y,
    "larger": lambda x, y: ops.maximum(x, y) * ops.minimum(x, 0.5) + ops.clip(x, -1, y + 9) + ops.gelu(x),
    "where": lambda x, y: ops.where((x > 0) & (y < 1) | ops.isnan(y), x * y, (x == y) * y),
}


@pytest.mark.parametrize("name", OF_ALL_OPERATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_op_of_a_formula_agrees_with_the_cpu(name, dtype):
    op = formula(OF_ALL_OPERATIONS[name])
    x, y = np.random.default_rng(0).standard_normal((2, 3, 7)).astype(dtype)

    def computed(where):
        with nbkeras.device(where):
            z, pull = autodiff.vjp(op, x, y[0])
            return [z.numpy(), *(each.numpy() for each in pull(np.ones_like(x)))]

    for there, here in zip(computed("cuda"), computed("cpu"), strict=True):
        close = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(there, here, rtol=close, atol=close)


def test_an_op_of_a_formula_with_numbers_has_all_derivatives():
    @formula
    def waves(x, a, *, size):
        return x + size * ops.sin(a * x) ** 2 / a

    x = np.random.default_rng(0).standard_normal((3, 2))
    with nbkeras.device("cuda"):
        check_op(lambda x, a: waves(x, a, size=2), x, np.array([0.5, 2]), order=2)
