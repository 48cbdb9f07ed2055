"""The parts of which compiled loops are made: matrix products, flat access to memory, vectorised functions, windows."""
