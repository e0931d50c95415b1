"""The rows of a JSON Lines file: one object per line, whose members are the columns."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa

from rowcast.errors import InvalidTable
from rowcast.tables.limits import BATCH_CELLS, Limits, over
from rowcast.tables.rejections import reject

Row = dict[str, Any]
# Yields parsed rows from the start, in groups.
Groups = Callable[[], Iterable[list[Row]]]

_GROUP_BYTES = 2 << 20
_GROUP_ROWS = 16_384
# Rows with fewer members, as a part of the cells that they stand for, are read member by member.
_MAX_SPARSITY = 4
_HINT = "Write one complete JSON object per line, in UTF-8; upload the table again."
_RECORDS_HINT = (
    'Send rows as a JSON array of objects, in UTF-8: [{"column": value, ...}, ...].'
)
_KINDS: dict[type, str] = {
    bool: "booleans",
    int: "numbers",
    float: "numbers",
    str: "text",
    list: "lists",
    dict: "objects",
}
_TYPES: dict[str, pa.DataType] = {
    "nothing": pa.null(),
    "booleans": pa.bool_(),
    "text": pa.string(),
    "lists": pa.list_(pa.null()),
    "objects": pa.struct([]),
}
# A string that is not closed is matched to the end, so that no part of it is looked at twice.
_STRING = re.compile(
    rb'"([^"\\]*+(?:\\.?[^"\\]*+)*+)(?:"(\s*+:)?|\Z)',
    re.DOTALL,
)


@dataclass
class Seen:
    """The values of a column so far.

    `counts` and `first_rows` are by kind of value; `least` and `most` are the range of the
    integers, which includes 0.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first_rows: dict[str, int] = field(default_factory=dict)
    has_floats: bool = False
    least: int = 0
    most: int = 0

    def note(
        self, values: Sequence[Any], places: Sequence[int], first_row: int
    ) -> None:
        """Count values of the column at these places in rows, the first of which is `first_row`."""
        types = Counter(map(type, values))
        types.pop(type(None), None)
        for found, n_values in types.items():
            kind = _KINDS[found]
            self.counts[kind] += n_values
            if kind not in self.first_rows:
                place = places[_first_of_kind(values, kind)]
                self.first_rows[kind] = first_row + place
        self.has_floats |= float in types
        if int in types:
            integers = [value for value in values if type(value) is int]
            self.least = min(self.least, *integers)
            self.most = max(self.most, *integers)

    def type(self) -> pa.DataType:
        """Return the type that can represent all values."""
        (kind,) = self.counts or ("nothing",)
        return self._number() if kind == "numbers" else _TYPES[kind]

    def problem(self, name: str) -> str | None:
        """Return what is wrong with a column that mixes kinds."""
        if len(self.counts) < 2:
            return None
        (common, _), *_, (rare, n_rare) = self.counts.most_common()
        unit = "rows" if n_rare > 1 else "row"
        where = f"{n_rare:,} {unit}, first in row {self.first_rows[rare]}"
        return f"The column {name!r} mixes {common} with {rare}: {rare} in {where}."

    def _number(self) -> pa.DataType:
        if self.has_floats:
            return pa.float64()
        if self.least >= -(2**63) and self.most < 2**63:
            return pa.int64()
        if self.least >= 0 and self.most < 2**64:
            return pa.uint64()
        return pa.float64()


@dataclass
class Scan:
    """The columns and rows of a whole text, or of the beginning of one."""

    columns: dict[str, Seen]
    n_rows: int

    def schema(self) -> pa.Schema:
        """Return the columns in the order in which they first appear.

        Raises:
            InvalidTable: columns mix types; the error lists all of them.
        """
        found = [seen.problem(name) for name, seen in self.columns.items()]
        reject(
            [problem for problem in found if problem],
            "Write the values of a column as one type, and missing ones as null; upload the "
            "table again.",
        )
        types = {name: seen.type() for name, seen in self.columns.items()}
        return pa.schema(types)


def scan(chunks: Iterable[bytes], limits: Limits) -> Scan:
    """Return the columns and rows of a text in UTF-8.

    Raises:
        InvalidTable: a line is not an object or too long; there are too many rows or columns, or no
            columns.
    """
    return scan_rows(_parsed(chunks, limits), limits)


def scan_rows(groups: Iterable[list[Row]], limits: Limits) -> Scan:
    """Return the columns and rows of parsed rows; raises as `scan`."""
    found = Scan({}, 0)
    for rows in groups:
        names = list(dict.fromkeys(chain.from_iterable(rows)))
        for name in names:
            found.columns.setdefault(name, Seen())
        if found.columns:
            limits.check_columns(len(found.columns))
        n_rows = found.n_rows + len(rows)
        limits.check_rows(n_rows, len(found.columns), is_all=False)
        for name, values, places in _columns(rows, names):
            found.columns[name].note(values, places, found.n_rows)
        found.n_rows = n_rows
    limits.check_columns(len(found.columns))
    return found


def _columns(
    rows: Sequence[Row], names: Sequence[str]
) -> Iterator[tuple[str, list[Any], Sequence[int]]]:
    """Yield columns of rows: name, values, and the places of the values in the rows.

    The work is in proportion to the members that the rows hold: sparse rows are read member by
    member, and columns without a value may be left out.
    """
    if sum(map(len, rows)) * _MAX_SPARSITY >= len(rows) * len(names):
        for name in names:
            yield name, [row.get(name) for row in rows], range(len(rows))
        return

    wanted = set(names)
    held: dict[str, tuple[list[Any], list[int]]] = {}
    for place, row in enumerate(rows):
        for name in wanted & row.keys() if len(wanted) < len(row) else row:
            if name in wanted:
                values, places = held.setdefault(name, ([], []))
                values.append(row[name])
                places.append(place)
    for name, (values, places) in held.items():
        yield name, values, places


def batches(
    chunks: Callable[[], Iterable[bytes]],
    schema: pa.Schema,
    wanted: Sequence[int],
    limits: Limits,
    max_rows: int,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the columns at these positions, in the schema's types.

    `chunks()` yields the text from its start, as UTF-8. A batch has at most `max_rows` rows.

    Raises:
        InvalidTable: as `scan`; or a column holds lists or objects.
    """
    groups = partial(_parsed, chunks(), limits)
    return batches_of_rows(groups, schema, wanted, max_rows)


def batches_of_rows(
    groups: Groups, schema: pa.Schema, wanted: Sequence[int], max_rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield parsed rows as `batches` does.

    Raises:
        InvalidTable: a column holds lists or objects.
    """
    part = pa.schema([schema.field(i) for i in wanted])
    problems = [
        f"The column {column.name!r} holds lists or objects, which are not supported."
        for column in part
        if pa.types.is_nested(column.type)
    ]
    reject(problems, "Leave these columns out.")
    max_rows = max(1, min(max_rows, BATCH_CELLS // max(1, len(part))))
    for rows in groups():
        for start in range(0, len(rows), max_rows):
            yield _batch(rows[start : start + max_rows], part)


def _batch(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as a batch; columns without a value share their nulls."""
    n_rows = len(rows)
    arrays = {}
    for name, values, places in _columns(rows, schema.names):
        column = values if len(values) == n_rows else _spread(values, places, n_rows)
        arrays[name] = _array(column, schema.field(name).type)
    nulls = {found: pa.nulls(n_rows, found) for found in set(schema.types)}
    columns = [arrays.get(field.name, nulls[field.type]) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _spread(values: Sequence[Any], places: Sequence[int], n_rows: int) -> list[Any]:
    """Return a column with these values at these places, and nothing at the others."""
    column: list[Any] = [None] * n_rows
    for place, value in zip(places, values, strict=True):
        column[place] = value
    return column


def records(content: bytes) -> list[Row]:
    """Return the rows of a JSON array of objects.

    Raises:
        InvalidTable: the content is not such an array, or the array is empty.
    """
    try:
        rows = orjson.loads(content)
    except orjson.JSONDecodeError:
        rows = _loads_as_python(content)
    if not isinstance(rows, list):
        detail = "The body is not a JSON array of objects, one per row."
        raise InvalidTable(detail, hint=_RECORDS_HINT)
    if not rows:
        raise InvalidTable("The table holds no rows.", hint=_RECORDS_HINT)
    _check_objects(rows, 0, _RECORDS_HINT)
    return rows


def n_members(line: bytes) -> int:
    """Return how many members the beginning of a line names."""
    return sum(bool(match[2]) for match in _STRING.finditer(line))


def _first_of_kind(values: Sequence[Any], kind: str) -> int:
    kinds = [_KINDS.get(type(value)) for value in values]
    return kinds.index(kind)


def _loads_as_python(content: bytes) -> Any:
    """Parse what Python's own writer also writes: NaN and Infinity."""
    try:
        rows = json.loads(content)
        json.dumps(rows, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise InvalidTable("The body is not valid JSON.", hint=_RECORDS_HINT) from None
    return rows


def _check_objects(rows: Sequence[Any], first_row: int, hint: str) -> None:
    # Checking all types together is fast, and most tables pass.
    if set(map(type, rows)) <= {dict}:
        return
    for number, row in enumerate(rows, first_row):
        if type(row) is not dict:
            raise InvalidTable(f"Row {number} is not a JSON object.", hint=hint)


def _array(values: list[Any], found: pa.DataType) -> pa.Array:
    if pa.types.is_float64(found):
        # Arrow rejects integers that a double cannot represent exactly.
        values = [None if value is None else _double(value) for value in values]
    return pa.array(values, found)


def _double(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _parsed(chunks: Iterable[bytes], limits: Limits) -> Iterator[list[Row]]:
    n_rows = 0
    for lines in _groups(chunks, limits):
        rows = _rows(lines, n_rows)
        _check_cells(lines, rows, n_rows, limits)
        yield rows
        n_rows += len(rows)


def _rows(lines: Sequence[bytes], first_row: int) -> list[Row]:
    try:
        rows = [orjson.loads(line) for line in lines]
    except orjson.JSONDecodeError:
        rows = [_row(line, first_row + i) for i, line in enumerate(lines)]
    _check_objects(rows, first_row, _HINT)
    return rows


def _row(line: bytes, number: int) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    try:
        # Python's own parser reads NaN and Infinity, which Python's own writer writes.
        row = json.loads(line.decode())
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        detail = (
            f"Row {number} holds text that is not Unicode (half of a surrogate pair)."
        )
        raise InvalidTable(detail, hint=_HINT) from None
    except (ValueError, RecursionError):
        detail = f"Row {number} is not valid JSON, or not all on one line."
        raise InvalidTable(detail, hint=_HINT) from None
    return row


def _check_cells(
    lines: Sequence[bytes], rows: Sequence[Row], first_row: int, limits: Limits
) -> None:
    for i, line in enumerate(lines):
        if len(line) <= limits.max_cell_bytes:
            continue
        for name, value in rows[i].items():
            if isinstance(value, str) and len(value.encode()) > limits.max_cell_bytes:
                raise limits.long_cell(name, first_row + i)


def _groups(chunks: Iterable[bytes], limits: Limits) -> Iterator[list[bytes]]:
    """Yield lines that are not empty, in groups of bounded size."""
    group: list[bytes] = []
    n_bytes = n_rows = 0
    for line in _lines(chunks, limits.max_row_bytes):
        if len(line) > limits.max_row_bytes:
            raise _too_long(line, n_rows, limits)
        if not line.strip():
            continue
        group.append(line)
        n_rows += 1
        n_bytes += len(line)
        if n_bytes > _GROUP_BYTES or len(group) == _GROUP_ROWS:
            yield group
            group = []
            n_bytes = 0
    if group:
        yield group


def _lines(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Yield lines without their ends; of a line that is too long, yield the beginning and stop."""
    rest = b""
    for chunk in chunks:
        # bytes.splitlines breaks at line feeds and carriage returns alone, which no JSON string
        # contains. The zero byte keeps the last line, even an empty one.
        *lines, rest = (rest + chunk + b"\0").splitlines()
        rest = rest[:-1]
        yield from lines
        if len(rest) > max_bytes:
            yield rest
            return
    yield rest


def _too_long(line: bytes, row: int, limits: Limits) -> InvalidTable:
    """Return the error for a line that is too long, of which `line` is the beginning."""
    names = [match[1] for match in _STRING.finditer(line) if match[2]]
    rest = line.rpartition(names[-1])[2] if names else b""
    if len(rest) > limits.max_cell_bytes:
        try:
            name = orjson.loads(b'"' + names[-1] + b'"')
            return limits.long_cell(name, row)
        except orjson.JSONDecodeError:
            pass
    return over(f"Row {row} is too long", limits.max_row_bytes, "MAX_CELL_BYTES")
