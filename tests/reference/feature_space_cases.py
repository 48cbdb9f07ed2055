"""Cases of FeatureSpace; scripts/make_tables_references.py computes them with Keras.

A case makes an adapted FeatureSpace of a framework, and the tables that it encodes.
"""

import numpy as np

CASES = {}
COLOURS = ["red", "blue", "grün", "", "yellow", "black"]


def case(function):
    CASES[function.__name__] = function
    return function


def table(rows=100, seed=0):
    """A table of numbers and strings."""
    rng = np.random.default_rng(seed)
    return {
        "age": rng.integers(18, 80, rows).astype("float32"),
        "income": rng.lognormal(3, 1, rows).astype("float32"),
        "size": rng.normal(size=rows).astype("float32"),
        "grade": rng.integers(-2, 4, rows).astype("int32"),
        "id": rng.integers(0, 10**6, rows).astype("int32"),
        "colour": [COLOURS[i] for i in rng.zipf(1.8, rows) % len(COLOURS)],
        "town": [f"town {i}" for i in rng.integers(0, 40, rows)],
    }


def part(table, rows):
    return {name: column[rows] for name, column in table.items()}


TYPES = {
    "age": "float_discretized",
    "income": "float_normalized",
    "size": "float",
    "grade": "integer_categorical",
    "id": "integer_hashed",
    "colour": "string_categorical",
    "town": "string_hashed",
}


@case
def all_types(k):
    crosses = [("colour", "grade"), ("town", "id")]
    space = k.utils.FeatureSpace(TYPES, crosses=crosses, crossing_dim=7, hashing_dim=6, num_discretization_bins=5)
    space.adapt(table())
    return space, [part(table(), slice(0, 9)), part(table(seed=1), slice(0, 4)), part(table(), 3)]


@case
def as_a_dict(k):
    fs, one_hot = k.utils.FeatureSpace, {"output_mode": "int"}
    space = fs(
        {
            "age": fs.float_discretized(4, **one_hot),
            "income": fs.float_rescaled(0.5, -1.0),
            "grade": fs.integer_categorical(max_tokens=4, num_oov_indices=2, **one_hot),
            "id": fs.integer_hashed(11, **one_hot),
            "colour": fs.string_categorical(max_tokens=3, **one_hot),
            "town": fs.string_hashed(5),
        },
        "dict",
        [fs.cross(("colour", "grade"), 9, "int"), fs.cross(("id", "town"), 8)],
    )
    space.adapt(table())
    return space, [part(table(seed=2), slice(0, 9)), part(table(), 5)]


@case
def few_tokens_in_indicators(k):
    fs = k.utils.FeatureSpace
    colour, grade = fs.string_categorical(4, 2), fs.integer_categorical(3, 1)
    space = fs({"colour": colour, "grade": grade, "income": fs.float_normalized()})
    space.adapt(table())
    return space, [part(table(seed=3), slice(0, 8))]


@case
def own_layers(k):
    fs, layers = k.utils.FeatureSpace, k.layers
    space = fs(
        {
            "town": fs.feature("string", layers.TextVectorization(output_mode="tf_idf", max_tokens=9), "float"),
            "size": fs.feature("float32", layers.Normalization(mean=1.0, variance=4.0), "float"),
            "grade": fs.feature("int32", layers.CategoryEncoding(4, output_mode="one_hot"), "float"),
        },
        output_mode="dict",
    )
    space.adapt(table())
    return space, [{**part(table(), slice(0, 6)), "grade": [0, 1, 2, 3, 3, 2]}]


@case
def nothing_to_adapt(k):
    space = k.utils.FeatureSpace({"size": "float_rescaled", "town": "string_hashed"}, hashing_dim=4)
    return space, [part({name: table()[name] for name in ("size", "town")}, slice(0, 5)), {"size": 2, "town": "ab"}]


@case
def batches(k):
    """Bins depend on the batches that the layer adapts to."""
    space = k.utils.FeatureSpace(
        {"age": "float_discretized", "colour": "string_categorical"}, num_discretization_bins=6
    )
    columns = {name: np.array(table()[name]) for name in ("age", "colour")}
    parts = [part(columns, slice(start, start + 17)) for start in range(0, 100, 17)]
    space.adapt(k.stream(parts) if hasattr(k, "stream") else iter(parts))
    return space, [part(table(), slice(20, 29))]


def encoded(space, tables):
    """The encoded tables of a case as arrays by name."""
    known, found = space.features.keys(), {}
    for number, data in enumerate(tables):
        outputs = space({name: column for name, column in data.items() if name in known})
        outputs = outputs if isinstance(outputs, dict) else {"": outputs}
        found.update({f"{number} {name}": np.asarray(value) for name, value in outputs.items()})
    return found


def numbers_model(k):
    """A model that begins with raw numbers."""
    names = ("age", "income", "size", "grade", "id")
    space = k.utils.FeatureSpace({name: TYPES[name] for name in names}, crosses=[("id", "grade")], hashing_dim=6)
    space.adapt({name: table()[name] for name in names})
    outputs = k.layers.Dense(3, activation="tanh")(space.get_encoded_features())
    return k.Model(space.get_inputs(), outputs)


def numbers():
    return {name: table(seed=4)[name][:6, None] for name in ("age", "income", "size", "grade", "id")}


def network(k):
    """A model whose weights are divided over several files."""
    hidden = [k.layers.Dense(40), k.layers.BatchNormalization(), k.layers.Dense(50), k.layers.Dense(2)]
    return k.Sequential([k.Input((30,)), *hidden])
