"""Docstrings of classes are whole: the own text, and an entry for each argument of the constructor."""

import inspect
import re
import subprocess
import sys
import types

import pytest

from nbkeras import callbacks, constraints, layers, metrics, optimizers
from nbkeras.engine import documentation, option
from nbkeras.losses import Huber


class Base:
    """A base.

    Args:
        first: Documented in the base,
            on two lines.
        common (a word): Documented in the base too.
    """

    def __init__(self, first, common=1, *, activation: option.Activation = None):
        pass


class Derived(Base):
    """A class.

    Args:
        own: Documented here.

    Example:
        >>> Derived(1)
    """

    def __init__(self, own: option.Size, rate: float = 0.5, **kwargs):
        super().__init__(1, **kwargs)


def entries(cls):
    return {name: (words, meaning) for name, words, meaning in documentation.arguments(cls)}


def test_an_entry_says_kind_default_and_meaning():
    assert entries(Derived) == {
        "own": ("a positive integer", "Documented here."),
        "rate": ("float; default 0.5", ""),
        "common": ("a word; default 1", "Documented in the base too."),
        "activation": ("a name, a function or None; default None", documentation.COMMON["activation"]),
    }
    assert entries(Base)["first"] == ("", "Documented in the base, on two lines.")


def test_the_other_sections_stay_where_they_are():
    text = documentation.whole(Derived, Derived.__doc__)
    assert text.startswith(
        "A class.\n\nArgs:\n    own (a positive integer): Documented here.\n    rate (float; default 0.5):\n"
    )
    assert text.endswith("\n\nExample:\n    >>> Derived(1)\n")
    without = documentation.whole(Derived, "A class.\n\nReturns:\n    Nothing.")
    assert without.startswith("A class.\n\nArgs:\n    own (a positive integer):")
    assert without.endswith("\n\nReturns:\n    Nothing.\n")


def test_a_class_that_is_made_of_a_function_says_what_the_function_says():
    text = Huber.__doc__
    assert "\n    delta (float; default 1.0): The error above which the loss grows linearly.\n" in text
    assert re.search(r"\n\nCall arguments:\n    y_true: .*\n    y_pred: .*\n    sample_weight: ", text)
    assert text.index("Args:") < text.index("Call arguments:") < text.index("Example:")


def test_arguments_of_a_call_are_explained_in_base_classes_too():
    text = layers.LSTMCell.__doc__  # states are its own
    assert re.search(r"\n\nCall arguments:\n    inputs: The step.*\n    states: .* h and c.*\n    training: ", text)
    assert text.index("Args:") < text.index("Call arguments:") < text.index("Output shape:")
    assert "Call arguments:\n    w: The weight.\n" in constraints.NonNeg.__doc__  # of `__call__`


def test_sections_that_a_class_lacks_come_from_a_base_class_that_is_no_example_itself():
    text = layers.MaxPooling3D.__doc__  # of Spatial: the text for rank 3
    assert "\nInput shape:\n    (batch, depth, rows, columns, channels), or (batch, channels, depth, " in text
    assert "(batch, steps, channels)" not in text
    assert text.index("Args:") < text.index("Input shape:") < text.index("Output shape:") < text.index("Raises:")
    assert text.index("Raises:\n    ValueError: if no window fits") < text.index("Example:")
    assert (
        layers.Masking.__doc__.count("Output shape:\n    The input's shape; the mask") == 1
    )  # its own, not SameShape's
    assert "Raises:" not in metrics.F1Score.__doc__  # FBetaScore has its own example, and refuses a beta


@pytest.mark.parametrize("cls", [layers.Dense, layers.LSTM, layers.Conv2D, layers.Bidirectional])
def test_help_of_a_layer_has_each_argument(cls):
    text = inspect.getdoc(cls)
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
            assert re.search(rf"\n    {name}( \(.*)?:", text), name
    for name in ("name", "dtype", "trainable"):
        assert re.search(rf"\n    {name}( \(.*)?:", text), name


def test_base_classes_and_callbacks_are_whole_too():
    assert "\n    name (str | None; default None): " in metrics.Metric.__doc__
    assert "\n    mode (str; default 'auto'): 'min' if smaller" in callbacks.EarlyStopping.__doc__
    assert inspect.getdoc(callbacks.CallbackList.on_batch_end) == inspect.getdoc(callbacks.Callback.on_batch_end)


def scaled(values, by, axis=0):
    """values times by.

    Args:
        values: Numbers.
        by: The factor,
            a number.
        axis: Not said again.
    """


def test_a_function_takes_over_what_a_function_that_it_names_explains():
    def old(x, factor, axis, *more):
        """x times factor. Today: `here.scaled(x, factor)`, not `elsewhere.scaled`.

        Args:
            axis: Its own.

        Example:
            >>> old(1)
        """

    def older(x, factor):
        """As `here.old` was."""

    here = types.SimpleNamespace(scaled=scaled, old=old)
    before = scaled.__doc__
    module = types.SimpleNamespace(__name__=__name__, older=older, old=old, scaled=scaled)
    documentation.attach_to_functions(module, here=here)
    assert old.__doc__.endswith(
        "\n\nArgs:\n    x: Numbers.\n    factor: The factor, a number.\n    axis: Its own.\n\nExample:\n    >>> old(1)\n"
    )
    assert older.__doc__ == "As `here.old` was.\n\nArgs:\n    x: Numbers.\n    factor: The factor, a number.\n"
    assert scaled.__doc__ is before


def test_an_argument_that_a_class_does_not_take_is_left_out():
    names = [*entries(optimizers.LossScaleOptimizer)]
    assert names == ["inner_optimizer", "initial_scale", "dynamic_growth_steps", "name", "dynamic"]
    assert "noise_shape" not in entries(layers.SpatialDropout1D)


def test_an_annotation_that_allows_anything_is_not_written():
    assert entries(metrics.AUC)["dtype"][0] == "default None"  # its file has annotations as strings


def test_the_signature_of_a_layer_is_that_of_its_constructor():
    assert [*inspect.signature(layers.Dense).parameters][:3] == ["units", "activation", "use_bias"]
    assert [*inspect.signature(layers.Dense(2)).parameters] == ["args", "kwargs"]  # of a call

    class Mine(layers.Dense):
        def __init__(self, size):
            super().__init__(size)

    assert [*inspect.signature(Mine).parameters] == ["size"]


def test_a_users_class_keeps_its_docstring():
    class Mine(layers.Dense):
        """My words."""

    class Silent(layers.Dense):
        pass

    assert Mine.__doc__ == "My words."
    assert Silent.__doc__ is None


@pytest.mark.process
def test_without_docstrings_nothing_is_put_together():
    program = "from nbkeras import backend; from nbkeras.layers import Dense; assert Dense.__doc__ is None; Dense(2)"
    subprocess.run([sys.executable, "-P", "-OO", "-c", program], check=True, timeout=120)
