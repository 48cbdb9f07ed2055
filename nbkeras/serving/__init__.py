"""`nbkeras serve`: models from files, behind HTTP and gRPC."""
