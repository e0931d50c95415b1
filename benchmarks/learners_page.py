"""The part of docs/quality.md about real tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import standings
from benchmarks.real_tables import TABLES, RealTable
from benchmarks.standings import BEST, Judged, Standing

HEADING = "\n## Real tables\n"
_NAMES = {"former": "the former default", "skrub": "by hand", "flaml": "FLAML"}
_TEXT = f"""
{{n_tables}} tables that come inside Python packages (`benchmarks/real_tables.py`), each with a target. A quarter of the rows is held back, at least ten. The
others are fitted as a CSV file with only the target and the task given. The figures are the loss on the rows held back as a share of the baseline's loss: log
loss for classes, the root of the mean squared error for quantities. 1 is as good as a model that uses no column, and lower is better. A table's figure is the
mean over {{n_seeds}} divisions of its rows, each of which counts {standings.MAX_RATIO:g} at most, as a fit that fails does. All of it runs on one thread.

* **The former default**: `learner=boosting` with scikit-learn's own parameters. The **best of three** is, for each table, the best of the former default,
  `linear` and `forest`, chosen in hindsight: nobody can choose it beforehand.
* **By hand**: skrub's `tabular_pipeline`, with its defaults, on the table as pandas reads it.
* **Worse**: tables on which it is worse than the baseline; in brackets those whose model has no note that says so. Models by hand have no notes.
* **Behind**: tables on which it is behind the former default by over {100 * standings.MARGIN:g} % of the baseline's loss.
* **CPU**: mean CPU seconds of a fit, with its validation (by hand there is none), without importances.
"""
_FLAML = f"""
### Compared with FLAML

The tables of up to {standings.SMALL_ROWS:,} rows again, divided once. FLAML has {{seconds}} s for each, in a process of its own, on one thread.
"""
_TABLES = """
### The tables

"""


@dataclass(frozen=True)
class Page:
    """What the part shows; `flaml` are the tables that FLAML was tried on, `shapes` all shapes."""

    tables: Sequence[RealTable]
    shapes: dict[str, tuple[int, int]]
    judged: Sequence[Judged]
    n_seeds: int
    flaml: Sequence[Judged]
    flaml_s: int

    def text(self) -> str:
        """Return the part, from its heading on."""
        n_tables = str(len(self.judged))
        if len(self.judged) < len(TABLES):
            n_tables += f" of the {len(TABLES)}"
        counts = {"n_tables": n_tables, "n_seeds": self.n_seeds}
        parts = [HEADING, _TEXT.format(**counts), _lines(standing_lines(self.judged))]
        if self.flaml:
            parts.append(_FLAML.format(seconds=self.flaml_s))
            parts.append(_lines(standing_lines(self.flaml)))
        parts += [_TABLES, "\n".join(self._table_lines()), "\n"]
        return "".join(parts)

    def _table_lines(self) -> list[str]:
        by_name = {table.name: table for table in self.tables}
        learners = list(self.judged[0].scores) if self.judged else []
        lines = head("table", "package", "rows", "columns", "target", *_shown(learners))
        for judged in self.judged:
            table = by_name[judged.name]
            n_rows, n_columns = self.shapes[judged.name]
            cells = [table.name, table.package, f"{n_rows:,}", f"{n_columns:,}"]
            cells.append(f"`{table.target}`")
            cells += [f"{judged.scores[name].ratio:.3f}" for name in learners]
            lines.append(line(*cells))
        return lines


def write(document: Path, heading: str, text: str) -> None:
    """Put a part into a document, in the place of an earlier one, else at its end."""
    before, _, after = document.read_text().partition(heading)
    _, next_heading, later = after.partition("\n## ")
    document.write_text(before.rstrip("\n") + "\n" + text + next_heading + later)


def standing_lines(tables: Sequence[Judged]) -> list[str]:
    """Return the standings in each class of size as a table in Markdown."""
    lines = head(
        *("rows", "tables", "learner", "median", "mean", "worse", "behind", "CPU (s)")
    )
    for size, found in standings.standings(tables).items():
        lines += [_standing_line(size, standing) for standing in found]
    return lines


def _standing_line(size: str, standing: Standing) -> str:
    (name,) = _shown([standing.learner])
    worse = str(standing.worse)
    if standing.worse and standing.learner not in ("skrub", "flaml", BEST):
        worse += f" ({standing.unnoted})"
    behind = "" if standing.behind is None else str(standing.behind)
    figures = [f"{standing.median:.3f}", f"{standing.mean:.3f}", worse, behind]
    return line(size, str(standing.n_tables), name, *figures, f"{standing.cpu_s:.2f}")


def head(*names: str) -> list[str]:
    """Return the first two lines of a table in Markdown."""
    return [line(*names), line(*["---"] * len(names))]


def line(*cells: str) -> str:
    """Return a line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def _shown(learners: Sequence[str]) -> list[str]:
    return [
        _NAMES.get(name, name if name == BEST else f"`{name}`") for name in learners
    ]


def _lines(lines: Sequence[str]) -> str:
    return "\n" + "\n".join(lines) + "\n"
