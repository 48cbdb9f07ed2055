"""`install_as_keras` makes `import keras` and its submodules mean nbkeras."""

import importlib
import importlib.abc
import importlib.machinery
import pathlib
import sys
from types import ModuleType
from typing import Any

from nbkeras.compat import keras2
from nbkeras.compat.modules import RENAMED, SHOWN
from nbkeras.compat.tensorflow import finder as tensorflow_finder
from nbkeras.engine import lazy_names

FOLDER = str(pathlib.Path(__file__).parent / "drop_in")


class Alias(ModuleType):
    """A module with a name from Keras. Its attributes are looked up in modules of nbkeras."""

    def _shown(self) -> list[ModuleType]:
        return [importlib.import_module(name) for name in SHOWN[_own(self.__name__)]]

    def __getattr__(self, name: str) -> Any:
        if _own(f"{self.__name__}.{name}") in SHOWN:
            return importlib.import_module(f"{self.__name__}.{name}")
        today = RENAMED.get(_own(self.__name__), {}).get(name, name)
        if not name.startswith("__") or name == "__version__":
            for module in self._shown():
                if hasattr(module, today) and not _is_imported(module, today):
                    found = getattr(module, today)
                    if callable(found):  # functions and classes do not change: the next access needs no search
                        setattr(self, name, found)
                    return found
        raise lazy_names.missing(self.__name__, name, sys._getframe(1))

    def __dir__(self) -> list[str]:
        names = [(module, name) for module in self._shown() for name in dir(module)]
        public = {name for module, name in names if not name.startswith("_") and not _is_imported(module, name)}
        prefix = f"{_own(self.__name__)}.".lstrip(".")
        within = {name.removeprefix(prefix) for name in SHOWN if name.startswith(prefix)}
        return sorted(public | {name for name in within if name and "." not in name} | set(vars(self)))

    @property
    def __all__(self) -> list[str]:
        """The names that `from keras.layers import *` imports."""
        return [name for name in dir(self) if not name.startswith("_")]


def _is_imported(module: ModuleType, name: str) -> bool:
    """Whether a name is another nbkeras module, imported for internal use, and not a name from Keras."""
    found = vars(module).get(name)
    path = found.__name__ if isinstance(found, ModuleType) else ""
    return path.startswith("nbkeras.") and path != f"{module.__name__}.{name}"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes the Alias of a module in the table."""

    def find_spec(self, fullname: str, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "keras":
            return None
        if _own(fullname) not in SHOWN:
            lazy_names.refuse_absent(fullname)
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Alias:
        return Alias(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        for name in SHOWN[_own(module.__name__)]:
            importlib.import_module(name)  # an import error is raised now


_finder = _Finder()


def _own(name: str) -> str:
    """The part after 'keras.': 'layers.core' for 'keras.layers.core', '' for 'keras'."""
    return name.partition(".")[2]


def install_as_keras(tensorflow: bool = False) -> None:
    """Make `import keras` and the modules of Keras 2 and 3 mean nbkeras, in this process and in those it spawns.

    Call it before the first `import keras`. If Keras 2.3.1 and Keras 3 differ, nbkeras then behaves as 2.3.1 (docs/compat.md).
    `nbkeras.compat.alias.uninstall` undoes it.

    Args:
        tensorflow: Whether `tensorflow.keras` means nbkeras too. All other names of `tensorflow` are then refused, even if
            TensorFlow is installed.

    Raises:
        ImportError: if another Keras is already imported.

    Example:
        >>> keras.install_as_keras()
        >>> from keras.layers import Dense
        >>> Dense is layers.Dense
        True
        >>> from nbkeras.compat.alias import uninstall
        >>> uninstall()
    """
    if _finder not in sys.meta_path:
        _stand_in("keras", "Keras", _finder, FOLDER)
        keras2.install()
        importlib.import_module("keras")
    if tensorflow:
        if tensorflow_finder not in sys.meta_path:
            _stand_in("tensorflow", "TensorFlow", tensorflow_finder, f"{FOLDER}_tensorflow")
            importlib.import_module("tensorflow")


def uninstall() -> None:
    """Undo `install_as_keras` in this process: nbkeras is Keras 3 again, and `import keras` finds what is installed."""
    names = {"keras": _finder, "tensorflow": tensorflow_finder}
    for name, finder in names.items():
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
            sys.path.remove(FOLDER if name == "keras" else f"{FOLDER}_{name}")
            for module in [each for each in sys.modules if each.partition(".")[0] == name]:
                del sys.modules[module]
    keras2.uninstall()


def _stand_in(name: str, title: str, finder: importlib.abc.MetaPathFinder, folder: str) -> None:
    """Let `import name` use the finder in this process, and the folder in spawned processes."""
    found = sys.modules.get(name)
    # nothing is imported yet, or only the folder's own stub
    ours = found is None or (getattr(found, "__file__", "") or "").startswith(folder)
    if not ours or any(each.startswith(f"{name}.") for each in sys.modules):
        raise ImportError(
            f"another {title} is imported already, from {getattr(found, '__file__', 'somewhere')}: call "
            f"nbkeras.install_as_keras before the first `import {name}`"
        )
    sys.meta_path.insert(0, finder)
    sys.path.insert(1, folder)  # after the script's own folder
    sys.modules.pop(name, None)
