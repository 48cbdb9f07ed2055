"""Keras's `visualization`: images with their boxes and masks, alone or in a gallery. Beside it, models and profiles as tables
and pictures.
"""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.visualization.galleries import *
    from nbkeras.visualization.marks import draw_bounding_boxes as draw_bounding_boxes
    from nbkeras.visualization.marks import draw_segmentation_masks as draw_segmentation_masks

_lazy_names.attach(globals())
