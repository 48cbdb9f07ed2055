"""Layers of images: sizes compared with real Keras's (reference/make_images.py), and the limits of random changes."""

from pathlib import Path

import numpy as np
import pytest
from image_cases import CASES
from mistakes import mistakes

from nbkeras import layers as L
from nbkeras import utils

rng = np.random.default_rng(0)


@pytest.mark.parametrize("name", CASES)
def test_equals_keras(name):
    kind, arguments, inputs = CASES[name]
    with np.load(Path(__file__).parents[1] / "reference" / "images.npz", allow_pickle=False) as file:
        expected = file[name]
    found = getattr(L, kind)(**arguments)(inputs).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("form", ["batch", "single", "first"])
def test_flips_mirror_each_image_or_leave_it(form):
    utils.set_random_seed(0)
    layer = L.RandomFlip("horizontal", data_format="channels_first" if form == "first" else None)
    for image in rng.uniform(size=(9, 4, 5, 3)).astype("float32"):
        given = image if form == "single" else image[None]
        given = np.moveaxis(given, -1, 1) if form == "first" else given
        found = layer(given).numpy()
        axis = 3 if form == "first" else -2
        assert np.array_equal(found, given) or np.array_equal(found, np.flip(given, axis))
    np.testing.assert_array_equal(layer(given, training=False).numpy(), given)


def test_crops_are_parts():
    layer, x = L.RandomCrop(2, 3, seed=1), np.arange(2 * 5 * 6).reshape(2, 5, 6, 1).astype("float32")
    starts = set()
    for _ in range(20):
        found = layer(x).numpy()
        row, column = divmod(int(found[0, 0, 0, 0]), 6)
        np.testing.assert_array_equal(found, x[:, row : row + 2, column : column + 3])
        starts.add((row, column))
    assert len(starts) > 5
    np.testing.assert_array_equal(layer(x, training=False).numpy(), x[:, 1:3, 1:4])


def test_whole_moves_are_exact():
    x = rng.uniform(size=(2, 4, 4, 1)).astype("float32")
    moved = L.RandomTranslation((0.25, 0.25), (-0.5, -0.5), fill_mode="wrap")(x).numpy()
    np.testing.assert_allclose(moved, np.roll(x, (1, -2), (1, 2)), rtol=1e-5)
    turned = L.RandomRotation((0.25, 0.25))(x).numpy()
    np.testing.assert_allclose(turned, np.rot90(x, 1, (1, 2)), rtol=1e-4, atol=1e-5)
    near = L.RandomZoom((0.0, 0.0))(x).numpy()
    np.testing.assert_allclose(near, x, rtol=1e-5)


def test_an_erased_part_is_a_rectangle():
    x = np.ones((6, 8, 9, 3), "float32")
    found = L.RandomErasing((1.0, 1.0), (0.1, 0.4), fill_value=(0.0, 2.0, 3.0), value_range=(0, 3))(x).numpy()
    for image in found:
        rows, columns = np.nonzero(image[..., 0] == 0)
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1) > 0
        np.testing.assert_array_equal(image[rows, columns], np.broadcast_to([0, 2, 3], (len(rows), 3)))
    noise = L.RandomErasing((0.0, 1.0), value_range=(0, 3))(x).numpy()
    assert noise.min() >= 0 and noise.max() <= 3


def test_a_sheared_image_keeps_its_first_row():
    x = rng.uniform(size=(5, 4, 6, 1)).astype("float32")
    sheared = L.RandomShear((1.0, 1.0), fill_mode="wrap")(x).numpy()
    for before, after in zip(x, sheared, strict=True):
        both = [np.stack([np.roll(row, way * i, 0) for i, row in enumerate(before)]) for way in (1, -1)]
        assert any(np.allclose(after, each, atol=1e-5) for each in both)


def test_colours_of_no_chance():
    x = rng.uniform(0, 1, size=(2, 4, 5, 3)).astype("float32")
    brighter = L.RandomBrightness((0.5, 0.5), (0, 1))(x).numpy()
    np.testing.assert_allclose(brighter, np.minimum(x + 0.5, 1), rtol=1e-6)
    mean = x.mean((1, 2), keepdims=True)
    contrast = L.RandomContrast((-0.5, 0.5), (0, 1))(x).numpy()
    np.testing.assert_allclose(contrast, np.clip((x - mean) * 1.5 + mean, 0, 1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(L.RandomInvert((1, 1), (0, 1))(x).numpy(), 1 - x, rtol=1e-6)
    np.testing.assert_allclose(L.RandomHue((0, 0), (0, 1))(x).numpy(), x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(L.RandomSaturation((0.5, 0.5), (0, 1))(x).numpy(), x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(L.RandomPosterization((1, 1), (0, 255))(x * 255).numpy(), (x * 255 >= 128) * 128.0)
    np.testing.assert_allclose(L.Solarization(0.0, 0.0, (0, 255))(x * 255).numpy(), 255 - x * 255, rtol=1e-5)
    gray = (x * np.array([0.2989, 0.5870, 0.1140], "float32")).sum(-1, keepdims=True)
    for layer in (L.RandomGrayscale(1.0), L.RandomColorDegeneration((1, 1), (0, 1))):
        np.testing.assert_allclose(layer(x).numpy(), np.broadcast_to(gray, x.shape), rtol=1e-4, atol=1e-5)


test_mistakes_are_explained = mistakes(
    [
        (lambda: L.Resizing(0, 3), "height must be a positive integer"),
        (lambda: L.CenterCrop(3, 3)(np.ones((2, 3))), "3 axes or a batch of 4"),
        (lambda: L.RandomFlip("sideways"), "mode must be one of 'horizontal', 'vertical', 'horizontal_and_vertical'"),
        (lambda: L.RandomRotation(2.0), "number from -1.0 to 1.0"),
        (lambda: L.RandomZoom(0.1, fill_mode="mirror"), "fill_mode must be"),
        (lambda: L.RandomBrightness(0.1, 255), "value_range must be two numbers"),
        (lambda: L.RandomGrayscale(2), "factor must be a number from 0 to 1, received 2"),
        (lambda: L.Pipeline([len]), "list of layers"),
        (lambda: L.RandomGaussianBlur(kernel_size=4), "kernel_size must be an odd integer or two, received 4"),
    ],
    ValueError,
)
