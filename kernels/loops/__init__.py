"""What compiled loops are made of: matrix products, flat access to memory, vectorised functions, windows."""
