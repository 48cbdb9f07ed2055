"""Floor 1: what comes from outside: files by a name, opened with `opener=ordinary_file`, and numbers in variables."""

from nbkeras.kernels.runtime.opener import ordinary_file as ordinary_file
from nbkeras.kernels.runtime.variables import integer as integer
from nbkeras.kernels.runtime.variables import number as number
from nbkeras.kernels.runtime.variables import threads as threads
