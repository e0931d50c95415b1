"""From the bytes of a file to checked Arrow columns."""

from rowcast.tables.columns import Feature
from rowcast.tables.files import Format, OnProgress, Sample, Source, ignore_progress
from rowcast.tables.limits import Limits
from rowcast.tables.reading import ReadingOptions
from rowcast.tables.selection import Selection

__all__ = [
    "Feature",
    "Format",
    "Limits",
    "OnProgress",
    "ReadingOptions",
    "Sample",
    "Selection",
    "Source",
    "checks",
    "columns",
    "drift",
    "formats",
    "ignore_progress",
    "reading",
    "row_order",
    "target",
    "training_table",
]
