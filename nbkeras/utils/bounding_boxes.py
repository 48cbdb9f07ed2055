"""Keras's `utils.bounding_boxes`; its functions are defined in ops/boxes.py."""

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.ops.boxes import affine_transform as affine_transform
from nbkeras.ops.boxes import clip_to_image_size as clip_to_image_size
from nbkeras.ops.boxes import compute_ciou as compute_ciou
from nbkeras.ops.boxes import compute_iou as compute_iou
from nbkeras.ops.boxes import convert_format as convert_format
from nbkeras.ops.boxes import crop as crop
from nbkeras.ops.boxes import decode_deltas_to_boxes as decode_deltas_to_boxes
from nbkeras.ops.boxes import encode_box_to_deltas as encode_box_to_deltas
from nbkeras.ops.boxes import pad as pad

_lazy_names.attach(globals())
