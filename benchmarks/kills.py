"""python -m benchmarks.kills [model ...] [--kills 200] [--signals 40] [--seed 0] [--jobs 1] [--json FILE] [--keep FOLDER]

Kills trainings at random moments, restarts them until they end, and compares them with the same training without a kill.

A model is trained once without an interruption, in a separate process. Then the same training, with `BackupAndRestore`, is killed
by SIGKILL at a uniformly random moment, restarted, and killed again, until it ends. In every second training fsync is slow, so
that many kills come while a state is being written. At the end, the SHA-256 hashes of everything must be equal: weights, states,
optimizer, metrics, history, callbacks, the log file, random numbers, a prediction. --signals: this many trainings get SIGTERM or
SIGINT instead. The exit status is 1 if something differs. --keep: a folder for trainings that differ.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import nbkeras as keras
from nbkeras import layers

THREADS = "2"  # results do not depend on their number; it is fixed all the same
PAUSE = 0.001  # seconds after each batch
SLOW = 0.06  # seconds that a slow fsync takes
MAX_KILLS = 5  # of one training
MAX_STARTS = 20  # of one training: more means that it makes no progress
TIMEOUT, COMPILING = 120, 900  # seconds that a training may take; the first training may compile kernels

# -------------------- the trainings --------------------


class Shuffled(keras.utils.PyDataset):
    """Batches of a data set that `fit` shuffles."""

    def __init__(self, x: np.ndarray, y: np.ndarray, size: int):
        super().__init__()
        self.x, self.y, self.size = x, y, size

    def __len__(self) -> int:
        return len(self.x) // self.size

    def __getitem__(self, index: int) -> tuple:
        rows = slice(index * self.size, (index + 1) * self.size)
        return self.x[rows], self.y[rows]


class Positioned:
    """An endless generator that can report its position: random rows, with noise."""

    def __init__(self, x: np.ndarray, y: np.ndarray, size: int):
        self.x, self.y, self.size = x, y, size
        self.random = np.random.default_rng(5)

    def __iter__(self) -> "Positioned":
        return self

    def __next__(self) -> tuple:
        rows = self.random.integers(0, len(self.x), self.size)
        return self.x[rows] + self.random.normal(0, 0.1, self.x[rows].shape).astype(np.float32), self.y[rows]

    def state_dict(self) -> dict[str, Any]:
        return {"random": self.random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.random.bit_generator.state = state["random"]


@dataclass
class Training:
    """A compiled model, and the arguments of `fit`."""

    model: keras.Model
    x: Any
    y: Any = None
    validation: Any = None
    options: dict[str, Any] = field(default_factory=dict)


def numbers(*shape: int, classes: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Examples that can partly be learned: (x, a number or the index of a class)."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=shape).astype(np.float32)
    flat = x.reshape(len(x), -1)
    y = np.tanh(flat @ rng.normal(size=(flat.shape[1], 1))) + rng.normal(0, 0.3, (len(x), 1))
    return x, ((y[:, 0] > 0).astype(np.int32) % max(classes, 1) if classes else y.astype(np.float32))


def split(x: np.ndarray, y: np.ndarray, held: int) -> tuple:
    return x[:-held], y[:-held], (x[-held:], y[-held:])


def dense() -> Training:
    """Dense and Dropout, Adam, shuffled arrays"""
    model = keras.Sequential(
        [
            keras.Input((20,)),
            layers.Dense(64, activation="relu", kernel_regularizer="l2"),
            layers.Dropout(0.4),
            layers.Dense(64, activation="tanh"),
            layers.GaussianNoise(0.1),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return Training(model, *split(*numbers(1400, 20, classes=2), 120), options={"batch_size": 16, "epochs": 6})


def convolution() -> Training:
    """Conv2D and BatchNormalization, SGD with momentum and a schedule's rate per step"""
    model = keras.Sequential(
        [
            keras.Input((10, 10, 2)),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.SpatialDropout2D(0.2),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), "mse", metrics=["mae"])
    return Training(model, *split(*numbers(1000, 10, 10, 2), 100), options={"batch_size": 20, "epochs": 8})


def stateful_lstm() -> Training:
    """A stateful LSTM with dropout; its states continue through the epoch, in the given order"""
    model = keras.Sequential(
        [
            keras.Input((6, 4), batch_size=8),
            layers.LSTM(16, stateful=True, return_sequences=True, dropout=0.2, recurrent_dropout=0.1),
            layers.GRU(8, stateful=True),
            layers.Dense(1),
        ]
    )
    model.compile("nadam", "mae", metrics=["mse"])
    return Training(model, *split(*numbers(720, 6, 4), 80), options={"batch_size": 8, "epochs": 6, "shuffle": False})


def embedding(optimizer: Any = "rmsprop", rows: int = 100_000) -> Training:
    """A large Embedding with row updates by RMSprop: many megabytes for each state"""
    rng = np.random.default_rng(3)
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(rows, 16),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC()])
    x = rng.integers(0, rows, (1800, 5)).astype(np.int32)
    x[:, 0] %= 50  # rows that many batches use
    y = (x[:, 0] % 2).astype(np.float32)[:, None]
    return Training(model, *split(x, y, 200), options={"batch_size": 16, "epochs": 5})


def embedding_sgd() -> Training:
    """An Embedding with row updates by SGD"""
    return embedding(keras.optimizers.SGD(0.5), 20_000)


def averages() -> Training:
    """Averages of the weights (use_ema), which replace the weights every 40 steps; AdamW"""
    training = dense()
    optimizer = keras.optimizers.AdamW(0.003, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=40)
    training.model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return training


def accumulation() -> Training:
    """Gradients of 3 batches for each update"""
    training = dense()
    optimizer = keras.optimizers.Adam(0.005, gradient_accumulation_steps=3, global_clipnorm=1.0)
    training.model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return training


def sequence() -> Training:
    """A PyDataset that `fit` shuffles, a PyDataset for validation, class weights"""
    inputs = keras.Input((20,))
    hidden = layers.Dropout(0.3)(layers.Dense(32, activation="gelu")(inputs))
    model = keras.Model(inputs, layers.Dense(1)(layers.LayerNormalization()(hidden)))
    model.compile("adamax", "mse", metrics=["mae"])
    x, y, (held, targets) = split(*numbers(1400, 20), 120)
    return Training(
        model, Shuffled(x, y, 16), validation=Shuffled(held, targets, 24), options={"epochs": 6, "shuffle": True}
    )


def generator() -> Training:
    """An endless generator with state_dict and load_state_dict; epochs of 50 steps"""
    training = dense()
    training.x, training.y = Positioned(training.x, training.y, 16), None
    training.options = {"epochs": 9, "steps_per_epoch": 50}
    return training


MODELS: dict[str, Callable[[], Training]] = {
    made.__name__: made
    for made in (
        dense,
        convolution,
        stateful_lstm,
        embedding,
        embedding_sgd,
        averages,
        accumulation,
        sequence,
        generator,
    )
}


# -------------------- the process that trains --------------------


class Paced(keras.callbacks.Callback):
    """Writes a byte after each batch, which shows the progress to the killing process, and waits for it a little.

    It also draws random numbers of NumPy, Python and nbkeras, so that a resumed training must restore them.
    """

    lazy_logs = True

    def on_train_batch_end(self, batch, logs=None):
        os.write(1, b".")
        time.sleep(PAUSE)
        random.random()
        if np.random.random() < 0.1:
            keras.random.uniform((1,))


def digest(*values: Any) -> str:
    """SHA-256 of the bytes of arrays, and of the string of everything else."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            found.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        elif isinstance(value, list | tuple):
            found.update(digest(*value).encode())
        elif isinstance(value, dict):
            found.update(digest(*[each for name in value for each in (name, value[name])]).encode())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


def arrays(variables: Any) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in variables]


def train(name: str, folder: Path, save_freq: int) -> dict[str, str]:
    """Train, and return a digest of each part of the result. save_freq 0: without BackupAndRestore."""
    keras.utils.set_random_seed(11)
    training = MODELS[name]()
    model = training.model
    stop = keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)
    slower = keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, factor=0.6, min_lr=1e-5)
    log = folder / "log.csv"
    callbacks = [Paced(), stop, slower, keras.callbacks.CSVLogger(log)]
    if save_freq:
        callbacks.append(keras.callbacks.BackupAndRestore(folder / "backup", save_freq=save_freq))
    os.write(1, b"!")  # the training begins
    history = model.fit(
        training.x, training.y, validation_data=training.validation, callbacks=callbacks, verbose=0, **training.options
    )
    state = {
        "weights": arrays(model.weights),
        "states": arrays(model.variables),
        "optimizer": arrays(model.optimizer.variables),
        "metrics": [model.get_metrics_result(), *(arrays(metric.variables) for metric in model.metrics)],
        "history": [history.history, history.epoch],
        "callbacks": [{k: v for k, v in sorted(vars(each).items()) if is_plain(v)} for each in (stop, slower)],
        "log": log.read_bytes(),
        "random": [np.random.random(), random.random(), np.asarray(keras.random.normal((3,)))],
    }
    sample = next(training.x)[0] if isinstance(training.x, Positioned) else None
    sample = (training.x[0][0] if isinstance(training.x, Shuffled) else training.x[:8]) if sample is None else sample
    state["prediction"] = [sample, model.predict(sample[:8], verbose=0)]
    return {part: digest(value) for part, value in state.items()}


def is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str | list | np.ndarray | None)


def slow_fsync() -> None:
    """Let each fsync take SLOW seconds, as on a busy disk."""
    own = os.fsync

    def fsync(file: Any) -> None:
        time.sleep(SLOW)
        own(file)

    os.fsync = fsync


def child(name: str, folder: Path, save_freq: int, slow: bool) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process that a shell starts with & ignores SIGINT
    if slow:
        slow_fsync()
    found = train(name, folder, save_freq)
    (folder / "result.json").write_text(json.dumps(found), encoding="utf-8")


# -------------------- the process that kills --------------------


@dataclass
class Count:
    """Counts of events in the trainings of one model."""

    trainings: int = 0
    identical: int = 0
    kills: int = 0
    during_write: int = 0  # kills that left an unfinished file
    starts: int = 0
    resumed: int = 0  # starts that found a state
    most_kills: int = 0  # of one training
    signals: dict[str, int] = field(default_factory=dict)  # by signal and end of the process
    failures: list[str] = field(default_factory=list)


class Failure(Exception):
    """A process of a training ended unexpectedly."""


@dataclass
class Run:
    """A process that trained."""

    status: int
    batches: int
    startup: float  # seconds from the beginning of `fit` to the end of the first batch
    was_hit: bool  # whether the signal came before the end
    errors: str


class Child:
    """A process that trains."""

    def __init__(self, name: str, folder: Path, save_freq: int, slow: bool, timeout: float):
        command = [sys.executable, __file__, "--child", name, str(folder), str(save_freq), str(int(slow))]
        # PYTHONSAFEPATH: modules in this file's folder have the names of other modules
        environment = os.environ | {"PYTHONSAFEPATH": "1", "NUMBA_NUM_THREADS": THREADS}
        self.name, self.errors = name, open(folder / "errors.txt", "w+", encoding="utf-8")
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=self.errors, bufsize=0)
        self.hangs = False
        self.timer = threading.Timer(timeout, self.give_up)
        self.timer.start()
        self.read = 0  # bytes: one at the beginning, one after each batch
        self.begun = self.first = 0.0

    def give_up(self) -> None:
        self.hangs = True
        self.process.kill()

    def wait(self, count: float) -> bool:
        """Wait for this many bytes; True if they arrived."""
        while self.read < count:
            found = len(self.process.stdout.read(1))
            if not found:
                return False
            self.read += found
            if self.read == 1:
                self.begun = self.first = time.perf_counter()
            elif self.read == 2:
                self.first = time.perf_counter()
        return True

    def end(self, was_hit: bool) -> Run:
        """The facts of a process that has ended."""
        self.wait(float("inf"))
        status = self.process.wait()
        self.timer.cancel()
        self.process.stdout.close()
        with self.errors as errors:
            errors.seek(0)
            text = errors.read()[-3000:]
        if self.hangs:
            raise Failure(f"{self.name}: the training hangs: {text}")
        return Run(status, max(self.read - 1, 0), self.first - self.begun, was_hit, text)


def run(name: str, folder: Path, save_freq: int, slow: bool, timeout: float = TIMEOUT) -> Run:
    """Train to the end."""
    return Child(name, folder, save_freq, slow, timeout).end(False)


def hit(name: str, folder: Path, save_freq: int, slow: bool, number: int, batches: int, after: float) -> Run:
    """Start a training, and send it a signal some seconds after a number of batches."""
    child = Child(name, folder, save_freq, slow, TIMEOUT)
    was_hit = False
    if child.wait(1 + batches):
        time.sleep(after)
        was_hit = child.process.poll() is None
        if was_hit:
            child.process.send_signal(number)
    return child.end(was_hit)


def unfinished(folder: Path) -> set[str]:
    """The files of the backup that are not states yet."""
    backup = folder / "backup"
    return {path.name for path in backup.iterdir() if path.suffix != ".npz"} if backup.is_dir() else set()


def result(folder: Path) -> dict[str, str]:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


class Reference:
    """A training without an interruption: its digests, the number of batches, and the seconds until the first one is done."""

    def __init__(self, name: str, folder: Path, save_freq: int):
        self.name, self.save_freq, self.startup, self.batches = name, save_freq, 0.0, 0
        self.digests: dict[str, str] = {}
        for freq, slow in ((0, False), (save_freq, False), (save_freq, True)):
            place = folder / f"{name}-reference-{freq}-{slow}"
            place.mkdir()
            done = run(name, place, freq, slow, TIMEOUT if self.digests else COMPILING)
            if done.status:
                raise Failure(f"{name} without an interruption ended with {done.status}: {done.errors}")
            found = result(place)
            self.digests = self.digests or found
            if found != self.digests:
                raise Failure(f"{name}: BackupAndRestore alone changes {differing(found, self.digests)}")
            self.startup, self.batches = done.startup, done.batches

    def moment(self, rng: random.Random, done: int, is_signal: bool) -> tuple[int, float]:
        """(batches, seconds): a uniformly random moment after `done` batches, or at the start or the end."""
        where = rng.random()
        if where < 0.1 and not is_signal:  # signals are noted from the first batch on
            return 0, rng.uniform(0, self.startup)
        if where > 0.9 and not done:
            return self.batches, rng.uniform(0, 0.3)
        return rng.randint(1, max(self.batches - done, 20)), rng.uniform(0, 0.01)


def differing(found: dict[str, str], expected: dict[str, str]) -> str:
    return ", ".join(part for part in expected if found.get(part) != expected[part])


def killed_training(
    reference: Reference, folder: Path, rng: random.Random, slow: bool, number: int, count: Count, kills: int
) -> None:
    """Start a training again until it ends; send it the signal `number`, at most `kills` times."""
    hits = batches = 0
    for _ in range(MAX_STARTS):
        before = unfinished(folder)
        resumes = (folder / "backup").is_dir() and any((folder / "backup").glob("*.npz"))
        what = (reference.name, folder, reference.save_freq, slow)
        if hits < kills:
            done = hit(*what, number, *reference.moment(rng, batches if resumes else 0, number != signal.SIGKILL))
        else:
            done = run(*what)
        batches = batches * resumes + done.batches
        count.starts += 1
        count.resumed += resumes
        if done.was_hit and number == signal.SIGKILL and done.status == -number:
            hits += 1
            count.kills += 1
            count.during_write += bool(unfinished(folder) - before)
        elif done.was_hit and number != signal.SIGKILL:
            hits += 1
            how = f"{signal.Signals(number).name}: {ending(done)}"
            count.signals[how] = count.signals.get(how, 0) + 1
            if done.status not in (0, *EXITS[number]):
                raise Failure(f"{reference.name}: {number} ended it with {done.status}: {done.errors}")
        elif done.status:
            raise Failure(f"{reference.name} ended with {done.status}: {done.errors}")
        if done.status == 0:
            break
    else:
        raise Failure(f"{reference.name} was started {MAX_STARTS} times and did not end")
    count.trainings += 1
    count.most_kills = max(count.most_kills, hits)
    found = result(folder)
    wrong = differing(found, reference.digests)
    left = (folder / "backup").exists()
    if wrong or left:
        raise Failure(f"{reference.name} after {hits} kills: differs in {wrong or 'nothing'}; folder left: {left}")
    count.identical += 1


# How a training may end: as documented; or like any process, if the signal comes before or after `fit` handles signals.
EXITS = {signal.SIGTERM: (143, -signal.SIGTERM), signal.SIGINT: (-signal.SIGINT, 130, 1)}


def ending(done: Run) -> str:
    """How a training with a signal ended."""
    if done.status == 0:
        return "training had ended"
    if done.status == 143:
        return "state written, SystemExit(143)"
    return (
        "state written, KeyboardInterrupt" if "Training stops" in done.errors else "outside fit: ended like any process"
    )


def kill(name: str, kills: int, signals: int, seed: int, save_freq: int, keep: Path | None = None) -> Count:
    """Kill trainings of a model until there were this many kills, and send a signal to this many trainings."""
    count, rng = Count(), random.Random(f"{seed} {name}")
    with tempfile.TemporaryDirectory(prefix="nbkeras-kills-") as made:
        try:
            reference = Reference(name, Path(made), save_freq)
        except Failure as failure:
            count.failures.append(str(failure))
            return count
        number = sent = 0
        while (count.kills < kills or sent < signals) and len(count.failures) < 5:
            folder = Path(made, str(number))
            folder.mkdir()
            by_kill = count.kills < kills
            which = signal.SIGKILL if by_kill else (signal.SIGTERM, signal.SIGINT)[sent % 2]
            sent += not by_kill
            maximum = min(kills - count.kills, rng.randint(1, MAX_KILLS)) if by_kill else 1
            try:
                killed_training(reference, folder, rng, number % 2 == 1, which, count, maximum)
            except Failure as failure:
                count.failures.append(f"{failure} (training {number}, seed {seed})")
                if keep is not None:
                    shutil.copytree(folder, keep / f"{name}-{number}", dirs_exist_ok=True)
            number += 1
            shutil.rmtree(folder)
    return count


def as_text(counts: dict[str, Count]) -> str:
    """The counts as a table, with their sums."""
    lines = [
        "| model | trainings | kills | while a state was written | most kills of one training | starts "
        "| of them from a state | identical to the bit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, c in counts.items():
        cells = [c.trainings, c.kills, c.during_write, c.most_kills, c.starts, c.resumed, c.identical]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    columns = ("trainings", "kills", "during_write", "most_kills", "starts", "resumed", "identical")
    sums = [(max if each == "most_kills" else sum)(getattr(c, each) for c in counts.values()) for each in columns]
    lines.append(f"| all | {' | '.join(map(str, sums))} |")
    signals = sum((Counter(c.signals) for c in counts.values()), Counter())
    lines += ["", *(f"{what}: {times}" for what, times in sorted(signals.items()))]
    lines += [f"FAILED: {failure}" for c in counts.values() for failure in c.failures]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    about = "; ".join(f"{name}: {made.__doc__}" for name, made in MODELS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kills", description=__doc__.split("\n\n")[1], epilog=about
    )
    parser.add_argument("names", nargs="*", metavar="model", help=f"of {', '.join(MODELS)} (default: all)")
    parser.add_argument("--kills", type=int, default=200, help="by SIGKILL, of all models together (default 200)")
    parser.add_argument("--signals", type=int, default=40, help="trainings that get SIGTERM or SIGINT (default 40)")
    parser.add_argument("--save-freq", type=int, default=7, help="batches between two states (default 7)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--jobs", type=int, default=1, help="models at the same time (default 1)")
    parser.add_argument("--json", metavar="FILE", help="write the counts to this file")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the folders of trainings that fail in this one"
    )
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        name, folder, save_freq, slow = options.child
        child(name, Path(folder), int(save_freq), slow == "1")
        return 0
    if unknown := set(options.names) - set(MODELS):
        parser.error(f"no such model: {', '.join(sorted(unknown))}")
    names = options.names or list(MODELS)
    shares = [
        [(total * (i + 1)) // len(names) - (total * i) // len(names) for i in range(len(names))]
        for total in (options.kills, options.signals)
    ]
    counts: dict[str, Count] = {}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        jobs = {
            name: pool.submit(kill, name, *share, options.seed, options.save_freq, options.keep)
            for name, *share in zip(names, *shares, strict=True)
        }
        for name, job in jobs.items():
            counts[name] = job.result()
            print(name, counts[name], flush=True)
    print("\n" + as_text(counts))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({name: asdict(count) for name, count in counts.items()}, file, indent=1)
    return 1 if any(count.failures for count in counts.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
