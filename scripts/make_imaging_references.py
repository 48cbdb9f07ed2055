"""Make tests/packages/data/imaging.npz: predictions of CSBDeep, N2V and StarDist by tf_keras, and faces that mtcnn finds.

pip install tensorflow-cpu tf_keras scikit-image tifffile numba joblib lz4 bioimageio.core
pip install --no-deps csbdeep==0.8.2 n2v==0.3.3 stardist==0.9.2 mtcnn==1.0.0
TF_USE_LEGACY_KERAS=1 python scripts/make_imaging_references.py IMAGE (tests/images/ivan.jpg of the repository of mtcnn)
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "tests" / "packages"


def faces(path: str) -> np.ndarray:
    """The rows that mtcnn returns for a file, decoded exactly, as pillow does; TensorFlow's default is faster and less exact."""
    from mtcnn import MTCNN

    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")
    return MTCNN().detect_faces(image.numpy().astype("float32"), output_type="numpy")


def main() -> None:
    sys.path.insert(0, str(FOLDER))
    import imaging

    found = {name: make() for name, make in imaging.MODELS.items()}
    np.savez_compressed(FOLDER / "data" / "imaging.npz", faces=faces(sys.argv[1]), **found)
    for name, values in found.items():
        print(name, values.shape, values.mean())


if __name__ == "__main__":
    main()
