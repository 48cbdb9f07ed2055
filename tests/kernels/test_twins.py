"""A kernel's twin for GPUs has its name and its arguments; read from the source, so it holds where no GPU is."""

import ast
import pathlib

import pytest

KERNELS = pathlib.Path(__file__).parents[2] / "kernels"
SHARES = {"share", "shares", "chunk", "chunks"}  # the share of the work: a twin does all of it
WITHOUT = {  # kernels that are never launched on a GPU, and what is there instead
    "dense": {"multiply_row": "gemv_cuda, by multiply's twin", "add_up": "multiply's twin adds parts itself"},
    "attention": {"multiply_heads": "dense's products, of copies with the heads first"},
    "reduce": {"sum_short_rows": "fold"},
    "recurrent": {"sum_parts": "weights' gradients are products over all steps"},
    "implicit_gemm": {
        name: "the twins of forward, kernel_gradient and input_gradient"
        for name in ("forward_blocks", "kernel_gradient_blocks", "input_gradient_bands", "transpose_matrices")
    },
}
ONLY_ON_THE_CPU = {"depthwise", "direct_conv", "winograd"}  # see conv.algorithm
ONLY_ON_THE_CPU |= {"threads", "group_normalization"}  # how shares run; see ops.group_normalization


def functions(path):
    """The functions at a file's top level by name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def arguments(function):
    return [argument.arg for argument in function.args.args if argument.arg not in SHARES]


def is_launched(function):
    """Whether a function is a kernel with a twin: its docstring says so, or it is compiled and does a share of the work."""
    decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
    if "device.host" in decorators:  # runs on the CPU, over copies: kernels/cuda/machine/host.py
        return False
    compiled = "compiled" in decorators
    shared = {argument.arg for argument in function.args.args} & {"shares", "chunks"}
    return (ast.get_docstring(function) or "").startswith("Kernel:") or (compiled and bool(shared))


def twins_of(family):
    """The functions of a family's twin file, those that it takes from another twin file among them."""
    path = KERNELS / f"{family}_cuda.py"
    found = functions(path)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("_cuda"):
            other = functions(KERNELS / f"{node.module.rpartition('.')[2]}.py")
            found.update({alias.name: other[alias.name] for alias in node.names if alias.name in other})
    return found


FAMILIES = sorted(path.stem.removesuffix("_cuda") for path in KERNELS.glob("*_cuda.py"))
FAMILIES = [family for family in FAMILIES if (KERNELS / f"{family}.py").exists()]


@pytest.mark.parametrize("family", FAMILIES)
def test_twins_have_the_arguments_of_their_kernels(family):
    kernels, twins = functions(KERNELS / f"{family}.py"), twins_of(family)
    both = [name for name in kernels if name in twins and is_launched(kernels[name])]
    assert both or family in ("implicit_gemm", "recurrent", "gemm")
    for name in both:
        assert arguments(twins[name]) == arguments(kernels[name]), name


@pytest.mark.parametrize("family", sorted(p.stem for p in KERNELS.glob("*.py") if not p.stem.endswith("_cuda")))
def test_every_kernel_that_is_launched_has_a_twin(family):
    if family.startswith("cuda_") or family in ONLY_ON_THE_CPU:
        return
    launched = {name for name, function in functions(KERNELS / f"{family}.py").items() if is_launched(function)}
    twins = set(twins_of(family)) if family in FAMILIES else set()
    assert launched - twins == set(WITHOUT.get(family, {}))
