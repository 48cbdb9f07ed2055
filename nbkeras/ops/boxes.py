"""Bounding boxes of images, as in `keras.utils.bounding_boxes`: formats, clipping, moves, overlaps, and offsets from anchors.

A box is four numbers on the last axis. The formats, in pixels; with `rel_` in front, as fractions of the image's sides:

    xyxy: left, top, right, bottom          xywh: left, top, width, height
    yxyx: top, left, bottom, right          center_xywh: x and y of the centre, width, height
                                            center_yxhw: y and x of the centre, height, width
"""

import math
from typing import Any

from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.settings import epsilon
from nbkeras.engine.tensor import Tensor, as_float, as_tensor
from nbkeras.ops import elementwise, reduce
from nbkeras.ops.elementwise import add, clip, divide, maximum, minimum, multiply, subtract
from nbkeras.ops.shape import concatenate, expand_dims, reshape, split, squeeze, stack

_PIXELS = ("xyxy", "yxyx", "xywh", "center_xywh", "center_yxhw")
_DOWN_FIRST = ("yx", "center_yx")  # the beginnings of formats whose numbers begin with the vertical one
FORMATS = (*_PIXELS, *(f"rel_{name}" for name in _PIXELS[:-1]))


def format_of(name: str, what: str, value: Any) -> str:
    """A format of boxes in lower case. ValueError for another one; it names the function and the argument."""
    return one_of(name, what, value, FORMATS, True)


def _sides(name: str, boxes: Any, dtype: Any = None) -> list[Tensor]:
    """The four numbers of each box, as tensors with a last axis of 1."""
    x = as_float(boxes) if dtype is None else as_tensor(boxes, dtype)
    if x.ndim == 0 or x.shape[-1] != 4:
        raise ValueError(f"{name}: boxes must have four numbers on the last axis, received shape {x.shape}")
    return split(x, 4, axis=-1)


def _joined(*sides: Tensor) -> Tensor:
    return concatenate(list(sides), axis=-1)


def _scaled(sides: list[Tensor], width: Any, height: Any, scale: Any) -> list[Tensor]:
    """Left, top, right and bottom, scaled by the sides of the image."""
    factors = [as_tensor(size, sides[0].dtype) for size in (width, height)] * 2
    return [scale(side, factor) for side, factor in zip(sides, factors, strict=True)]


def _written(sides: list[Tensor], form: str) -> Tensor:
    """Left, top, right and bottom as boxes of a format, without `rel_`."""
    left, top, right, bottom = sides
    across, down = (left, right), (top, bottom)
    if form.endswith(("wh", "hw")):
        across, down = ((low, subtract(high, low)) for low, high in (across, down))
    if form.startswith("center"):
        across, down = ((add(low, divide(size, 2.0)), size) for low, size in (across, down))
    first, second = (down, across) if form.startswith(_DOWN_FIRST) else (across, down)
    return _joined(first[0], second[0], first[1], second[1])


def convert_format(
    boxes: Any, source: str, target: str, height: Any = None, width: Any = None, dtype: Any = "float32"
) -> Any:
    """Boxes in another format.

    Args:
        boxes: Boxes of shape (..., 4), or a dict with them under 'boxes'.
        source: Their format: 'xyxy', 'yxyx', 'xywh', 'center_xywh', 'center_yxhw', or, as fractions of the image's sides,
            'rel_xyxy', 'rel_yxyx', 'rel_xywh' or 'rel_center_xywh'.
        target: The format of the result.
        height: The height of the images in pixels. Conversions between pixels and fractions need it.
        width: The width of the images in pixels.
        dtype: The dtype of the result.

    Returns:
        A tensor of boxes; for a dict, a new dict with its other entries unchanged.

    Raises:
        ValueError: for an unknown format, for boxes without four numbers, or for a missing height or width.

    Example:
        >>> boxes = np.array([[10.0, 20.0, 30.0, 60.0]])
        >>> keras.utils.bounding_boxes.convert_format(boxes, "xyxy", "center_xywh").numpy()
        array([[20., 40., 20., 40.]], dtype=float32)
        >>> keras.utils.bounding_boxes.convert_format(boxes, "xyxy", "rel_yxyx", height=100, width=50).numpy()
        array([[0.2, 0.2, 0.6, 0.6]], dtype=float32)
    """
    if isinstance(boxes, dict):
        if "boxes" not in boxes:
            raise ValueError(f"convert_format: a dict of boxes must have the key 'boxes', received {list(boxes)}")
        return {**boxes, "boxes": convert_format(boxes["boxes"], source, target, height, width, dtype)}
    old, new = (format_of("convert_format", what, form) for what, form in (("source", source), ("target", target)))
    sides = _sides("convert_format", boxes, dtype)
    if old == new:
        return as_tensor(boxes, dtype)
    first, second, third, fourth = sides
    order = old.removeprefix("rel_")
    if order.endswith(("wh", "hw")):
        if order.startswith("center"):
            first, second = subtract(first, divide(third, 2.0)), subtract(second, divide(fourth, 2.0))
        third, fourth = add(first, third), add(second, fourth)
    sides = [second, first, fourth, third] if order.startswith(_DOWN_FIRST) else [first, second, third, fourth]
    if old.startswith("rel_") != new.startswith("rel_"):
        if height is None or width is None:
            raise ValueError(
                f"convert_format: a conversion from {source!r} to {target!r} needs the height and the width of the images, "
                f"received height={briefly(height)}, width={briefly(width)}"
            )
        sides = _scaled(sides, width, height, divide if new.startswith("rel_") else multiply)
    return _written(sides, new.removeprefix("rel_"))


def clip_to_image_size(
    bounding_boxes: dict[str, Any], height: Any = None, width: Any = None, bounding_box_format: str = "xyxy"
) -> dict[str, Any]:
    """Boxes clipped to their images. The labels of boxes without an area become -1.

    Args:
        bounding_boxes: A dict with 'boxes', (boxes, 4) or (batch, boxes, 4), and perhaps 'labels', (boxes,) or (batch, boxes).
        height: The height of the images in pixels, which 'xyxy' needs.
        width: The width of the images in pixels, which 'xyxy' needs.
        bounding_box_format: 'xyxy' or 'rel_xyxy'.

    Returns:
        A new dict of the same keys.

    Raises:
        NotImplementedError: for another format, as in Keras.
        ValueError: for 'xyxy' without a height and a width.

    Example:
        >>> boxes = {"boxes": np.array([[-10.0, 5.0, 20.0, 200.0], [50.0, 0.0, 60.0, 9.0]]), "labels": np.array([3, 4])}
        >>> clipped = keras.utils.bounding_boxes.clip_to_image_size(boxes, height=100, width=40)
        >>> clipped["boxes"].numpy().tolist(), clipped["labels"].numpy().tolist()
        ([[0.0, 5.0, 20.0, 100.0], [40.0, 0.0, 40.0, 9.0]], [3, -1])
    """
    form = _corners_only("clip_to_image_size", bounding_box_format, ("xyxy", "rel_xyxy"))
    if form == "xyxy" and (height is None or width is None):
        raise ValueError(
            f"clip_to_image_size: boxes in pixels need the height and the width of the images, received "
            f"height={briefly(height)}, width={briefly(width)}"
        )
    right, bottom = (width, height) if form == "xyxy" else (1.0, 1.0)
    sides = _sides("clip_to_image_size", bounding_boxes["boxes"])
    sides = [clip(side, 0.0, end) for side, end in zip(sides, (right, bottom) * 2, strict=True)]
    found = {**bounding_boxes, "boxes": _joined(*sides)}
    if bounding_boxes.get("labels") is not None:
        labels = as_tensor(bounding_boxes["labels"])
        is_shown = elementwise.greater(squeeze(_area(sides), -1), 0.0)
        found["labels"] = as_tensor(elementwise.where(is_shown, labels, -1), labels.dtype)
    return found


def _corners_only(name: str, form: Any, known: tuple[str, ...] = ("xyxy",)) -> str:
    if form not in known:
        raise NotImplementedError(
            f"{name}: bounding_box_format must be {' or '.join(map(repr, known))}, received {briefly(form)}: convert the boxes "
            "by convert_format first"
        )
    return form


def _area(sides: list[Tensor]) -> Tensor:
    left, top, right, bottom = sides
    return multiply(subtract(right, left), subtract(bottom, top))


def crop(boxes: Any, top: Any, left: Any, height: Any, width: Any, bounding_box_format: str = "xyxy") -> Tensor:
    """Boxes of a part of their images, in its pixels and clipped to it.

    Args:
        boxes: Boxes of shape (..., 4).
        top: The first row of the part.
        left: The first column of the part.
        height: The height of the part.
        width: The width of the part.
        bounding_box_format: 'xyxy'.

    Returns:
        A tensor of the boxes' shape.

    Raises:
        NotImplementedError: for another format, as in Keras.

    Example:
        >>> boxes = np.array([[10.0, 20.0, 50.0, 60.0]])
        >>> keras.utils.bounding_boxes.crop(boxes, top=10, left=20, height=40, width=25).numpy()
        array([[ 0., 10., 25., 40.]])
    """
    _corners_only("crop", bounding_box_format)
    sides = zip(_sides("crop", boxes), (left, top) * 2, (width, height) * 2, strict=True)
    return _joined(*(clip(subtract(side, start), 0.0, size) for side, start, size in sides))


def pad(
    boxes: Any, top: Any, left: Any, height: Any = None, width: Any = None, bounding_box_format: str = "xyxy"
) -> Tensor:
    """Boxes of images that get rows above and columns to the left.

    Args:
        boxes: Boxes of shape (..., 4).
        top: The number of new rows above.
        left: The number of new columns to the left.
        height: Not used, as in Keras.
        width: Not used, as in Keras.
        bounding_box_format: 'xyxy'.

    Returns:
        A tensor of the boxes' shape.

    Raises:
        NotImplementedError: for another format, as in Keras.

    Example:
        >>> keras.utils.bounding_boxes.pad(np.array([[1.0, 2.0, 3.0, 4.0]]), top=10, left=20).numpy()
        array([[21., 12., 23., 14.]])
    """
    _corners_only("pad", bounding_box_format)
    return _joined(*(add(side, start) for side, start in zip(_sides("pad", boxes), (left, top) * 2, strict=True)))


def hulls(boxes: Any, move: Any) -> Tensor:
    """The smallest boxes (xyxy) around the four moved corners of boxes.

    Args:
        boxes: Boxes (batch, boxes, 4).
        move: A function (x, y) -> (x, y) of tensors (batch, boxes, 4), the corners.
    """
    left, top, right, bottom = _sides("hulls", boxes)
    x, y = move(_joined(left, right, right, left), _joined(top, top, bottom, bottom))
    return stack([fold(each, axis=-1) for fold in (reduce.min, reduce.max) for each in (x, y)], axis=-1)


def affine_transform(
    boxes: Any,
    angle: Any,
    translate_x: Any,
    translate_y: Any,
    scale: Any,
    shear_x: Any,
    shear_y: Any,
    height: Any,
    width: Any,
    center_x: Any = None,
    center_y: Any = None,
    bounding_box_format: str = "xyxy",
) -> Tensor:
    """The smallest boxes around boxes that are rotated, moved, scaled and sheared.

    Args:
        boxes: Boxes (batch, boxes, 4), or (boxes, 4).
        angle: The rotation in degrees, counter-clockwise: a number, or one for each image, like all that follow.
        translate_x: The shift to the left, as a fraction of width - 1.
        translate_y: The shift up, as a fraction of height - 1.
        scale: The factor of sizes.
        shear_x: The shear along rows in degrees.
        shear_y: The shear along columns in degrees.
        height: The height of the images.
        width: The width of the images.
        center_x: The centre of the transformation, as a fraction of width - 1; None for 0.5.
        center_y: The centre of the transformation, as a fraction of height - 1; None for 0.5.
        bounding_box_format: 'xyxy'.

    Returns:
        A tensor of the boxes' shape. Boxes may leave the image: see `clip_to_image_size`.

    Raises:
        NotImplementedError: for another format, as in Keras.

    Example:
        >>> boxes = np.array([[[0.0, 0.0, 2.0, 1.0]]])  # in an image of 5 x 5, turned by a quarter
        >>> turned = keras.utils.bounding_boxes.affine_transform(boxes, 90.0, 0.0, 0.0, 1.0, 0.0, 0.0, height=5, width=5)
        >>> turned.numpy().round(3)
        array([[[0., 2., 1., 4.]]])
    """
    _corners_only("affine_transform", bounding_box_format)
    given = as_float(boxes)
    single = given.ndim == 2
    numbers = (angle, translate_x, translate_y, scale, shear_x, shear_y)
    turn, across, down, size, x_angle, y_angle = (reshape(as_tensor(each, given.dtype), (-1, 1, 1)) for each in numbers)
    turn, x_angle, y_angle = (multiply(each, -math.pi / 180) for each in (turn, x_angle, y_angle))
    x0 = multiply(0.5 if center_x is None else center_x, subtract(width, 1.0))
    y0 = multiply(0.5 if center_y is None else center_y, subtract(height, 1.0))
    # rotation and shears as one matrix [[a, b], [c, d]] of determinant 1; boxes move by its inverse
    tangent, rest = elementwise.tan(x_angle), subtract(turn, y_angle)
    a = divide(elementwise.cos(rest), elementwise.cos(y_angle))
    c = elementwise.negative(divide(elementwise.sin(rest), elementwise.cos(y_angle)))
    b = add(multiply(a, tangent), elementwise.sin(turn))
    d = subtract(elementwise.cos(turn), multiply(c, tangent))

    def move(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = add(subtract(x, x0), multiply(across, subtract(width, 1.0)))
        y = add(subtract(y, y0), multiply(down, subtract(height, 1.0)))
        new_x = multiply(size, subtract(multiply(d, x), multiply(b, y)))
        new_y = multiply(size, subtract(multiply(a, y), multiply(c, x)))
        return add(new_x, x0), add(new_y, y0)

    found = hulls(expand_dims(given, 0) if single else given, move)
    return squeeze(found, 0) if single else found


# -------------------- overlaps --------------------


def _image_sides(name: str, forms: tuple, image_shape: Any) -> tuple[Any, Any]:
    """The height and the width of images of a shape (height, width, channels); (None, None) for None."""
    if image_shape is None:
        if any(str(form).lower().startswith("rel") for form in forms):
            raise ValueError(f"{name}: relative formats need image_shape, (height, width, channels), received None")
        return None, None
    if not isinstance(image_shape, list | tuple) or len(image_shape) != 3:
        raise ValueError(f"{name}: image_shape must be (height, width, channels), received {briefly(image_shape)}")
    return image_shape[0], image_shape[1]


def _overlap(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """The area that boxes have in common."""
    lengths = [
        maximum(subtract(minimum(first[end], second[end]), maximum(first[start], second[start])), 0.0)
        for start, end in ((0, 2), (1, 3))
    ]
    return multiply(*lengths)


def compute_iou(
    boxes1: Any,
    boxes2: Any,
    bounding_box_format: str,
    use_masking: bool = False,
    mask_val: Any = -1,
    image_shape: Any = None,
) -> Tensor:
    """The overlap of each box of one set with each box of another: the common area divided by the area of both together.

    Args:
        boxes1: Boxes (boxes, 4) or (batch, boxes, 4).
        boxes2: Boxes (others, 4) or (batch, others, 4).
        bounding_box_format: The format of both: see `convert_format`.
        use_masking: Whether boxes whose four corners' numbers are all negative get `mask_val`.
        mask_val: The value for them.
        image_shape: (height, width, channels) of the images, which relative formats need.

    Returns:
        A tensor (boxes, others) or (batch, boxes, others), with numbers from 0 to 1.

    Raises:
        ValueError: for boxes of another rank, or for a relative format without an image_shape.

    Example:
        >>> boxes, others = np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[0.0, 0.0, 2.0, 1.0], [5.0, 5.0, 6.0, 6.0]])
        >>> keras.utils.bounding_boxes.compute_iou(boxes, others, "xyxy").numpy().round(3)
        array([[0.5, 0. ]], dtype=float32)
    """
    height, width = _image_sides("compute_iou", (bounding_box_format,), image_shape)
    sides, masks = [], []
    for what, boxes, axis in (("boxes1", boxes1, -2), ("boxes2", boxes2, -3)):
        x = convert_format(boxes, bounding_box_format, "xyxy", height, width)
        if x.ndim not in (2, 3):
            raise ValueError(f"compute_iou: {what} must be (boxes, 4) or (batch, boxes, 4), received shape {x.shape}")
        x = expand_dims(x, axis)
        masks.append(elementwise.less(reduce.max(x, axis=-1), 0.0))
        sides.append([squeeze(side, -1) for side in split(x, 4, axis=-1)])
    common = _overlap(*sides)
    whole = subtract(add(_area(sides[0]), _area(sides[1])), common)
    found = divide(common, add(whole, epsilon()))
    if not use_masking:
        return found
    return elementwise.where(elementwise.logical_or(*masks), as_tensor(mask_val, found.dtype), found)


def compute_ciou(boxes1: Any, boxes2: Any, bounding_box_format: str, image_shape: Any = None) -> Tensor:
    """The complete overlap of pairs of boxes (Zheng et al., 2020): it also falls with their distance and unlike shapes.

    Args:
        boxes1: Boxes (..., 4).
        boxes2: Boxes of the same shape.
        bounding_box_format: The format of both: see `convert_format`.
        image_shape: (height, width, channels) of the images, which relative formats need.

    Returns:
        A tensor (...), with numbers from about -1.5 to 1.

    Raises:
        ValueError: for a relative format without an image_shape.

    Example:
        >>> boxes, others = np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[0.0, 1.0, 2.0, 3.0]])
        >>> keras.utils.bounding_boxes.compute_ciou(boxes, others, "xyxy").numpy().round(3)
        array([0.256], dtype=float32)
    """
    height, width = _image_sides("compute_ciou", (bounding_box_format,), image_shape)
    first, second = (
        [squeeze(side, -1) for side in split(convert_format(each, bounding_box_format, "xyxy", height, width), 4, -1)]
        for each in (boxes1, boxes2)
    )
    little = epsilon()
    lengths = [(subtract(s[2], s[0]), add(subtract(s[3], s[1]), little)) for s in (first, second)]
    common = _overlap(first, second)
    whole = add(subtract(add(multiply(*lengths[0]), multiply(*lengths[1])), common), 2 * little)
    overlap = divide(common, whole)
    diagonal, distance = (
        add(
            elementwise.square(subtract(*pair(0, 2))),
            elementwise.square(subtract(*pair(1, 3))),
        )
        for pair in (
            lambda low, high: (maximum(first[high], second[high]), minimum(first[low], second[low])),
            lambda low, high: tuple(divide(add(s[low], s[high]), 2.0) for s in (first, second)),
        )
    )
    angles = [elementwise.arctan(divide(*each)) for each in lengths]
    shape = multiply(4 / math.pi**2, elementwise.square(subtract(angles[1], angles[0])))
    weight = divide(shape, add(subtract(shape, overlap), 1 + little))
    return subtract(overlap, add(divide(distance, add(diagonal, little)), multiply(shape, weight)))


# -------------------- offsets from anchors --------------------


def _encoding(name: str, what: str, form: Any, forms: tuple, variance: Any, image_shape: Any) -> tuple:
    """The checked arguments of the two functions below: (height, width, variance)."""
    if form not in ("center_xywh", "center_yxhw"):
        raise ValueError(f"{name}: {what} must be 'center_xywh' or 'center_yxhw', received {briefly(form)}")
    if variance is not None:
        variance = as_tensor(variance, "float32")
        if variance.shape[-1:] != (4,):
            raise ValueError(f"{name}: variance must have four numbers, received shape {variance.shape}")
    return (*_image_sides(name, forms, image_shape), variance)


def encode_box_to_deltas(
    anchors: Any,
    boxes: Any,
    anchor_format: str,
    box_format: str,
    encoding_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Any = None,
) -> Tensor:
    """Boxes as offsets from anchors, as detectors learn them.

    The offsets of the centre are fractions of the anchor's size; those of the size are logarithms of its factor.

    Args:
        anchors: Boxes (anchors, 4).
        boxes: Boxes (anchors, 4) or (batch, anchors, 4), one for each anchor.
        anchor_format: The format of the anchors: see `convert_format`.
        box_format: The format of the boxes.
        encoding_format: The order of the offsets: 'center_yxhw' or 'center_xywh'.
        variance (four numbers, or None): The offsets are divided by them.
        image_shape: (height, width, channels) of the images, which relative formats need.

    Returns:
        A tensor of the boxes' shape.

    Raises:
        ValueError: for another encoding_format, or a variance that is not four numbers.

    Example:
        >>> anchors, boxes = np.array([[0.0, 0.0, 10.0, 10.0]]), np.array([[5.0, 0.0, 15.0, 20.0]])
        >>> keras.utils.bounding_boxes.encode_box_to_deltas(anchors, boxes, "xyxy", "xyxy").numpy().round(3)
        array([[0.5  , 0.5  , 0.693, 0.   ]], dtype=float32)
    """
    name, forms = "encode_box_to_deltas", (anchor_format, box_format)
    height, width, variance = _encoding(name, "encoding_format", encoding_format, forms, variance, image_shape)
    centre, size = split(convert_format(anchors, anchor_format, encoding_format, height, width), 2, axis=-1)
    new_centre, new_size = split(convert_format(boxes, box_format, encoding_format, height, width), 2, axis=-1)
    size, new_size = (maximum(each, epsilon()) for each in (size, new_size))
    offsets = _joined(divide(subtract(new_centre, centre), size), elementwise.log(divide(new_size, size)))
    return offsets if variance is None else divide(offsets, variance)


def decode_deltas_to_boxes(
    anchors: Any,
    boxes_delta: Any,
    anchor_format: str,
    box_format: str,
    encoded_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Any = None,
) -> Any:
    """The boxes that offsets from anchors mean: the inverse of `encode_box_to_deltas`.

    Args:
        anchors: Boxes (anchors, 4), or a dict of them by level.
        boxes_delta: Offsets (anchors, 4) or (batch, anchors, 4), or a dict of them with the same keys.
        anchor_format: The format of the anchors: see `convert_format`.
        box_format: The format of the result.
        encoded_format: The order of the offsets: 'center_yxhw' or 'center_xywh'.
        variance (four numbers, or None): The offsets are multiplied by them.
        image_shape: (height, width, channels) of the images, which relative formats need.

    Returns:
        A tensor of the offsets' shape, or a dict of them.

    Raises:
        ValueError: for another encoded_format, or a variance that is not four numbers.

    Example:
        >>> anchors, offsets = np.array([[0.0, 0.0, 10.0, 10.0]]), np.array([[0.5, 0.5, np.log(2.0), 0.0]])
        >>> keras.utils.bounding_boxes.decode_deltas_to_boxes(anchors, offsets, "xyxy", "xyxy").numpy().round(3)
        array([[ 5.,  0., 15., 20.]], dtype=float32)
    """
    if isinstance(anchors, dict) and isinstance(boxes_delta, dict):
        options = (anchor_format, box_format, encoded_format, variance, image_shape)
        return {level: decode_deltas_to_boxes(each, boxes_delta[level], *options) for level, each in anchors.items()}
    name, forms = "decode_deltas_to_boxes", (anchor_format, box_format)
    height, width, variance = _encoding(name, "encoded_format", encoded_format, forms, variance, image_shape)
    centre, size = split(convert_format(anchors, anchor_format, encoded_format, height, width), 2, axis=-1)
    offsets = as_tensor(boxes_delta, "float32")
    move, growth = split(offsets if variance is None else multiply(offsets, variance), 2, axis=-1)
    found = _joined(add(multiply(move, size), centre), multiply(elementwise.exp(growth), size))
    return convert_format(found, encoded_format, box_format, height, width)
