"""From checked columns to a model with an honest account of its quality."""

from rowcast.learning.explanations import contributions
from rowcast.learning.learners import LEARNERS, Cost
from rowcast.learning.prediction import Predictor
from rowcast.learning.progress import SILENT, Phase, Progress
from rowcast.learning.result_formats import RESULT_FORMATS

__all__ = [
    "LEARNERS",
    "RESULT_FORMATS",
    "SILENT",
    "Cost",
    "Phase",
    "Predictor",
    "Progress",
    "contributions",
    "evaluation",
    "learners",
    "prediction",
    "preprocessing",
    "progress",
    "result_formats",
    "spaces",
    "thresholds",
    "training",
]
