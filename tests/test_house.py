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

from tests.support import ROOT, house
from tests.support.house import imports_of, loaded_by, roots

DOORS = {"server", "worker", "online", "ml", "client"}
RUNNABLE = {path.stem for path in ROOT.glob("*.py")} | {"gunicorn.conf"}
PACKAGE = {
    name: path for name, path in house.MODULES.items() if name.startswith("rowcast.")
}
LEFT_OUT = {".env", "build", "dist", "__pycache__"}
FOREIGN_PATHS = re.compile(r"/(home|Users)/\w+|/tmp/\w+")
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
    # Hidden folders are those of tools and editors; `make backup` writes to backup/.
    if folder.name in (".ci", ".github"):
        return True
    is_hidden = folder.name.startswith(".")
    return not is_hidden and folder.name not in LEFT_OUT and folder != ROOT / "backup"


PYTHON_FILES = sorted(path for path in all_files() if path.suffix == ".py")


def test_house_keeps_its_floors() -> None:
    assert len(house.FLOORS) <= 8
    assert house.violations() == []


def test_every_module_has_a_room() -> None:
    ours = {house.module_name(path) for path in (ROOT / "rowcast").rglob("*.py")} - {
        "rowcast"
    }
    assert ours <= set(house.MODULES)


@pytest.mark.parametrize("face", house.FACES)
def test_face_is_a_sentence_and_public_names(face: str) -> None:
    tree = ast.parse(house.FACES[face].read_text())
    assert str(ast.get_docstring(tree)).count("\n") == 0
    assert all(isinstance(node, ast.ImportFrom | ast.Assign) for node in tree.body[1:])
    assert house.public_names(face) or face == "rowcast.local"


def test_learners_know_no_http_redis_or_store() -> None:
    strangers = {"flask", "requests", "redis", "rq", "minio", "urllib3"}
    for name, path in PACKAGE.items():
        if house.room_of(name) in ("rowcast.tables", "rowcast.learning"):
            assert not roots(imports_of(path)) & strangers, name


def test_only_one_module_knows_the_worker_of_rq() -> None:
    knowing = {
        name
        for name, path in house.MODULES.items()
        if any(n.startswith("rq.worker") for n in imports_of(path))
    }
    assert knowing == {"rowcast.workers.rq_worker"}


def test_nobody_imports_the_local_stack() -> None:
    importers = {
        module
        for module, room, _ in house.imports_between_rooms()
        if room == "rowcast.local"
    }
    assert importers == set()


def test_only_workers_import_the_work() -> None:
    importers = {
        name for name, path in house.MODULES.items() if "ml" in roots(imports_of(path))
    }
    assert importers == {
        "online",
        "rowcast.workers.job_process",
        "rowcast.workers.program",
    }
    for door in DOORS:
        assert not roots(imports_of(ROOT / f"{door}.py")) & (DOORS - {"ml", door}), door


def test_client_is_an_island() -> None:
    client = ROOT / "client.py"
    # urllib3 comes with requests, which is built on it.
    assert roots(loaded_by(client)) - set(sys.stdlib_module_names) == {
        "requests",
        "urllib3",
    }
    assert not roots(imports_of(client)) & ({"rowcast"} | RUNNABLE)


def test_estimators_know_the_client_alone() -> None:
    names = imports_of(ROOT / "estimators.py")
    foreign = roots(names) - set(sys.stdlib_module_names)
    assert foreign == {"client", "joblib", "numpy", "pandas", "pyarrow", "sklearn"}


def test_heavy_libraries_are_loaded_only_where_they_work() -> None:
    for path in [*PACKAGE.values(), *(ROOT / f"{door}.py" for door in DOORS)]:
        assert not roots(loaded_by(path)) & {
            "pandas",
            "sklearn",
            "skrub",
            "matplotlib",
        }, path.name


@pytest.fixture(scope="module")
def modules_of_server() -> set[str]:
    """Return what the server process has loaded, once it answers."""
    code = (
        "import json, sys, server; server.create_app(); "
        "print(json.dumps(sorted(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(answer.stdout))


def test_server_process_loads_no_reader_of_tables(modules_of_server: set[str]) -> None:
    readers = ("arrow", "csv_rows", "formats", "json_lines", "parquet", "text_files")
    assert not modules_of_server & {f"rowcast.tables.{name}" for name in readers}
    assert not modules_of_server & {"pyarrow.csv", "rowcast.inspection.inspector"}


def test_server_process_loads_no_learner(modules_of_server: set[str]) -> None:
    assert not roots(modules_of_server) & {
        "sklearn",
        "skrub",
        "scipy",
        "pandas",
        "matplotlib",
    }


def test_only_entry_points_read_the_environment() -> None:
    # The client reads its address and key; the local stack passes the caller's environment on, as
    # worker.py does, but for the key of the signer.
    allowed = {
        ROOT / "client.py",
        ROOT / "worker.py",
        PACKAGE["rowcast.config"],
        PACKAGE["rowcast.local.__main__"],
        PACKAGE["rowcast.local.access"],
        PACKAGE["rowcast.local.backup"],
    }
    for path in [*ROOT.glob("*.py"), *PACKAGE.values()]:
        reads = {"os.environ", "os.getenv"} & {
            ast.unparse(node)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        }
        assert not reads or path in allowed, path.name


@pytest.mark.parametrize(
    "path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_file_begins_with_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    "path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_file_is_named_for_its_subject(path: Path) -> None:
    assert path.stem not in EMPTY_NAMES


@pytest.mark.parametrize("name", ["example_1.py", "example_2.py", "make_data.py"])
def test_example_stays_under_30_lines(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) < 30


def test_no_file_names_a_path_of_one_machine() -> None:
    # A checkout at the root of a container is named by its Dockerfile, and says nothing of a
    # machine.
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


LOCKS = {
    "locks/service.txt": "requirements.txt",
    "locks/local.txt": "requirements-local.txt",
    "locks/dev.txt": "requirements-dev.txt",
}


def test_every_requirement_is_pinned() -> None:
    for lock, path in LOCKS.items():
        pinned = {name for name, _ in _pins(lock)}
        assert {_name(line) for line in _requirements(ROOT / path)} <= pinned, path


def test_every_pin_has_hashes_and_all_locks_agree() -> None:
    everything = set(_pins("locks/dev.txt"))
    for lock in LOCKS:
        text = (ROOT / lock).read_text().replace("\\\n", "")
        assert all("--hash=sha256:" in line for line in text.splitlines()), lock
        assert set(_pins(lock)) <= everything, lock


def _pins(lock: str) -> list[tuple[str, str]]:
    pattern = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ;]+)", re.MULTILINE)
    return [
        (_name(name), pin) for name, pin in pattern.findall((ROOT / lock).read_text())
    ]


def _requirements(path: Path) -> list[str]:
    return [
        line
        for line in path.read_text().splitlines()
        if line and not line.startswith(("#", "-"))
    ]


def _name(text: str) -> str:
    # Without the marker of platforms.
    name = text.partition(";")[0].strip()
    return re.sub(r"[-_.]+", "-", name).lower()
