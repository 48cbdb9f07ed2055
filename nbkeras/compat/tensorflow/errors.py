"""`tf.errors`: the errors that nbkeras raises in the place of TensorFlow's."""

AlreadyExistsError = FileExistsError
InvalidArgumentError = ValueError
NotFoundError = FileNotFoundError
OpError = Exception
OutOfRangeError = StopIteration  # an iterator of a data set has no more elements
PermissionDeniedError = PermissionError
ResourceExhaustedError = MemoryError
UnimplementedError = NotImplementedError


class InternalError(Exception):
    """An error of TensorFlow's runtime and its servers, which nothing of nbkeras raises."""


AbortedError = CancelledError = DataLossError = DeadlineExceededError = FailedPreconditionError = InternalError
OperatorNotAllowedInGraphError = UnauthenticatedError = UnavailableError = UnknownError = InternalError
