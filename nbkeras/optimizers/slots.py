"""Slot: an optimizer's state for one variable. Its rows may lag behind the steps until they are read."""

import numpy as np

from nbkeras.engine.copy_on_write import share, will_write
from nbkeras.engine.tensor import Variable, outdate
from nbkeras.kernels import row_updates
from nbkeras.kernels.runtime import device

Array = np.ndarray


class Slot(Variable):
    """A Variable over a view of an optimizer's flat buffer, of any shape.

    After `let_lag`, an update of some rows does not update the other rows. `data`, and all reads and writes through it, are
    always up to date.
    """

    __slots__ = ("rows", "clock", "seen", "fading", "_recorded")

    def __init__(self, view: Array, name: str):
        self.rows = view  # set without bringing rows up to date
        self.fading: float | None = None  # the factor of a row in a step without gradient; None: no row lags behind
        self._recorded = False
        super().__init__(np.empty(0, view.dtype), name=name, trainable=False)
        self.data = share(view)

    @property
    def data(self) -> Array:  # type: ignore[override]
        self.settle()
        return self.rows

    @data.setter
    def data(self, array: Array) -> None:
        self.rows = array

    def let_lag(self, fading: float) -> None:
        """Let rows lag behind from now on. Each missed step multiplies a row by `fading`."""
        if self.fading is None:
            self.fading = fading
            self.clock = device.persistent(np.zeros(2, np.int64))  # see kernels/row_updates.py
            self.seen = device.persistent(np.zeros(len(self.rows), np.int64))
            if self._recorded:
                outdate(self.rows)

    def settle(self) -> None:
        """Update the rows that lag behind; a recorded step does so at each replay."""
        recorded = device.recorder() is not None
        if self.fading is None:
            self._recorded |= recorded  # the recording program would not settle the rows again
        elif recorded or self._is_behind():
            with device.on(device.gpu_of(self.rows)):
                will_write(self.rows)
                row_updates.settle(self.rows, self.seen, self.clock, self.fading)

    def _is_behind(self) -> bool:
        made, caught_up = np.asarray(self.clock)
        return made != caught_up
