"""Floor 3: the ops of Keras 3 as its model files name them: by a class, whose config has some of the arguments.

Keras writes `ops.mean(x, axis=1)` on a symbolic tensor as a class, keras.src.ops.numpy.Mean(axis=1), called with x.
Made from the signatures of Keras 3.15; tests/reference/make_files.py checks it against real Keras.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from nbkeras import ops
from nbkeras.engine.annotations import briefly

_TABLE = {  # function:arguments in the config of the class; all others are arguments of the call
    "numpy": (
        "abs absolute add all:axis,keepdims allclose:rtol,atol,equal_nan amax:axis,keepdims amin:axis,keepdims "
        "any:axis,keepdims append:axis arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax:axis,keepdims "
        "argmin:axis,keepdims argpartition:kth,axis argsort:axis array_split:indices_or_sections,axis average:axis "
        "bincount:weights,minlength,sparse bitwise_and bitwise_invert bitwise_left_shift bitwise_not bitwise_or "
        "bitwise_right_shift bitwise_xor broadcast_to:shape cbrt ceil clip:x_min,x_max concatenate:axis copy "
        "corrcoef correlate:mode cos cosh count_nonzero:axis cross:axisa,axisb,axisc,axis cumprod:axis,dtype "
        "cumsum:axis,dtype deg2rad diag:k diagflat:k diagonal:offset,axis1,axis2 diff:n,axis digitize divide "
        "divide_no_nan dot dsplit:indices_or_sections dstack einsum:subscripts empty_like:dtype equal exp exp2 "
        "expand_dims:axis expm1 fabs flip:axis fliplr flipud floor floor_divide fmax fmin fmod full_like:dtype gcd "
        "geomspace:num,endpoint,dtype,axis getitem greater greater_equal heaviside hsplit:indices_or_sections "
        "hstack hypot i0 inner isclose:equal_nan isfinite isin:assume_unique,invert isinf isnan isneginf isposinf "
        "kron lcm ldexp left_shift less less_equal linspace:num,endpoint,retstep,dtype,axis log log10 log1p log2 "
        "logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logspace:num,endpoint,base,dtype,axis "
        "matmul max:axis,keepdims,initial maximum mean:axis,keepdims median:axis,keepdims meshgrid:indexing "
        "min:axis,keepdims,initial minimum mod moveaxis:source,destination multiply nan_to_num:nan,posinf,neginf "
        "nanargmax:axis,keepdims nanargmin:axis,keepdims nancumprod:axis,dtype nancumsum:axis,dtype "
        "nanmax:axis,keepdims nanmean:axis,keepdims nanmedian:axis,keepdims nanmin:axis,keepdims "
        "nanpercentile:axis,method,keepdims nanprod:axis,keepdims nanquantile:axis,method,keepdims "
        "nanstd:axis,keepdims nansum:axis,keepdims nanvar:axis,keepdims ndim negative nextafter not_equal "
        "ones_like:dtype outer pad:pad_width,mode percentile:axis,method,keepdims power prod:axis,keepdims,dtype "
        "ptp:axis,keepdims quantile:axis,method,keepdims rad2deg ravel reciprocal repeat:repeats,axis "
        "reshape:newshape right_shift roll:shift,axis rot90:k,axes round:decimals searchsorted:side sign signbit "
        "sin sinc sinh size slogdet sort:axis split:indices_or_sections,axis sqrt square squeeze:axis stack:axis "
        "std:axis,keepdims subtract sum:axis,keepdims swapaxes:axis1,axis2 take:axis take_along_axis:axis tan tanh "
        "tensordot:axes tile:repeats trace:offset,axis1,axis2 transpose:axes trapezoid:x,dx,axis tril:k triu:k "
        "true_divide trunc unravel_index:shape vander:N,increasing var:axis,keepdims vdot "
        "vsplit:indices_or_sections vstack where zeros_like:dtype"
    ),
    "nn": (
        "adaptive_average_pool:output_size,data_format adaptive_max_pool:output_size,data_format "
        "average_pool:pool_size,strides,padding,data_format binary_crossentropy:from_logits "
        "categorical_crossentropy:from_logits,axis celu:alpha conv:strides,padding,data_format,dilation_rate "
        "conv_transpose:strides,padding,output_padding,data_format,dilation_rate "
        "ctc_decode:strategy,beam_width,top_paths,merge_repeated,mask_index ctc_loss:mask_index "
        "depth_to_space:block_size,data_format depthwise_conv:strides,padding,data_format,dilation_rate "
        "dot_product_attention:is_causal,flash_attention,attn_logits_soft_cap elu:alpha "
        "fold:output_size,kernel_size,dilation,padding,stride gelu:approximate glu:axis hard_shrink:threshold "
        "hard_sigmoid hard_silu hard_tanh leaky_relu:negative_slope log_sigmoid log_softmax:axis "
        "max_pool:pool_size,strides,padding,data_format multi_hot:num_classes,axis,dtype,sparse,kwargs "
        "normalize:axis,order,epsilon one_hot:num_classes,axis,dtype,sparse psnr:max_val relu relu6 selu "
        "separable_conv:strides,padding,data_format,dilation_rate sigmoid silu soft_shrink:threshold softmax:axis "
        "softplus softsign space_to_depth:block_size,data_format sparse_categorical_crossentropy:from_logits,axis "
        "sparsemax:axis squareplus:b tanh_shrink threshold:threshold,default_value "
        "unfold:kernel_size,dilation,padding,stride"
    ),
    "math": (
        "cdist erf erfc erfinv extract_sequences:sequence_length,sequence_stride in_top_k:k logdet "
        "logsumexp:axis,keepdims rsqrt segment_max:num_segments,sorted segment_min:num_segments,sorted "
        "segment_prod:num_segments,sorted segment_sum:num_segments,sorted top_k:k,sorted"
    ),
    "core": (
        "cast:dtype convert_to_tensor:dtype,sparse,ragged saturate_cast:dtype scatter:shape scatter_update:reduction "
        "stop_gradient unstack:num,axis"
    ),
    "linalg": (
        "cholesky:upper cholesky_inverse:upper det inv matrix_rank:tol norm:ord,axis,keepdims pinv:rcond qr:mode "
        "solve solve_triangular:lower"
    ),
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


_OPS: dict[str, tuple[str, tuple[str, ...]]] = {}  # function: (module, arguments of the class)
for _module, _names in _TABLE.items():
    for _entry in _names.split():
        _function, _, _arguments = _entry.partition(":")
        _OPS[_function] = (f"keras.src.ops.{_module}", tuple(_arguments.split(",")) if _arguments else ())
_FUNCTIONS = {(_where, _class_name(_name)): _name for _name, (_where, _) in _OPS.items()}


def is_op(module: Any) -> bool:
    """Whether a configuration's module is a module of Keras's ops."""
    return isinstance(module, str) and module.startswith(("keras.src.ops.", "keras.ops"))


def function_of(module: str, class_name: str) -> str:
    """The function's name for an op's class; ValueError for one that is not known."""
    found = _FUNCTIONS.get((module, class_name))
    if found is None:
        raise ValueError(f"unknown op of Keras: {briefly(f'{module}.{class_name}')}")
    return found


def written(function: Callable, args: tuple, kwargs: dict) -> tuple[dict[str, Any], tuple, dict] | None:
    """A call of an op as Keras writes it: ({'module', 'class_name', 'config'}, args, kwargs); None if Keras cannot express it."""
    name = function.__name__
    if name not in _OPS or getattr(ops, name, None) is not function:
        return None
    module, arguments = _OPS[name]
    bound = inspect.signature(function).bind(*args, **kwargs).arguments
    kinds = inspect.signature(function).parameters
    config = {key: bound.pop(key) for key in arguments if key in bound}
    if not bound.keys() <= _CALLED_WITH:
        return None
    rest: list[Any] = []
    for key, value in bound.items():
        rest.extend(value if kinds[key].kind is inspect.Parameter.VAR_POSITIONAL else [value])
    return {"module": module, "class_name": _class_name(name), "config": config}, tuple(rest), {}
