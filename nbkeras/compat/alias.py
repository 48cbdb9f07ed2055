"""`install_as_keras`: `import keras` and its submodules mean nbkeras, as Keras 2.3.1 or as Keras 3."""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import os
import pathlib
import sys
from types import ModuleType
from typing import Any

from nbkeras.compat import additions
from nbkeras.compat.modules import RENAMED, SHOWN
from nbkeras.compat.tensorflow.finder import finder as tensorflow_finder
from nbkeras.compat.version import version_of_file
from nbkeras.engine import lazy_names, settings
from nbkeras.engine.annotations import briefly

FOLDER = pathlib.Path(__file__).parent
BACKEND_VARIABLE = "NBKERAS_KERAS_BACKEND"  # the variable that tells spawned processes the answer
BACKENDS = ("nbkeras", "numpy", "tensorflow")
"""The names that `keras.backend.backend()` may return."""
undoing = contextlib.ExitStack()  # undoes `install_as_keras`


# -------------------- the modules --------------------


class Alias(ModuleType):
    """A module with a name from Keras. Its attributes are looked up in modules of nbkeras."""

    def _shown(self) -> list[ModuleType]:
        return [importlib.import_module(name) for name in _finder.shown[_own(self.__name__)]]

    def __getattr__(self, name: str) -> Any:
        if _own(f"{self.__name__}.{name}") in _finder.shown:
            return importlib.import_module(f"{self.__name__}.{name}")
        today = RENAMED.get(_own(self.__name__), {}).get(name, name) if _finder.version == 2 else name
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
        within = {name.removeprefix(prefix) for name in _finder.shown if name.startswith(prefix)}
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
    """Makes the Alias of a module in the table of the version of Keras that is installed."""

    version = 0  # 2 or 3 while installed

    @property
    def shown(self) -> dict[str, tuple[str, ...]]:
        return SHOWN[self.version]

    def find_spec(self, fullname: str, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "keras":
            return None
        if _own(fullname) not in self.shown:
            self._refuse(fullname)
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def _refuse(self, fullname: str) -> None:
        """Raise an ImportError that says more than that there is no such module, if there is more to say."""
        lazy_names.refuse_absent(fullname)
        if _own(fullname).startswith("src."):
            raise ImportError(
                f"{fullname} is an internal module of Keras, and nbkeras has only those that docs/packages.md lists: import "
                "the public name, such as keras.layers.Layer or keras.saving.serialize_keras_object",
                name=fullname,
            )
        other = 5 - self.version
        if _own(fullname) in SHOWN[other]:
            raise ImportError(
                f"{fullname} is a module of Keras {other}, and keras means Keras {self.version} in this process: start it "
                f"with --keras {other}, or call nbkeras.install_as_keras(version={other})",
                name=fullname,
            )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Alias:
        return Alias(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        for name in self.shown[_own(module.__name__)]:
            importlib.import_module(name)  # an import error is raised now


_finder = _Finder()


def _own(name: str) -> str:
    """The part after 'keras.': 'layers.core' for 'keras.layers.core', '' for 'keras'."""
    return name.partition(".")[2]


# -------------------- installation --------------------


def install_as_keras(version: int | None = None, tensorflow: bool = False, backend: str | None = None) -> None:
    """Make `import keras` and its modules mean nbkeras, in this process and in those it spawns.

    Call it before the first `import keras`. `nbkeras.compat.alias.uninstall` undoes it.

    Args:
        version: 2: modules, names and behaviour of Keras 2.3.1 (docs/coming-from-keras.md). 3: those of Keras 3. None: the
            imports and calls in the caller's file decide; without a file, 3.
        tensorflow: Whether `tensorflow.keras` means nbkeras too. Other names of `tensorflow` are then nbkeras's, or are
            refused, even if TensorFlow is installed (docs/coming-from-keras.md).
        backend: The answer of `keras.backend.backend()` and `keras.config.backend()`, for packages that support only some
            backends: 'numpy', 'tensorflow' or 'nbkeras'. None: the environment variable KERAS_BACKEND; without it 'numpy' for
            version 3 and 'nbkeras' for version 2. It changes nothing else.

    Raises:
        ImportError: if another Keras is already imported, or `keras` already means the other version.
        ValueError: for another version or backend.

    Example:
        >>> keras.install_as_keras(version=3)
        >>> from keras.layers import Dense
        >>> Dense is layers.Dense
        True
        >>> from nbkeras.compat.alias import uninstall
        >>> uninstall()
    """
    if version is None:
        version = _finder.version or version_of_file(sys._getframe(1).f_globals.get("__file__")).version
    if version not in SHOWN:
        raise ValueError(f"install_as_keras: version must be 2 or 3, received {briefly(version)}")
    if _finder.version not in (0, version):
        raise ImportError(
            f"keras already means Keras {_finder.version} in this process: nbkeras.compat.alias.uninstall() undoes it"
        )
    answer = _answer(version, backend)
    if not _finder.version:
        try:
            _stand_in("keras", "Keras", _finder, f"{FOLDER}/drop_in_{version}")
            _finder.version = version
            undoing.callback(setattr, _finder, "version", 0)
            importlib.import_module(f"nbkeras.compat.keras{version}.install").install(undoing)
            importlib.import_module("keras")
            undoing.callback(settings.answer_backend, settings.backend())
            undoing.callback(_set_variable, BACKEND_VARIABLE, os.environ.get(BACKEND_VARIABLE))
            _give_answer(answer)
        except BaseException:
            uninstall()
            raise
    elif backend is not None:
        _give_answer(answer)
    if backend is not None:  # for processes that this one starts
        undoing.callback(_set_variable, "KERAS_BACKEND", os.environ.get("KERAS_BACKEND"))
        os.environ["KERAS_BACKEND"] = backend
    if tensorflow and tensorflow_finder not in sys.meta_path:
        _stand_in("tensorflow", "TensorFlow", tensorflow_finder, f"{FOLDER}/drop_in_tensorflow")
        importlib.import_module("tensorflow")
        additions.add_members(undoing, importlib.import_module("nbkeras.compat.tensorflow.methods").ADDED)


def uninstall() -> None:
    """Undo `install_as_keras` in this process: nbkeras is Keras 3 again, and `import keras` finds what is installed."""
    undoing.close()


def _answer(version: int, backend: str | None) -> str:
    """The name of the backend to answer with: an argument, the environment's, or the version's own."""
    given = os.environ.get("KERAS_BACKEND") if backend is None else backend
    if not given:
        return "numpy" if version == 3 else "nbkeras"
    where, advice = "install_as_keras: backend", ""
    if backend is None:
        where = "the environment variable KERAS_BACKEND"
        advice = (
            ". Unset the variable, or choose an answer, which comes first: python -m nbkeras --backend numpy script.py"
        )
    if given not in BACKENDS:
        raise ValueError(
            f"{where} must be one of {', '.join(map(repr, BACKENDS))}, received {briefly(given)}: nbkeras computes everything "
            f"itself and can only answer with a name that packages know{advice}"
        )
    return given


def _give_answer(answer: str) -> None:
    """Answer with a backend, also in spawned processes, whatever the script writes into KERAS_BACKEND."""
    settings.answer_backend(answer)
    os.environ[BACKEND_VARIABLE] = answer


def _set_variable(name: str, value: str | None) -> None:
    """Set a variable of the environment; None removes it."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


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
    undoing.callback(_forget, name, finder, folder)
    sys.meta_path.insert(0, finder)
    sys.path.insert(1, folder)  # after the script's own folder
    sys.modules.pop(name, None)


def _forget(name: str, finder: importlib.abc.MetaPathFinder, folder: str) -> None:
    """Undo `_stand_in`."""
    sys.meta_path.remove(finder)
    sys.path.remove(folder)
    for module in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[module]
