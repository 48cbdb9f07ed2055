"""Twins of control.py: an iteration of a loop reads and writes its own row of an array."""

from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import kernel, start_each
from nbkeras.kernels.runtime.device_array import DeviceArray


@kernel
def _read(rows, number, last, row):
    j = cuda.grid(1)
    if j < row.shape[1]:
        i = number[0] if last < 0 else last - number[0]
        row[0, j] = rows[i, j]


@kernel
def _write(row, number, last, rows):
    j = cuda.grid(1)
    if j < row.shape[1]:
        i = number[0] if last < 0 else last - number[0]
        rows[i, j] = row[0, j]


def read_row(rows: DeviceArray, number: DeviceArray, last: int, row: DeviceArray) -> None:
    """row = rows[number[0]], or rows[last - number[0]] if `last` is not negative."""
    start_each(_read, row.size, rows, number, last, row)


def write_row(row: DeviceArray, number: DeviceArray, last: int, rows: DeviceArray) -> None:
    """rows[number[0]] = row, or rows[last - number[0]] if `last` is not negative."""
    start_each(_write, row.size, row, number, last, rows)
