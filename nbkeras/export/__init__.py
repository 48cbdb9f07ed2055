"""Export of models to files for other programs; imported at first use."""

from nbkeras.engine import lazy_names as _lazy_names

__getattr__, __dir__, __all__ = _lazy_names.names(globals(), {"onnx_model": "export_onnx"})
