"""`tf.errors`: the errors that nbkeras raises in the place of TensorFlow's."""

InvalidArgumentError = ValueError
NotFoundError = FileNotFoundError
OpError = Exception
ResourceExhaustedError = MemoryError
UnimplementedError = NotImplementedError
