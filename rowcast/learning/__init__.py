"""From checked columns to a model with an honest account of its quality."""

from rowcast.learning.learners import LEARNERS
from rowcast.learning.prediction import Predictor
from rowcast.learning.progress import Phase, Progress, SILENT

__all__ = [
    "LEARNERS",
    "Phase",
    "Predictor",
    "Progress",
    "SILENT",
    "learners",
    "prediction",
    "preprocessing",
    "progress",
    "training",
]
