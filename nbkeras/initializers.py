"""Initializers: the values of weights before training, computed on the host once, when a layer is built.

An initializer is called with `(shape, dtype=None)` and returns a NumPy array; any function with this signature can serve.
A random initializer returns the same values on every call (as in Keras 3), with an integer seed and without a seed; with a
`random.SeedGenerator` as seed each call returns new values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from nbkeras import config as settings
from nbkeras.engine import compatibility, load_budget, option, structures
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.dtypes import array_of, known_dtype
from nbkeras.engine.registry import Registered, Registry
from nbkeras.random import SeedGenerator

Array = np.ndarray


class _Initializers(Registry):
    """Initializers by name; an array or a tensor means its values."""

    def get(self, identifier: Any, **kwargs) -> Any:
        if isinstance(identifier, np.ndarray) or hasattr(identifier, "numpy"):
            return Constant(np.asarray(identifier))
        return super().get(identifier, **kwargs)


registry = _Initializers("initializer")


class Initializer(option.Configured, Registered, registry=registry):
    """Base of initializers: callables that return the initial values of weights.

    An initializer is called with the shape and the dtype of a weight and returns an array of both. Any such function
    can be passed as an initializer; a subclass can be saved too.

    Call arguments:
        shape: The shape of the weight, a tuple.
        dtype: The dtype of the weight; None for `config.floatx()`.

    Example:
        >>> class Counting(keras.initializers.Initializer):
        ...     def __call__(self, shape, dtype=None):
        ...         return np.arange(np.prod(shape), dtype=dtype or "float32").reshape(shape)
        >>> layer = layers.Dense(3, kernel_initializer=Counting())
        >>> layer.build((None, 2))
        >>> layer.kernel.numpy()
        array([[0., 1., 2.],
               [3., 4., 5.]], dtype=float32)
    """

    def __call__(self, shape, dtype=None) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, shape, dtype=None)")

    def clone(self) -> Initializer:
        """A new initializer with the same configuration."""
        return type(self).from_config(self.get_config())


def _weight(initializer: Initializer, shape: Any, dtype: Any, floats: bool = False) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and the dtype of a weight, checked. floats: dtypes other than float32 and float64 are an error."""
    kind, found = type(initializer).__name__, np.dtype(known_dtype(dtype))
    shape = (shape,) if isinstance(shape, int | np.integer) else shape
    if not structures.is_shape(shape) or any(size is None or size < 0 for size in shape):
        raise ValueError(
            f"{kind}: the shape of a weight must be a tuple of integers, 0 or more, received {briefly(shape)}"
        )
    if floats and found not in (np.float32, np.float64):
        raise ValueError(f"{kind} draws float32 or float64 numbers, received dtype {briefly(found.name)}")
    load_budget.check_exists(math.prod(shape) * found.itemsize, f"{kind}: a weight of shape {briefly(shape)}")
    return tuple(shape), found


class Zeros(Initializer, names=("zeros", "zero")):
    """All zeros, of any dtype.

    Example:
        >>> keras.initializers.Zeros()((2, 3))
        array([[0., 0., 0.],
               [0., 0., 0.]], dtype=float32)
    """

    def __call__(self, shape, dtype=None) -> Array:
        return np.zeros(*_weight(self, shape, dtype))


class Ones(Initializer, names=("ones", "one")):
    """All ones, of any dtype.

    Example:
        >>> keras.initializers.Ones()((2, 3), dtype="int32")
        array([[1, 1, 1],
               [1, 1, 1]], dtype=int32)
    """

    def __call__(self, shape, dtype=None) -> Array:
        return np.ones(*_weight(self, shape, dtype))


class Constant(Initializer, names=("constant",)):
    """One value everywhere, or the values of an array.

    Args:
        value (a number or an array): A number, or an array that broadcasts to the shape of the weight.

    Raises:
        ValueError: when it is called, if the array does not fit the shape.

    Example:
        >>> keras.initializers.Constant(0.5)((2, 2))
        array([[0.5, 0.5],
               [0.5, 0.5]], dtype=float32)
        >>> keras.initializers.Constant([1.0, 2.0])((3, 2))
        array([[1., 2.],
               [1., 2.],
               [1., 2.]], dtype=float32)
    """

    def __init__(self, value: option.Anything = 0.0):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, shape, dtype=None) -> Array:
        shape, dtype = _weight(self, shape, dtype)
        value = array_of(self.value, dtype)
        try:
            return np.broadcast_to(value, shape).copy()
        except ValueError as error:
            raise ValueError(
                f"Constant holds values of shape {value.shape}, which do not fit a weight of shape {tuple(shape)}"
            ) from error


class Identity(Initializer, names=("identity", "IdentityInitializer")):
    """A number on the main diagonal of a matrix, and 0 elsewhere.

    Args:
        gain: The number on the diagonal.

    Raises:
        ValueError: when it is called, for a shape without exactly two axes.

    Example:
        >>> keras.initializers.Identity(gain=2.0)((2, 3))
        array([[2., 0., 0.],
               [0., 2., 0.]], dtype=float32)
    """

    def __init__(self, gain: option.Number = 1.0):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, shape, dtype=None) -> Array:
        shape, dtype = _weight(self, shape, dtype)
        if len(shape) != 2:
            raise ValueError(f"Identity makes matrices only; expected a shape of 2 axes, received {tuple(shape)}")
        return self.gain * np.eye(*shape, dtype=dtype)


# the cosine series of window functions: w[n] = sum over k of (-1)**k * a[k] * cos(2 * pi * k * n / period)
_WINDOWS = {
    "boxcar": (1.0,),
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "nuttall": (0.3635819, 0.4891775, 0.1365995, 0.0106411),
    "blackmanharris": (0.35875, 0.48829, 0.14128, 0.01168),
    "flattop": (0.21557895, 0.41663158, 0.277263158, 0.083578947, 0.006947368),
}


def _window(name: str, what: str, window: Any) -> Any:
    return one_of(name, what, window, _WINDOWS) if isinstance(window, str) else window


Window = Annotated[Any, option.kind(_window, "the name of a window function, an array, or None")]
Side = Annotated[str, option.choice("real", "imag")]
Scaling = Annotated[str | None, option.choice("density", "spectrum", None)]


class STFT(Initializer, names=("stft", "STFTInitializer")):
    """The real or imaginary part of a short-time Fourier transform, as a Conv1D kernel (length, 1, frequencies).

    Args:
        side: 'real' or 'imag'.
        window: The window function of the samples: 'boxcar', 'hann', 'hamming', 'blackman', 'nuttall',
            'blackmanharris' or 'flattop', an array of its values, or None for none.
        scaling: The divisor of the kernel: the window's 2-norm ('density'), its 1-norm ('spectrum'), or nothing
            (None).
        periodic: Whether the window repeats after `length` samples, instead of length - 1.

    Raises:
        ValueError: for an unknown name, and when it is called, for a shape without three axes or a window of
            another length.

    Example:
        >>> kernel = keras.initializers.STFT("real", window=None)((4, 1, 3))
        >>> kernel[:, 0].round(3) + 0.0  # cosines of 0, 1/4 and 1/2 of the sampling rate
        array([[ 1.,  1.,  1.],
               [ 1.,  0., -1.],
               [ 1., -1.,  1.],
               [ 1.,  0., -1.]], dtype=float32)
    """

    def __init__(
        self, side: Side = "real", window: Window = "hann", scaling: Scaling = "density", periodic: option.Flag = False
    ):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, shape, dtype=None) -> Array:
        shape, dtype = _weight(self, shape, dtype)
        if len(shape) != 3:
            raise ValueError(f"STFT makes kernels of shape (length, 1, frequencies), received {tuple(shape)}")
        length, _, frequencies = shape
        angles = -np.pi * np.arange(length)[:, None, None] * np.arange(frequencies) / max(frequencies - 1, 1)
        kernel = np.cos(angles) if self.side == "real" else np.sin(angles)
        if self.window is not None:
            window = self._window(length)
            scale = {"density": np.sqrt(np.sum(window**2)), "spectrum": np.sum(np.abs(window)), None: 1.0}[self.scaling]
            kernel = kernel * window[:, None, None] / scale
        return np.ascontiguousarray(kernel, dtype)

    def _window(self, length: int) -> Array:
        if isinstance(self.window, str):
            turns = 2 * np.pi * np.arange(length) / max(length if self.periodic else length - 1, 1)
            series = enumerate(_WINDOWS[self.window])
            return sum((-1) ** k * a * np.cos(k * turns) for k, a in series) if length > 1 else np.ones(1)
        window = np.asarray(self.window, np.float64)
        if window.shape != (length,):
            raise ValueError(f"the window must have the kernel's length, shape ({length},), received {window.shape}")
        return window


def _seed(name: str, what: str, seed: Any) -> Any:
    if isinstance(seed, Mapping) and "config" in seed:
        return SeedGenerator.from_config(seed["config"])
    if seed is not None and not isinstance(seed, int | np.integer | SeedGenerator):
        raise ValueError(f"{name}: {what} must be an integer, a SeedGenerator or None, received {briefly(seed)}")
    return seed


def _written_seed(seed: Any) -> Any:
    is_generator = isinstance(seed, SeedGenerator)
    return {"class_name": "SeedGenerator", "config": seed.get_config()} if is_generator else option.written(seed)


Seed = Annotated[Any, option.kind(_seed, "an integer, a SeedGenerator, or None", write=_written_seed), "_given_seed"]
Number = option.AnyNumber


class RandomInitializer(Initializer, registered=False):
    """Base of random initializers: the seed and the generator.

    The random initializers of this module draw float32 and float64 numbers, and raise ValueError for other dtypes.

    Args:
        seed: An integer gives the same numbers on each call, a `random.SeedGenerator` new ones; None draws an
            integer that depends on `utils.set_random_seed`, or on Python's `random.seed` if the former is not called.

    Raises:
        ValueError: for a seed of another type.

    Example:
        >>> class Signs(keras.initializers.RandomInitializer):
        ...     def __call__(self, shape, dtype=None):
        ...         return np.sign(self.generator().random(shape) - 0.5).astype(dtype or "float32")
        >>> signs = Signs(seed=1)
        >>> bool((signs((3, 4)) == signs((3, 4))).all())
        True
    """

    _calls = 0  # the number of calls of `generator`, if each draws new numbers

    def __init__(self, seed: Seed = None):
        super().__init__(**option.keep(self, locals()))
        self.seed = settings.next_seed() if self._given_seed is None else self._given_seed

    def generator(self) -> np.random.Generator:
        """Returns a NumPy generator at the start of the initializer's numbers, or as in Keras 2, of this call's numbers."""
        if isinstance(self.seed, SeedGenerator):
            return np.random.default_rng(np.asarray(self.seed.next()))
        seed = int(self.seed) % 2**32
        if not compatibility.current.initializers_draw_anew:
            return np.random.default_rng(seed)
        self._calls += 1
        return np.random.default_rng([seed, self._calls - 1] if self._calls > 1 else seed)


def _truncated_normal(generator: np.random.Generator, shape, dtype: np.dtype) -> Array:
    """Standard normal numbers; those beyond 2 are redrawn."""
    values = generator.standard_normal(shape, dtype)  # type: ignore[arg-type]
    flat = values.reshape(-1)
    outside = np.flatnonzero(np.abs(flat) > 2)
    while outside.size:
        flat[outside] = generator.standard_normal(outside.size, dtype)  # type: ignore[arg-type]
        outside = outside[np.abs(flat[outside]) > 2]
    return values


class RandomNormal(RandomInitializer, names=("random_normal", "normal")):
    """Normal random numbers.

    Args:
        mean: The mean.
        stddev: The standard deviation.

    Example:
        >>> values = keras.initializers.RandomNormal(mean=1.0, stddev=0.1, seed=0)((100, 100))
        >>> round(float(values.mean()), 2), round(float(values.std()), 2)
        (1.0, 0.1)
    """

    def __init__(self, mean: Number = 0.0, stddev: Number = 0.05, seed: Any = None):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, shape, dtype=None) -> Array:
        shape, dtype = _weight(self, shape, dtype, floats=True)
        return _scaled(self.generator().standard_normal(shape, dtype), self.stddev, self.mean)


class TruncatedNormal(RandomInitializer, names=("truncated_normal",)):
    """Normal random numbers; numbers beyond two standard deviations from the mean are redrawn.

    Args:
        mean: The mean.
        stddev: The standard deviation before redrawing; the result's is 0.88 times as large.

    Example:
        >>> values = keras.initializers.TruncatedNormal(stddev=1.0, seed=0)((100, 100))
        >>> bool(abs(values).max() <= 2)
        True
    """

    def __init__(self, mean: Number = 0.0, stddev: Number = 0.05, seed: Any = None):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, shape, dtype=None) -> Array:
        values = _truncated_normal(self.generator(), *_weight(self, shape, dtype, floats=True))
        return _scaled(values, self.stddev, self.mean)


class RandomUniform(RandomInitializer, names=("random_uniform", "uniform")):
    """Uniform random numbers from minval to maxval.

    Args:
        minval: The smallest number.
        maxval: The largest number.

    Example:
        >>> values = keras.initializers.RandomUniform(0.0, 2.0, seed=0)((100, 100))
        >>> round(float(values.min()), 1), round(float(values.max()), 1)
        (0.0, 2.0)
    """

    def __init__(self, minval: Number = -0.05, maxval: Number = 0.05, seed: Any = None):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, shape, dtype=None) -> Array:
        values = self.generator().random(*_weight(self, shape, dtype, floats=True))
        return _scaled(values, self.maxval - self.minval, self.minval)


def _scaled(values: Array, factor: float, offset: float) -> Array:
    """values * factor + offset, computed in place."""
    values *= values.dtype.type(factor)
    values += values.dtype.type(offset)
    return values


def compute_fans(shape, input_axes=None, output_axes=None) -> tuple[int, int]:
    """The numbers of input and output units of a weight, fan_in and fan_out.

    For a matrix they are its two sizes; for a convolution kernel (..., in, out), in and out times the receptive field.

    Args:
        shape: The shape of the weight.
        input_axes: With output_axes: the axes whose sizes are multiplied for fan_in.
        output_axes: With input_axes: the axes whose sizes are multiplied for fan_out.

    Returns:
        Two integers.

    Example:
        >>> keras.initializers.compute_fans((3, 3, 16, 32))
        (144, 288)
        >>> keras.initializers.compute_fans((64, 8, 16), input_axes=(0,), output_axes=(1, 2))
        (64, 128)
    """
    shape = tuple(shape)
    if input_axes is not None and output_axes is not None:
        if not all(-len(shape) <= axis < len(shape) for axis in (*input_axes, *output_axes)):
            raise ValueError(f"a weight of shape {shape} does not have the axes {input_axes} and {output_axes}")
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if not shape:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    field = math.prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


def _distribution(name: str, what: str, distribution: Any) -> str:
    distribution = "truncated_normal" if str(distribution).lower() == "normal" else distribution
    return one_of(name, what, distribution, _DISTRIBUTIONS, any_case=True)


_DISTRIBUTIONS = ("uniform", "truncated_normal", "untruncated_normal")
Mode = Annotated[str, option.choice("fan_in", "fan_out", "fan_avg")]
Axes = Annotated[Any, option.optional(option.Integers)]
Distribution = Annotated[str, option.kind(_distribution, f"one of {_DISTRIBUTIONS}, or 'normal'")]
_TRUNCATED_STDDEV = 0.87962566103423978  # the standard deviation of a standard normal that is truncated at 2


class VarianceScaling(RandomInitializer, names=("variance_scaling",)):
    """Random numbers of variance scale / n, where n is a number of units of the weight.

    Args:
        scale: The factor of the variance.
        mode: n is the number of input units ('fan_in'), of output units ('fan_out'), or the mean of both ('fan_avg').
        distribution: 'uniform', 'truncated_normal' ('normal' is its old name), or 'untruncated_normal'.
        input_axes: With output_axes: the axes of the input units; see `compute_fans`.
        output_axes: With input_axes: the axes of the output units; see `compute_fans`.

    Raises:
        ValueError: for a scale of 0 or less, and for an unknown mode or distribution.

    Example:
        >>> values = keras.initializers.VarianceScaling(2.0, "fan_out", seed=0)((100, 200))
        >>> round(float(values.std()), 2)  # the root of 2 / 200
        0.1
    """

    def __init__(
        self,
        scale: option.Above0 = 1.0,
        mode: Mode = "fan_in",
        distribution: Distribution = "truncated_normal",
        seed: Any = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, shape, dtype=None) -> Array:
        shape, dtype = _weight(self, shape, dtype, floats=True)
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        units = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, units))
        generator = self.generator()
        if self.distribution == "uniform":
            limit = math.sqrt(3.0) * stddev
            return _scaled(generator.random(shape, dtype), 2 * limit, -limit)
        if self.distribution == "truncated_normal":
            return _scaled(_truncated_normal(generator, shape, dtype), stddev / _TRUNCATED_STDDEV, 0.0)
        return _scaled(generator.standard_normal(shape, dtype), stddev, 0.0)


class _Named(VarianceScaling):
    """A VarianceScaling with fixed scale, mode and distribution, which are not options."""

    arguments: tuple[float, str, str]

    def __init__(self, seed: Seed = None, input_axes: Axes = None, output_axes: Axes = None):
        super().__init__(*self.arguments, seed, input_axes, output_axes)


class LecunUniform(_Named, names=("lecun_uniform",)):
    """Uniform random numbers within sqrt(3 / fan_in) (LeCun et al., 1998).

    Example:
        >>> values = keras.initializers.LecunUniform(seed=0)((300, 40))
        >>> round(float(abs(values).max()), 2)  # sqrt(3 / 300)
        0.1
    """

    arguments = (1.0, "fan_in", "uniform")


class LecunNormal(_Named, names=("lecun_normal",)):
    """Truncated normal random numbers of standard deviation sqrt(1 / fan_in) (Klambauer et al., 2017).

    Example:
        >>> values = keras.initializers.LecunNormal(seed=0)((100, 400))
        >>> round(float(values.std()), 2)  # sqrt(1 / 100)
        0.1
    """

    arguments = (1.0, "fan_in", "truncated_normal")


class GlorotUniform(_Named, names=("glorot_uniform",)):
    """Uniform random numbers within sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010).

    Example:
        >>> values = keras.initializers.GlorotUniform(seed=0)((200, 400))
        >>> round(float(abs(values).max()), 2)  # sqrt(6 / 600)
        0.1
        >>> type(layers.Dense(4).kernel_initializer).__name__  # the default of most layers
        'GlorotUniform'
    """

    arguments = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Named, names=("glorot_normal",)):
    """Truncated normal random numbers of standard deviation sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio, 2010).

    Example:
        >>> values = keras.initializers.GlorotNormal(seed=0)((100, 100))
        >>> round(float(values.std()), 2)  # sqrt(2 / 200)
        0.1
    """

    arguments = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Named, names=("he_uniform",)):
    """Uniform random numbers within sqrt(6 / fan_in) (He et al., 2015).

    Example:
        >>> values = keras.initializers.HeUniform(seed=0)((600, 40))
        >>> round(float(abs(values).max()), 2)  # sqrt(6 / 600)
        0.1
    """

    arguments = (2.0, "fan_in", "uniform")


class HeNormal(_Named, names=("he_normal",)):
    """Truncated normal random numbers of standard deviation sqrt(2 / fan_in) (He et al., 2015).

    Example:
        >>> layer = layers.Dense(100, "relu", kernel_initializer="he_normal")
        >>> layer.build((None, 200))
        >>> round(float(layer.kernel.numpy().std()), 2)  # sqrt(2 / 200)
        0.1
    """

    arguments = (2.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer, names=("orthogonal", "OrthogonalInitializer")):
    """A random matrix with orthonormal rows or columns, whichever are fewer (Saxe et al., 2014).

    If the shape has more than two axes, all except the last are merged into rows.

    Args:
        gain: The factor of the matrix.

    Raises:
        ValueError: when it is called, for a shape with fewer than two axes.

    Example:
        >>> q = keras.initializers.Orthogonal(seed=0)((4, 2))
        >>> (q.T @ q).round(3) + 0.0
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """

    def __init__(self, gain: option.Number = 1.0, seed: Any = None):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, shape, dtype=None) -> Array:
        shape, dtype = _weight(self, shape, dtype, floats=True)
        if len(shape) < 2:
            raise ValueError(f"Orthogonal needs a shape of at least 2 axes, received {tuple(shape)}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(self.generator().standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)  # makes the distribution uniform over all orthogonal matrices
        return np.ascontiguousarray(self.gain * (q.T if rows < columns else q), dtype).reshape(shape)


get, deserialize = registry.get, registry.deserialize


def serialize(initializer) -> Any:
    """The configuration of an initializer, from which `deserialize` recreates it.

    Args:
        initializer: An Initializer, or a function.

    Returns:
        A dict with 'class_name' and 'config'; of a function, a name or a dict.

    Example:
        >>> keras.initializers.serialize(keras.initializers.Constant(0.5))["config"]
        {'value': 0.5}
    """
    return registry.serialize(initializer)


zero = zeros = Zeros
one = ones = Ones
constant = Constant
identity = IdentityInitializer = Identity
stft = STFTInitializer = STFT
normal = random_normal = RandomNormal
uniform = random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
lecun_uniform, lecun_normal = LecunUniform, LecunNormal
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
he_uniform, he_normal = HeUniform, HeNormal
orthogonal = OrthogonalInitializer = Orthogonal

_lazy_names.attach(globals(), registry)
