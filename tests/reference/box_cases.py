"""Calls of keras.utils.bounding_boxes and keras.visualization: scripts/make_images_references.py stores Keras's results."""

import itertools

import numpy as np

FORMATS = "xyxy yxyx xywh center_xywh center_yxhw rel_xyxy rel_yxyx rel_xywh rel_center_xywh".split()
SIZES = {"height": 40, "width": 60}


def _boxes(seed, *shape):
    """Boxes (xyxy) in images of SIZES."""
    chance = np.random.default_rng(seed)
    corner = chance.uniform(0, 0.6, (*shape, 2))
    boxes = np.concatenate([corner, corner + chance.uniform(0.05, 0.4, (*shape, 2))], -1)
    return (boxes * [60, 40, 60, 40]).astype("float32")


def of_boxes(keras):
    """Results of the functions of keras.utils.bounding_boxes, by name."""
    called, found = keras.utils.bounding_boxes, {}
    boxes, others, batch = _boxes(0, 3), _boxes(1, 4), _boxes(2, 2, 3)
    labels = np.arange(6, dtype="int32").reshape(2, 3)
    by_format = {}
    for form in FORMATS:
        by_format[form] = np.asarray(called.convert_format(batch, "xyxy", form, **SIZES))
    for source, target in itertools.product(FORMATS, FORMATS):
        found[f"convert {source} {target}"] = called.convert_format(by_format[source], source, target, **SIZES)
    found["convert dict"] = called.convert_format({"boxes": boxes, "labels": labels[0]}, "XYXY", "Center_xyWH")
    given = {"boxes": batch * 1.5 - 10, "labels": labels}
    found["clip"] = called.clip_to_image_size({**given}, **SIZES)
    found["clip relative"] = called.clip_to_image_size(
        {"boxes": by_format["rel_xyxy"] * 1.5 - 0.3, "labels": labels}, bounding_box_format="rel_xyxy"
    )
    found["clip without labels"] = called.clip_to_image_size({"boxes": boxes * 2}, **SIZES)
    found["crop"] = called.crop(boxes, top=5, left=10, height=20, width=30)
    found["pad"] = called.pad(batch, top=5, left=10)
    numbers = np.array([[30, -100], [0.1, -0.2], [0.2, 0], [1.2, 0.8], [10, 0], [0, -20]], "float32")
    tensors = [keras.ops.convert_to_tensor(row) for row in numbers]
    found["affine"] = called.affine_transform(batch, *tensors, **SIZES)
    found["affine centre"] = called.affine_transform(batch, *tensors, **SIZES, center_x=0.25, center_y=0.75)
    for name, pair in {"boxes": (boxes, others), "batch": (batch, _boxes(3, 2, 5)), "mixed": (batch, others)}.items():
        found[f"iou {name}"] = called.compute_iou(*pair, "xyxy")
    found["iou of one batch"] = called.compute_iou(boxes, batch, "xywh")
    found["iou masked"] = called.compute_iou(
        np.concatenate([boxes, -boxes]), others, "xyxy", use_masking=True, mask_val=-7
    )
    relative = by_format["rel_center_xywh"]
    found["iou relative"] = called.compute_iou(relative[0], relative[1], "rel_center_xywh", image_shape=(40, 60, 3))
    found["ciou"] = called.compute_ciou(batch, _boxes(4, 2, 3), "xyxy")
    found["ciou of others"] = called.compute_ciou(boxes, others[:3], "center_xywh")
    for form, variance in (("center_yxhw", None), ("center_xywh", [0.1, 0.1, 0.2, 0.2])):
        options = {"variance": variance, "image_shape": (40, 60, 3)}
        deltas = called.encode_box_to_deltas(boxes, batch, "xyxy", "xyxy", encoding_format=form, **options)
        found[f"encode {form}"] = deltas
        decoded = called.decode_deltas_to_boxes(boxes, deltas, "xyxy", "rel_yxyx", encoded_format=form, **options)
        found[f"decode {form}"] = decoded
    levels = {"low": boxes, "high": others}
    offsets = {"low": batch / 100, "high": _boxes(5, 4) / 100}
    found["decode levels"] = called.decode_deltas_to_boxes(levels, offsets, "xywh", "xyxy")
    return found


def of_pictures(keras):
    """Results of the functions of keras.visualization that draw, by name."""
    drawn, found = keras.visualization, {}
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (2, 40, 60, 3)).astype("uint8")
    boxes = {"boxes": _boxes(6, 2, 3), "labels": np.array([[0, 1, -1], [2, 0, 1]])}
    found["boxes"] = drawn.draw_bounding_boxes(images, boxes, "xyxy", color=(1, 2, 3))
    thin = {"boxes": boxes["boxes"] / [60, 40, 60, 40], "labels": boxes["labels"]}
    found["boxes of floats"] = drawn.draw_bounding_boxes(
        (images / 255).astype("float32"), thin, "rel_xyxy", line_thickness=1
    )
    outside = {"boxes": boxes["boxes"] * 2 - 20, "labels": boxes["labels"]}
    found["boxes outside"] = drawn.draw_bounding_boxes(images.astype("float32"), outside, "xyxy", line_thickness=4)
    masks = chance.integers(0, 5, (2, 40, 60, 1)).astype("int32")
    small, few = images[:, :9, :9], masks[:, :9, :9]
    found["masks"] = drawn.draw_segmentation_masks(small, few, num_classes=5)
    found["masks of the largest"] = drawn.draw_segmentation_masks(small, few, alpha=0.3)
    found["masks ignored"] = drawn.draw_segmentation_masks(small, few, num_classes=5, ignore_index=2)
    colors = {0: (1, 2, 3), 1: (40, 50, 60), 2: (255, 0, 0)}
    found["masks mapped"] = drawn.draw_segmentation_masks(small, few, num_classes=3, color_mapping=colors, blend=False)
    first = [np.ascontiguousarray(np.moveaxis(each, -1, 1)) for each in (small, few)]
    found["masks first"] = drawn.draw_segmentation_masks(*first, num_classes=5, data_format="channels_first")
    return found
