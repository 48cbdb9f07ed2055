"""Make tests/reference/applications.npz and applications.json: what real Keras 3 says about `keras.applications`.

pip install keras==3.15.1 tensorflow-cpu tf_keras
KERAS_BACKEND=tensorflow python scripts/make_applications_references.py

The json file holds names, signatures, hashes of layers and weights' shapes, and the files that `weights="imagenet"` asks for;
nothing is downloaded. The npz file holds some outputs of each network with weights of a seeded rule. applications.h5.gz is a
file with weights that Keras 2 (tf_keras) wrote.
"""

import gzip
import json
import pathlib
import sys
import tempfile

import keras
import numpy as np
import tf_keras

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "tests" / "reference"


def asked_files(cases) -> dict:
    """Network -> for the whole network and for its features: the file, its URL and hash, and the network's structure."""
    from keras.src.utils import file_utils

    asked: list = []

    def get_file(fname, origin, cache_subdir, file_hash=None):
        asked.append([fname, origin, file_hash])
        return ""

    file_utils.get_file = get_file
    keras.Model.load_weights = lambda *args, **kwargs: None
    found: dict = {}
    for name in cases.NAMES:
        shape = (331, 331, 3) if name == "NASNetLarge" else None  # without one, Keras's is not usable
        for top in (True, False):
            keras.backend.clear_session()
            model = getattr(keras.applications, name)(include_top=top, input_shape=shape)
            found.setdefault(name, []).append([*asked.pop(), cases.structure(model)])
        print(name, found[name], flush=True)
    return found


def file_of_keras_2(cases) -> np.ndarray:
    """Write the file, and return its network's outputs."""
    model, images = cases.made(tf_keras, cases.OLD)
    for variable in model.weights:
        variable.assign(np.round(variable.numpy(), 2))  # for a smaller file
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "old.h5"
        model.save_weights(path)
        (FOLDER / "applications.h5.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    return cases.few(model(images, training=False))


def main() -> None:
    sys.path.insert(0, str(FOLDER))
    import applications_cases as cases

    arrays, structures = {"file of Keras 2": file_of_keras_2(cases)}, {}
    for case in cases.CASES:
        keras.backend.clear_session()
        model, images = cases.made(keras, case)
        structures[case] = cases.structure(model)
        arrays[case] = cases.few(model(images, training=False))
        print(case, structures[case], arrays[case][-1], flush=True)
    for mode, place, rank in cases.PREPARED:
        images = cases.to_prepare(place, rank)
        prepared = keras.applications.imagenet_utils.preprocess_input(images, f"channels_{place}", mode)
        arrays[f"prepared {mode} {place} {rank}"] = prepared
    parts = {each: getattr(keras.applications, each) for each in cases.MODULES}
    told = {
        "structures": structures,
        "signatures": {name: cases.signature(getattr(keras.applications, name)) for name in cases.NAMES},
        "modules": {each: [n for n in dir(part) if n[0] != "_"] for each, part in parts.items()},
        "files": asked_files(cases),
    }
    np.savez_compressed(FOLDER / "applications.npz", **arrays)
    (FOLDER / "applications.json").write_text(json.dumps(told, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
