"""`ops.image.elastic_transform`, elastic distortion of images. It is not in nbkeras.ops, because it draws random numbers."""

from typing import Any

from nbkeras import ops, random
from nbkeras.engine.tensor import Tensor, as_float, op
from nbkeras.ops import coordinates
from nbkeras.ops.window import data_format_of


@op
def elastic_transform(
    images,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: Any = None,
    data_format: str | None = None,
) -> Tensor:
    """Distort images: each pixel comes from a position shifted by smooth noise (Simard, Steinkraus and Platt, 2003).

    The noise is normally distributed with deviation sigma, and blurred by a Gaussian of sigma.

    Args:
        images: An image (height, width, channels), or a batch of images; channels first for 'channels_first'.
        alpha: The factor of the noise.
        sigma: The deviation of the noise and of the Gaussian, in pixels.
        interpolation: How values between pixels are computed: 'nearest' or 'bilinear'.
        fill_mode: How values outside the image are chosen: 'reflect', 'wrap', 'constant' or 'nearest'.
        fill_value: The value outside the image for 'constant'.
        seed: An integer for the same numbers on every call, or a SeedGenerator for new ones; None for the global generator,
            which `utils.set_random_seed` restarts.
        data_format: 'channels_last' or 'channels_first'; None for `config.image_data_format()`.

    Returns:
        Images of the same shape.

    Example:
        >>> keras.ops.image.elastic_transform(np.ones((2, 8, 8, 3)), alpha=2.0, sigma=1.0).shape
        (2, 8, 8, 3)
    """
    name, form = "elastic_transform", data_format_of("elastic_transform", data_format)
    images = as_float(images)
    if images.ndim not in (3, 4):
        raise ValueError(f"{name}: expected an image of 3 axes or a batch of 4, received shape {images.shape}")
    height, width = images.shape[-2:] if form == "channels_first" else images.shape[-3:-1]
    (count,) = images.shape[:-3] or (1,)
    noise = random.normal((count, height, width, 2), 0.0, sigma, images.dtype, seed)
    return distorted(images, noise, alpha, sigma, int(6 * sigma) | 1, (form, interpolation, fill_mode, fill_value))


def distorted(images: Any, noise: Tensor, alpha: Any, sigma: Any, size: int, options: tuple) -> Tensor:
    """Images whose pixels come from positions shifted by alpha times noise, which is blurred by a Gaussian of sigma.

    noise: (batch, height, width, 2), for x and y. size: the window of the Gaussian. options: the data format, the
    interpolation, the fill mode and the fill value.
    """
    form, interpolation, fill_mode, fill_value = options
    smooth = ops.image.gaussian_blur(noise, (size, size), ops.stack([sigma, sigma]), "channels_last")

    def places(x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
        across, down = ops.unstack(ops.reshape(ops.multiply(ops.cast(smooth, x.dtype), alpha), (count, -1, 2)), axis=-1)
        return ops.add(x, across), ops.add(y, down)

    return coordinates.moved("elastic_transform", images, form, interpolation, fill_mode, fill_value, places)
