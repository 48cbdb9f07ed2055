"""Write tests/packages/data/uses.npz: what real Keras computes in the uses of tests/packages/uses.py.

pip install keras tensorflow-cpu tf_keras, and the packages
KERAS_BACKEND=tensorflow python scripts/make_use_references.py keras-tcn tqdm ...
KERAS_BACKEND=tensorflow TF_USE_LEGACY_KERAS=1 python scripts/make_use_references.py spektral ...  # those for Keras 2

The arrays of other packages stay as they are.
"""

import pathlib
import sys
import tempfile

import numpy as np

PACKAGES = pathlib.Path(__file__).resolve().parents[1] / "tests" / "packages"
OUT = PACKAGES / "data" / "uses.npz"


def main() -> None:
    sys.path.insert(0, str(PACKAGES))
    from uses import USES

    arrays = dict(np.load(OUT)) if OUT.exists() else {}
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            found = {f"{name} {part}": np.asarray(value) for part, value in USES[name](folder).items()}
        arrays = {key: value for key, value in arrays.items() if not key.startswith(f"{name} ")} | found
        np.savez_compressed(OUT, **arrays)
        print(name, {key: value.shape for key, value in found.items()})


if __name__ == "__main__":
    main()
