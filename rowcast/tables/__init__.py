"""From the bytes of a file to checked Arrow columns."""

from rowcast.tables.columns import Feature
from rowcast.tables.formats import Sample, Source
from rowcast.tables.limits import Limits

__all__ = [
    "Feature",
    "Limits",
    "Sample",
    "Source",
    "checks",
    "columns",
    "drift",
    "formats",
    "target",
    "training_table",
]
