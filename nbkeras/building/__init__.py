"""Floor 2: layers, their weights and their graphs. Stateless calls are imported when first used."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:
    from nbkeras.building.stateless import stateless_call as stateless_call
    from nbkeras.building.stateless import stateless_compute_loss as stateless_compute_loss

_lazy_names.attach(globals())
