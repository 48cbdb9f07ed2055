"""Ops of images beside test_calls.py: gradients by parameters, replay, messages."""

import numpy as np
import pytest
from mistakes import mistakes

from nbkeras import ops
from nbkeras.building.inputs import Input
from nbkeras.models import Model
from nbkeras.ops import image, resize
from nbkeras.testing import check_op

RNG = np.random.default_rng(37)
X = RNG.standard_normal((2, 5, 6, 3))
PLACES = RNG.uniform(-2, 8, (2, 3, 4))
NUMBERS = np.array([[0.9, 0.2, 0.5, -0.1, 1.1, -0.3, 0, 0], [1.2, 0.1, 0.1, 0.2, 0.8, 0.4, 0, 0]]) + RNG.normal(
    0, 0.01, 8
)
CORNERS = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 4.0], [5.0, 4.0]])

CASES = {
    "blur": (lambda x, s: image.gaussian_blur(x, (3, 5), s), X, np.array([0.8, 1.3])),
    "affine": (image.affine_transform, X, NUMBERS),
    "perspective": (lambda x, s: image.perspective_transform(x, s, CORNERS), X[0], CORNERS + RNG.normal(0, 0.3, (4, 2))),
    **{
        f"map_{mode}": (lambda x, at, mode=mode: image.map_coordinates(x, at, 1, mode, 0.5), X[0, :, :, 0], PLACES)
        for mode in ("constant", "nearest", "wrap", "mirror", "reflect")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_gradients_and_replay(name):
    function, *arrays = CASES[name]
    check_op(function, *arrays, single_tolerance=1e-3)


def test_forms_and_dtypes():
    first = np.moveaxis(X, 3, 1)
    for function in (
        image.rgb_to_grayscale,
        lambda x, data_format=None: image.resize(x, (3, 3), data_format=data_format),
    ):
        y = function(X)
        np.testing.assert_array_equal(np.moveaxis(function(first, data_format="channels_first"), 1, 3), y)
        np.testing.assert_array_equal(function(X[0]), y[0])
    whole = (RNG.uniform(0, 255, (4, 5, 3))).astype(np.uint8)
    assert image.resize(whole, (2, 2)).dtype == np.uint8
    assert image.rgb_to_grayscale(whole).dtype == np.uint8
    np.testing.assert_array_equal(image.map_coordinates(np.int32([[1, 4]]), [[0.0], [0.5]], 1), [3])
    np.testing.assert_array_equal(image.affine_transform(X, [1.0, 0, 0, 0, 1, 0, 0, 0]), X)
    np.testing.assert_allclose(image.perspective_transform(X, CORNERS, CORNERS), X, rtol=1e-9, atol=1e-12)


def test_elastic_transform():
    for seed, same in ((3, True), (None, False)):
        first, second = (image.elastic_transform(X, 2.0, 1.0, seed=seed).numpy() for _ in range(2))
        assert first.shape == X.shape and np.array_equal(first, second) == same and not np.array_equal(first, X)
    np.testing.assert_array_equal(image.elastic_transform(X, 0.0), X)
    flat = image.elastic_transform(
        np.ones((5, 6, 3)), 9.0, 2.0, fill_mode="constant", data_format="channels_first", fill_value=1.0
    )
    np.testing.assert_allclose(flat, 1, rtol=1e-12)
    check_op(lambda x: image.elastic_transform(x, 2.0, 1.0, seed=3), X, single_tolerance=1e-3)


def test_in_a_model():
    inputs = Input((5, 6, 3))
    model = Model(inputs, [image.resize(inputs, (10, 3)), image.rgb_to_grayscale(inputs)])
    assert [y.shape for y in model.outputs] == [(None, 10, 3, 3), (None, 5, 6, 1)]
    padded = image.pad_images(Input((None, None, 3)), 2, 3, target_height=20, target_width=30)
    assert padded.shape == (None, 20, 30, 3)
    np.testing.assert_allclose(
        model.predict(np.float32(X), verbose=0)[0], image.resize(X, (10, 3)), rtol=1e-4, atol=1e-6
    )


ERRORS = [
    (
        lambda: image.extract_patches(X, "ab"),
        "extract_patches: size must be a positive integer or 2 of them, received 'ab'",
    ),
    (lambda: image.extract_patches(X, np.float64(2)), "extract_patches: size must be a positive integer"),
    (lambda: image.resize(X, (3,)), r"expected size \(height, width\)"),
    (lambda: image.resize(X, (3, 3), "area"), "interpolation must be"),
    (lambda: image.resize(X[0, 0], (3, 3)), "expected an image of 3 axes"),
    (lambda: image.rgb_to_grayscale(X[..., :2]), "1 or 3 channels"),
    (lambda: image.rgb_to_hsv(np.zeros((3, 3, 3), np.int32)), "expected floats in 3 channels"),
    (lambda: image.pad_images(X, 1, 1, 1, 1, 9), r"pad_images: give two of .* and the target, received \(1, 1, 9\)"),
    (lambda: image.crop_images(X, 3, 0, 2, 0), "3 before and 2 after do not fit an image of 5"),
    (lambda: image.ssim(X, X[0]), "expected two images of the same shape"),
    (lambda: image.affine_transform(X, NUMBERS[:, :6]), "transform must have shape"),
    (lambda: image.affine_transform(X, NUMBERS[[0, 1, 0]]), "a transform for each of 2 images"),
    (lambda: image.affine_transform(X, NUMBERS, "cubic"), "interpolation must be"),
    (lambda: image.affine_transform(X, NUMBERS, fill_mode="edge"), "fill_mode must be"),
    (lambda: image.perspective_transform(X, CORNERS, CORNERS[:3]), "must have the same shape"),
    (
        lambda: image.perspective_transform(X, CORNERS, [[n, n] for n in range(4)]),
        "perspective_transform, equations of end_points: matrix .* is singular",
    ),
    (lambda: image.map_coordinates(X, PLACES, 1), "coordinates must have shape"),
    (lambda: image.map_coordinates(X[0, 0], PLACES, 3), "order must be 0 or 1, received 3"),
    (lambda: image.scale_and_translate(X, X.shape, [1.0], [0.0, 1.0], (1,), "linear"), "expected one scale"),
    (lambda: image.scale_and_translate(X, X.shape, [1.0], [0.0], (1,), "area"), "method must be"),
    (lambda: image.extract_patches(X[0, 0], 2), r"extract_patches: expected 3 axes or a batch of 4, received shape"),
]


test_mistakes_are_explained = mistakes(ERRORS, ValueError)


def test_the_face():
    assert ops.image.resize is image.resize


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos3"])
def test_few_places_of_many_are_summed_as_a_product_would(interpolation, monkeypatch):
    """Wide images take another branch of `blend` along their width, with the same numbers."""
    x = np.random.default_rng(0).random((6, 112, 2))
    taken = []
    monkeypatch.setattr(resize, "take", lambda *args: (taken.append(args), ops.take(*args))[1])
    found = image.resize(x, (4, 130), interpolation).numpy()
    assert taken
    taken.clear()
    monkeypatch.setattr(resize, "_SPARSITY", 10**9)
    np.testing.assert_allclose(found, image.resize(x, (4, 130), interpolation), rtol=1e-9, atol=1e-14)
    assert not taken
