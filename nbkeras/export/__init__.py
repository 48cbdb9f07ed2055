"""Export of models to files for other programs; imported at first use."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.export.endpoints import *
    from nbkeras.export.left_outside import host_inputs as host_inputs
    from nbkeras.export.library import export_library as export_library
    from nbkeras.export.onnx_model import *
    from nbkeras.export.training import variables_by_name as variables_by_name

_lazy_names.attach(globals())
