"""Floor 1: tensors, the tape, recorded programs, and what all floors above use: dtypes, devices, names, errors."""
