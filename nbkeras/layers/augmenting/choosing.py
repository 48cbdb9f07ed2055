"""Layers that apply other layers, chosen at random in each step: RandAugment, AugMix."""

from __future__ import annotations

import functools
from typing import Any, Unpack

from nbkeras import ops, random
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option, sharding
from nbkeras.layers.augmenting import colors, histograms, moves
from nbkeras.layers.augmenting.images import Interpolation, Part, RandomImages, ValueRange


class _Choosing(RandomImages):
    """Base of layers that choose among `names`, layers that they make as attributes."""

    names: tuple[str, ...]

    def _make_parts(self) -> None:
        """Make the layers."""
        options = {
            "dtype": self.dtype,
            "data_format": self.data_format,
            "bounding_box_format": self.bounding_box_format,
        }
        moved, coloured = {**options, "interpolation": self.interpolation}, {**options, "value_range": self.value_range}
        strength = self.factor
        self.random_shear = moves.RandomShear(strength, strength, **moved)
        self.random_translation = moves.RandomTranslation(strength, strength, **moved)
        self.random_rotation = moves.RandomRotation(strength, **moved)
        for name, kind in _COLOURS.items():
            if name in self.names:
                setattr(self, name, kind(strength, **coloured))
        self.solarization = colors.Solarization(strength, strength, **coloured)
        self.random_posterization = colors.RandomPosterization(max(1, int(8 * strength[1])), **coloured)
        self.auto_contrast = colors.AutoContrast(**coloured)
        self.equalization = histograms.Equalization(**coloured)

    def _drawn_of_all(self, shape: tuple, seed: Any) -> dict[str, Any]:
        """A transformation of each layer."""
        return {
            name: layer.drawn(shape, seed) if isinstance(layer, RandomImages) else None
            for name, layer in ((name, getattr(self, name)) for name in self.names)
        }

    def _apply(self, kind: str, index: Any, transformations: dict[str, Any], values: Any) -> Any:
        """Values changed by one layer, or unchanged for an index beyond the layers. kind: 'images' for `transform_images`."""
        calls = [
            functools.partial(_applied, getattr(self, name), kind, transformation)
            for name, transformation in transformations.items()
        ]
        return ops.switch(ops.cast(index, "int32"), [*calls, lambda values: values], values)


def _applied(layer: Any, kind: str, transformation: Any, values: Any) -> Any:
    return getattr(layer, f"transform_{kind}")(values, transformation)


_COLOURS = {
    "random_brightness": colors.RandomBrightness,
    "random_color_degeneration": colors.RandomColorDegeneration,
    "random_contrast": colors.RandomContrast,
    "random_sharpness": colors.RandomSharpness,
}
_MOVES = ("random_shear", "random_translation", "random_rotation")
_OTHERS = ("random_posterization", "solarization", "auto_contrast", "equalization")


class RandAugment(_Choosing):
    """Applies some layers to each batch, chosen at random: moves, colours and histograms (Cubuk et al., 2019).

    The layers are RandomShear, RandomTranslation, RandomRotation, RandomBrightness, RandomColorDegeneration, RandomContrast,
    RandomSharpness, RandomPosterization, Solarization, AutoContrast and Equalization.

    Args:
        value_range: The smallest and the largest value of a pixel.
        num_ops: The number of layers that are applied; a layer may be chosen again.
        factor: The factor of each layer: (lowest, highest); f means (0, f).
        interpolation: How values between pixels are computed.

    Output shape:
        The inputs' shapes; images in the layer's dtype.

    Example:
        >>> layers.RandAugment()(np.ones((2, 8, 8, 3))).shape
        (2, 8, 8, 3)
    """

    _FACTOR_BOUNDS = (0.0, 1.0)
    names = (*_MOVES, *_COLOURS, *_OTHERS)

    def __init__(
        self,
        value_range: ValueRange = (0, 255),
        num_ops: option.Size = 2,
        factor: Part = 0.5,
        interpolation: Interpolation = "bilinear",
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self._make_parts()

    def drawn(self, shape, seed):
        with sharding.within(None):  # the same layers for all images
            indices = random.randint((self.num_ops,), 0, len(self.names), seed=seed)
        return {"transforms": self._drawn_of_all(shape, seed), "layer_idxes": indices}

    def _apply_all(self, kind: str, values: Any, transformation: Any) -> Any:
        for index in ops.unstack(transformation["layer_idxes"], self.num_ops):
            values = self._apply(kind, index, transformation["transforms"], values)
        return values

    def change(self, images, transformation):
        return self._apply_all("images", images, transformation)

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        return self._apply_all("bounding_boxes", bounding_boxes, transformation) if training else bounding_boxes

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return (
            self._apply_all("segmentation_masks", segmentation_masks, transformation)
            if training
            else segmentation_masks
        )


class AugMix(_Choosing):
    """Mixes each image with the results of several chains of layers, chosen at random (Hendrycks et al., 2019).

    The layers are those of RandAugment. Boxes and labels stay; masks are mixed like images.

    Args:
        value_range: The smallest and the largest value of a pixel, to which the results are clipped.
        num_chains: The number of chains.
        chain_depth: The largest number of layers of a chain.
        factor: The factor of each layer: (lowest, highest); f means (0, f).
        alpha: The parameter of the Dirichlet distribution of the chains' weights, and of the Beta distribution of the weight of
            the unchanged image.
        all_ops: Whether the layers for brightness, colour, contrast and sharpness are among them.
        interpolation: How values between pixels are computed.

    Output shape:
        The inputs' shapes; images in the layer's dtype.

    Example:
        >>> layers.AugMix(num_chains=2, chain_depth=1)(np.ones((2, 8, 8, 3))).shape
        (2, 8, 8, 3)
    """

    _FACTOR_BOUNDS = (0.0, 1.0)

    def __init__(
        self,
        value_range: ValueRange = (0, 255),
        num_chains: option.Size = 3,
        chain_depth: option.Size = 3,
        factor: Part = 0.3,
        alpha: option.Above0 = 1.0,
        all_ops: option.Flag = True,
        interpolation: Interpolation = "bilinear",
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.names = (*_MOVES, *_OTHERS, *(_COLOURS if all_ops else ()))
        self._make_parts()

    def drawn(self, shape, seed):
        chains = range(self.num_chains)
        with sharding.within(None):  # the same chains for all images
            weights = random.gamma((self.num_chains,), self.alpha, self.compute_dtype, seed)
            own = random.beta((), self.alpha, self.alpha, self.compute_dtype, seed)
            # the last index stands for no layer
            indices = random.randint((self.num_chains, self.chain_depth), 0, len(self.names) + 1, seed=seed)
        return {
            "chain_mixing_weights": ops.divide(weights, ops.sum(weights)),
            "weight_sample": own,
            "chain_transforms": [
                [
                    {"layer_idx": indices[chain, depth], "transforms": self._drawn_of_all(shape, seed)}
                    for depth in range(self.chain_depth)
                ]
                for chain in chains
            ],
        }

    def _mixed(self, kind: str, values: Any, transformation: Any) -> Any:
        weights = ops.cast(transformation["chain_mixing_weights"], self.compute_dtype)
        mixed: Any = 0.0
        for number, chain in enumerate(transformation["chain_transforms"]):
            changed = values
            for link in chain:
                if "layer_name" in link:  # in Keras, the choice is made before
                    changed = _applied(getattr(self, link["layer_name"]), kind, link["transformation"], changed)
                else:
                    changed = self._apply(kind, link["layer_idx"], link["transforms"], changed)
            mixed = ops.add(mixed, ops.multiply(ops.cast(changed, self.compute_dtype), weights[number]))
        own = ops.cast(transformation["weight_sample"], self.compute_dtype)
        return ops.add(
            ops.multiply(own, ops.cast(values, self.compute_dtype)), ops.multiply(ops.subtract(1.0, own), mixed)
        )

    def change(self, images, transformation):
        return ops.clip(self._mixed("images", images, transformation), *self.value_range)

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return self._mixed("segmentation_masks", segmentation_masks, transformation) if training else segmentation_masks
