"""Start the stack, run every benchmark against it, print the table."""

from __future__ import annotations

import sys

import joblib

from benchmarks import fits, predictions, stack, upload, validation, waits


def main() -> None:
    print(f"{joblib.cpu_count()} cores, Python {sys.version.split()[0]}\n")
    rows = [("what", "against", "Rowcast", "target", True)]
    with stack.running() as running:
        for benchmark in (waits, upload, fits, validation, predictions):
            rows += benchmark.measure(running)
    for what, bare, found, target, is_met in rows:
        verdict = "" if target in ("", "target") else "met" if is_met else "MISSED"
        print(f"{what:<44}{bare:<10}{found:<30}{target:<20}{verdict}")


if __name__ == "__main__":
    main()
