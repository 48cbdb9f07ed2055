"""Object detection data: augmentation of images with boxes, box formats, IoU."""

import copy

import numpy as np
from keras import layers
from keras.utils import bounding_boxes

boxes = {"boxes": np.array([[[2.0, 2.0, 10.0, 8.0]]], "float32"), "labels": np.array([[1]])}
data = {"images": np.random.random((1, 16, 16, 3)).astype("float32"), "bounding_boxes": boxes}
flip = layers.RandomFlip("horizontal", bounding_box_format="xyxy", seed=0)
flipped = flip(copy.deepcopy(data), training=True)  # Keras changes the boxes of its argument
found = np.asarray(flipped["bounding_boxes"]["boxes"])[0, 0]
assert np.allclose(found, [2, 2, 10, 8], atol=1e-3) or np.allclose(found, [6, 2, 14, 8], atol=1e-3)
resized = layers.Resizing(32, 32, bounding_box_format="xyxy")(data)
np.testing.assert_allclose(np.asarray(resized["bounding_boxes"]["boxes"])[0, 0], [4, 4, 20, 16], atol=1e-3)
xywh = bounding_boxes.convert_format(boxes["boxes"], source="xyxy", target="xywh")
np.testing.assert_allclose(np.asarray(xywh)[0, 0], [2, 2, 8, 6])
iou = bounding_boxes.compute_iou(
    boxes["boxes"][0], np.array([[2.0, 2.0, 10.0, 14.0]], "float32"), bounding_box_format="xyxy"
)
np.testing.assert_allclose(np.asarray(iou), [[0.5]], atol=1e-5)
