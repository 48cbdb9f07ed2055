"""Keras's `visualization`: images with their boxes and masks, alone or in a gallery."""

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.visualization.galleries import plot_bounding_box_gallery as plot_bounding_box_gallery
from nbkeras.visualization.galleries import plot_image_gallery as plot_image_gallery
from nbkeras.visualization.galleries import plot_segmentation_mask_gallery as plot_segmentation_mask_gallery
from nbkeras.visualization.marks import draw_bounding_boxes as draw_bounding_boxes
from nbkeras.visualization.marks import draw_segmentation_masks as draw_segmentation_masks

_lazy_names.attach(globals())
