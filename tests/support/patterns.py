"""Every pattern of the code base, and texts that a slow one needs quadratic time for.

`python -m tests.support.patterns` prints the slow ones.
"""

from __future__ import annotations

import ast
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from re import _constants as ops
from re import _parser
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tests.support import ROOT
from tests.support.house import PATHS

# A pattern of linear time needs a few milliseconds for the longer text, and one of quadratic time
# over a second for the shorter one.
LENGTHS = (12_000, 100_000)
MAX_S = 0.25
ENDS = ("", "!", '"', "a")
_SCANNING = {"search", "finditer", "findall", "sub", "subn", "split"}
_METHODS = {"match", "fullmatch", *_SCANNING}
_ARROW = {
    "match_substring_regex",
    "count_substring_regex",
    "replace_substring_regex",
    "extract_regex",
    "split_pattern_regex",
}
_REPEATS = {ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT}
_OF_CATEGORY = {
    ops.CATEGORY_DIGIT: "1",
    ops.CATEGORY_SPACE: " ",
    ops.CATEGORY_WORD: "a",
    ops.CATEGORY_NOT_DIGIT: "a",
    ops.CATEGORY_NOT_SPACE: "a",
    ops.CATEGORY_NOT_WORD: "-",
}


@dataclass(frozen=True)
class Pattern:
    """A pattern: where it is, its text and flags, and the methods that apply it."""

    where: str
    text: str | bytes
    flags: int
    methods: frozenset[str]


def collected(paths: Iterable[Path] = tuple(PATHS)) -> list[Pattern]:
    """Return the patterns of these files.

    Raises:
        AssertionError: a pattern is not a constant, so that nothing can be said of its time.
    """
    trees = {path: ast.parse(path.read_text()) for path in paths}
    methods: dict[str, set[str]] = {}
    for tree in trees.values():
        for name, method in _applied(tree):
            methods.setdefault(name, set()).add(method)
    return [
        pattern
        for path, tree in trees.items()
        for pattern in _patterns(path, tree, methods)
    ]


def _applied(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the methods of patterns that are called, each with the pattern's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _METHODS:
            yield ast.unparse(node.value).rpartition(".")[2], node.attr


def _patterns(
    path: Path, tree: ast.Module, methods: dict[str, set[str]]
) -> Iterator[Pattern]:
    constants = dict(_assigned(tree))
    names = {id(value): name for name, value in constants.items()}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        where = f"{path.name}:{node.lineno}"
        if isinstance(node.func, ast.Attribute):
            function = node.func.attr
            of_re = ast.unparse(node.func.value) == "re"
            if of_re and function in {*_METHODS, "compile"}:
                name = names.get(id(node), "")
                used = methods.get(name, {"match"})
                used = used if function == "compile" else {function}
                text = _constant(node.args[0], constants, where)
                yield Pattern(where, text, _flags(node), frozenset(used))
            if function in _ARROW:
                text = _constant(_argument(node), constants, where)
                yield Pattern(where, text, 0, frozenset({"arrow"}))
        for keyword in node.keywords:
            if keyword.arg == "pattern" and isinstance(keyword.value, ast.Constant):
                text = str(keyword.value.value)
                yield Pattern(where, text, 0, frozenset({"search"}))


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _argument(node: ast.Call) -> ast.expr:
    named = [keyword.value for keyword in node.keywords if keyword.arg == "pattern"]
    return named[0] if named else node.args[1]


def _constant(node: ast.expr, constants: dict[str, ast.expr], where: str) -> Any:
    if isinstance(node, ast.Name):
        node = constants.get(node.id, node)
    if isinstance(node, ast.JoinedStr):
        return "".join(_constant(part, constants, where) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _constant(node.value, constants, where)
    assert isinstance(node, ast.Constant), f"{where}: the pattern is not a constant"
    return node.value


def _flags(node: ast.Call) -> int:
    written = [ast.unparse(found) for found in [*node.args[1:], *_values(node)]]
    flags = [
        text for text in written if re.fullmatch(r"re\.[A-Z]+( \| re\.\w+)*", text)
    ]
    return int(eval(flags[0], {"re": re})) if flags else 0


def _values(node: ast.Call) -> list[ast.expr]:
    return [keyword.value for keyword in node.keywords]


def texts(pattern: Pattern, n_chars: int) -> Iterator[str]:
    """Yield texts of the pattern's own alphabet: each of its repeats, repeated, with a bad end."""
    tree = _parser.parse(pattern.text, pattern.flags)
    alphabet = list(dict.fromkeys(_characters(tree)))[:6]
    starts: dict[tuple[str, str], None] = {}
    for is_full in (True, False):
        starts.update(dict.fromkeys(_repeats(tree, "", is_full)))
    pairs = islice(combinations(alphabet, 2), 10)
    for body in [*alphabet, *(first + second for first, second in pairs)]:
        starts[("", body)] = None
    for start, body in starts:
        for end in ENDS:
            yield start + body * (n_chars // len(body)) + end
        whole = start + body
        yield whole * (n_chars // len(whole))
        yield (start + body * 100) * (n_chars // (100 * len(whole)))


def _repeats(
    tree: Sequence[Any], start: str, is_full: bool
) -> Iterator[tuple[str, str]]:
    """Yield the repeats of a pattern: what comes before, and what is repeated."""
    for op, argument in tree:
        for part in _parts(op, argument):
            yield from _repeats(part, start, is_full)
            if op in _REPEATS:
                bodies = [*_characters(part), _sample(part, is_full)]
                yield from ((start, body) for body in bodies if body)
        start += _sample([(op, argument)], is_full)


def _parts(op: Any, argument: Any) -> list[Sequence[Any]]:
    """Return the patterns within a part of a pattern."""
    if op in _REPEATS or op is ops.SUBPATTERN:
        return [argument[-1]]
    if op in (ops.ASSERT, ops.ASSERT_NOT, ops.BRANCH):
        found = argument[1]
        return list(found) if op is ops.BRANCH else [found]
    return [argument] if op is ops.ATOMIC_GROUP else []


def _sample(tree: Sequence[Any], is_full: bool) -> str:
    """Return a text that a pattern matches; with its options if it is to be full."""
    text = ""
    for op, argument in tree:
        parts = _parts(op, argument)
        if op in _REPEATS:
            n_times = max(argument[0], int(is_full))
            text += _sample(parts[0], is_full) * min(n_times, 100)
        elif op in (ops.SUBPATTERN, ops.BRANCH, ops.ATOMIC_GROUP):
            text += _sample(parts[0], is_full)
        else:
            text += next(_characters([(op, argument)]), "")
    return text


def _characters(tree: Sequence[Any]) -> Iterator[str]:
    """Yield characters that a pattern names, or that are of the classes that it names."""
    for op, argument in tree:
        if op is ops.LITERAL:
            yield chr(argument)
        elif op is ops.IN:
            is_negated = argument[0][0] is ops.NEGATE
            yield from "ab" if is_negated else _characters(argument)
        elif op is ops.RANGE:
            yield from map(chr, argument)
        elif op is ops.CATEGORY:
            yield _OF_CATEGORY[argument]
        elif op in (ops.ANY, ops.NOT_LITERAL):
            yield "ab"[argument == ord("a")]
        for part in _parts(op, argument):
            yield from _characters(part)


def attack(pattern: Pattern) -> str | None:
    """Return which method is slow for which text, None if none is."""
    for method in sorted(pattern.methods):
        apply = _applying(pattern, method)
        for n_chars in LENGTHS:
            for text in texts(pattern, n_chars):
                if _needed_s(apply, text) < MAX_S:
                    continue
                # The first time may have been somebody else's fault.
                needed_s = _needed_s(apply, text)
                if needed_s > MAX_S:
                    shown = f"{text[:40]!r}... of {n_chars:,} characters"
                    return f"{pattern.where} {method} {shown}: {needed_s:.1f} s"
    return None


def _needed_s(apply: Callable[[str], Any], text: str) -> float:
    began = time.process_time()
    apply(text)
    return time.process_time() - began


def _applying(pattern: Pattern, method: str) -> Callable[[str], Any]:
    if method == "arrow":
        return lambda text: pc.match_substring_regex(pa.array([text]), pattern.text)
    compiled: Any = re.compile(pattern.text, pattern.flags)
    # Scanning costs the same whatever is done with the places that are found.
    apply = getattr(compiled, "findall" if method in _SCANNING else method)
    is_binary = isinstance(pattern.text, bytes)
    return lambda text: apply(text.encode("latin-1") if is_binary else text)


def main() -> int:
    """Print the slow patterns to stdout, and to stderr the one that is tried."""
    n_slow = 0
    for pattern in collected([ROOT / name for name in sys.argv[1:]] or PATHS):
        sys.stderr.write(f"{pattern.where} {pattern.text!r}\n")
        slow = attack(pattern)
        if slow:
            n_slow += 1
            sys.stdout.write(f"{slow}\n")
    return int(n_slow > 0)


if __name__ == "__main__":
    sys.exit(main())
