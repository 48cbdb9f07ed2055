"""Write docs/derivatives.md: which rule each op has for derivatives of higher order, what is checked, and what it costs.

    python scripts/make_orders.py            write the document
    python scripts/make_orders.py --check    check whether the document is up to date; the exit code is 1 if not

The cases are those of tests/reference/order_cases.py. The figures are in derivative_costs.json, from
`python -m benchmarks.derivatives --json scripts/derivative_costs.json`.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "derivatives.md"
sys.path.insert(0, str(HERE.parent / "tests" / "reference"))

from order_cases import CASES, ROUNDED, THIRD  # noqa: E402 (found by the path above)

from nbkeras import GradientTape  # noqa: E402
from nbkeras.autodiff.nesting import rule_of  # noqa: E402
from nbkeras.autodiff.rules import Composed  # noqa: E402
from nbkeras.engine.tensor import as_tensor, listening  # noqa: E402

WORDS = {
    "Elementwise": "slopes",
    "Linear": "linear",
    "Multilinear": "multilinear",
    "Composed": "composition",
    "Explicit": "formula",
    "OfSaved": "formula",
}
INSIDE = {
    "nbkeras.ops.functions": "functions of one and two tensors",
    "nbkeras.ops.activations": "activations",
    "nbkeras.engine.tensor": "casts",
}


REST = [
    "## First derivatives only, and none",
    "",
    "- `svd(x, full_matrices=True)` of a matrix that is not square: the singular values have a first derivative; U and V have",
    "  none. With `full_matrices=False` all have derivatives of any order.",
    "- `qr(x, mode='complete')` of a matrix with more rows than columns has none.",
    "- Own ops without a rule have a first derivative. The second one raises `NotImplementedError`, which names the op.",
    "- Ops whose results are integers or booleans, or change in steps only, have none: `argmax`, `argsort`, `one_hot`, `floor`,",
    "  `round`, `sign`, comparisons; neither have random numbers, `lu_factor` and `ctc_decode`. A tape gives None for them.",
    "- Weights of integers have none.",
]


def kind(rule: object) -> str:
    """A word for a rule."""
    word = WORDS.get(type(rule).__name__, "formula")
    if isinstance(rule, Composed) and rule.otherwise is not None:
        return f"{kind(rule.otherwise)}, in part {word}"
    return word


def family(op: Callable) -> str:
    """The file of an op."""
    module = op.__module__
    return INSIDE.get(module, module.removeprefix("nbkeras.kernels."))


def coverage() -> dict[tuple[str, str, int], set[str]]:
    """The names of ops by family, kind of rule and checked order."""
    orders: dict[tuple[str, str, str], int] = {}
    rounded = {f"rounded {name}": (function, [x]) for name, (function, _, x) in ROUNDED.items()}
    for name, (function, arrays) in (CASES | rounded).items():
        inputs = [as_tensor(array) for array in arrays]

        def found(op, tensors, constants, result, order=3 if name in THIRD else 2):
            first = result[0] if isinstance(result, tuple) else result
            if first.record is not None:
                place = family(op), kind(rule_of(op, first.record.vjp)), op.__name__
                orders[place] = max(order, orders.get(place, 0))

        with GradientTape() as tape, listening(found):
            tape.watch([x for x in inputs if x.dtype.kind == "f"])
            function(*inputs)
    result: dict[tuple[str, str, int], set[str]] = {}
    for (place, word, name), order in orders.items():
        result.setdefault((place, word, order), set()).add(name)
    return result


def costs():
    """The lines of the table of figures."""
    report = json.loads((HERE / "derivative_costs.json").read_text(encoding="utf-8"))
    machine = report["machine"]
    yield f"Measured on {machine['cpu']}, {machine['date']}, in float32, by"
    yield "`python -m benchmarks.derivatives`. First: the op, and the gradient of the sum of its squares by all inputs. Second:"
    yield "the gradient of the sum of that gradient's squares, by a tape in a tape. Both are recorded; times are the least of 50"
    yield "replays by one thread; memory is that of the recorded program and its inputs."
    yield ""
    yield "| op | first, ms | second, ms | times the time | times the memory |"
    yield "|---|---|---|---|---|"
    for name, row in report["cases"].items():
        (first, second), (small, large) = row["seconds"], row["bytes"]
        yield f"| {name} | {1e3 * first:.2f} | {1e3 * second:.2f} | {second / first:.1f} | {large / small:.1f} |"


def document() -> str:
    lines = [
        "# Derivatives of each op",
        "",
        "Made by `scripts/make_orders.py`. [autodiff.md](autodiff.md) explains what rules are. All ops below have derivatives",
        "of any order, backwards and forwards; `nbkeras.testing.check_op` checks them to the order in the last column, in",
        "float64, against differences. At ties, kinks and zeros a rule gives the first derivative that the op's own loops give.",
        "",
        "- *slopes*: partial derivatives, element by element",
        "- *linear*, *multilinear*: the op's own loops and those of its gradient compute all orders",
        "- *composition*: inside a second tape, other ops compute the op: a recurrent layer its cell over time, for example",
        "- *formula*: the gradient, by ops",
        "",
        "Ops of `nbkeras.ops` that are not named here, such as `einsum` or `image.resize`, are put together from these.",
        "Derivatives of a product with integer weights (`quantize`) are those of a product with the weights as floats. An op of",
        "your own loops has a first derivative until it gets a rule.",
        "",
        "| family | rule | ops | checked order |",
        "|---|---|---|---|",
    ]
    for (place, word, order), names in sorted(coverage().items()):
        lines.append(f"| {place} | {word} | {', '.join(f'`{name}`' for name in sorted(names))} | {order} |")
    return "\n".join([*lines, "", *REST, "", "## What a second derivative costs", "", *costs(), ""])


def main() -> None:
    text = document()
    if "--check" not in sys.argv[1:]:
        DOCUMENT.write_text(text, encoding="utf-8")
    elif DOCUMENT.read_text(encoding="utf-8") != text:
        sys.exit("docs/derivatives.md is not up to date: run scripts/make_orders.py")


if __name__ == "__main__":
    main()
