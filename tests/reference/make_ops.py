"""Write ops.npz: what real Keras's ops answer to the calls of op_cases.py, for tests/ops/test_as_keras.py.

Run with Keras 3 and JAX installed: KERAS_BACKEND=jax python tests/reference/make_ops.py
"""

import zlib
from pathlib import Path

import keras
import numpy as np
from op_cases import CASES


def answers(name: str) -> list[np.ndarray]:
    """The results of a call as arrays, one or several."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    y = CASES[name](keras.ops, lambda shape: rng.standard_normal(shape).astype("float32"))
    return [np.asarray(each) for each in (y if isinstance(y, tuple | list) else [y])]


if __name__ == "__main__":
    arrays = {f"{name}/{i}": each for name in CASES for i, each in enumerate(answers(name))}
    np.savez_compressed(Path(__file__).with_name("ops.npz"), **arrays)
