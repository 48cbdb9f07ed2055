"""The examples of images run with small constants, and learn."""

import numpy as np
import pytest
from running import run

pytestmark = pytest.mark.big


def falls(losses):
    return np.all(np.isfinite(losses)) and losses[-1] < losses[0]


EXAMPLES = {
    "digits_mlp.py": (
        dict(EPOCHS=3),
        lambda found: falls(found["history"]["loss"]) and found["accuracy"] > 0.5,
    ),
    "digits_cnn.py": (
        dict(EPOCHS=3),
        lambda found: falls(found["history"]["loss"]) and found["confusion"].sum() == 296,
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # there is no MNIST
    constants, learned = EXAMPLES[name]
    assert learned(run(name, **constants))
