"""Tables that a model can be fitted on."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from rowcast.tables import (
    training_table,
)

N_ROWS = 12
LABELS = pa.array([0, 1] * 6)


def numbers(**columns: Any) -> pa.Table:
    """Return a table of twelve rows with a feature `x`, these columns and a target `y`."""
    return pa.table({"x": [0.5, 1.5] * 6, **columns, "y": LABELS})


def names_of(found: training_table.TrainingTable) -> list[str]:
    """Return the names of the features."""
    return [feature.name for feature in found.features]
