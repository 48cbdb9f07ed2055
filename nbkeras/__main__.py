"""The command line: `nbkeras ...` or `python -m nbkeras ...`.

`nbkeras digits` trains the classic network on the package's digits; `nbkeras warmup` compiles kernels in advance;
`nbkeras convert a.h5 b.keras` (or b.onnx) writes a model file in another format; `nbkeras script.py` runs a Keras script.
`train_digits` is meant to be read as an example.
"""

import argparse
import sys
from collections.abc import Iterable

import nbkeras
from nbkeras import saving
from nbkeras.callbacks import LearningRateScheduler
from nbkeras.compat import script
from nbkeras.datasets import digits
from nbkeras.layers import Dense, Dropout
from nbkeras.models import Sequential
from nbkeras.optimizers import RMSprop
from nbkeras.training import warmup
from nbkeras.utils import set_random_seed, to_categorical


def train_digits(epochs: int = 20, seed: int = 0) -> float:
    """Train a 512-512-10 network with dropout on handwritten digits, print the progress, and return the test accuracy."""
    set_random_seed(seed)
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    x_train = x_train.reshape(-1, 64).astype("float32") / 16
    x_test = x_test.reshape(-1, 64).astype("float32") / 16
    print(len(x_train), "train samples,", len(x_test), "test samples")
    y_train, y_test = to_categorical(y_train, 10), to_categorical(y_test, 10)

    model = Sequential()
    model.add(Dense(512, activation="relu", input_shape=(64,)))
    model.add(Dropout(0.2))
    model.add(Dense(512, activation="relu"))
    model.add(Dropout(0.2))
    model.add(Dense(10, activation="softmax"))
    model.summary()

    model.compile(optimizer=RMSprop(), loss="categorical_crossentropy", metrics=["accuracy"])
    # With RMSprop at a constant rate the result varies by a percent; a rate that falls to zero gives a stable result.
    falling = LearningRateScheduler(lambda epoch: 0.001 * (1 - epoch / epochs))
    model.fit(x_train, y_train, batch_size=128, epochs=epochs, validation_data=(x_test, y_test), callbacks=[falling])
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"Test loss: {loss:.4f}")
    print(f"Test accuracy: {accuracy:.4f}")
    return accuracy


def _parser() -> tuple[argparse.ArgumentParser, Iterable[str]]:
    """The parser of the command line, and the names of its commands."""
    parser = argparse.ArgumentParser(
        prog="nbkeras",
        description="Keras's API on a tape that replays.",
        epilog="`nbkeras script.py ...` runs a Keras script, in which `import keras` means nbkeras, and so does "
        "`tensorflow.keras` unless TensorFlow is installed; `nbkeras --tensorflow script.py ...` even then.",
    )
    parser.add_argument("--version", action="version", version=f"nbkeras {nbkeras.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    job = commands.add_parser("digits", help="train the classic network on handwritten digits and print its accuracy")
    job.add_argument("--epochs", type=int, default=20, help="passes over the data (default 20)")
    job.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default 0)")
    warm = commands.add_parser("warmup", help="compile the kernels in advance, into the cache on disk")
    warm.add_argument("families", nargs="*", metavar="family", help=f"of {', '.join(warmup.FAMILIES)} (default all)")
    warm.add_argument("--float64", action="store_true", help="the float64 kernels instead of the float32 ones")
    inside = "into the package's own folder, where all its users find them: for images"
    warm.add_argument("--in-package", action="store_true", help=inside)
    convert = commands.add_parser("convert", help="write a model or weights file in the format of another name")
    convert.add_argument("source", help="a file of Keras or nbkeras: .keras, .h5, .weights.h5, .safetensors")
    convert.add_argument("target", help="ends in .keras, .h5 or .onnx (models), .weights.h5 or .safetensors (weights)")
    convert.add_argument("--model", help="if source holds only weights: a file of their model")
    return parser, commands.choices


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser, commands = _parser()
    tensorflow = arguments[:1] == ["--tensorflow"]
    path, *rest = arguments[tensorflow:] or [""]
    if script.is_script(path, commands):
        return script.run(path, rest, tensorflow)
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
    elif chosen.command == "digits":
        train_digits(chosen.epochs, chosen.seed)
    elif chosen.command == "convert":
        try:
            saving.convert(chosen.source, chosen.target, chosen.model)
        except (ValueError, OSError, ImportError) as error:
            parser.error(str(error))
    else:
        unknown = sorted(set(chosen.families) - set(warmup.FAMILIES))
        if unknown:
            parser.error(f"unknown family {unknown[0]!r}: choose from {', '.join(warmup.FAMILIES)}")
        dtype = "float64" if chosen.float64 else "float32"
        warmup.run(chosen.families or list(warmup.FAMILIES), dtype, chosen.in_package)


if __name__ == "__main__":
    main()
