"""A user's own op on a GPU, as docs/custom-ops.md shows it."""

import re
from pathlib import Path

import numpy as np
import twins

import nbkeras
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
