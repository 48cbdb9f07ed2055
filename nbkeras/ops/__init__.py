"""The public differentiable functions, named as in keras.ops; each works on Tensors, arrays and symbolic tensors.

Each family of ops has a module; the public names of a family are imported here.
"""
# ruff: noqa: F401

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.tensor import Tensor
from nbkeras.ops.activations import (
    celu,
    elu,
    exponential,
    gelu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    l2_normalize,
    leaky_relu,
    legacy_hard_sigmoid,
    linear,
    log_sigmoid,
    log_softmax,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    swish,
    tanh,
    tanh_shrink,
    threshold,
)
from nbkeras.ops.conv import conv, conv1d, conv2d, conv3d, depthwise_conv, separable_conv
from nbkeras.ops.creation import (
    arange,
    eye,
    full,
    full_like,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from nbkeras.ops.dense import batch_dot, dense, dot, matmul, tensordot
from nbkeras.ops.einsum import einsum
from nbkeras.ops.elementwise import (
    abs,
    absolute,
    add,
    arctan,
    cast,
    ceil,
    clip,
    convert_to_numpy,
    convert_to_tensor,
    cos,
    divide,
    equal,
    erf,
    exp,
    expm1,
    floor,
    floor_divide,
    greater,
    greater_equal,
    is_tensor,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    log2,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    mod,
    multiply,
    negative,
    not_equal,
    power,
    print_tensor,
    reciprocal,
    round,
    rsqrt,
    sign,
    sin,
    sqrt,
    square,
    stop_gradient,
    subtract,
    tan,
    true_divide,
    where,
)
from nbkeras.ops.embedding import embedding
from nbkeras.ops.indexing import (
    argsort,
    get_item,
    getitem,
    in_top_k,
    nonzero,
    one_hot,
    pad,
    sort,
    take,
    take_along_axis,
    top_k,
    tril,
    triu,
    unravel_index,
)
from nbkeras.ops.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    sparse_categorical_crossentropy,
)
from nbkeras.ops.normalization import (
    batch_normalization,
    batch_normalization_training,
    group_normalization,
    layer_normalization,
    rms_normalization,
)
from nbkeras.ops.operators import attach_operators as _attach_operators
from nbkeras.ops.pool import adaptive_average_pool, adaptive_max_pool, average_pool, max_pool
from nbkeras.ops.recurrent import gru, lstm, simple_rnn
from nbkeras.ops.reduce import (
    all,
    any,
    argmax,
    argmin,
    count_nonzero,
    cumprod,
    cumsum,
    logsumexp,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    var,
)
from nbkeras.ops.resize import INTERPOLATIONS, enlarge
from nbkeras.ops.shape import (
    broadcast_to,
    concatenate,
    expand_dims,
    flip,
    moveaxis,
    ndim,
    repeat,
    reshape,
    roll,
    shape,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
    unstack,
)

_attach_operators(Tensor)

_LATER: dict[str, str] = {
    "": "image linalg nn numpy",
    "arrangement": "append array_split depth_to_space diag diagflat diagonal dsplit dstack dtype fliplr flipud hsplit hstack "
    "ravel rearrange rot90 size space_to_depth trace view vsplit vstack",
    "attention": "dot_product_attention",
    "ctc": "ctc_decode ctc_loss",
    "control": "associative_scan cond custom_gradient fori_loop map scan switch vectorize vectorized_map while_loop",
    "functions": "allclose angle arccos arccosh arcsin arcsinh arctan2 arctanh cbrt conj conjugate cosh deg2rad "
    "divide_no_nan erfc erfinv exp2 fabs fmax fmin fmod heaviside hypot i0 imag isclose isneginf isposinf "
    "isreal ldexp log10 logaddexp logaddexp2 nan_to_num nextafter rad2deg real saturate_cast signbit sinc sinh "
    "trunc",
    "integers": "bitwise_and bitwise_invert bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor gcd "
    "lcm left_shift right_shift",
    "linalg": "cholesky cholesky_inverse det eigh inv logdet lstsq lu_factor matrix_rank norm pinv qr slogdet solve "
    "solve_triangular svd",
    "local": "local_conv",
    "patches": "extract_sequences fold unfold",
    "products": "cdist correlate cross diff inner kron outer psnr trapezoid vdot",
    "ranges": "array bartlett blackman copy empty empty_like geomspace hamming hanning identity kaiser linspace logspace "
    "meshgrid tri vander",
    "scattering": "argpartition bincount digitize isin multi_hot scatter scatter_update searchsorted segment_max "
    "segment_min segment_prod segment_sum select slice slice_update unique",
    "signal": "fft fft2 ifft2 irfft istft rfft stft",
    "statistics": "amax amin average corrcoef histogram median moments nanargmax nanargmin nancumprod nancumsum nanmax "
    "nanmean nanmedian nanmin nanpercentile nanprod nanquantile nanstd nansum nanvar normalize percentile ptp "
    "quantile",
    "transposed": "conv_transpose",
}
__getattr__, __dir__, __all__ = _lazy_names.names(globals(), _LATER)
