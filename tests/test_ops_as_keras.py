"""Ops beside what real Keras 3 answers to the same calls: tests/reference/op_cases.py, stored by make_ops.py."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from op_cases import CASES

from nbkeras import ops

STORED = np.load(Path(__file__).parent / "reference" / "ops.npz")


@pytest.mark.parametrize("name", CASES)
def test_ops_answer_as_keras(name):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    y = CASES[name](ops, lambda shape: rng.standard_normal(shape).astype("float32"))
    for i, received in enumerate(y if isinstance(y, tuple | list) else [y]):
        expected = STORED[f"{name}/{i}"]
        assert received.shape == expected.shape
        assert received.dtype == expected.dtype
        np.testing.assert_allclose(received, expected, rtol=2e-5, atol=2e-5)
