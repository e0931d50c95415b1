"""What Rowcast's doors share, one subject per module."""

__version__ = "0.1.0"
