"""Why a model predicts what it predicts."""

__all__ = ["permutation"]
