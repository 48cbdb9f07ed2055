"""Keras's `utils`; its functions and classes are defined in other files."""

from typing import TYPE_CHECKING

from nbkeras import later as _later
from nbkeras.config import disable_interactive_logging as disable_interactive_logging
from nbkeras.config import enable_interactive_logging as enable_interactive_logging
from nbkeras.config import is_interactive_logging_enabled as is_interactive_logging_enabled
from nbkeras.config import set_random_seed as set_random_seed
from nbkeras.encoding import normalize as normalize
from nbkeras.encoding import pad_sequences as pad_sequences
from nbkeras.encoding import to_categorical as to_categorical
from nbkeras.graph import get_source_inputs as get_source_inputs
from nbkeras.progress import Progbar as Progbar
from nbkeras.pydataset import PyDataset as PyDataset
from nbkeras.pydataset import Sequence as Sequence
from nbkeras.registry import CustomObjectScope as CustomObjectScope
from nbkeras.registry import custom_object_scope as custom_object_scope
from nbkeras.registry import get_custom_objects as get_custom_objects
from nbkeras.registry import register_keras_serializable as register_keras_serializable

if TYPE_CHECKING:  # imported when first asked for
    from nbkeras.attributes import Config as Config
    from nbkeras.backend import clear_session as clear_session
    from nbkeras.backend import is_keras_tensor as is_keras_tensor
    from nbkeras.config import standardize_dtype as standardize_dtype
    from nbkeras.data import pack_x_y_sample_weight as pack_x_y_sample_weight
    from nbkeras.data import unpack_x_y_sample_weight as unpack_x_y_sample_weight
    from nbkeras.directories import audio_dataset_from_directory as audio_dataset_from_directory
    from nbkeras.directories import image_dataset_from_directory as image_dataset_from_directory
    from nbkeras.directories import text_dataset_from_directory as text_dataset_from_directory
    from nbkeras.downloads import get_file as get_file
    from nbkeras.drawing import model_to_dot as model_to_dot
    from nbkeras.drawing import plot_model as plot_model
    from nbkeras.enqueuers import GeneratorEnqueuer as GeneratorEnqueuer
    from nbkeras.enqueuers import OrderedEnqueuer as OrderedEnqueuer
    from nbkeras.enqueuers import SequenceEnqueuer as SequenceEnqueuer
    from nbkeras.images import array_to_img as array_to_img
    from nbkeras.images import img_to_array as img_to_array
    from nbkeras.images import load_img as load_img
    from nbkeras.images import save_img as save_img
    from nbkeras.saving import deserialize_keras_object as deserialize_keras_object
    from nbkeras.saving import get_registered_name as get_registered_name
    from nbkeras.saving import get_registered_object as get_registered_object
    from nbkeras.saving import serialize_keras_object as serialize_keras_object
    from nbkeras.selection import split_dataset as split_dataset
    from nbkeras.selection import timeseries_dataset_from_array as timeseries_dataset_from_array

_later.attach(globals())
