"""Benchmarks of nbkeras against Keras, PyTorch, JAX and onnxruntime: `python -m benchmarks --help`."""
