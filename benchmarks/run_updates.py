"""Times of optimizer steps on state that would be subnormal: run_updates.py nbkeras|torch all|smallest

A dead unit's gradients are exactly zero, so its moments shrink at every step. Below 1.2e-38 they are subnormal numbers, which
most CPUs compute many times more slowly; because of rounding the smallest of them never reaches zero. 'decayed': all moments
start at 2.4e-38 and get a thousand gradients of zero. 'normal': they get gradients of 0.01.
"""

import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

FRAMEWORK = sys.argv[1]
SIZE, STEPS, TIMED = (1000, 20, 3) if sys.argv[2] == "smallest" else (670_000, 1000, 200)
ALMOST_SUBNORMAL = float(2 * np.finfo("float32").tiny)

package = importlib.import_module(FRAMEWORK)


def torch_step(name: str, gradient: float, moments: float | None) -> Callable[[], object]:
    """A function that makes one step. moments: their initial values; None: the values after one step."""
    makers = {
        "sgd, momentum": lambda p: package.optim.SGD(p, lr=0.001, momentum=0.9),
        "rmsprop": lambda p: package.optim.RMSprop(p, lr=0.001, alpha=0.9, eps=1e-7),
        "adam": lambda p: package.optim.Adam(p, lr=0.001, eps=1e-7),
        "adamax": lambda p: package.optim.Adamax(p, lr=0.001, eps=1e-7),
        "nadam": lambda p: package.optim.NAdam(p, lr=0.001, eps=1e-7),
    }
    weight = package.nn.Parameter(package.ones(SIZE))
    weight.grad = package.full((SIZE,), gradient)
    optimizer = makers[name]([weight])
    optimizer.step()
    if moments is not None:
        for value in optimizer.state[weight].values():
            if isinstance(value, package.Tensor) and value.shape == weight.shape:
                value.fill_(moments)
    return optimizer.step


def nbkeras_step(name: str, gradient: float, moments: float | None) -> Callable[[], object]:
    """The nbkeras function, with the arguments of `torch_step`."""
    makers = {
        "sgd, momentum": lambda: package.optimizers.SGD(0.001, momentum=0.9),
        "rmsprop": package.optimizers.RMSprop,
        "adam": package.optimizers.Adam,
        "adamax": package.optimizers.Adamax,
        "nadam": package.optimizers.Nadam,
    }
    weight = package.Variable(np.ones(SIZE, "float32"))
    optimizer = makers[name]()
    optimizer.build([weight])
    optimizer.gradient_views[0].fill(gradient)
    optimizer.update()
    if moments is not None:
        for variable in optimizer.variables:
            if variable.shape == weight.shape:
                variable.assign(np.full(SIZE, moments, "float32"))
    return optimizer.update


NAMES = ["sgd, momentum", "rmsprop", "adam", "adamax", "nadam"]


def main() -> None:
    make = torch_step if FRAMEWORK == "torch" else nbkeras_step
    results: dict[str, dict[str, float]] = {}
    for name in NAMES:
        steps = {"normal": make(name, 0.01, None), "decayed": make(name, 0.0, ALMOST_SUBNORMAL)}
        times: dict[str, list[float]] = {state: [] for state in steps}
        for _ in range(STEPS):
            steps["decayed"]()
        for _ in range(TIMED):
            for state, step in steps.items():
                start = time.perf_counter()
                step()
                times[state].append(time.perf_counter() - start)
        results[name] = {state: statistics.median(each) for state, each in times.items()}
    print(json.dumps(results))


main()
