"""Predictions inside a request."""

__all__ = [
    "model_cache",
    "predictor",
    "protocol",
]
