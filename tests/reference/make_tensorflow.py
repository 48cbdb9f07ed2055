"""Write tensorflow.npz: the values that TensorFlow computes for tensorflow_cases.py.

pip install tensorflow-cpu
python tests/reference/make_tensorflow.py
"""

import tensorflow as tf
from arrays import store
from tensorflow_cases import EXPRESSIONS, ROUNDED, computed


def main() -> None:
    values, failed = {}, []
    for expression in [*EXPRESSIONS, ROUNDED]:
        try:
            values[expression] = computed(expression, tf)
        except Exception as error:
            failed.append(f"{expression}: {error}")
    if failed:
        raise SystemExit("\n".join(failed))
    store("tensorflow.npz", {"expressions": list(values)} | {str(i): v for i, v in enumerate(values.values())})


if __name__ == "__main__":
    main()
