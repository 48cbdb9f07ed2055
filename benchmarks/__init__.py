"""nbkeras beside Keras, PyTorch, JAX and onnxruntime: `python -m benchmarks --help`."""
