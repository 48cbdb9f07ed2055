"""The uses of packages in uses.py give the numbers of real Keras with the same weights."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from uses import USES

with np.load(pathlib.Path(__file__).parent / "data" / "uses.npz") as file:
    STORED = dict(file)


@pytest.mark.parametrize("name", USES)
def test_the_numbers_are_those_of_keras(name, tmp_path):
    found = {f"{name} {part}": np.asarray(value) for part, value in USES[name](str(tmp_path)).items()}
    assert found.keys() == {key for key in STORED if key.startswith(f"{name} ")}
    for key, value in found.items():
        limit = 2e-5 * max(1, np.nanmax(np.abs(STORED[key])))
        np.testing.assert_allclose(value, STORED[key], rtol=0, atol=limit, err_msg=key)
