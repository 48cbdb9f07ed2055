"""Twins of embedding.py: gathering rows, and adding gradients to them in a fixed order."""

from nbkeras.kernels.cuda.indexing import gather
from nbkeras.kernels.cuda.loops.rows import add_rows as add_rows
from nbkeras.kernels.cuda.runtime import device as device_cuda
from nbkeras.kernels.runtime.device_array import DeviceArray


def gather_rows(table: DeviceArray, indices: DeviceArray, out: DeviceArray) -> None:
    """out[i] = table[indices[i]], or NaN for an index out of range."""
    gather(table, indices, 0, out)


def clear(x: DeviceArray) -> None:
    """x = 0."""
    device_cuda.fill(x, 0)
