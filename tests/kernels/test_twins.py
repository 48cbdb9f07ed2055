"""A kernel's twin for GPUs has its name and its arguments; read from the source, so it holds where no GPU is."""

import ast
import pathlib
import re

import pytest

import nbkeras.kernels

KERNELS = pathlib.Path(nbkeras.kernels.__file__).parent
SHARES = {"share", "shares", "chunk", "chunks"}  # the share of the work: a twin does all of it
WITHOUT = {  # kernels that are never launched on a GPU, and their replacement
    "dense": {"multiply_row": "gemv, by multiply's twin", "add_up": "multiply's twin adds parts itself"},
    "packed": {"multiply_packed_row": "multiply_packed"},
    "half_weights": {"multiply_row_of_halves": "multiply_converted"},
    "half_products": {
        name: "multiply_halves" for name in ("pack_left", "pack_right", "pack_right_transposed", "multiply_pairs")
    },
    "panels": {"fill_panels": "products on a GPU read weights as they are"},
    "attention": {"multiply_heads": "dense's products, of copies with the heads first"},
    "reduce": {"sum_short_rows": "fold"},
    "recurrent.recurrence": {"sum_parts": "weights' gradients are products over all steps"},
    "convolution.implicit_gemm": {
        name: "the twins of forward, kernel_gradient and input_gradient"
        for name in ("forward_bands", "kernel_gradient_bands", "input_gradient_bands", "transpose_matrices")
    },
    "convolution.integers": {
        name: "the twin of convolve" for name in ("pack", "find_largest", "quantize_images", "multiply_bands")
    },
}
ONLY_ON_THE_CPU = {"convolution.direct", "convolution.winograd"}  # see conv.algorithm
ONLY_ON_THE_CPU |= {"runtime.threads", "group_normalization"}  # how shares run; see ops.group_normalization
ONLY_ON_THE_CPU |= {"library_steps"}  # exported libraries are for the CPU


def functions(path):
    """The functions at a file's top level by name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def arguments(function):
    """A kernel's arguments; of one that takes `*args` the fields of the record that it makes of them: `Forward(*args)`."""
    if function.args.vararg is None or function.args.vararg.arg != "args":
        return [argument.arg for argument in function.args.args if argument.arg not in SHARES]
    made = [node for node in ast.walk(function) if isinstance(node, ast.Call) and ast.unparse(node).endswith("(*args)")]
    (record,) = {ast.unparse(call.func) for call in made}
    return RECORDS[record]


def is_launched(function):
    """Whether a function is a kernel with a twin: its docstring says so, or it is compiled and does a share of the work."""
    decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
    if "device.host" in decorators:  # runs on the CPU, over copies: kernels/cuda/machine/host.py
        return False
    compiled = "compiled" in decorators
    shared = {argument.arg for argument in function.args.args} & {"shares", "chunks"}
    return (ast.get_docstring(function) or "").startswith("Kernel:") or (compiled and bool(shared))


def derived(path):
    """The kernels of a file that a twin is derived for: those of launches, and those of an operation of chains."""
    operations = path_of("cuda.interpreter.launches").read_text(encoding="utf-8")
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and "of_steps" in map(ast.unparse, node.decorator_list):
            found.add(node.name)
        if isinstance(node, ast.Assign) and ".fuses_as" in ast.unparse(node.targets[0]):
            names, values = (ast.unparse(each).strip("()").split(", ") for each in (node.targets[0], node.value))
            found |= {
                name.removesuffix(".fuses_as")
                for name, value in zip(names, values, strict=True)
                if re.search(rf"\b{ast.literal_eval(value)}\b", operations)
            }
    return found


def path_of(module):
    return KERNELS.joinpath(*module.split(".")).with_suffix(".py")


def twins_of(family):
    """The functions of a family's twin file, those that it takes from another twin file among them."""
    path = path_of(f"cuda.{family}")
    found = functions(path)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nbkeras.kernels.cuda."):
            other = path_of(node.module.removeprefix("nbkeras.kernels."))
            if other.exists():
                found.update({each: function for each, function in functions(other).items() if each in imported(node)})
    return found


def imported(node):
    return {alias.name for alias in node.names}


MODULES = sorted(".".join(path.relative_to(KERNELS).with_suffix("").parts) for path in KERNELS.rglob("*.py"))
MODULES = [name for name in MODULES if not name.startswith("cuda.") and not name.endswith("__init__")]
MAKERS = {"loops.map", "loops.row_passes"}  # of kernels and of their twins, from formulas
FAMILIES = [name for name in MODULES if path_of(f"cuda.{name}").exists() and name not in MAKERS]
RECORDS = {
    node.name: [ast.unparse(field.target) for field in node.body if isinstance(field, ast.AnnAssign)]
    for node in ast.parse(path_of("recurrent.recurrence").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef)
}


@pytest.mark.parametrize("family", FAMILIES)
def test_twins_have_the_arguments_of_their_kernels(family):
    kernels, twins = functions(path_of(family)), twins_of(family)
    both = [name for name in kernels if name in twins and is_launched(kernels[name])]
    without = (
        "convolution.implicit_gemm convolution.integers recurrent.recurrence loops.gemm metrics interpreter.launches"
    )
    assert both or family in without.split()
    for name in both:
        assert arguments(twins[name]) == arguments(kernels[name]), name


@pytest.mark.parametrize("family", [name for name in MODULES if name not in ONLY_ON_THE_CPU])
def test_every_kernel_that_is_launched_has_a_twin(family):
    launched = {name for name, function in functions(path_of(family)).items() if is_launched(function)}
    twins = set(twins_of(family)) if family in FAMILIES else set()
    assert launched - twins - derived(path_of(family)) == set(WITHOUT.get(family, {}))


@pytest.mark.parametrize("family", ["lstm", "gru", "simple_rnn"])
def test_a_recurrence_is_launched_with_its_arguments_in_order(family):
    kernels = functions(path_of(f"recurrent.{family}"))
    assert arguments(kernels[f"{family}_forward_share"]) == RECORDS["Forward"]
    assert arguments(kernels[f"{family}_backward_share"]) == RECORDS["Backward"]
