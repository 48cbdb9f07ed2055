"""Models as files for other programs; imported when first used."""

from nbkeras import later as _later

__getattr__, __dir__, __all__ = _later.names(globals(), {"onnx_model": "export_onnx"})
