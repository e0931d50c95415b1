"""Why a model predicts what it predicts."""

__all__ = ["contributions", "effects", "permutation"]
