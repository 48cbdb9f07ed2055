"""Write tensorflow.npz: the values that TensorFlow computes for tensorflow_cases.py.

pip install tensorflow-cpu
python tests/reference/make_tensorflow.py
"""

import pathlib

import numpy as np
import tensorflow as tf
from tensorflow_cases import EXPRESSIONS, ROUNDED, computed

OUT = pathlib.Path(__file__).with_name("tensorflow.npz")


def main() -> None:
    values, failed = {}, []
    for expression in [*EXPRESSIONS, ROUNDED]:
        try:
            values[expression] = computed(expression, tf)
        except Exception as error:
            failed.append(f"{expression}: {error}")
    if failed:
        raise SystemExit("\n".join(failed))
    np.savez_compressed(OUT, expressions=list(values), **{str(i): v for i, v in enumerate(values.values())})
    print(f"{len(values)} values by TensorFlow {tf.__version__}")


if __name__ == "__main__":
    main()
