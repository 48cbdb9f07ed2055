"""Floor 3: Keras's `models`: Model, Sequential, and functions that make models of files, configurations and other models."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.saving import load_model as load_model
    from nbkeras.saving import model_from_config as model_from_config
    from nbkeras.saving import model_from_json as model_from_json
    from nbkeras.saving import save_model as save_model
    from nbkeras.training.cloning import clone_model as clone_model
    from nbkeras.training.model import Model as Model
    from nbkeras.training.sequential import Sequential as Sequential

_lazy_names.attach(globals())
