"""Functions of bounding boxes, compared with real Keras's (reference/box_cases.py), and their mistakes."""

import numpy as np
import pytest
from box_cases import of_boxes
from keras_results import assert_same, stored
from mistakes import mistakes

import nbkeras as keras
from nbkeras.utils import bounding_boxes as boxes


@pytest.fixture(scope="module")
def results():
    return stored()["boxes"], of_boxes(keras)


def test_equals_keras(results):
    expected, found = results
    assert set(found) == set(expected)
    for name, each in expected.items():
        try:
            assert_same(found[name], each)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


def test_single_boxes_move_as_a_batch_of_one():
    one = np.array([[1.0, 2.0, 5.0, 4.0], [0.0, 0.0, 3.0, 3.0]])
    numbers = (30.0, 0.1, 0.0, 1.1, 5.0, 0.0)
    moved = boxes.affine_transform(one, *numbers, height=9, width=9)
    np.testing.assert_array_equal(moved, boxes.affine_transform(one[None], *numbers, height=9, width=9)[0])


def test_a_relative_format_needs_the_size_of_images():
    relative = np.array([[0.0, 0.0, 0.5, 0.5]])
    shape = (10, 20, 3)  # Keras's compute_ciou takes no relative formats
    np.testing.assert_allclose(boxes.compute_ciou(relative, relative, "rel_xyxy", shape), 1.0, atol=1e-5)
    for function in (boxes.compute_iou, boxes.compute_ciou):
        with pytest.raises(ValueError, match="relative formats need image_shape"):
            function(relative, relative, "rel_xyxy")


ONE = np.array([[0.0, 0.0, 1.0, 1.0]])


test_mistakes_are_explained = mistakes(
    [
        (lambda: boxes.convert_format(ONE, "xyxy", "xyz"), ValueError, "target must be one of 'xyxy', .* received 'xyz'"),
        (lambda: boxes.convert_format(ONE, None, "xyxy"), ValueError, "source must be one of .* received None"),
        (lambda: boxes.convert_format(ONE[:, :3], "xyxy", "xywh"), ValueError, r"four numbers .* received shape \(1, 3\)"),
        (lambda: boxes.convert_format(3.0, "xyxy", "xywh"), ValueError, r"four numbers on the last axis, received shape \(\)"),
        (lambda: boxes.convert_format(ONE, "xyxy", "rel_xyxy", height=3), ValueError, "needs the height and the width"),
        (lambda: boxes.convert_format({"labels": 1}, "xyxy", "xywh"), ValueError, r"key 'boxes', received \['labels'\]"),
        (lambda: boxes.clip_to_image_size({"boxes": ONE}), ValueError, "boxes in pixels need the height"),
        (lambda: boxes.crop(ONE, 0, 0, 1, 1, "xywh"), NotImplementedError, "must be 'xyxy', received 'xywh': convert"),
        (lambda: boxes.pad(ONE, 0, 0, bounding_box_format=None), NotImplementedError, "must be 'xyxy', received None"),
        (lambda: boxes.compute_iou(ONE[0], ONE, "xyxy"), ValueError, r"boxes1 must be \(boxes, 4\) or \(batch, boxes, 4\)"),
        (lambda: boxes.compute_iou(ONE, ONE, "xyxy", image_shape=3), ValueError, r"image_shape must be \(height, width, ch"),
        (lambda: boxes.encode_box_to_deltas(ONE, ONE, "xyxy", "xyxy", "xyxy"), ValueError, "encoding_format must be 'center"),
        (
            lambda: boxes.decode_deltas_to_boxes(ONE, ONE, "xyxy", "xyxy", variance=[1, 2]),
            ValueError,
            r"variance must have four numbers, received shape \(2,\)",
        ),
    ]
)  # fmt: skip
