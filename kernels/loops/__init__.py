"""The parts of compiled loops: matrix products, flat access to memory, vectorised functions, windows."""
