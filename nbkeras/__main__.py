"""The command line: `nbkeras ...` or `python -m nbkeras ...`.

`nbkeras digits` trains the classic network on the package's digits; `nbkeras warmup` compiles kernels in advance;
`nbkeras convert a.h5 b.keras` (or b.onnx) writes a model file in another format; `nbkeras compile a.keras` writes a shared
library; `nbkeras serve a.keras` answers requests; `nbkeras script.py` runs a Keras script;
`nbkeras --help` lists all. Larger commands are in `nbkeras/commands/`. Read `train_digits` as an example.
"""

import argparse
import functools
import importlib.util
import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable

import nbkeras
from nbkeras import commands, saving
from nbkeras.callbacks import LearningRateScheduler
from nbkeras.commands import warmup
from nbkeras.compat import script
from nbkeras.compat.alias import BACKENDS
from nbkeras.datasets import digits
from nbkeras.engine import program
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.user_errors import install, optional_import
from nbkeras.export.library import TARGETS
from nbkeras.layers import Dense, Dropout
from nbkeras.models import Sequential, load_model
from nbkeras.optimizers import RMSprop
from nbkeras.serving.options import Options
from nbkeras.utils import set_random_seed, to_categorical

logs, supervisor, worker = map(
    LazyModule, ("nbkeras.serving.logs", "nbkeras.serving.supervisor", "nbkeras.serving.worker")
)


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
    # With a constant rate of RMSprop the result varies by a percent; a rate that falls to zero gives a stable result.
    falling = LearningRateScheduler(lambda epoch: 0.001 * (1 - epoch / epochs))
    model.fit(x_train, y_train, batch_size=128, epochs=epochs, validation_data=(x_test, y_test), callbacks=[falling])
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"Test loss: {loss:.4f}")
    print(f"Test accuracy: {accuracy:.4f}")
    return accuracy


def serve(arguments: list[str]) -> int:
    """Serve models until the process receives a signal to end; returns the exit code."""
    needed = "nbkeras serve needs starlette, httptools and others"
    if importlib.util.find_spec("pydantic_settings") is None:  # the process that reads the options imports it
        raise ImportError(f"{needed}: {install('serve')}")
    read = functools.partial(_read_options, arguments)
    first = read()
    with optional_import(needed, "serve"):
        work = worker.work  # imported before workers are forked, so that they share its memory
    if first.grpc_port is not None:  # workers import gRPC, after the fork
        packages = ("grpc", "grpc_health", "grpc_reflection")
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            raise ImportError(f"--grpc-port needs {', '.join(missing)}: {install('serve')}")
    logs.configure(first.log, first.log_level)
    return supervisor.Supervisor(read, work).run()


def _read_options(arguments: list[str]) -> Options:
    """The options of `serve` from its arguments, the environment and the file that these name; or its help is printed.

    A process of its own reads them, because pydantic would take 12 MB of the server's memory. Its error is raised here.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    with open(os.memfd_create("options"), "w+b") as result:
        target = result.fileno()
        command = [sys.executable, "-P", "-m", "nbkeras.serving.settings", str(target), *arguments]
        # a session of its own: Control-C ends this process only, which then ends that one
        done = subprocess.run(command, env=environment, pass_fds=[target], start_new_session=True, check=False)
        if done.returncode:
            raise OSError(f"the process that reads the options ended with exit code {done.returncode}")
        result.seek(0)
        outcome = pickle.load(result)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _parser() -> tuple[argparse.ArgumentParser, Iterable[str]]:
    """The parser of the command line, and the names of its commands."""
    parser = argparse.ArgumentParser(
        prog="nbkeras",
        description="Keras's API on a tape that replays.",
        epilog="`nbkeras script.py ...` is short for `nbkeras run script.py ...`. Exit codes: 0, success; 1, something "
        "failed; 2, the command is invalid.",
    )
    parser.add_argument("--version", action="version", version=f"nbkeras {nbkeras.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")

    def add(name: str, text: str, details: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {details}".strip())

    alias = "In the script `import keras` means nbkeras, and so does `tensorflow.keras` unless TensorFlow is installed."
    job = add("run", "run a Keras script", alias)
    chosen = "the version of Keras that keras means (default: the script's imports and calls decide)"
    job.add_argument("--keras", type=int, choices=(2, 3), help=chosen)
    answer = (
        "the answer of keras.backend.backend() (default: KERAS_BACKEND, or numpy for Keras 3 and nbkeras for Keras 2)"
    )
    job.add_argument("--backend", choices=BACKENDS, help=answer)
    job.add_argument("--tensorflow", action="store_true", help="let tensorflow.keras mean nbkeras in any case")
    whole = "run a module and its arguments as `python -m` does, instead of a script: -m pytest tests/"
    job.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help=whole)
    job.add_argument("script", nargs="?", help="a Python file")
    job.add_argument("arguments", nargs=argparse.REMAINDER, help="the arguments of the script")
    job = add("digits", "train the classic network on handwritten digits and print its accuracy")
    job.add_argument("--epochs", type=_count, default=20, help="passes over the data (default 20)")
    job.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default 0)")
    job = add("summary", "print the layers, shapes and parameters of a model file")
    job.add_argument("file", help="a model file: .keras or .h5")
    job.add_argument("--nested", action="store_true", help="show the layers of nested models too")
    job.add_argument("--trainable", action="store_true", help="show which layers are trainable")
    convert = add("convert", "convert a model or weights file to the format that the target's name selects")
    convert.add_argument("source", help="a file of Keras or nbkeras: .keras, .h5, .weights.h5, .safetensors")
    convert.add_argument("target", help="ends in .keras, .h5 or .onnx (models), .weights.h5 or .safetensors (weights)")
    convert.add_argument("--model", help="if source holds only weights: a file of their model")
    files = "It runs on Linux and needs only the C standard libraries. A C header and a Python module are written beside it."
    job = add("compile", "write a model file as a shared library", files)
    job.add_argument("file", help="a model file: .keras or .h5")
    job.add_argument("-o", "--output", metavar="FOLDER", default=".", help="the folder to write into (default: here)")
    processors = "the processors that the library runs on (default host: this one); wasm32 writes a WebAssembly module"
    job.add_argument("--target", choices=(*TARGETS, "wasm32"), default="host", help=processors)
    job.add_argument("--batch", type=_counts, default=[1], metavar="N,N", help="samples of a call (default 1)")
    job.add_argument("--weights", choices=("inside", "beside"), default="inside", help="in the library or in a file")
    explicit = "'explicit': add a function for one timestep, with the states of recurrent layers as an argument"
    job.add_argument("--state", choices=("explicit",), help=explicit)
    sizes = "the shape of a sample, if the model leaves sizes open; once for each input"
    job.add_argument("--shape", type=_counts, action="append", metavar="N,N", help=sizes)
    add("serve", "answer requests to infer, by the Open Inference Protocol over HTTP and gRPC")
    data = "It runs on made-up data: a training step if the model was compiled, else a prediction."
    job = add("profile", "show the time of a model's step by layer and by kernel", data)
    job.add_argument("file", help="a model file: .keras or .h5")
    job.add_argument("--batch-size", type=_count, default=32, help="rows of the step (default 32)")
    job.add_argument("--steps", type=_count, default=10, help="number of measurements (default 10)")
    job.add_argument("--predict", action="store_true", help="measure a prediction in any case")
    job.add_argument("--save", metavar="NAME", help="write the profile too: .svg (a picture) or .json (for Perfetto)")
    job.add_argument("--memory", metavar="NAME", help="draw the planned memory too: .svg")
    job = add("bench", "measure a few small models on this machine")
    job.add_argument("models", nargs="*", metavar="model", help="dense, convolution, lstm or attention (default all)")
    job.add_argument("--batch-size", type=_count, default=32, help="rows of a training step (default 32)")
    warm = add("warmup", "compile the kernels in advance, into the cache on disk")
    named = f"a model's file, or one of {', '.join(warmup.FAMILIES)} (default: all of these)"
    warm.add_argument("families", nargs="*", metavar="family", help=named)
    warm.add_argument("--float64", action="store_true", help="the float64 kernels instead of the float32 ones")
    levels = "compile for every processor of a level instead of this one: for images that run elsewhere"
    warm.add_argument("--cpu", choices=program.PROCESSOR_LEVELS, help=levels)
    add("doctor", "report versions, processor, cache, GPU and problems", "The exit code is 1 if there are problems.")
    return parser, commands.choices


def _warm(name: str) -> Callable[[], None]:
    """The function that compiles the kernels of a family, or of a model file."""
    if name in warmup.FAMILIES:
        return warmup.FAMILIES[name]
    if not os.path.exists(name):
        raise ValueError(f"{name!r} is neither a model file nor a family: choose from {', '.join(warmup.FAMILIES)}")
    return functools.partial(commands.warm_file, name)


def _check_level(level: str) -> None:
    """Raise ValueError for a level that this processor does not have: `warmup` also runs the kernels that it compiles."""
    here = program.processor_levels()
    if level not in here:
        raise ValueError(
            f"--cpu {level} must be a level of this processor, because warmup runs what it compiles; this one is "
            f"{platform.machine()} with {' and '.join(here) or 'no level'}: run the command on a processor that has {level}, or "
            f"leave out --cpu (`nbkeras compile --target {level}` makes a library for it on any processor)"
        )


def _counts(text: str) -> list[int]:
    """Positive integers of the command line, such as 1,32."""
    return [_count(part) for part in text.split(",")]


def _count(text: str) -> int:
    """A positive integer of the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be positive, received {text}")
    return number


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser, names = _parser()
    if script.is_script("".join(arguments[:1]), names):
        arguments = ["run", *arguments]
    if arguments[:1] == ["serve"]:  # settings.py parses its options
        chosen = argparse.Namespace(command="serve", options=arguments[1:])
    else:
        chosen = parser.parse_args(arguments)
    if chosen.command == "run":
        options = chosen.keras, chosen.tensorflow, chosen.backend
        if chosen.module:
            script.run_module(chosen.module[0], chosen.module[1:], *options)
        elif chosen.script:
            script.run_script(chosen.script, chosen.arguments, *options)
        else:
            parser.exit(2, "nbkeras run: error: give a script, or a module after -m\n")
        return 0
    try:
        return _run(chosen, parser)
    except KeyboardInterrupt:
        print("\nnbkeras: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # a file that is not a model may raise anything
        parser.exit(2, f"nbkeras {chosen.command}: error: {_error_message(error)}\n")
    return 2


def _error_message(error: Exception) -> str:
    """An error's message, after the name of its class if the message alone is not clear."""
    text = str(error) or type(error).__name__
    return text if isinstance(error, ValueError | OSError | ImportError) else f"{type(error).__name__}: {text}"


def _run(chosen: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Run a command; returns the exit code."""
    if chosen.command is None:
        parser.print_help()
    elif chosen.command == "digits":
        train_digits(chosen.epochs, chosen.seed)
    elif chosen.command == "summary":
        load_model(chosen.file, compile=False).summary(expand_nested=chosen.nested, show_trainable=chosen.trainable)
    elif chosen.command == "convert":
        saving.convert(chosen.source, chosen.target, chosen.model)
    elif chosen.command == "compile":
        options = {"batch": chosen.batch, "target": chosen.target, "weights": chosen.weights, "state": chosen.state}
        commands.compile_file(chosen.file, chosen.output, chosen.shape, **options)
    elif chosen.command == "profile":
        wanted = chosen.predict, chosen.save, chosen.memory
        commands.profile_file(chosen.file, chosen.batch_size, chosen.steps, *wanted)
    elif chosen.command == "serve":
        return serve(chosen.options)
    elif chosen.command == "bench":
        commands.bench(chosen.models, chosen.batch_size)
    elif chosen.command == "doctor":
        return commands.doctor(nbkeras.__version__)
    else:
        if chosen.cpu:  # a process has one target processor, from its start
            _check_level(chosen.cpu)
            command = [sys.executable, "-m", "nbkeras", "warmup", *["--float64"] * chosen.float64, *chosen.families]
            return subprocess.run(command, env=os.environ | program.variables_of(chosen.cpu), check=False).returncode
        jobs = {name: _warm(name) for name in chosen.families}
        warmup.run(jobs or warmup.FAMILIES, "float64" if chosen.float64 else "float32")
    return 0


if __name__ == "__main__":
    sys.exit(main())
