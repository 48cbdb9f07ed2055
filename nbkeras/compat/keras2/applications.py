"""`keras.applications` of Keras 2.3.1: the networks of the package Keras-Applications, if it is installed (see modules.py)."""

import importlib
import importlib.util
import inspect
import pkgutil
import sys

from nbkeras.compat import additions, alias

if importlib.util.find_spec("keras_applications") is not None:
    _package = importlib.import_module("keras_applications")
    for _name in ("backend", "layers", "models", "utils"):
        _part = importlib.import_module(f"nbkeras.{_name}")
        additions.put(alias.undoing, _package, f"_KERAS_{_name.upper()}", _part)
    alias.undoing.callback(sys.modules.pop, __name__)  # the next `install_as_keras` sets them again
    for _module in pkgutil.iter_modules(_package.__path__):
        for _name, _found in vars(importlib.import_module(f"keras_applications.{_module.name}")).items():
            if _name[0].isupper() and inspect.isfunction(_found):
                globals()[_name] = _found
