"""Pictures with boxes and masks, compared with real Keras's (reference/box_cases.py), and galleries."""

import sys

import numpy as np
import pytest
from box_cases import of_pictures
from keras_results import stored

import nbkeras as keras
from nbkeras import visualization
from nbkeras.visualization import pictures

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3)).astype("uint8")
BOXES = {"boxes": np.tile([[[2.0, 3.0, 9.0, 8.0]]], (3, 1, 1)), "labels": np.array([[0], [1], [-1]])}
MASKS = np.random.default_rng(1).integers(0, 3, (3, 12, 16, 1))


def test_equals_keras():
    expected, found = stored()["pictures"], of_pictures(keras)
    assert set(found) == set(expected)
    for name, each in expected.items():
        assert found[name].dtype == each.dtype, name
        np.testing.assert_array_equal(found[name], each, name)


def test_channels_first_boxes_are_drawn_at_their_places():
    last = visualization.draw_bounding_boxes(IMAGES, BOXES, "xyxy")
    first = visualization.draw_bounding_boxes(np.moveaxis(IMAGES, -1, 1), BOXES, "xyxy", data_format="channels_first")
    np.testing.assert_array_equal(first, last)
    np.testing.assert_array_equal(last[2], IMAGES[2])  # its label is -1


def test_names_are_written_above_boxes_or_inside():
    pytest.importorskip("PIL", reason="needs Pillow: pip install pillow")
    images = np.zeros((2, 80, 120, 3), "uint8")
    boxes = {
        "boxes": np.array([[[10.0, 50.0, 100.0, 70.0]], [[10.0, 2.0, 100.0, 70.0]]]),
        "labels": np.array([[0], [0]]),
    }
    plain = visualization.draw_bounding_boxes(images, boxes, "xyxy", color=(255, 0, 9))
    named = visualization.draw_bounding_boxes(
        images, {**boxes, "confidences": [[0.5], [1.0]]}, "xyxy", {0: "cat"}, (255, 0, 9)
    )
    new = (named != plain).any(-1)
    assert new[0, 20:48].any() and not new[0, 60:].any()  # above
    assert new[1, 5:40].any()  # inside
    assert named[..., 1].max() == 0


@pytest.mark.parametrize("kind", ["images", "gray images", "boxes", "masks"])
def test_galleries_are_files(kind, tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="needs matplotlib: pip install matplotlib")
    path = str(tmp_path / "gallery.png")
    if kind == "images":
        visualization.plot_image_gallery(
            IMAGES / 255, [0, 1, 2], [0, 2, 2], {0: "a", 1: "b"}, value_range=(0, 1), path=path, rows=2, dpi=30
        )
    elif kind == "gray images":
        visualization.plot_image_gallery(IMAGES[..., :1], path=path, cols=2, dpi=30)
    elif kind == "boxes":
        visualization.plot_bounding_box_gallery(
            IMAGES / 255.0, "xyxy", BOXES, {**BOXES}, (0, 1), legend=True, path=path, dpi=30
        )
    else:
        visualization.plot_segmentation_mask_gallery(IMAGES, 3, y_true=MASKS, y_pred=MASKS, path=path, dpi=30)
    found = pyplot.imread(path)
    assert found.ndim == 3 and min(found.shape[:2]) > 40
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("images", "boxes", "options", "message"),
    [
        (IMAGES[0], BOXES, {}, "batch of 4 axes, received shape"),
        (IMAGES, 3, {}, "bounding_boxes must be a dict, received 3"),
        (IMAGES, {"boxes": 1}, {}, "must have 'boxes' and 'labels'"),
        (IMAGES[:2], BOXES, {}, r"expected boxes \(2, boxes, 4\) and a label for each"),
        (IMAGES, BOXES, {"line_thickness": 0}, "line_thickness must be a positive integer"),
    ],
)
def test_boxes_that_are_refused(images, boxes, options, message):
    with pytest.raises(TypeError if boxes == 3 else ValueError, match=message):
        visualization.draw_bounding_boxes(images, boxes, "xyxy", **options)


def test_masks_that_are_refused():
    with pytest.raises(TypeError, match="segmentation_masks must be integers, received dtype float64"):
        visualization.draw_segmentation_masks(IMAGES, MASKS / 2)
    with pytest.raises(ValueError, match=r"must have shape \(3, 12, 16, 1\), received \(3, 3, 16, 1\)"):
        visualization.draw_segmentation_masks(IMAGES, MASKS[:, :3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "a.png", "show": True}, "give a path or show=True"),
        ({"y_true": [0, 1, 2]}, "y_true and y_pred need label_map"),
        ({"value_range": (1, 1)}, r"value_range must be two numbers that differ, received \(1, 1\)"),
    ],
)
def test_galleries_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        visualization.plot_image_gallery(IMAGES, **options)


def test_one_legend_alone():
    with pytest.raises(ValueError, match="give legend=True or legend_handles, received both"):
        visualization.plot_bounding_box_gallery(IMAGES, "xyxy", legend=True, legend_handles=[1])


@pytest.mark.parametrize(
    ("package", "call", "message"),
    [
        (
            "PIL",
            lambda: visualization.draw_bounding_boxes(IMAGES, BOXES, "xyxy", {0: "cat"}),
            "needs Pillow to write the names",
        ),
        ("matplotlib", lambda: visualization.plot_image_gallery(IMAGES, path="never.png"), "needs matplotlib"),
    ],
)
def test_a_missing_package_is_named(package, call, message, monkeypatch):
    for name in [package, *(each for each in sys.modules if each.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=message):
        call()


def test_a_curve_of_one_point_is_a_circle():
    assert "<circle" in pictures.curves({"loss": [1.0]}) and "<circle" not in pictures.curves({"loss": [1.0, 2.0]})
