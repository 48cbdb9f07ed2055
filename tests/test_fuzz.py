"""Calls with arguments of every kind: each returns a value or raises an error with a reason, and changes no argument."""

import inspect
import random

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import activations, constraints, initializers, layers, losses, metrics, ops, regularizers
from nbkeras import backend as K
from nbkeras.engine.tensor import Tensor, as_tensor

SPACES = {"ops": ops, "K": K, "losses": losses, "metrics": metrics, "activations": activations, "layers": layers}
SPACES |= {"initializers": initializers, "regularizers": regularizers, "constraints": constraints}
SETTINGS = (
    "clear_session set_floatx set_epsilon set_image_data_format set_image_dim_ordering set_learning_phase print_tensor"
)
INSIDE = (
    "function_config is_sharing squeeze_or_expand_to_same_rank resolve_accuracy manual_variable_initialization".split()
)
NAMES = [
    (space, name)
    for space, module in SPACES.items()
    for name in sorted(dir(module))
    if callable(getattr(module, name)) and not name.startswith("_") and name not in [*SETTINGS.split(), *INSIDE]
]
# A fault, with any message: code that raises it did not check its arguments.
FAULTS = (
    AttributeError,
    AssertionError,
    KeyError,
    ZeroDivisionError,
    OverflowError,
    NameError,
    RecursionError,
    SystemError,
)
SHAPES = [(), (0,), (3,), (2, 3), (2, 0, 3), (2, 4, 3), (2, 4, 4, 3)]
OTHERS = [
    None,
    True,
    0,
    1,
    2,
    -1,
    -(2**31),
    0.5,
    -1.0,
    float("nan"),
    float("inf"),
    1e38,
    "same",
    "relu",
    "",
    (0, 1),
    (2, 2),
    [],
    {},
]


def array(chance):
    values = np.random.default_rng(chance.randrange(1 << 30)).standard_normal(chance.choice(SHAPES))
    return values.astype(chance.choice(["float32", "float32", "float64", "int32", "bool", "uint8"]))


def value(chance):
    kind = chance.random()
    if kind < 0.4:
        return array(chance)
    if kind < 0.5:
        return as_tensor(array(chance))
    return keras.KerasTensor(chance.choice(SHAPES)) if kind < 0.6 else chance.choice(OTHERS)


def arguments(function, of_layers, chance):
    """The required arguments of a call, mostly plausible, and one optional argument."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    needed = [2 if of_layers else array(chance) for p in parameters if p.default is p.empty]
    if needed and chance.random() < 0.5:
        needed[chance.randrange(len(needed))] = value(chance)
    optional = [p.name for p in parameters if p.default is not p.empty]
    return needed, {chance.choice(optional): value(chance)} if optional else {}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.filterwarnings("ignore")
def test_random_calls_give_results_or_sentences(seed):
    chance = random.Random(seed)
    for _ in range(250):
        space, name = chance.choice(NAMES)
        function = getattr(SPACES[space], name)
        args, kwargs = arguments(function, space == "layers", chance)
        if space == "layers" and chance.random() < 0.5:
            kwargs.clear()
        given = [item for item in (*args, *kwargs.values()) if isinstance(item, np.ndarray)]
        before = [item.copy() for item in given]
        text = f"{space}.{name}(*{args}, **{kwargs})"
        try:
            made = function(*args, **kwargs)
            if callable(made) and not isinstance(made, Tensor) and space not in ("ops", "K"):
                made(*[array(chance) for _ in range(2 if space in ("losses", "metrics") else 1)])
        except FAULTS as error:
            raise AssertionError(f"{text} raises {error!r}") from error
        except Exception as error:
            words = str(error)
            assert len(words) > 5 and "nopython" not in words, f"{text} raises {error!r}"
        for item, copy in zip(given, before, strict=True):
            np.testing.assert_array_equal(item, copy, err_msg=text)
