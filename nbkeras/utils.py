"""Keras's `utils`: a face that shows what lives in other files."""

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
from nbkeras.registry import custom_object_scope as custom_object_scope
from nbkeras.registry import get_custom_objects as get_custom_objects
from nbkeras.registry import register_keras_serializable as register_keras_serializable

CustomObjectScope = custom_object_scope

_LATER = {
    "nbkeras.directories": "audio_dataset_from_directory image_dataset_from_directory text_dataset_from_directory",
    "nbkeras.downloads": "get_file",
    "nbkeras.attributes": "Config",
    "nbkeras.backend": "clear_session is_keras_tensor",
    "nbkeras.config": "standardize_dtype",
    "nbkeras.data.batches": "pack_x_y_sample_weight unpack_x_y_sample_weight",
    "nbkeras.drawing": "model_to_dot plot_model",
    "nbkeras.enqueuers": "GeneratorEnqueuer OrderedEnqueuer SequenceEnqueuer",
    "nbkeras.images": "array_to_img img_to_array load_img save_img",
    "nbkeras.saving": "deserialize_keras_object get_registered_name get_registered_object serialize_keras_object",
    "nbkeras.selection": "split_dataset timeseries_dataset_from_array",
}
__getattr__, __dir__, __all__ = _later.names(globals(), _LATER, ["nbkeras"])
