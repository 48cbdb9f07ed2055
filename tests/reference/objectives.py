"""Values of real Keras's losses and metrics: objectives.npz, which make_objectives.py writes."""

import json
from pathlib import Path

import numpy as np

with np.load(Path(__file__).with_suffix(".npz")) as file:
    REFERENCE = dict(file)
SPEC = json.loads(str(REFERENCE["cases"]))


def data(kind):
    """Targets and predictions of one kind."""
    return REFERENCE[f"data/{kind}/true"], REFERENCE[f"data/{kind}/pred"]
