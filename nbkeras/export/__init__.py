"""Export of models to files for other programs; imported at first use."""

from nbkeras import later as _later

__getattr__, __dir__, __all__ = _later.names(globals(), {"onnx_model": "export_onnx"})
