"""Floor 3: the ops of Keras 3 in its model files: each is a class, and its config has some of the arguments.

Keras writes `ops.mean(x, axis=1)` on a symbolic tensor as a class, keras.src.ops.numpy.Mean(axis=1), called with x. The class
takes the op's arguments that cannot be tensors. tests/reference/make_files.py compares with Keras 3.15.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from nbkeras import ops
from nbkeras.engine.annotations import briefly

_NAMES = {
    "numpy": (
        "abs absolute add all allclose amax amin any append arccos arccosh arcsin arcsinh arctan arctan2 arctanh "
        "argmax argmin argpartition argsort array_split average bincount bitwise_and bitwise_invert "
        "bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor broadcast_to cbrt ceil clip "
        "concatenate copy corrcoef correlate cos cosh count_nonzero cross cumprod cumsum deg2rad diag diagflat "
        "diagonal diff digitize divide divide_no_nan dot dsplit dstack einsum empty_like equal exp exp2 expand_dims "
        "expm1 fabs flip fliplr flipud floor floor_divide fmax fmin fmod full_like gcd geomspace getitem greater "
        "greater_equal heaviside hsplit hstack hypot i0 inner isclose isfinite isin isinf isnan isneginf isposinf "
        "kron lcm ldexp left_shift less less_equal linspace log log10 log1p log2 logaddexp logaddexp2 logical_and "
        "logical_not logical_or logical_xor logspace matmul max maximum mean median meshgrid min minimum mod moveaxis "
        "multiply nan_to_num nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin nanpercentile "
        "nanprod nanquantile nanstd nansum nanvar ndim negative nextafter not_equal ones_like outer pad percentile "
        "power prod ptp quantile rad2deg ravel reciprocal repeat reshape right_shift roll rot90 round searchsorted "
        "sign signbit sin sinc sinh size slogdet sort split sqrt square squeeze stack std subtract sum swapaxes take "
        "take_along_axis tan tanh tensordot tile trace transpose trapezoid tril triu true_divide trunc unravel_index "
        "vander var vdot vsplit vstack where zeros_like"
    ),
    "nn": (
        "adaptive_average_pool adaptive_max_pool average_pool binary_crossentropy categorical_crossentropy celu conv "
        "conv_transpose ctc_decode ctc_loss depth_to_space depthwise_conv dot_product_attention elu fold gelu glu "
        "hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid log_softmax max_pool multi_hot normalize "
        "one_hot psnr relu relu6 selu separable_conv sigmoid silu soft_shrink softmax softplus softsign "
        "space_to_depth sparse_categorical_crossentropy sparsemax squareplus tanh_shrink threshold unfold"
    ),
    "math": (
        "cdist erf erfc erfinv extract_sequences in_top_k logdet logsumexp rsqrt segment_max segment_min segment_prod "
        "segment_sum top_k"
    ),
    "core": "cast convert_to_tensor saturate_cast scatter scatter_update stop_gradient unstack",
    "linalg": "cholesky cholesky_inverse det inv matrix_rank norm pinv qr solve solve_triangular",
}
_CLASSES = {
    **{"psnr": "PSNR", "allclose": "AllClose", "getitem": "GetItem", "isin": "IsIn", "searchsorted": "SearchSorted"},
    **{"ctc_loss": "CTCLoss", "ctc_decode": "CTCDecode", "cdist": "CDist"},
}
_CALLED_WITH = frozenset(
    "x x1 x2 xs y a array key bins operands indices condition inputs kernel weights data segment_ids targets predictions "
    "q values sorted_sequence fill_value constant_values start stop target output target_length output_length "
    "sequence_lengths variable depthwise_kernel pointwise_kernel updates b query value bias mask scale".split()
)


def _class_name(function: str) -> str:
    return _CLASSES.get(function) or "".join(word[:1].upper() + word[1:] for word in function.split("_"))


_OF_CLASS: dict[str, tuple[str, ...]] = {  # ops whose arguments, or whose class's arguments, differ
    **{"bincount": ("weights", "minlength", "sparse"), "isclose": ("equal_nan",), "relu": ()},
    **{"squareplus": ("b",), "trapezoid": ("x", "dx", "axis")},
}
MODULES = {name: f"keras.src.ops.{module}" for module, names in _NAMES.items() for name in names.split()}
_FUNCTIONS = {(module, _class_name(name)): name for name, module in MODULES.items()}


def is_op(module: Any) -> bool:
    """Whether a configuration's module is a module of Keras's ops."""
    return isinstance(module, str) and module.startswith(("keras.src.ops.", "keras.ops"))


def arguments_of(name: str) -> tuple[str, ...]:
    """The names of the arguments in the config of an op's class; all others are arguments of the call."""
    parameters = inspect.signature(getattr(ops, name)).parameters
    return _OF_CLASS.get(name, tuple(each for each in parameters if each not in _CALLED_WITH))


def function_of(module: str, class_name: str) -> str:
    """The function's name for an op's class. Raises ValueError for an unknown class."""
    found = _FUNCTIONS.get((module, class_name))
    if found is None:
        raise ValueError(f"unknown op of Keras: {briefly(f'{module}.{class_name}')}")
    return found


def written(function: Callable, args: tuple, kwargs: dict) -> tuple[dict[str, Any], tuple, dict] | None:
    """An op's call in Keras's form: ({'module', 'class_name', 'config'}, args, kwargs); None if Keras cannot express it."""
    name = function.__name__
    if name not in MODULES or getattr(ops, name, None) is not function:
        return None
    signature = inspect.signature(function)
    bound = signature.bind(*args, **kwargs).arguments
    config = {key: bound.pop(key) for key in arguments_of(name) if key in bound}
    if not bound.keys() <= _CALLED_WITH:
        return None
    rest: list[Any] = []
    for key, value in bound.items():
        is_several = signature.parameters[key].kind is inspect.Parameter.VAR_POSITIONAL
        rest.extend(value if is_several else [value])
    return {"module": MODULES[name], "class_name": _class_name(name), "config": config}, tuple(rest), {}
