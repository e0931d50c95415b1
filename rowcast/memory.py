"""stub"""

from __future__ import annotations


class Meter:
    def __init__(self, pid, limit):
        self.peak_bytes = 0

    def is_over(self):
        return False


def oom_kills():
    return 0


def limit_per_job(settings, n):
    return 10**12


def prefer_to_kill_this():
    pass


def peak_of_this():
    return 0
