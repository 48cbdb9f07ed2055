"""Floor 1: tensors, the tape, recorded programs, and basics for all floors above: dtypes, devices, names, errors."""
