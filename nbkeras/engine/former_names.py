"""Floor 1: the module names of version 0.1, for code, pickles and model files that still use them.

`import nbkeras.kernels.cache` imports `nbkeras.kernels.runtime.cache`. Python asks this finder last, so imports of existing
modules cost nothing.
"""

import importlib
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

FORMER = {
    "nbkeras.kernels.cache": "nbkeras.kernels.runtime.cache",
    "nbkeras.kernels.cuda_kernel": "nbkeras.kernels.cuda.machine.kernel",
    "nbkeras.kernels.device": "nbkeras.kernels.runtime.device",
    "nbkeras.kernels.threads": "nbkeras.kernels.runtime.threads",
    "nbkeras.elastic": "nbkeras.random.elastic_transform",
    "nbkeras.engine.gradient_tape": "nbkeras.autodiff.gradient_tape",
    "nbkeras.graph": "nbkeras.building.graph",
    "nbkeras.inputs": "nbkeras.building.inputs",
    "nbkeras.layer": "nbkeras.building.layer",
    "nbkeras.model": "nbkeras.training.model",
    "nbkeras.operation": "nbkeras.building.operation",
    "nbkeras.placement": "nbkeras.engine.devices",
    "nbkeras.program": "nbkeras.engine.program",
    "nbkeras.registry": "nbkeras.engine.registry",
    "nbkeras.sequential": "nbkeras.training.sequential",
    "nbkeras.tape": "nbkeras.engine.tape",
}


class _Finder:
    """Finds modules by their former names. It is also their loader."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(name, cls) if name in FORMER else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: Any) -> None:
        """Let Python make an empty module, which `exec_module` replaces."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(FORMER[module.__name__])


sys.meta_path.append(_Finder)  # type: ignore[arg-type]
