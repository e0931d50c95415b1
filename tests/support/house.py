"""The floors of the house, and what breaks its rules. `python -m tests.support.house` prints
both."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.support import ROOT

# A room imports only from rooms on lower floors. Everybody may import the ground.
FLOORS: dict[int, tuple[str, ...]] = {
    8: ("server", "worker", "maintenance", "online", "gunicorn.conf"),
    7: ("rowcast.api", "rowcast.workers"),
    6: ("ml", "rowcast.catalog", "rowcast.search"),
    5: ("rowcast.jobs", "rowcast.online", "rowcast.inspection", "rowcast.backup"),
    4: ("rowcast.store", "rowcast.webhooks"),
    3: ("rowcast.learning", "rowcast.access", "rowcast.local"),
    2: ("rowcast.tables", "rowcast.system", "rowcast.observability", "rowcast.ui"),
    1: (
        "rowcast.config",
        "rowcast.setting_types",
        "rowcast.errors",
        "rowcast.ids",
        "rowcast.signatures",
        "rowcast.redis_clients",
    ),
}
GROUND = 1
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}


def module_name(path: Path) -> str:
    """Return the name of a file's module, `rowcast.jobs` for a face."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def room_of(module: str) -> str | None:
    """Return the room that a module lies in; None for one that is not ours."""
    first_two = ".".join(module.split(".")[:2])
    return next((name for name in (first_two, module) if name in FLOOR_OF), None)


PATHS = [*ROOT.glob("*.py"), *ROOT.glob("rowcast/**/*.py")]
MODULES = {module_name(path): path for path in PATHS if room_of(module_name(path))}
FACES = {name: path for name, path in MODULES.items() if path.name == "__init__.py"}


def imported_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield what import statements name: `rowcast.jobs.queue` for `from rowcast.jobs import
    queue`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    """Return what a file imports, within functions too."""
    return set(imported_names(ast.walk(ast.parse(path.read_text()))))


def loaded_by(path: Path) -> set[str]:
    """Return what importing a file loads: its imports outside of functions and of `if
    TYPE_CHECKING`."""

    def statements(body: list[ast.stmt]) -> Iterator[ast.AST]:
        for node in body:
            yield node
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from statements(node.orelse)
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from statements(
                    [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]
                )

    return set(imported_names(statements(ast.parse(path.read_text()).body)))


def roots(names: Iterable[str]) -> set[str]:
    """Return the packages that names begin with."""
    return {name.partition(".")[0] for name in names}


def public_names(face: str) -> set[str]:
    """Return the `__all__` of a folder."""
    for node in ast.parse(FACES[face].read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def imports_between_rooms() -> Iterator[tuple[str, str, str]]:
    """Yield the importing module, the imported room and the imported name, for each import of
    another room."""
    for module, path in sorted(MODULES.items()):
        for name in sorted(imports_of(path)):
            room = room_of(name)
            if room and room != room_of(module):
                yield module, room, name


def upward_imports() -> list[str]:
    """Return the imports that do not lead to a lower floor."""
    return [
        f"{module} imports {name}, which is not below it"
        for module, room, name in imports_between_rooms()
        if FLOOR_OF[room] >= FLOOR_OF[str(room_of(module))] > GROUND
        or FLOOR_OF[room] > FLOOR_OF[str(room_of(module))]
    ]


def deep_imports() -> list[str]:
    """Return the imports that pass by a folder's face."""
    return [
        f"{module} imports {name}, which is not a public name of {room}"
        for module, room, name in imports_between_rooms()
        if room in FACES and name.removeprefix(f"{room}.") not in public_names(room)
    ]


def circles() -> list[str]:
    """Return the first circle of modules that import each other, if there is one; faces only pass
    names on."""
    graph = {
        module: {name for name in map(_existing, imports_of(path)) if name} - {module}
        for module, path in MODULES.items()
        if module not in FACES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"a circle: {' <- '.join(error.args[1])}"]
    return []


def _existing(name: str) -> str | None:
    """Return the module that an imported name is, or lies in; None for faces and others'
    modules."""
    candidates = (name, name.rpartition(".")[0])
    return next(
        (each for each in candidates if each in MODULES and each not in FACES), None
    )


def violations() -> list[str]:
    """Return everything that breaks the rules, a sentence each."""
    return [*upward_imports(), *deep_imports(), *circles()]


def main() -> None:
    """Print the floors, the highest first, and what breaks the rules."""
    for floor, rooms in FLOORS.items():
        built = [
            room for room in rooms if any(room_of(module) == room for module in MODULES)
        ]
        print(f"{floor}  {', '.join(built)}")
    found = violations()
    sys.exit("\n".join(found) if found else None)


if __name__ == "__main__":
    main()
