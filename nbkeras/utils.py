"""Keras's `utils`: a face that shows what lives in other files."""

from nbkeras.building.graph import get_source_inputs as get_source_inputs
from nbkeras.config import disable_interactive_logging as disable_interactive_logging
from nbkeras.config import enable_interactive_logging as enable_interactive_logging
from nbkeras.config import is_interactive_logging_enabled as is_interactive_logging_enabled
from nbkeras.config import set_random_seed as set_random_seed
from nbkeras.data.encoding import normalize as normalize
from nbkeras.data.encoding import pad_sequences as pad_sequences
from nbkeras.data.encoding import to_categorical as to_categorical
from nbkeras.data.pydataset import PyDataset as PyDataset
from nbkeras.data.pydataset import Sequence as Sequence
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.progress import Progbar as Progbar
from nbkeras.engine.registry import custom_object_scope as custom_object_scope
from nbkeras.engine.registry import get_custom_objects as get_custom_objects
from nbkeras.engine.registry import register_keras_serializable as register_keras_serializable

CustomObjectScope = custom_object_scope

_LATER = {
    "nbkeras.data.directories": "audio_dataset_from_directory image_dataset_from_directory text_dataset_from_directory",
    "nbkeras.data.downloads": "get_file",
    "nbkeras.engine.config_object": "Config",
    "nbkeras.backend": "clear_session is_keras_tensor",
    "nbkeras.config": "standardize_dtype",
    "nbkeras.data.batches": "pack_x_y_sample_weight unpack_x_y_sample_weight",
    "nbkeras.training.drawing": "model_to_dot plot_model",
    "nbkeras.data.enqueuers": "GeneratorEnqueuer OrderedEnqueuer SequenceEnqueuer",
    "nbkeras.data.images": "array_to_img img_to_array load_img save_img",
    "nbkeras.saving": "deserialize_keras_object get_registered_name get_registered_object serialize_keras_object",
    "nbkeras.data.selection": "split_dataset timeseries_dataset_from_array",
}
__getattr__, __dir__, __all__ = _lazy_names.names(globals(), _LATER, ["nbkeras"])
