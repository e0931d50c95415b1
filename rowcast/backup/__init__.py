"""Backups: a copy of the store and of Redis in a folder, and back."""

from rowcast.backup.copying import BUCKETS, restore, save
from rowcast.backup.folder import BackupError, verified

__all__ = [
    "BUCKETS",
    "BackupError",
    "restore",
    "save",
    "verified",
]
