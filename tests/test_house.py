"""The rules of the house: who imports what, and what a file may hold."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOORS = {"server", "worker", "warm", "ml", "client"}
RUNNABLE = {path.stem for path in ROOT.glob("*.py")} | {"gunicorn.conf"}
PACKAGE = {path.stem: path for path in (ROOT / "rowcast").glob("*.py")}
LEFT_OUT = {".env", "backup", "build", "dist", "__pycache__"}
FOREIGN_PATHS = re.compile(r"/(home|Users)/\w+|/tmp/\w+")
# What works on tables, whoever asked for it.
WORKING = {
    *("limits", "magic", "text_stream", "csv_dialect", "csv_rows", "json_lines", "columnar", "formats"),
    *("columns", "labels", "tables", "learners", "preparation", "training", "predictions"),
    *("scores", "importance", "intervals", "drift", "cores", "progress", "iterations"),
}
LOCAL = {"local", "local_backup", "parts"}
EMPTY_NAMES = {"utils", "util", "helpers", "common", "misc", "manager", "handler"}


def all_files() -> Iterator[Path]:
    """Yield the project's files, without what tools leave beside them."""
    stack = [ROOT]
    while stack:
        for path in stack.pop().iterdir():
            if path.is_dir() and _holds_ours(path):
                stack.append(path)
            elif path.is_file() and path.name not in LEFT_OUT:
                yield path


def _holds_ours(folder: Path) -> bool:
    # Hidden folders are those of tools, and those of editors, which nobody told us of.
    return folder.name in (".ci", ".github") or not (folder.name in LEFT_OUT or folder.name.startswith("."))


PYTHON_FILES = sorted(path for path in all_files() if path.suffix == ".py")


def names_of(nodes: Iterator[ast.AST]) -> set[str]:
    """Return what import statements name: `rowcast.tables` for both `import` and `from rowcast import`."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "rowcast":
            names |= {f"rowcast.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
    return names


def imports_of(path: Path) -> set[str]:
    return names_of(ast.walk(ast.parse(path.read_text())))


def loaded_by(path: Path) -> set[str]:
    """Return what importing a file loads: its imports outside of functions and of `if TYPE_CHECKING`."""

    def statements(body: list[ast.stmt]) -> Iterator[ast.AST]:
        for node in body:
            yield node
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from statements(node.orelse)
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from statements([n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)])

    return names_of(statements(ast.parse(path.read_text()).body))


def ours(names: set[str]) -> set[str]:
    """Return the modules of the package among names, without the package's name."""
    return {name.removeprefix("rowcast.") for name in names if name.startswith("rowcast.")} & set(PACKAGE)


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", PACKAGE.values(), ids=PACKAGE)
def test_package_imports_no_door(path: Path) -> None:
    assert not roots(imports_of(path)) & RUNNABLE


@pytest.mark.parametrize("module", ["config", "errors", "ids", "folders", "death_signal"])
def test_ground_imports_nothing_of_ours(module: str) -> None:
    assert "rowcast" not in roots(imports_of(PACKAGE[module]))


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("limits", {"errors"}),
        ("magic", {"errors"}),
        ("text_stream", {"errors", "limits", "magic"}),
        ("csv_dialect", {"errors"}),
        ("csv_rows", {"csv_dialect", "errors", "limits", "text_stream"}),
        ("json_lines", {"errors", "limits"}),
        ("columnar", {"errors", "limits"}),
        (
            "formats",
            {"columnar", "csv_dialect", "csv_rows", "errors", "json_lines", "limits", "magic", "text_stream"},
        ),
        ("tables", {"columns", "drift", "errors", "formats", "labels"}),
        ("columns", set()),
        ("learners", {"errors"}),
        ("preparation", {"columns", "learners"}),
        (
            "training",
            {
                *("columns", "errors", "importance", "intervals", "iterations", "learners", "preparation"),
                *("progress", "scores"),
            },
        ),
        ("predictions", {"columns", "drift", "errors", "formats", "intervals", "labels", "tables"}),
        ("scores", set()),
        ("importance", {"scores"}),
        ("drift", set()),
        ("signing", {"errors"}),
        ("wire", {"learners", "progress"}),
        ("progress", set()),
        ("iterations", {"progress"}),
        ("estimates", {"formats", "storage"}),
        ("models", {"columns", "errors", "predictions", "publishing", "signing", "storage", "versions"}),
        (
            "model_cache",
            {"errors", "invalidation", "memory", "models", "predictions", "publishing", "storage"},
        ),
        ("at_once", {"errors", "folders"}),
        ("answers", {"at_once", "errors", "formats", "limits", "predictions", "tables"}),
        ("bodies", {"at_once", "errors", "wire"}),
        ("webhooks", {"config", "errors", "logs"}),
        ("storage", {"config", "errors", "ids", "newest"}),
        ("newest", {"ids"}),
        ("listing", {"errors", "ids", "jobs", "lanes", "publishing", "retention", "states", "storage"}),
        ("deletion", {"errors", "jobs", "publishing", "states", "storage"}),
        ("lanes", {"errors", "webhooks"}),
        ("states", {"errors", "estimates", "progress"}),
        ("ending", {"errors", "lanes", "publishing", "states", "storage"}),
        ("horse", set()),
        (
            "rehearsal",
            {
                *("config", "cores", "errors", "formats", "ids", "learners", "manifests", "predictions"),
                *("progress", "storage", "tables", "training"),
            },
        ),
        ("joblog", set()),
        ("events", {"states"}),
        ("connections", {"config"}),
        ("retention", {"config", "errors", "ids", "publishing", "storage"}),
        ("backup", {"config", "connections", "errors", "ids", "storage"}),
        ("local_backup", {"config", "parts", "processes"}),
        ("logs", {"config", "errors"}),
        ("web", {"config", "errors", "events", "idempotency", "ids", "logs", "wire"}),
        ("idempotency", {"errors", "ids"}),
        ("content", {"ids", "storage"}),
        ("invalidation", set()),
        ("publishing", {"errors", "storage"}),
        ("job_publishing", {"errors", "publishing", "run", "storage"}),
        ("reuse", {"content", "errors", "ids", "jobs", "publishing", "storage", "versions"}),
        ("processes", {"death_signal"}),
        ("cores", {"folders"}),
        ("scratch", {"config", "errors", "folders"}),
        ("memory", {"config", "errors"}),
        ("serving", {"errors"}),
        ("parts", {"processes"}),
        ("local", {"config", "parts", "processes"}),
    ],
)
def test_module_stands_on_what_the_design_says(module: str, allowed: set[str]) -> None:
    assert ours(imports_of(PACKAGE[module])) <= allowed


def test_learners_know_no_http_redis_or_store() -> None:
    strangers = {"flask", "requests", "redis", "rq", "minio", "urllib3"}
    for module in WORKING:
        assert not roots(imports_of(PACKAGE[module])) & strangers, module


def test_nobody_imports_the_local_stack() -> None:
    for path in [*ROOT.glob("*.py"), ROOT / "gunicorn.conf.py", *PACKAGE.values()]:
        found = ours(imports_of(path))
        assert "local" not in found, path.name
        assert not found & {"parts", "processes"} or path.stem in LOCAL, path.name


def test_only_workers_import_the_work() -> None:
    importers = {path.stem for path in ROOT.glob("*.py") if "ml" in roots(imports_of(path))}
    assert importers <= {"worker", "warm"}
    for door in DOORS:
        assert not roots(imports_of(ROOT / f"{door}.py")) & (DOORS - {"ml", door}), door


def test_client_is_an_island() -> None:
    client = ROOT / "client.py"
    # urllib3 comes with requests, which is built on it.
    assert roots(loaded_by(client)) - set(sys.stdlib_module_names) == {"requests", "urllib3"}
    assert not roots(imports_of(client)) & ({"rowcast"} | RUNNABLE)


def test_estimators_know_the_client_alone() -> None:
    names = imports_of(ROOT / "estimators.py")
    foreign = roots(names) - set(sys.stdlib_module_names)
    assert foreign == {"client", "joblib", "numpy", "pandas", "pyarrow", "sklearn"}


def test_heavy_libraries_are_loaded_only_where_they_work() -> None:
    for path in [*PACKAGE.values(), *(ROOT / f"{door}.py" for door in DOORS)]:
        assert not roots(loaded_by(path)) & {"pandas", "sklearn", "skrub", "matplotlib"}, path.name


def test_server_process_loads_no_learner() -> None:
    code = "import json, sys, server; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not roots(set(json.loads(answer.stdout))) & {"sklearn", "skrub", "scipy", "pandas", "matplotlib"}


def test_only_entry_points_read_the_environment() -> None:
    # The client reads its address and key; the local stack passes the caller's environment on.
    allowed = {"config.py", "client.py", "local.py", "local_backup.py"}
    for path in [*ROOT.glob("*.py"), *PACKAGE.values()]:
        reads = {"os.environ", "os.getenv"} & {
            ast.unparse(node)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        }
        assert not reads or path.name in allowed, path.name


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_begins_with_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_named_for_its_subject(path: Path) -> None:
    assert path.stem not in EMPTY_NAMES


@pytest.mark.parametrize("name", ["example_1.py", "example_2.py", "make_data.py"])
def test_example_stays_under_30_lines(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) < 30


def test_no_file_names_a_path_of_one_machine() -> None:
    # A checkout at the root of a container is named by its Dockerfile, and says nothing of a machine.
    here = str(ROOT) if len(ROOT.parts) > 2 else None
    found = []
    for path in all_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.name}: {match[0]}" for match in FOREIGN_PATHS.finditer(text)]
        found += [f"{path.name}: {here}"] if here and here in text else []
    assert not found


def test_every_requirement_is_pinned() -> None:
    pinned = {_name(line.partition("==")[0]) for line in _requirements(ROOT / "constraints.txt")}
    for path in ROOT.glob("requirements*.txt"):
        assert {_name(line) for line in _requirements(path)} <= pinned, path.name


def _requirements(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "-"))]


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()
