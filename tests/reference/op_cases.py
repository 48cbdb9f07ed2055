"""Cases of ops, for the tests of several files."""

import numpy as np

from nbkeras import ops


def both(function, *arrays):
    """A case of an op that NumPy has too: function(ops, ...), function(np, ...) and the arrays."""
    return lambda *xs: function(ops, *xs), lambda *xs: function(np, *xs), *arrays
