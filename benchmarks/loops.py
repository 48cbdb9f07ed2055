"""The study of loops that users write themselves: `nbkeras.jit` beside other frameworks, and beside nbkeras's own `fit`."""

import contextlib
import functools
import statistics
from typing import Any

from benchmarks.runners import FOLDER, Process
from benchmarks.session import Session
from benchmarks.studies import Table, how_much
from benchmarks.workloads import WORKLOADS

FRAMEWORKS = ("nbkeras", "nbkeras-eager", "keras-tensorflow", "jax", "torch", "torch-compile")  # of run_loops.py
CASES = {
    "step": "a step of an MLP 64-128-128-4 with Adam on 32 rows, us",
    "model(x)": "the same model called with one row, us",
    "cart-pole": "deep Q-learning, steps of the cart a second",
}
AS_LOOPS = ("wgan_gp", "burgers", "maml")
FIT_LIMIT, CART_LIMIT = 1.05, 2.0  # a loop's time / fit's; steps of the cart a second / PyTorch's


def loops(session: Session) -> list[Table]:
    """A training step, a prediction and Q-learning in loops of one's own, and loops with `nbkeras.jit` beside `fit`."""
    return [_beside_peers(session), _beside_fit(session)]


def _reached(is_reached: bool) -> str:
    return "pass" if is_reached else "MISS"


def _beside_peers(session: Session) -> Table:
    with contextlib.ExitStack() as processes:
        runners: dict[str, Process] = {}
        for framework in FRAMEWORKS:
            if not framework.startswith("nbkeras") and framework not in session.frameworks:
                continue
            command = [session.python(framework), str(FOLDER / "run_loops.py"), framework, how_much(session)]
            begin = functools.partial(Process, framework, command, session.environment())
            process = session.attempt(framework, begin)
            if process is not None:
                runners[framework] = processes.enter_context(process)
        rows: list[list] = []
        for case, title in CASES.items():

            def measure(framework: str, case: str = case) -> float:
                runners[framework].ask(case)
                return runners[framework].answer()  # type: ignore[return-value]

            able = [framework for framework, runner in runners.items() if case in runner.ready["cases"]]
            found = session.take_turns(able, session.options.rounds, measure)
            is_rate = case == "cart-pole"
            figures = {name: statistics.median(each) * (1 if is_rate else 1e6) for name, each in found.items()}
            peers = [figure for name, figure in figures.items() if not name.startswith("nbkeras")]
            ratio = figures["nbkeras"] / (max if is_rate else min)(peers) if peers else None
            goal = None
            if is_rate and "torch" in figures:
                times = figures["nbkeras"] / figures["torch"]
                goal = f"{CART_LIMIT:g} times torch's: {times:.2f}, {_reached(times >= CART_LIMIT)}"
            rows.append([title, *(figures.get(framework) for framework in runners), ratio, goal])
    columns = ["loop", *("nbkeras, jit" if name == "nbkeras" else name for name in runners), "/ best peer", "goal"]
    versions = {name: number for runner in runners.values() for name, number in runner.ready["versions"].items()}
    with_versions = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    return {"title": f"Loops on one processor, {with_versions}", "columns": columns, "rows": rows}


def _beside_fit(session: Session) -> Table:
    rows: list[list[Any]] = []
    for name in AS_LOOPS:
        with session.started(name, {"fit": ("nbkeras", {}), "loop": ("nbkeras-jit", {})}) as runners:
            found = session.take_turns(list(runners), session.options.rounds, lambda which: runners[which].round())
        minimum = {which: min(min(each["times"]) for each in rounds) * 1e3 for which, rounds in found.items()}
        ratio = minimum["loop"] / minimum["fit"]
        rows.append([f"{name}: {WORKLOADS[name].title}", *minimum.values(), ratio, _reached(ratio <= FIT_LIMIT)])
    columns = ["workload", "fit, ms a step", "loop, ms a step", "loop / fit", f"goal {FIT_LIMIT}"]
    return {"title": "A loop with `jit` beside a `train_step` in `fit`", "columns": columns, "rows": rows}
