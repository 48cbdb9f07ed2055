"""Floor 3: Keras's `models`: Model, Sequential, and what makes models of files, configurations and other models."""

from nbkeras import later as _later
from nbkeras.training.model import Model as Model
from nbkeras.training.sequential import Sequential as Sequential

_LATER = {
    "nbkeras.training.cloning": "clone_model",
    "nbkeras.saving": "load_model model_from_config model_from_json save_model",
}
__getattr__, __dir__, __all__ = _later.names(globals(), _LATER, ["nbkeras"])
