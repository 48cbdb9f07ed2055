"""Keras's `utils`; its functions and classes are defined in other files."""

from typing import TYPE_CHECKING

from nbkeras.building.graph import get_source_inputs as get_source_inputs
from nbkeras.config import disable_interactive_logging as disable_interactive_logging
from nbkeras.config import enable_interactive_logging as enable_interactive_logging
from nbkeras.config import is_interactive_logging_enabled as is_interactive_logging_enabled
from nbkeras.config import set_random_seed as set_random_seed
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.progress import Progbar as Progbar
from nbkeras.engine.registry import CustomObjectScope as CustomObjectScope
from nbkeras.engine.registry import custom_object_scope as custom_object_scope
from nbkeras.engine.registry import get_custom_objects as get_custom_objects
from nbkeras.engine.registry import register_keras_serializable as register_keras_serializable

if TYPE_CHECKING:  # imported at first use
    from nbkeras.backend import clear_session as clear_session
    from nbkeras.backend import is_keras_tensor as is_keras_tensor
    from nbkeras.config import standardize_dtype as standardize_dtype
    from nbkeras.data.adapters import pack_x_y_sample_weight as pack_x_y_sample_weight
    from nbkeras.data.adapters import unpack_x_y_sample_weight as unpack_x_y_sample_weight
    from nbkeras.data.directories import audio_dataset_from_directory as audio_dataset_from_directory
    from nbkeras.data.directories import image_dataset_from_directory as image_dataset_from_directory
    from nbkeras.data.directories import text_dataset_from_directory as text_dataset_from_directory
    from nbkeras.data.downloads import get_file as get_file
    from nbkeras.data.encoding import *
    from nbkeras.data.enqueuers import *
    from nbkeras.data.images import array_to_img as array_to_img
    from nbkeras.data.images import img_to_array as img_to_array
    from nbkeras.data.images import load_img as load_img
    from nbkeras.data.images import save_img as save_img
    from nbkeras.data.pydataset import *
    from nbkeras.data.selection import split_dataset as split_dataset
    from nbkeras.data.selection import timeseries_dataset_from_array as timeseries_dataset_from_array
    from nbkeras.engine.config_object import Config as Config
    from nbkeras.preprocessing.features.feature_space import FeatureSpace as FeatureSpace
    from nbkeras.saving import deserialize_keras_object as deserialize_keras_object
    from nbkeras.saving import get_registered_name as get_registered_name
    from nbkeras.saving import get_registered_object as get_registered_object
    from nbkeras.saving import serialize_keras_object as serialize_keras_object
    from nbkeras.utils import bounding_boxes as bounding_boxes
    from nbkeras.visualization.diagrams import model_to_dot as model_to_dot
    from nbkeras.visualization.diagrams import plot_model as plot_model

_lazy_names.attach(globals())
