"""Family "values": random programs that read variables, states and arrays, and overwrite them; compared with a mode that copies.

A program is text, a function `step`, and runs in two worlds. In the world of nbkeras variables are Variables. In the copying
world a variable is a row of versions: a write makes a new version and changes no memory, each reading is of the version of the
moment, and the gradient of the variable is the sum of those of its versions. What is read there stays as it is, whatever nbkeras
does with its memory. All tensors of a step, all gradients, and the variables afterwards must be equal.

Each program runs eagerly, recorded as a step and replayed, and with a tape around its tape; several times each, with other
inputs. In its text {v} is a reading of v: `v` in the world of nbkeras, `read(v)` in the other one.
"""

import functools
import re
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
from fuzz_verdict import Fault
from order_cases import CASES

import nbkeras as keras
from nbkeras import autodiff, layers, ops, optimizers
from nbkeras.engine import structures, tape
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.program_cache import ProgramCache
from nbkeras.engine.tensor import Tensor, Variable, as_tensor, gradient

OWN_CASES = [name for name in CASES if name != "print_tensor"]
MODES = {"eagerly": 2, "recorded": 4, "twice": 2}  # and how often the step runs; twice: with a tape around its tape
SHAPES = [(3,), (2, 3), (2, 3), (3, 3), ()]
PATIENCE = 4  # seconds to make a program smaller that failed


# -------------------- the two worlds --------------------


def called(name, *inputs):
    """The float outputs of a case of order_cases.py."""
    outputs = CASES[name][0](*(each if isinstance(each, Tensor) else as_tensor(each) for each in inputs))
    return [y for y in structures.flatten(outputs) if isinstance(y, Tensor) and y.dtype.kind == "f"]


def arrays(name):
    return [np.array(each) for each in CASES[name][1]]


def total(*tensors):
    """A scalar whose gradient depends on each element."""
    return sum(ops.sum(ops.arcsinh(each)) for each in tensors)


def fixed(shape, seed):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def built(layer, shape):
    layer.build(shape)
    layer(np.ones(shape))
    for number, variable in enumerate([*layer.trainable_variables, *layer.non_trainable_variables]):
        if variable.dtype.kind == "f":
            variable.assign(0.5 * np.abs(fixed(variable.shape, number)) + 0.1)
    return layer


class Scaled(layers.Layer):
    """A state is used, and then assigned."""

    def build(self, shape):
        self.w = self.add_weight(shape=(3,), initializer="ones", name="w")
        self.t = self.add_weight(shape=(3,), initializer="ones", trainable=False, name="t")

    def call(self, x):
        y = ops.sin(x * self.w) * self.t
        self.t.assign(self.t * 0.5 + ops.mean(x, 0))
        return y + self.t[::-1]


def library():
    """The names that texts use in both worlds."""
    return {
        **{"np": np, "ops": ops, "layers": layers, "optimizers": optimizers, "autodiff": autodiff, "Scaled": Scaled},
        **{"case": called, "arrays": arrays, "total": total, "fixed": fixed, "kept": kept},
    }


def kept(names):
    """What a step returns: its tensors and arrays, by name."""
    return {name: value for name, value in names.items() if isinstance(value, Tensor | np.ndarray | list)}


def world():
    """The names in which texts run in nbkeras."""
    return library() | {
        "Variable": Variable,
        "GradientTape": keras.GradientTape,
        "checkpoint": autodiff.checkpoint,
        "layer": built,
        "optimizer": lambda made, variables: made,
    }


class Versions:
    """A variable of the copying world."""

    def __init__(self, value, trainable=True):
        self.trainable, self.watchers = trainable, []
        self.versions = []
        self.set(value)

    def set(self, value):
        version = Tensor(np.array(value))
        if self.trainable and version.dtype.kind == "f":
            version.record = tape.leaf("version")
            for each in self.watchers:
                keras.GradientTape.watch(each, version)
        self.versions.append(version)

    def forget(self):
        """Between steps: no gradient goes back to earlier versions."""
        self.versions, self.watchers = self.versions[-1:], []

    @property
    def now(self):
        return self.versions[-1]

    def assign(self, value):
        self.set(as_tensor(value, self.now.dtype).numpy())
        assert self.versions[-2].shape == self.now.shape

    def assign_add(self, value):
        self.assign(self.now.numpy() + as_tensor(value, self.now.dtype).numpy())

    def assign_sub(self, value):
        self.assign(self.now.numpy() - as_tensor(value, self.now.dtype).numpy())

    def numpy(self):
        return self.now.numpy()


def read(source):
    """What is read of something now, in memory of its own."""
    if isinstance(source, Versions):
        return source.now
    if isinstance(source, Variable):
        return Tensor(source.numpy())
    return source.copy() if isinstance(source, np.ndarray) else source


class CopyingTape(keras.GradientTape):
    def watch(self, source):
        if not isinstance(source, Versions):
            return super().watch(source)
        source.watchers.append(self)
        return super().watch(source.versions)

    def gradient(self, target, sources, **options):
        flat = sources if isinstance(sources, list) else [sources]
        rows = [each.versions if isinstance(each, Versions) else [each] for each in flat]
        parts = iter(super().gradient(target, [each for row in rows for each in row]))
        found = []
        for row in rows:
            known = [part for part in [next(parts) for _ in row] if part is not None]
            found.append(sum(known[1:], known[0]) if known else Tensor(np.zeros(row[0].shape, row[0].dtype)))
        return found if isinstance(sources, list) else found[0]


class CopyingOptimizer:
    """The optimizer updates variables that nothing else reads; what they are then is the next version."""

    def __init__(self, made, variables):
        self.made, self.own = made, variables
        self.shadows = {each: Variable(each.numpy()) for each in variables}

    def apply_gradients(self, pairs):
        given = []
        for slope, variable in pairs:
            self.shadows[variable].assign(variable.numpy())
            given.append((np.array(as_tensor(slope).numpy()), self.shadows[variable]))
        self.made.apply_gradients(given)
        for _, variable in pairs:
            variable.set(self.shadows[variable].numpy())

    def learn(self, loss, variables):
        if not self.made.built:
            self.made.build([self.shadows[each] for each in variables])
        versions = [version for each in variables for version in each.versions]
        found = iter(gradient([loss], versions))
        pairs = []
        for variable in variables:
            known = [each for each in [next(found) for _ in variable.versions] if each is not None]
            if known:
                pairs.append((np.array(sum(np.asarray(each) for each in known)), variable))
        self.apply_gradients(pairs)

    def __getattr__(self, name):
        return getattr(self.made, name)


class CopyingLayer:
    """A layer that is called with given weights and writes none; the states of recurrent layers are given to it and returned."""

    def __init__(self, made):
        self.made, self.is_recurrent = made, isinstance(made, layers.RNN)
        if self.is_recurrent:
            config = made.get_config() | {"stateful": False, "return_state": True, "name": "given"}
            self.made = type(made).from_config(config)
            self.made(np.ones((2, 1, 3)))
        self.trainable_variables, self.non_trainable_variables = (
            [Versions(v.numpy(), trainable) for v in variables]
            for variables, trainable in ((made.trainable_variables, True), (made.non_trainable_variables, False))
        )

    def __call__(self, x, **options):
        weights, states = ([v.now for v in group] for group in (self.trainable_variables, self.non_trainable_variables))
        if isinstance(self.made, Scaled):
            after = states[0] * 0.5 + ops.mean(x, 0)
            y = ops.sin(x * weights[0]) * states[0] + ops.stop_gradient(after[::-1])
            self.non_trainable_variables[0].set(after.numpy())
        elif self.is_recurrent:
            others = self.made.non_trainable_variables
            count = len(states) - len(others)
            (y, *after), _ = self.made.stateless_call(weights, others, x, initial_state=states[:count])
            for variable, state in zip(self.non_trainable_variables, after, strict=False):
                variable.set(state.numpy())
        else:
            y, after = self.made.stateless_call(weights, states, x, **options)
            for variable, state in zip(self.non_trainable_variables, after, strict=True):
                variable.set(state.numpy())
        return y


def copying_world():
    return library() | {
        "read": read,
        "Variable": Versions,
        "GradientTape": CopyingTape,
        "checkpoint": lambda function: function,
        "layer": lambda made, shape: CopyingLayer(built(made, shape)),
        "optimizer": CopyingOptimizer,
    }


# -------------------- programs as texts --------------------


class Line:
    """A statement. eager: it reads a value or writes an array, which a recorded step cannot."""

    def __init__(self, text, eager=False):
        self.text, self.eager, self.body = text, eager, None


class Block(Line):
    def __init__(self, text, body):
        super().__init__(text)
        self.body = body


class Program(NamedTuple):
    setup: list
    inputs: dict  # by name: a text that makes the array
    before: list  # the tape
    body: list
    between: list  # the tape and its gradient
    after: list
    targets: list  # names, of which the last ones are of the last gradient
    sources: list
    watched: list
    options: dict


READING = re.compile(r"\{([^{}]+)\}")


def in_world(text, copies):
    """A text with its readings."""
    if not copies:
        return READING.sub(r"\1", text)
    return READING.sub(lambda found: f"read({found[1].removesuffix('.value')})", text)


def rendered(nodes, mode, depth):
    for node in nodes:
        if node.eager and mode == "recorded":
            continue
        yield "    " * depth + node.text
        if node.body is not None:
            inner = list(rendered(node.body, mode, depth + 1))
            yield from inner or ["    " * (depth + 1) + "pass"]


def text_of(program, mode, copies=False):
    """The program as Python text."""
    options, sources = program.options, ", ".join(program.sources)
    lines = [*(node.text for node in program.setup), "", f"def step({', '.join(program.inputs)}):"]
    lines += rendered(program.before, mode, 1)
    depth, watchers = 1, ["tape"]
    if mode == "twice":
        lines.append("    with GradientTape() as outer:")
        depth, watchers = 2, ["outer", "tape"]
    inside = "    " * depth
    arguments = ", ".join(
        f"{name}={value}" for name, value in (("persistent", options["persistent"]), *options["accessed"])
    )
    lines.append(f"{inside}with GradientTape({arguments}) as tape:")
    for name in program.watched:
        lines += [f"{inside}    {each}.watch({name})" for each in watchers]
    if options["accessed"]:
        lines += [f"{inside}    tape.watch({name})" for name in program.sources if name[0] == "v"]
    lines += rendered(program.body, mode, depth + 1)
    lines.append(f"{inside}    y = total({', '.join(program.targets)})")
    lines += rendered(program.between, mode, depth)
    zero = 'unconnected_gradients="zero"'
    if options["learns"] and mode != "twice" and not options["persistent"]:
        optimizer, variables = options["learns"]
        lines.append(f"{inside}{optimizer}.learn(y, [{variables}])")
        lines += rendered(program.after, mode, depth)
    else:
        lines.append(f"{inside}g = tape.gradient(y, [{sources}], {zero})")
        lines += rendered(program.after, mode, depth)
        if options["persistent"]:
            lines.append(f"{inside}h = tape.gradient({program.targets[-1]}, [{sources}], {zero})")
            lines += rendered(program.after[:1], mode, depth)
        if mode == "twice":
            lines.append(f"{inside}z = total(y, *g)")
            lines += rendered(program.after[-1:], mode, 1)
            lines.append(f"    gg = outer.gradient(z, [{sources}], {zero})")
    lines.append("    return kept(locals())")
    return in_world("\n".join(lines), copies) + "\n"


def given_to(program, run):
    """The inputs of a run."""
    found = [eval(text, {"arrays": arrays, "fixed": fixed}) for text in program.inputs.values()]
    return [x * (1 - 0.03 * run) if x.dtype.kind == "f" else np.roll(x, run, -1) for x in found]


def recorded(step):
    """A step as a function of arrays that is recorded, and replayed from then on."""

    cache = ProgramCache("the program", "write another one")

    def run(*given):
        arrays, pack = cache.run(lambda tensors: step(*tensors), Batch(list(given), ALL, len(given)))
        return pack(arrays)

    return run, cache


def states_of(names):
    """All variables of a world, by name."""
    found = {name: value for name, value in names.items() if isinstance(value, Variable | Versions)}
    for name, value in names.items():
        if isinstance(value, layers.Layer | CopyingLayer):
            own = [*value.trainable_variables, *value.non_trainable_variables]
            own = [each for each in own if each.numpy().dtype.kind == "f"]  # seeds are other ones
            found |= {f"{name}.{number}": each for number, each in enumerate(own)}
        if isinstance(value, optimizers.Optimizer | CopyingOptimizer):
            found |= {f"{name}.{number}": each for number, each in enumerate(value.variables)}
    return found


def numbers_of(results):
    """Results as arrays by name. Those that are not numbers of floats are left out."""
    found = {}
    for name, value in results.items():
        for number, each in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(each, Tensor | Versions | np.ndarray):
                found[f"{name}[{number}]" if isinstance(value, list) else name] = np.array(
                    each.numpy() if not isinstance(each, np.ndarray) else each
                )
    return found


def copies_of(program, mode):
    """The results of all runs in the copying world, and its variables after each run."""
    names, found = copying_world(), []
    exec(text_of(program, mode, copies=True), names)
    own = [each for each in states_of(names).values() if isinstance(each, Versions)]
    for run in range(MODES[mode]):
        for each in own:
            each.forget()
        inputs = given_to(program, run)
        results = names["step"](*(map(Tensor, inputs) if mode == "recorded" else inputs))
        found.append((numbers_of(results), numbers_of(states_of(names))))
    return found


def difference(got, want, what):
    """In words, where two groups of arrays differ; None if they do not."""
    if got.keys() != want.keys():
        return f"{what}: the results are {sorted(got.keys() ^ want.keys())} more or less"
    for name, expected in want.items():
        received = got[name]
        if received.shape != expected.shape or received.dtype != expected.dtype:
            return f"{what}: {name} is {received.shape} {received.dtype}, expected {expected.shape} {expected.dtype}"
        finite = expected[np.isfinite(expected)]
        scale = max(1.0, np.abs(finite).max(initial=0.0)) if expected.dtype.kind == "f" else 1
        if not np.allclose(received, expected, rtol=1e-7, atol=1e-9 * scale, equal_nan=True):
            return f"{what}: {name} differs"
    return None


def fault_in(program, mode):
    """(its kind, the fault of a program in a mode in words); None if there is none. All programs must run."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            fault = comparison(program, mode)
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:60], f"{type(error).__name__}: {error}"
    return fault and ("difference", fault)


def comparison(program, mode):
    """Where the two worlds differ, in words; None if they do not."""
    expected = copies_of(program, mode)
    names, held = world(), []
    exec(text_of(program, mode), names)
    step, cache = recorded(names["step"]) if mode == "recorded" else (names["step"], None)
    for run, (results, states) in enumerate(expected, 1):
        found = step(*given_to(program, run - 1))
        held.append(found)
        fault = difference(numbers_of(found), results, f"run {run}")
        fault = fault or difference(numbers_of(states_of(names)), states, f"variables after run {run}")
        if fault:
            return fault
    for run, (found, (results, _)) in enumerate(zip(held, expected, strict=True), 1):
        fault = difference(numbers_of(found), results, f"run {run}, looked at after all runs")
        if fault:
            return fault
    if cache is not None and (not cache.programs() or cache.recordings == MODES[mode]):
        return "it was not recorded"
    return None


# -------------------- random programs --------------------


class Known(NamedTuple):
    """A name of a tensor: its shape, and the degree of the polynomial of variables that it may be, a bound for its size."""

    shape: tuple
    degree: int


UNARY = {  # texts: the degree of their results
    **dict.fromkeys(("ops.tanh(A)", "ops.sin(A)", "ops.sigmoid(A)", "ops.softmax(A + 0.0 * A)", "ops.arcsinh(A)"), 1),
    **dict.fromkeys(("A * 0.5", "-A", "A + 0", "A * 1", "ops.relu(A)", "ops.abs(A)", "ops.cast(A, 'float64')"), None),
    **dict.fromkeys(("ops.square(A)", "A * A", "ops.softplus(A) * A", "ops.where(A > 0, A, A * A)"), 2),
    **dict.fromkeys(("ops.copy(A)", "ops.convert_to_tensor(A)", "ops.stop_gradient(A)", "ops.array(A)"), None),
    **dict.fromkeys(
        ("ops.exp(ops.tanh(A))", "ops.clip(A, -0.5, 0.5)", "ops.logaddexp(A, 0.0)", "ops.sqrt(A * A + 1)"), 1
    ),
}
BINARY = {"A * B": 2, "A + B": 1, "A - B": 1, "ops.maximum(A, B)": 1, "ops.where(A > B, A, B * A)": 2}
BINARY |= {"ops.arctan2(A, B + 3)": 1, "ops.stack([A, B])[1]": 1, "A / (B * B + 1)": 1, "ops.multiply(A, B)": 2}
FORMS = ["{V}", "{V}", "{V}", "{V.value}", "{V}[...]", "ops.copy({V})", "ops.convert_to_tensor({V})", "{V} * 1.0"]
OPTIMIZERS = [  # with bounds, so that rounding stays small
    *("SGD(0.02, clipvalue=1.0)", "SGD(0.02, momentum=0.5, clipvalue=1.0)", "Adam(0.02)", "RMSprop(0.02)"),
    "SGD(0.02, nesterov=True, momentum=0.5, clipvalue=1.0)",
]
LAYERS = {  # by text: the shape with which it is built, and how a tensor of shape (2, 3) is given to it
    "Scaled(dtype='float64')": ((2, 3), "A"),
    "layers.BatchNormalization(dtype='float64', momentum=0.5)": ((2, 3), "A, training=True"),
    "layers.BatchNormalization(dtype='float64', momentum=0.75)": ((2, 3), "A, training=False"),
    "layers.Dense(2, activation='tanh', dtype='float64')": ((2, 3), "A"),
    "layers.LSTM(2, stateful=True, dtype='float64')": ((2, 1, 3), "ops.expand_dims(A, 1)"),
    "layers.GRU(2, stateful=True, dtype='float64')": ((2, 1, 3), "ops.expand_dims(A, 1)"),
    "layers.SimpleRNN(2, stateful=True, dtype='float64')": ((2, 1, 3), "A[:, None]"),
}


def views_of(shape):
    """Texts of views of A, with their shapes."""
    rank = len(shape)
    yield from (
        ("A[...]", shape),
        ("ops.expand_dims(A, 0)", (1, *shape)),
        ("ops.reshape(A, (-1,))", (int(np.prod(shape)),)),
    )
    yield "ops.broadcast_to(A, (2, *A.shape))", (2, *shape)
    yield f"ops.reshape(A, {shape})", shape
    if rank:
        yield from (("A[::-1]", shape), ("A[:1]", (1, *shape[1:])), ("A[-1]", shape[1:]), ("A[None]", (1, *shape)))
        yield from (("ops.flip(A)", shape), ("A[..., ::-1]", shape), ("A[..., 0]", shape[:-1]), ("A[:]", shape))
        yield from (
            ("ops.split(A, [1])[0]", (1, *shape[1:])),
            ("ops.unstack(A)[0]", shape[1:]),
            ("ops.tile(A, 1)", shape),
        )
        yield "ops.take(A, [0, 0], axis=0)", (2, *shape[1:])
    if rank > 1:
        turned = (*shape[1:], shape[0])
        yield "ops.moveaxis(A, 0, -1)", turned
        yield "ops.transpose(A)", shape[::-1]
        yield "ops.swapaxes(A, 0, 1)", (shape[1], shape[0], *shape[2:])
        yield "ops.transpose(A)[1:]", (shape[-1] - 1, *shape[-2::-1])


@functools.cache
def outputs_of(name):
    """The shapes of the outputs of a case."""
    return [y.shape for y in called(name, *arrays(name))]


class Writer:
    """Draws a program."""

    def __init__(self, chance):
        self.chance, self.count = chance, 0
        self.names: dict[str, Known] = {}
        self.variables: dict[str, tuple] = {}  # float ones, and their shapes
        self.narrow: set[str] = set()  # those of cases, which may change a little only
        self.integers: list[str] = []
        self.watched: list[str] = []  # names of tensors
        self.outside: list[str] = []  # names of views that were made before all steps
        self.setup, self.inputs, self.cases = [], {}, []
        self.layers: dict[str, str] = {}
        self.optimizers: dict[str, list[str]] = {}
        self.applied: set[str] = set()
        self.pulls: dict[str, Known] = {}  # of the block that is written

    def pick(self, pool):
        pool = list(pool)
        return pool[self.chance.randrange(len(pool))]

    def lucky(self, probability):
        return self.chance.random() < probability

    def name(self, letter="t"):
        self.count += 1
        return f"{letter}{self.count}"

    # what there is before the step

    def prepare(self):
        for _ in range(2):
            self.variable(self.pick(SHAPES))
        if self.lucky(0.7):
            self.input(f"fixed({self.pick([each for each in self.variables.values() if each] or SHAPES[:2])}, 8)")
        for _ in range(self.pick((1, 1, 2, 2, 3))):
            self.prepare_case(self.pick(OWN_CASES))
        if self.lucky(0.4):
            text = self.pick(LAYERS)
            self.layers["layer1"] = text
            self.setup.append(Line(f"layer1 = layer({text}, {LAYERS[text][0]})"))
        if self.lucky(0.3):
            name = self.pick(self.variables)
            self.outside.append("before")
            self.names["before"] = Known(self.variables[name], 1)
            text = self.pick(("ops.flip({V})", "ops.copy({V})", "ops.expand_dims({V}, 0)[0]"))
            self.setup.append(Line(f"before = {text.replace('V', name)}"))
        for number in range(self.pick((0, 1, 1, 2))):
            own = [name for name in self.variables if self.lucky(0.6)]
            if own:
                name = f"opt{number}"
                self.optimizers[name] = own
                text = self.pick(OPTIMIZERS)
                self.setup.append(Line(f"{name} = optimizer(optimizers.{text}, [{', '.join(own)}])"))

    def variable(self, shape, text=None):
        name = f"v{len(self.variables)}"
        self.variables[name] = shape
        self.setup.append(Line(f"{name} = Variable({text or f'fixed({shape}, {len(self.variables)})'})"))
        return name

    def input(self, text):
        name = f"x{len(self.inputs)}"
        self.inputs[name] = text
        return name

    def prepare_case(self, name):
        """Inputs of a case are variables, inputs of the step, or constants."""
        given = []
        for number, array in enumerate(CASES[name][1]):
            text = f"arrays({name!r})[{number}]"
            if array.dtype.kind == "f":
                kind = self.chance.random()
                if kind < 0.65:
                    given.append(self.variable(array.shape, text))
                    self.narrow.add(given[-1])
                else:
                    given.append(self.input(text) if kind < 0.9 and array.ndim else text)
            elif self.lucky(0.4) and array.dtype.kind == "i" and array.ndim:
                given.append(f"i{len(self.integers)}")
                self.integers.append(given[-1])
                self.setup.append(Line(f"{given[-1]} = Variable({text})"))
            else:
                given.append(text)
        self.cases.append((name, given))

    # expressions

    def reading(self, name):
        return self.pick(FORMS).replace("V", name)

    def operand(self, shape=None, degree=4):
        """A text of a tensor, with what is known of it."""
        pool = [
            (name, known)
            for name, known in self.names.items()
            if known.degree <= degree and shape in (None, known.shape)
        ]
        given = [name for name, text in self.inputs.items() if shape is not None and text == f"fixed({shape}, 8)"]
        if given and self.lucky(0.25):
            return self.pick(("ops.add({X}, 0.0)", "ops.convert_to_tensor({X})")).replace("X", self.pick(given)), Known(
                shape, 1
            )
        wide = [(name, own) for name, own in self.variables.items() if shape in (None, own)]
        if wide and (not pool or self.lucky(0.6)):
            name, own = self.pick(wide)
            return self.reading(name), Known(own, 1)
        if pool:
            name, known = self.pick(pool)
            return name, known
        if shape is None:
            return self.operand(self.pick(SHAPES), degree)
        return f"np.full({shape}, 0.7)", Known(shape, 1)

    def new(self, lines, text, shape, degree):
        name = self.name()
        lines.append(Line(f"{name} = {text}"))
        self.names[name] = Known(tuple(shape), degree)
        return name

    # statements

    def unary(self, lines):
        text, result = self.pick(UNARY.items())
        a, known = self.operand(degree=2)
        if "softmax" in text and not known.shape:
            text, result = "ops.tanh(A)", 1
        degree = known.degree if result is None else known.degree * 2 if result == 2 else 1
        self.new(lines, text.replace("A", f"({a})" if " " in a else a), known.shape, degree)

    def binary(self, lines):
        text, result = self.pick(BINARY.items())
        a, known = self.operand(degree=2)
        b, other = self.operand(known.shape, degree=2)
        text = re.sub(r"\b[AB]\b", lambda found: f"({a})" if found[0] == "A" else f"({b})", text)
        self.new(
            lines, text, known.shape, known.degree + other.degree if result == 2 else max(known.degree, other.degree)
        )

    def product(self, lines):
        a, known = self.operand(self.pick([(2, 3), (3, 3), (3,)]), degree=2)
        if len(known.shape) == 1:
            b, other = self.operand((3,), degree=2)
            text, shape = f"ops.einsum('i,i->', {a}, {b})", ()
        else:
            b, other = self.operand((2, 3), degree=2)
            text, shape = f"ops.matmul({a}, ops.transpose({b}))", (known.shape[0], 2)
        self.new(lines, text, shape, known.degree + other.degree)

    def view(self, lines):
        a, known = self.operand()
        options = [(text, shape) for text, shape in views_of(known.shape) if len(shape) < 4]
        text, shape = self.pick(options)
        self.new(lines, re.sub(r"\bA\b", lambda _: f"({a})" if " " in a else a, text), shape, known.degree)

    def reads(self, lines):
        """A value that is held, of whatever there is."""
        kind = self.chance.random()
        if kind < 0.6:
            name = self.pick(self.variables)
            self.new(lines, "{" + name + ".value}", self.variables[name], 1)
        elif kind < 0.75 and self.layers:
            own = f"layer1.{self.pick(('trainable', 'non_trainable'))}_variables[:1]"
            lines.append(Line(f"{self.name('s')} = [{{each.value}} for each in {own}]"))
        elif kind < 0.9 and self.applied:
            optimizer = self.pick(sorted(self.applied))
            text = self.pick(("ops.copy({OPT})", "{OPT.value}", "{OPT}[...]", "ops.cast({OPT}, {OPT}.dtype)"))
            lines.append(Line(f"{self.name('s')} = {text.replace('OPT', f'{optimizer}.variables[-1]')}"))
        else:
            text = f"{{{self.pick([*self.variables, *self.inputs])}}}"
            text = f"ops.convert_to_tensor({text})" if text[1] == "x" else text
            lines.append(Line(f"{self.name('n')} = np.asarray({text})", eager=True))

    def call(self, lines):
        name, given = self.pick(self.cases)
        shapes = outputs_of(name)
        if not shapes:
            return
        texts = [
            self.reading(each)
            if each in self.variables
            else f"{{{each}}}"
            if each in (*self.inputs, *self.integers)
            else each
            for each in given
        ]
        number = self.chance.randrange(len(shapes))
        self.new(lines, f"case({name!r}, {', '.join(texts)})[{number}]", shapes[number], 3)

    def layer(self, lines):
        if self.layers:
            a, known = self.operand((2, 3), degree=2)
            if self.lucky(0.5) and a.startswith(("{", "np.")):
                a = f"ops.tanh({a})"
            text = LAYERS[self.layers["layer1"]][1].replace("A", f"({a})", 1)
            dense = "2" in self.layers["layer1"].partition("(")[2].partition(",")[0]
            self.new(lines, f"layer1({text})", (2, 2) if dense else (2, 3), 1)

    def write(self, lines, only=None):
        """A write of a variable, of an integer one, or of an array."""
        if self.inputs and self.lucky(0.3):
            name = self.pick(self.inputs)
            if "'" not in self.inputs[name] or CASES[eval(self.inputs[name][7:].partition(")")[0])][1]:
                lines.append(Line(f"{name} *= 0.97", eager=True))
            return
        if self.integers and self.lucky(0.15):
            name = self.pick(self.integers)
            lines.append(Line(f"{name}.assign(ops.flip({{{name}}}, -1))"))
            return
        name = only or self.pick(self.variables)
        shape = self.variables[name]
        now = f"{{{name}}}"
        a, _ = self.operand(shape)
        other, _ = self.operand()
        factor = f"ops.tanh(ops.mean({other}))"
        if name in self.narrow:
            text = self.pick(
                (
                    f"{name}.assign({now} * (1 + 0.02 * {factor}))",
                    f"{name}.assign({now} * 0.98)",
                    f"{name}.assign_sub({now} * 0.02)",
                    f"{name}.assign_add({now} * (0.02 * {factor}))",
                    f"{name}.assign({{{name}.value}} * 1.02)",
                )
            )
        else:
            text = self.pick(
                (
                    f"{name}.assign(ops.sin({a}))",
                    f"{name}.assign(ops.tanh({a}) + 0.1)",
                    f"{name}.assign({now} * 0.9)",
                    f"{name}.assign_add(0.3 * ops.tanh({a}))",
                    f"{name}.assign_sub(0.3 * ops.tanh({a}))",
                    f"{name}.assign_add(0.1)" if not shape else f"{name}.assign_add(np.full({shape}, 0.1))",
                    f"{name}.assign({now} * {factor})",
                    f"{name}.assign({now}[::-1])" if shape else f"{name}.assign({now} * 1)",
                    f"{name}.assign(ops.transpose({now}))" if shape in ((3,), (3, 3)) else f"{name}.assign({now})",
                    f"{name}.assign(ops.clip({a}, -1.0, 1.0))",
                )
            )
        lines.append(Line(text))

    def update(self, lines):
        if not self.optimizers:
            return self.write(lines)
        optimizer = self.pick(self.optimizers)
        pairs = []
        for name in self.optimizers[optimizer]:
            a, _ = self.operand(self.variables[name])
            pairs.append(f"(ops.tanh({a}), {name})")
        self.applied.add(optimizer)
        lines.append(Line(f"{optimizer}.apply_gradients([{', '.join(pairs)}])"))

    def rate(self, lines):
        if self.applied:
            optimizer = self.pick(sorted(self.applied))
            lines.append(Line(f"{optimizer}.learning_rate.assign({{{optimizer}.learning_rate}} * 0.9)"))

    def closure(self, lines):
        """Functions that read a variable: with a checkpoint, differentiated at once, or later."""
        name = self.pick([each for each in self.variables])
        shape = self.variables[name]
        a, known = self.operand(shape, degree=2)
        inside = self.pick(
            ("ops.sin(u * {V}) * {V}", "ops.tanh(u) * {V.value}", "ops.sin(u * {V}[...])", "u * u * {V} + {V}")
        )
        inside = inside.replace("V", name)
        kind = self.chance.randrange(4)
        if kind == 0:
            self.new(lines, f"checkpoint(lambda u: {inside})({a} * 1.0)", shape, 2)
        elif kind == 1:
            self.new(lines, f"autodiff.grad(lambda u: ops.sum(ops.sin({inside})))({a})", shape, 2)
        elif kind == 2:
            b, _ = self.operand(shape, degree=2)
            self.new(lines, f"autodiff.jvp(lambda u: {inside}, ({a},), ({b},))[1]", shape, 3)
        else:
            y, pull = self.name(), self.name("pull")
            lines.append(Line(f"{y}, {pull} = autodiff.vjp(lambda u: ops.sin({inside}), {a})"))
            self.names[y], self.pulls[pull] = Known(shape, 1), Known(shape, 2)

    def pull(self, lines):
        if self.pulls:
            pull, known = self.pick(self.pulls.items())
            a, _ = self.operand(known.shape, degree=2)
            self.new(lines, f"{pull}({a})[0]", known.shape, 3)

    def drop(self, lines):
        names = [name for name in self.names if name not in (*self.watched, *self.outside)]
        if len(names) > 1:
            name = self.pick(names)
            del self.names[name]
            lines.append(Line(f"del {name}"))

    def inner(self, lines):
        """A tape within: its gradients are tensors of the program."""
        number = self.name("")
        body: list = []
        before = set(self.names)
        self.statements(body, self.pick((2, 3, 4)), nested=True)
        made = [name for name in self.names if name not in before] or [
            self.new(body, "{v0} * 1.5", self.variables["v0"], 1)
        ]
        body.append(Line(f"y{number} = total({', '.join(made[-3:])})"))
        persistent = self.lucky(0.3)
        lines.append(Block(f"with GradientTape(persistent={persistent}) as tape{number}:", body))
        if self.lucky(0.5):
            self.write(lines)
        sources = [name for name in self.variables if self.lucky(0.7)] or ["v0"]
        for _ in range(2 if persistent else 1):
            gradient = self.name("g")
            lines.append(
                Line(
                    f"{gradient} = tape{number}.gradient(y{number}, [{', '.join(sources)}], unconnected_gradients='zero')"
                )
            )
            place = self.chance.randrange(len(sources))
            self.new(lines, f"ops.tanh({gradient}[{place}])", self.variables[sources[place]], 1)
            if persistent:
                self.pick((self.write, self.update))(lines)

    def stopped(self, lines):
        body: list = []
        self.statements(body, self.pick((1, 2, 3)), nested=True)
        lines.append(Block("with tape.stop_recording():", body))

    def statements(self, lines, count, nested=False):
        outer, self.pulls = self.pulls, {}
        kinds = {
            self.unary: 8,
            self.binary: 6,
            self.product: 2,
            self.view: 9,
            self.reads: 5,
            self.call: 12,
            self.write: 11,
        }
        kinds |= {self.update: 4, self.rate: 1, self.closure: 4, self.pull: 3, self.drop: 2, self.layer: 5}
        if not nested:
            kinds |= {self.inner: 3, self.stopped: 1}
        for _ in range(count):
            self.chance.choices(list(kinds), list(kinds.values()))[0](lines)
        self.pulls = outer

    def program(self):
        self.prepare()
        before, body, between, after = [], [], [], []
        if self.lucky(0.4):
            self.statements(before, self.pick((1, 2, 3)), nested=True)
        if self.lucky(0.4):
            name = self.pick(self.variables)
            shape = self.variables[name]
            text = self.pick(("ops.copy({V})", "ops.transpose({V})", "ops.flip({V})")).replace("V", name)
            self.watched.append(self.new(before, text, shape[::-1] if "transpose" in text else shape, 1))
        self.statements(body, self.pick(range(5, 22)))
        targets = [name for name in self.names if self.lucky(0.8) or len(self.names) < 4]
        targets = targets or [self.new(body, "{v0} * 1.5", self.variables["v0"], 1)]
        options: dict[str, Any] = {"persistent": self.lucky(0.4), "accessed": (), "learns": None}
        if self.lucky(0.1):
            options["accessed"] = (("watch_accessed_variables", False),)
        sources = [*self.variables, *self.watched, *(f"*{name}.trainable_variables" for name in self.layers)]
        if options["persistent"] and self.optimizers and self.lucky(0.6):
            optimizer = self.pick(self.optimizers)
            own = self.optimizers[optimizer]
            between.append(Line(f"d = tape.gradient({targets[-1]}, [{', '.join(own)}], unconnected_gradients='zero')"))
            pairs = ", ".join(f"(ops.tanh(d[{i}]), {name})" for i, name in enumerate(own))
            between.append(Line(f"{optimizer}.apply_gradients([{pairs}])"))
        if self.lucky(0.8):
            self.tail(between)
        if self.lucky(0.6):
            self.tail(after)
        if not options["persistent"] and self.optimizers and not options["accessed"] and self.lucky(0.4):
            optimizer = self.pick(self.optimizers)
            own = self.optimizers[optimizer]
            targets += [f"{{{name}}}" for name in own]
            options["learns"] = optimizer, ", ".join(own)
        return Program(self.setup, self.inputs, before, body, between, after, targets, sources, self.watched, options)

    def tail(self, lines):
        """Writes after the forward pass."""
        for _ in range(self.pick((1, 2, 3))):
            self.pick((self.write, self.write, self.update, self.reads, self.rate, self.layer))(lines)


# -------------------- programs that fail, made smaller --------------------


def without(nodes, target):
    """Nodes without one of them."""
    found = []
    for node in nodes:
        if node is not target:
            found.append(node if node.body is None else Block(node.text, without(node.body, target)))
    return found


def all_nodes(nodes):
    for node in nodes:
        yield node
        if node.body is not None:
            yield from all_nodes(node.body)


PARTS = ("after", "between", "body", "before", "setup")


def smaller(program):
    """Programs with less in them."""
    for part in PARTS:
        for node in reversed(list(all_nodes(getattr(program, part)))):
            yield program._replace(**{part: without(getattr(program, part), node)})
    for part in ("targets", "sources", "watched"):
        for each in getattr(program, part):
            if part != "targets" or len(program.targets) > 1:
                yield program._replace(**{part: [one for one in getattr(program, part) if one is not each]})
    for name in program.inputs:
        yield program._replace(inputs={each: text for each, text in program.inputs.items() if each != name})
    for name, plain in (("persistent", False), ("accessed", ()), ("learns", None)):
        if program.options[name]:
            yield program._replace(options=program.options | {name: plain})


def smallest(program, mode, fault, start):
    """A program with a fault of the same kind, as small as it becomes within some seconds, and its fault."""
    found = True
    while found:
        found = False
        for candidate in smaller(program):
            if time.process_time() - start > PATIENCE:
                return program, fault
            other = fault_in(candidate, mode)
            if other and other[0] == fault[0]:
                program, fault, found = candidate, other, True
                break
    return program, fault


def case(chance, say):
    program = Writer(chance).program()
    say(text_of(program, "eagerly"))
    for mode in MODES:
        start = time.process_time()
        fault = fault_in(program, mode)
        if fault:
            program, fault = smallest(program, mode, fault, start)
            raise Fault(f"{mode}: {fault[1]}, in\n{text_of(program, mode)}")
