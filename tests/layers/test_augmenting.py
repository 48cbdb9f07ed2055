"""Images with boxes, masks and labels: transformations that real Keras drew and made, random numbers, programs, mistakes."""

import warnings

import numpy as np
import pytest
from augmenting_cases import CASES, OTHERWISE, data_of
from keras_results import assert_same
from keras_results import stored as read
from made_models import compiled
from mistakes import mistakes

from nbkeras import layers as L
from nbkeras import models, ops, random, utils

KINDS = ("images", "labels", "bounding_boxes", "segmentation_masks")


@pytest.fixture(scope="module")
def stored():
    return read()


def layer_of(name, **options):
    kind, arguments, box_format, _ = CASES[name]
    return getattr(L, kind)(**arguments, bounding_box_format=box_format, **options)


def given(name):
    """The data of a case, with boxes in its format."""
    *_, box_format, (height, width) = CASES[name]
    data = data_of(name)
    if box_format is not None:
        made = utils.bounding_boxes.convert_format(data["bounding_boxes"], "xyxy", box_format, height, width)
        data["bounding_boxes"] = {key: np.asarray(each) for key, each in made.items()}
    return data


@pytest.mark.parametrize("name", CASES)
def test_equals_keras(name, stored):
    """With the transformation that Keras drew."""
    layer, data, expected = layer_of(name), given(name), stored[name]
    for kind in KINDS:
        if kind in data and kind in expected and kind not in OTHERWISE.get(name, ()):
            found = getattr(layer, f"transform_{kind}")(data[kind], expected["transformation"], training=True)
            assert_same(found, expected[kind])
            if kind != "bounding_boxes":
                assert found.dtype.name == expected["dtypes"][kind]


# -------------------- parts of the data that follow the images --------------------

SIZE = (24, 32)


def scene(box_format, first=False):
    """Black images with a white rectangle, its box, and a mask that equals the images."""
    chance = np.random.default_rng(3)
    images, sides = np.zeros((8, *SIZE, 1), "float32"), []
    for image in images:
        left, top = chance.integers(7, 17), chance.integers(6, 11)
        right, bottom = left + chance.integers(4, 9), top + chance.integers(4, 9)
        image[top:bottom, left:right] = 1
        sides.append([[left, top, right, bottom]])
    given = {"boxes": np.array(sides, "float32"), "labels": np.full((8, 1), 5)}
    made = utils.bounding_boxes.convert_format(given, "xyxy", box_format, *SIZE)
    data = {"images": np.moveaxis(images, -1, 1) if first else images, "bounding_boxes": made}
    return {**data, "segmentation_masks": data["images"].astype("int32")}


MOVES = {
    "flip": lambda **k: L.RandomFlip(**k),
    "translation": lambda **k: L.RandomTranslation(0.3, 0.3, fill_mode="constant", **k),
    "rotation": lambda **k: L.RandomRotation(0.2, fill_mode="constant", **k),
    "zoom": lambda **k: L.RandomZoom(0.4, 0.2, fill_mode="constant", **k),
    "shear across": lambda **k: L.RandomShear(0.3, 0.0, fill_mode="constant", **k),
    "shear down": lambda **k: L.RandomShear(0.0, 0.3, fill_mode="constant", **k),
    "perspective": lambda **k: L.RandomPerspective((1.0, 1.0), 0.3, **k),
    "crop": lambda **k: L.RandomCrop(20, 26, **k),
    "crop of small images": lambda **k: L.RandomCrop(36, 26, **k),
    "middle": lambda **k: L.CenterCrop(18, 26, **k),
    "middle of small images": lambda **k: L.CenterCrop(36, 28, **k),
    "resized": lambda **k: L.Resizing(40, 20, **k),
    "resized and padded": lambda **k: L.Resizing(40, 40, pad_to_aspect_ratio=True, **k),
    "resized and cropped": lambda **k: L.Resizing(30, 30, crop_to_aspect_ratio=True, **k),
    "several": lambda **k: L.RandAugment((0, 1), num_ops=3, factor=0.2, **k),
}


@pytest.mark.parametrize(
    "form",
    [
        "xyxy",
        "first",
        # other formats of boxes are computed from these, and need no simulated GPU
        pytest.param("rel_center_xywh", marks=pytest.mark.big),
        pytest.param("center_yxhw", marks=pytest.mark.big),
    ],
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.big) if name == "several" else name for name in MOVES]
)
def test_boxes_and_masks_follow_the_pixels(name, form):
    """Each box holds the white pixels and is at most some pixels larger, except that one of a rotated rectangle is larger."""
    utils.set_random_seed(1)
    first, box_format = form == "first", "yxyx" if form == "first" else form
    layer = MOVES[name](bounding_box_format=box_format, data_format="channels_first" if first else "channels_last")
    if name == "several":  # colours may invert the images, and reflections show more white pixels
        layer.names = layer.names[:3]
        for part in layer.names:
            getattr(layer, part).fill_mode = "constant"
    found = layer(scene(box_format, first))
    images, masks = (np.asarray(found[key]) for key in ("images", "segmentation_masks"))
    images, masks = (np.moveaxis(each, 1, -1) if first else each for each in (images, masks))
    boxes = utils.bounding_boxes.convert_format(found["bounding_boxes"], box_format, "xyxy", *images.shape[1:3])
    assert masks.shape == images.shape and set(np.unique(masks)) <= {0, 1}
    for image, mask, box, label in zip(images, masks, boxes["boxes"], boxes["labels"], strict=True):
        rows, columns, _ = np.nonzero(image > 0.6)
        if len(rows) < 4:
            continue
        assert int(label[0]) == 5
        assert np.mean((image > 0.5) != (mask > 0.5)) < 0.03
        left, top, right, bottom = np.asarray(box[0])
        slack = 1.6
        assert left - slack <= columns.min() and columns.max() + 1 <= right + slack
        assert top - slack <= rows.min() and rows.max() + 1 <= bottom + slack
        if name not in ("rotation", "several"):
            assert np.ptp(columns) + 1 > right - left - 4 and np.ptp(rows) + 1 > bottom - top - 4


def test_a_distortion_moves_masks_like_images():
    data = scene("xyxy")
    del data["bounding_boxes"]
    layer = L.RandomElasticTransform((1.0, 1.0), (0.8, 0.8), "nearest", value_range=(0, 1))
    found = layer(data)
    assert np.any(np.asarray(found["images"]) != data["images"])
    np.testing.assert_array_equal(found["images"], found["segmentation_masks"])


def test_mixed_up_boxes_keep_their_labels():
    images, boxes = np.ones((3, 4, 4, 1)), np.arange(24.0).reshape(3, 2, 4)
    data = {"images": images, "bounding_boxes": {"boxes": boxes, "labels": np.arange(6).reshape(3, 2)}}
    found = L.MixUp(bounding_box_format="xyxy", seed=1)(data)["bounding_boxes"]
    assert found["boxes"].shape == (3, 4, 4)
    np.testing.assert_array_equal(np.asarray(found["boxes"])[..., 0], np.asarray(found["labels"]) * 4.0)


@pytest.mark.parametrize("form", ["channels_last", "channels_first"])
def test_masks_are_cut_and_mixed_with_their_images(form):
    layer = L.CutMix(data_format=form, seed=2)
    images = np.repeat(np.arange(5.0).reshape(5, 1, 1, 1), 48, axis=1).reshape(5, 6, 8, 1).astype("float32")
    images = np.moveaxis(images, -1, 1) if form == "channels_first" else images
    found = layer({"images": images, "segmentation_masks": images.astype("int32"), "labels": np.eye(5)})
    np.testing.assert_array_equal(found["images"], found["segmentation_masks"])
    for image, label in zip(np.asarray(found["images"]), np.asarray(found["labels"]), strict=True):
        shares = np.array([np.mean(image == number) for number in range(5)])
        np.testing.assert_allclose(shares, label, atol=0.2)  # rows and columns are whole, areas are not
    mixed = L.MixUp(seed=1, data_format=form)({"images": images, "segmentation_masks": images})
    np.testing.assert_allclose(mixed["images"], mixed["segmentation_masks"], rtol=1e-6)


# -------------------- structures --------------------

SEEDLESS = ("CenterCrop", "Resizing", "AutoContrast", "Equalization", "MaxNumBoundingBoxes")


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("adaptive")])
def test_a_single_image_is_a_batch_of_one(name):
    data = given(name)
    one = {key: {k: v[0] for k, v in x.items()} if isinstance(x, dict) else x[0] for key, x in data.items()}
    batch = {key: {k: v[:1] for k, v in x.items()} if isinstance(x, dict) else x[:1] for key, x in data.items()}
    options = {} if CASES[name][0] in SEEDLESS else {"seed": 1}
    found, expected = (layer_of(name, **options)(each) for each in (one, batch))
    if name.startswith("cut_mix"):
        np.testing.assert_array_equal(found["images"], data["images"][0])
    for key, value in expected.items():
        for part, each in value.items() if isinstance(value, dict) else [("", value)]:
            np.testing.assert_array_equal(found[key][part] if part else found[key], each[0])


@pytest.mark.parametrize("name", CASES)
def test_without_training_only_sizes_and_boxes_change(name):
    data, kind = given(name), CASES[name][0]
    found = layer_of(name)({**data, "name": np.zeros(4)}, training=False)
    assert list(found) == [*data, "name"]
    if kind not in ("CenterCrop", "Resizing", "RandomCrop", "AutoContrast") and not name.startswith("adaptive"):
        np.testing.assert_array_equal(found["images"], data["images"])
        np.testing.assert_array_equal(found["segmentation_masks"], data["segmentation_masks"])
    np.testing.assert_array_equal(found["labels"], data["labels"])


def test_the_data_of_a_caller_stays():
    data = scene("xyxy")
    before = {key: value for key, value in data.items()}
    L.Pipeline([L.RandomFlip(bounding_box_format="xyxy"), L.Resizing(9, 9, bounding_box_format="xyxy")])(data)
    assert all(data[key] is value for key, value in before.items())


def test_a_pipeline_passes_all_parts_on():
    parts = [L.RandomFlip, L.RandomRotation, L.RandomBrightness]
    pipeline = L.Pipeline([kind(*([0.1] * (kind is not L.RandomFlip)), bounding_box_format="xyxy") for kind in parts])
    found = pipeline(scene("xyxy"))
    assert set(found) == {"images", "bounding_boxes", "segmentation_masks"}
    again = L.Pipeline.from_config(pipeline.get_config())
    assert [layer.bounding_box_format for layer in again.layers] == ["xyxy"] * 3


# -------------------- random numbers --------------------

MANY = np.zeros((2000, 3, 4, 3), "float32")


# Layer -> a call, a part of its transformation, the limits of its numbers.
DRAWN = {
    "RandomFlip": (lambda: L.RandomFlip(), "flips", 0, 1),
    "RandomTranslation": (lambda: L.RandomTranslation(0.5, 0.25), "translations", (-1, -1.5), (1, 1.5)),
    "RandomRotation": (lambda: L.RandomRotation((0.1, 0.2)), "angle", 36, 72),
    "RandomZoom": (lambda: L.RandomZoom((-0.2, 0.6)), "height_zoom", 0.8, 1.6),
    "RandomShear": (lambda: L.RandomShear(0.4, 0.2), "shear_factor", (-0.4, -0.2), (0.4, 0.2)),
    "RandomBrightness": (lambda: L.RandomBrightness(0.2, (0, 10)), "rgb_delta", -2, 2),
    "RandomContrast": (lambda: L.RandomContrast((0.2, 0.6)), "contrast_factor", 0.8, 1.6),
    "RandomHue": (lambda: L.RandomHue(0.6), "factor", -0.3, 0.3),
    "RandomPosterization": (lambda: L.RandomPosterization((2, 6)), "shift_factor", 3, 6),
    "RandomInvert": (lambda: L.RandomInvert((0.0, 1.0)), "apply_inversion", 0, 1),
    "RandomGaussianBlur": (lambda: L.RandomGaussianBlur((0.0, 1.0)), "should_apply_blur", 0, 1),
    "RandomErasing": (lambda: L.RandomErasing((0.0, 1.0)), "apply_erasing", 0, 1),
    "Solarization": (lambda: L.Solarization(0.4, 0.2), "additions", 0, 102),
    "MixUp": (lambda: L.MixUp(0.5), "mix_weight", 0, 1),
    "CutMix": (lambda: L.CutMix(), "mix_weight", 0, 1),
    "RandomPerspective": (lambda: L.RandomPerspective((0.0, 1.0)), "apply_perspective", 0, 1),
    "RandomElasticTransform": (lambda: L.RandomElasticTransform((0.0, 1.0)), "apply_transform", 0, 1),
}


@pytest.mark.big
@pytest.mark.parametrize("name", DRAWN)
def test_draws_fill_their_range(name):
    layer, key, low, high = DRAWN[name]
    utils.set_random_seed(0)
    drawn = np.asarray(layer().get_random_transformation(MANY)[key], "float64").reshape(len(MANY), -1)
    low, high = np.broadcast_to(low, drawn.shape[1]), np.broadcast_to(high, drawn.shape[1])
    width = high - low
    assert (drawn.min(0) >= low - 1e-5).all() and (drawn.max(0) <= high + 1e-5).all()
    assert (drawn.min(0) <= low + 0.05 * width).all() and (drawn.max(0) >= high - 0.05 * width).all()
    np.testing.assert_allclose(drawn.mean(0), (low + high) / 2, atol=0.05 * width.max())


def test_a_seed_gives_the_same_numbers_again():
    x = given("flip")["images"]
    for kind in (L.RandAugment, L.AugMix, L.CutMix, L.RandomElasticTransform):
        first, second = kind(seed=4), kind(seed=4)
        np.testing.assert_array_equal(first(x), second(x))
        drawn = [np.asarray(first(x)) for _ in range(4)]
        assert any(np.any(each != drawn[0]) for each in drawn)
    moved = L.RandomTranslation(0.5, 0.5)
    pair = [moved.get_random_transformation(x, seed=3)["translations"] for _ in range(2)]
    np.testing.assert_array_equal(*pair)


@pytest.mark.big
def test_all_layers_are_chosen():
    layer, names = L.RandAugment(num_ops=50), set()
    for _ in range(4):
        names |= set(np.asarray(layer.get_random_transformation(MANY[:1])["layer_idxes"]).tolist())
    assert names == set(range(len(layer.names)))


# -------------------- programs --------------------


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: L.RandAugment(), marks=pytest.mark.grid),
        pytest.param(lambda: L.AugMix(num_chains=2, chain_depth=2), marks=pytest.mark.grid),
        lambda: L.CutMix(),
        lambda: L.MixUp(),
        lambda: L.RandomElasticTransform(),
        lambda: L.RandomPerspective((1.0, 1.0)),
        lambda: L.RandomCrop(5, 6),
        lambda: L.Pipeline([L.RandomTranslation(0.5, 0.5), L.RandomBrightness(0.5), L.RandomFlip()]),
    ],
)
def test_chance_is_new_in_each_replayed_step(make):
    """No step reads a value, which would be slow: nbkeras warns about that, and warnings are errors."""
    model = compiled(models.Sequential([L.Input((6, 8, 3)), make(), L.Rescaling(1 / 255), L.Flatten(), L.Dense(3)]))
    x, weights = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3)).astype("float32"), model.get_weights()
    losses = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(6):
            model.set_weights(weights)
            losses.add(float(model.train_on_batch(x, np.ones((4, 3)))))
        steady = [float(model.test_on_batch(x, np.ones((4, 3)))) for _ in range(2)]
    assert len(losses) >= 4 and steady[0] == steady[1]


def test_a_model_trains_on_images_labels_and_masks_together():
    images, labels = L.Input((8, 8, 3), name="images"), L.Input((3,), name="labels")
    masks = L.Input((8, 8, 1), name="segmentation_masks")
    mixed = L.CutMix()({"images": images, "labels": labels, "segmentation_masks": masks})
    turned = L.RandomFlip()({"images": mixed["images"], "segmentation_masks": mixed["segmentation_masks"]})
    pixels = ops.reshape(ops.mean(turned["images"], axis=-1, keepdims=True), (-1, 64))
    model = models.Model([images, labels, masks], [L.Dense(3)(pixels), mixed["labels"], turned["segmentation_masks"]])
    x = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype("float32")
    data = {"images": x, "labels": np.eye(3)[[0, 1, 2, 0, 1]], "segmentation_masks": x[..., :1]}
    assert [each.shape for each in model.predict(data, verbose=0)] == [(5, 3), (5, 3), (5, 8, 8, 1)]
    model.compile("sgd", ["mse", "mse", "mse"])
    targets = [np.zeros((5, 3)), np.zeros((5, 3)), np.zeros((5, 8, 8, 1))]
    assert np.isfinite(model.fit(data, targets, epochs=2, verbose=0).history["loss"]).all()


def test_a_model_changes_boxes_and_is_saved(tmp_path):
    boxes = {"boxes": L.Input((4, 4)), "labels": L.Input((4,), dtype="int32")}
    inputs = {"images": L.Input((16, 16, 3)), "bounding_boxes": boxes}
    found = inputs
    for kind, *arguments in (
        (L.RandomFlip,),
        (L.RandomRotation, 0.1),
        (L.RandomCrop, 12, 12),
        (L.Resizing, 20, 18),
        (L.MixUp,),
        (L.MaxNumBoundingBoxes, 6),
    ):
        found = kind(*arguments, bounding_box_format="xyxy")(found)
    assert found["images"].shape == (None, 20, 18, 3)
    assert found["bounding_boxes"]["boxes"].shape == (None, 6, 4)
    model = models.Model(inputs, [found["images"], found["bounding_boxes"]["boxes"], found["bounding_boxes"]["labels"]])
    data = scene("xyxy")
    given_boxes = {"boxes": np.tile([2.0, 3.0, 11.0, 12.0], (3, 4, 1)), "labels": np.arange(12).reshape(3, 4)}
    x = {"images": np.tile(data["images"][:3, :16, :16], (1, 1, 1, 3)), "bounding_boxes": given_boxes}
    path = str(tmp_path / "boxes.keras")
    model.save(path)
    expected, found = model.predict(x, verbose=0), models.load_model(path).predict(x, verbose=0)
    assert expected[2].tolist()[1] == [4, 5, 6, 7, -1, -1]
    np.testing.assert_equal(expected, found)


# -------------------- layers of users, mistakes --------------------


class Shifted(L.BaseImagePreprocessingLayer):
    """Written as for Keras: all `transform_` methods, a factor in limits of its own, numbers of its own generator."""

    _FACTOR_BOUNDS = (0, 1)

    def __init__(self, factor=0.5, seed=None, **kwargs):
        super().__init__(factor=factor, **kwargs)
        self.seed = seed
        self.generator = random.SeedGenerator(seed)

    def get_random_transformation(self, data, training=True, seed=None):
        images = data["images"] if isinstance(data, dict) else data
        shape = (ops.shape(images)[0], 1, 1, 1)
        return {"shift": random.uniform(shape, *self.factor, seed=self.generator)} if training else None

    def transform_images(self, images, transformation, training=True):
        return images + transformation["shift"] if training else images

    def transform_labels(self, labels, transformation, training=True):
        return labels

    def transform_bounding_boxes(self, bounding_boxes, transformation, training=True):
        return bounding_boxes

    def get_config(self):
        return {**super().get_config(), "factor": self.factor, "seed": self.seed}


def test_a_layer_of_a_user():
    layer = Shifted(0.25, bounding_box_format="xyxy")
    assert layer.factor == (0.0, 0.25)
    data = scene("xyxy")
    with pytest.raises(NotImplementedError, match="Shifted does not change segmentation_masks: call it without them"):
        layer(data)
    del data["segmentation_masks"]
    found = layer(data)
    shift = np.asarray(found["images"]) - data["images"]
    assert 0 <= shift.min() < shift.max() <= 0.25 and np.ptp(shift, axis=(1, 2, 3)).max() < 1e-6
    assert layer(data["images"], training=False).shape == data["images"].shape
    assert Shifted.from_config(layer.get_config()).bounding_box_format == "xyxy"
    with pytest.raises(ValueError, match="Shifted's factor must be a number from 0 to 1"):
        Shifted(2.0)


X, BOX = np.ones((2, 6, 6, 3), "float32"), {"boxes": np.ones((2, 1, 4)), "labels": np.ones((2, 1))}


test_mistakes_are_explained = mistakes(
    [
        (lambda: L.RandomFlip(factor=0.1), ValueError, "RandomFlip does not take a factor, received factor=0.1"),
        (lambda: L.RandomFlip(bounding_box_format="xy"), ValueError, "bounding_box_format must be one of 'xyxy'"),
        (
            lambda: L.RandomFlip()({"images": X, "bounding_boxes": BOX}),
            ValueError,
            "has no bounding_box_format: make the",
        ),
        (lambda: L.RandomFlip()({"labels": X}), ValueError, "or a dict with them under 'images', received {'labels': "),
        (
            lambda: L.RandomFlip(bounding_box_format="xyxy")({"images": X, "bounding_boxes": {"boxes": X}}),
            ValueError,
            "must be a dict with 'boxes' and 'labels'",
        ),
        (
            lambda: L.RandomFlip(bounding_box_format="xyxy")(
                {"images": X, "bounding_boxes": {**BOX, "labels": np.ones(3)}}
            ),
            ValueError,
            r"a label for each, received boxes of shape \(2, 1, 4\) and labels of shape \(3,\)",
        ),
        (
            lambda: L.RandomFlip(bounding_box_format="xyxy")(
                {"images": X, "bounding_boxes": {"boxes": [[[1, 2, 3, 4]], []], "labels": [[1], []]}}
            ),
            ValueError,
            "lists of numbers of one length",
        ),
        (
            lambda: L.CutMix()({"images": X, "labels": np.array([0, 1])}),
            ValueError,
            "CutMix mixes labels, which must be one-hot",
        ),
        (
            lambda: L.CutMix(bounding_box_format="xyxy")({"images": X, "bounding_boxes": BOX}),
            NotImplementedError,
            "CutMix does not change bounding_boxes",
        ),
        (
            lambda: L.RandomElasticTransform(bounding_box_format="xyxy")({"images": X, "bounding_boxes": BOX}),
            NotImplementedError,
            "RandomElasticTransform does not change bounding_boxes",
        ),
        (lambda: L.MixUp(alpha=0), ValueError, "alpha must be > 0, received 0"),
        (lambda: L.RandomPerspective(scale=2), ValueError, "scale must be a number from 0 to 1, received 2"),
        (
            lambda: L.RandomPerspective(interpolation="cubic"),
            ValueError,
            "interpolation must be 'nearest' or 'bilinear'",
        ),
        (lambda: L.RandAugment(num_ops=0), ValueError, "num_ops must be a positive integer"),
        (lambda: L.AugMix(factor=1.5), ValueError, "AugMix's factor must be a number from 0.0 to 1.0"),
        (lambda: L.Equalization(bins=2.5), ValueError, "bins must be a positive integer, received 2.5"),
        (lambda: L.Equalization((1, 1)), ValueError, "value_range must be two numbers that differ"),
        (
            lambda: L.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=3),
            ValueError,
            "tile_grid_size must be two positive integers, received 3",
        ),
        (lambda: L.MaxNumBoundingBoxes(0), ValueError, "max_number must be a positive integer"),
    ]
)
