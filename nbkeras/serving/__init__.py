"""`nbkeras serve`: models behind the Open Inference Protocol. Nothing imports this package but `nbkeras/__main__.py`."""
