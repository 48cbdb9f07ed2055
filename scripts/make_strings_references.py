"""Write tests/reference/strings/: models of real Keras with string inputs, their files, and what they compute.

    KERAS_BACKEND=tensorflow python scripts/make_strings_references.py
    KERAS_BACKEND=tensorflow python scripts/make_strings_references.py check FOLDER

It needs keras 3, tensorflow and tf_keras. `check` opens the files that nbkeras wrote into a folder (see
tests/training/test_strings.py, `write_for_keras`) and compares the numbers of real Keras with those beside them.
"""

import json
import pathlib
import sys
import tempfile
import zipfile

import keras
import numpy as np
import tensorflow as tf
import tf_keras

OUT = pathlib.Path(__file__).parents[1] / "tests" / "reference" / "strings"
TEXTS = ["the cat sat on the mat", "A dog! barked, twice", "the dog and the cat", "", "Zebra"]
CITIES = ["Rome", "Oslo", "Rome", "Paris", "Lima"]
NUMBERS = [[0.5, -1.0], [1.5, 2.0], [-2.0, 0.0], [3.0, 1.0], [0.0, 0.25]]
VOCABULARY = ["the", "cat", "dog", "sat", "mat"]


def weights_of(model) -> None:
    """Give a model weights that do not depend on the machine."""
    random = np.random.default_rng(7)
    for weight in model.trainable_weights:
        weight.assign(random.normal(size=weight.shape).astype("float32") * 0.5)


def models(k) -> dict:
    """Models with strings of a Keras, by name, with their inputs."""
    L = k.layers
    text = lambda name="text": k.Input((1,), dtype="string", name=name)  # noqa: E731
    made = {}

    def add(name, model, *inputs):
        weights_of(model)
        made[name] = model, inputs

    adapted = L.TextVectorization(max_tokens=12, output_sequence_length=5, name="words")
    adapted.adapt(np.array(TEXTS))
    sentence = [L.Embedding(12, 3), L.GlobalAveragePooling1D(), L.Dense(2, "tanh")]
    add("sequential", k.Sequential([text(), adapted, *sentence], name="sentence"), "texts")

    x = text()
    ragged = L.TextVectorization(vocabulary=VOCABULARY, name="ragged")(x)
    masked = L.LSTM(3)(L.Embedding(7, 4, mask_zero=True)(ragged))
    add("masked", k.Model(x, L.Dense(1)(masked), name="masked_words"), "texts")

    for mode in ("multi_hot", "count", "tf_idf"):
        layer = L.TextVectorization(output_mode=mode, ngrams=2, max_tokens=9, name="bag")
        layer.adapt(np.array(TEXTS))
        flat = k.Input((), dtype="string", name="text")
        add(mode, k.Model(flat, L.Dense(2)(layer(flat)), name="bag_of_words"), "flat_texts")

    x, n = text("city"), k.Input((2,), name="numbers")
    for mode in ("one_hot", "multi_hot"):
        found = L.StringLookup(vocabulary=["Rome", "Oslo", "Lima"], output_mode=mode, name="city_number")(x)
        both = L.Concatenate()([found, n])
        add(f"lookup_{mode}", k.Model([x, n], L.Dense(1)(both), name="mixed"), "cities", "numbers")
    number = L.StringLookup(vocabulary=["Rome", "Oslo", "Lima"], num_oov_indices=2, name="number")(x)
    encoded = L.CategoryEncoding(num_tokens=5, output_mode="one_hot", name="encoded")(number)
    by_name = k.Model({"city": x, "numbers": n}, L.Dense(1)(L.Concatenate()([encoded, n])), name="by_name")
    add("encoded", by_name, "cities", "numbers")
    hashed = L.Hashing(num_bins=6, name="hashed")(x)
    added = L.Add()([L.Flatten()(L.Embedding(6, 2)(hashed)), n])
    add("hashed", k.Model([x, n], L.Dense(1)(added)), "cities", "numbers")
    whole = k.Input((1,), dtype="int64", name="whole")
    crossed = L.HashedCrossing(num_bins=8, output_mode="one_hot", name="crossed")([x, whole])
    add("crossed", k.Model([x, whole], L.Dense(1)(crossed)), "cities", "wholes")
    bins = L.Discretization(bin_boundaries=[0.0, 1.0], output_mode="multi_hot", name="bins")(n)
    city = L.Flatten()(L.Embedding(5, 3)(number))
    added = L.Concatenate()([city, L.Flatten()(bins)])
    add("discretized", k.Model([x, n], L.Dense(2)(added)), "cities", "numbers")

    inner_text = text("inner_text")
    vector = L.GlobalMaxPooling1D()(
        L.Embedding(7, 3)(L.TextVectorization(vocabulary=VOCABULARY, name="inner_words")(inner_text))
    )
    inner = k.Model(inner_text, L.Dense(3, "relu")(vector), name="inner")
    x = text("outer")
    add("nested", k.Model([x, n], L.Dense(1)(L.Concatenate()([inner(x), n])), name="outer_model"), "texts", "numbers")
    return made


def data() -> dict:
    """The inputs by name."""
    return {
        "texts": np.array(TEXTS, object)[:, None],
        "flat_texts": np.array(TEXTS, object),
        "cities": np.array(CITIES, object)[:, None],
        "numbers": np.array(NUMBERS, "float32"),
        "wholes": np.array([[1], [2], [1], [40], [-5]], "int64"),
    }


def given(names, of):
    arrays = [tf.constant(of[name]) for name in names]
    return arrays if len(arrays) > 1 else arrays[0]


def computed(model, names) -> np.ndarray:
    inputs = given(names, data())
    if model.name == "by_name":
        inputs = dict(zip(("city", "numbers"), inputs, strict=True))
    return np.asarray(model(inputs))


def trained(model, names) -> np.ndarray:
    """The outputs after three steps of SGD on all rows."""
    inputs = given(names, data())
    if model.name == "by_name":
        inputs = dict(zip(("city", "numbers"), inputs, strict=True))
    model.compile("sgd", "mse")
    y = np.linspace(-1, 1, 5, dtype="float32")[:, None] * np.ones((1, model.output_shape[-1]), "float32")
    batches = tf.data.Dataset.from_tensors((tuple(inputs) if isinstance(inputs, list) else inputs, y))
    model.fit(batches, epochs=3, verbose=0)
    return computed(model, names)


def main() -> None:
    saved, names_of = {}, {}
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(OUT / "models.zip", "w", zipfile.ZIP_LZMA) as archive:
        for name, (model, names) in models(keras).items():
            saved[name], names_of[name] = computed(model, names), names
            model.save(f"{folder}/{name}.keras")
            if name in ("lookup_one_hot", "encoded", "hashed"):
                model.save(f"{folder}/{name}.h5")
            saved[f"{name} trained"] = trained(model, names)
        for name, (model, names) in models(tf_keras).items():
            if name in ("masked", "lookup_one_hot", "hashed", "nested"):
                saved[f"{name} tf_keras"] = computed(model, names)
                model.save(f"{folder}/{name}.tf_keras.h5")
        for path in sorted(pathlib.Path(folder).iterdir()):
            archive.write(path, path.name)
    np.savez_compressed(OUT / "outputs.npz", **saved)
    (OUT / "inputs.json").write_text(json.dumps(names_of, indent=1) + "\n")
    total = sum(path.stat().st_size for path in OUT.iterdir())
    print(
        f"{OUT}: {total} bytes, keras {keras.__version__}, tensorflow {tf.__version__}, tf_keras {tf_keras.__version__}"
    )


def check(folder: str) -> None:
    """Open nbkeras's files and compare."""
    for path in sorted(pathlib.Path(folder).glob("*.keras")) + sorted(pathlib.Path(folder).glob("*.h5")):
        names = json.loads((OUT / "inputs.json").read_text())[path.stem]
        found = computed(keras.models.load_model(path), names)
        wanted = np.load(path.with_suffix(".npy"))
        print(path.name, "largest difference", np.abs(found - wanted).max())


if __name__ == "__main__":
    check(sys.argv[2]) if sys.argv[1:2] == ["check"] else main()
