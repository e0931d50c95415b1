"""How CSV files are written and read."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rowcast.tables import ReadingOptions, csv_cleaning, formats, training_table
from rowcast.tables.csv_cleaning import Cleaning
from tests.support.files import (
    zstd,
)
from tests.support.sources import (
    FRAME,
    LIMITS,
    peek,
    refusal_of_rows,
    source,
)

TEXT = {
    "a": ["1.5", None, "3.25"],
    "b": ["x", 'y "z"', "ü, ö\nnext"],
    "c": ["True", "False", "True"],
}
CSV_FILES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "comma": (
        FRAME.to_csv(index=False).encode(),
        {"encoding": "utf-8", "delimiter": ",", "decimal": "."},
    ),
    "semicolon and Windows-1252": (
        FRAME.to_csv(index=False, sep=";").encode("cp1252"),
        {"encoding": "cp1252", "delimiter": ";"},
    ),
    "tab": (FRAME.to_csv(index=False, sep="\t").encode(), {"delimiter": "\t"}),
    "bar": (FRAME.to_csv(index=False, sep="|").encode(), {"delimiter": "|"}),
    "byte order mark": (
        FRAME.to_csv(index=False).encode("utf-8-sig"),
        {"encoding": "utf-8"},
    ),
    "UTF-16 LE": (
        FRAME.to_csv(index=False).encode("utf-16"),
        {"encoding": "utf-16-le"},
    ),
    "UTF-16 BE": (
        b"\xfe\xff" + FRAME.to_csv(index=False).encode("utf-16-be"),
        {"encoding": "utf-16-be"},
    ),
    "no final newline": (FRAME.to_csv(index=False).encode().rstrip(), {}),
    "blank lines": (b"\n\n" + FRAME.to_csv(index=False).encode() + b"\n  \n", {}),
    "gzip": (
        gzip.compress(FRAME.to_csv(index=False).encode()),
        {"compression": "gzip"},
    ),
    "gzip of two members": (
        b"".join(
            map(
                gzip.compress,
                (
                    FRAME.to_csv(index=False).encode()[:20],
                    FRAME.to_csv(index=False).encode()[20:],
                ),
            )
        ),
        {"compression": "gzip"},
    ),
    "zstd of two frames": (
        b"".join(
            map(
                zstd,
                (
                    FRAME.to_csv(index=False).encode()[:20],
                    FRAME.to_csv(index=False).encode()[20:],
                ),
            )
        ),
        {"compression": "zstd"},
    ),
    "UTF-16 in gzip": (
        gzip.compress(FRAME.to_csv(index=False).encode("utf-16")),
        {"encoding": "utf-16-le"},
    ),
}


@pytest.mark.parametrize(("content", "expected"), CSV_FILES.values(), ids=CSV_FILES)
def test_csv_is_read_as_the_text_that_it_is(
    content: bytes, expected: dict[str, Any], tmp_path: Path
) -> None:
    sample, found = peek(content), source(tmp_path, content)
    assert found.read().to_pydict() == TEXT
    assert sample.rows is not None
    assert sample.rows.to_pydict() == TEXT
    assert set(found.schema.types) == {pa.string()}
    assert sample.format == found.format
    assert (
        found.format.as_dict().items()
        >= {"name": "csv", "has_header": True, **expected}.items()
    )


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_csv_takes_any_line_end(end: str, tmp_path: Path) -> None:
    content = end.join(["a,b", "1,2", "3,4"]).encode()
    assert source(tmp_path, content).read().to_pydict() == {
        "a": ["1", "3"],
        "b": ["2", "4"],
    }


def test_csv_row_may_lie_across_any_blocks(tmp_path: Path) -> None:
    rows = [f'{i},"{"é" * (i % 50)}\r\n{i}"' for i in range(100_000)]
    content = ("\r\n".join(["number,text", *rows])).encode()
    table = source(tmp_path, content).read()
    assert len(content) > 2 * LIMITS.max_row_bytes
    assert table["number"].to_pylist() == [str(i) for i in range(100_000)]
    assert table["text"][-1].as_py() == f"{'é' * 49}\r\n99999"


def test_quoted_values_are_never_missing(tmp_path: Path) -> None:
    content = b'a,b\n"",""\n"NA",NA\n,null\n'
    assert source(tmp_path, content).read().to_pydict() == {
        "a": ["", "NA", None],
        "b": ["", None, None],
    }


def test_csv_with_all_fields_quoted(tmp_path: Path) -> None:
    content = FRAME.to_csv(index=False, quoting=csv.QUOTE_ALL).encode()
    assert source(tmp_path, content).read()["a"].to_pylist() == ["1.5", "", "3.25"]


def test_late_bytes_decide_the_encoding_of_the_whole(tmp_path: Path) -> None:
    content = b"a,b\n" + b"1,x\n" * 400_000 + "2,ü\n".encode("cp1252")
    assert peek(content).format.encoding == "utf-8"
    found = source(tmp_path, content)
    assert found.format.encoding == "cp1252"
    assert found.read()["b"][-1].as_py() == "ü"


def test_sample_may_end_within_a_character() -> None:
    content = b"name\n" + "ü\n".encode() * 500_000
    assert peek(content).format.encoding == "utf-8"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b\n1,x\n2,y\n", ["a", "b"]),
        ("a,b\nx,y\n", ["a", "b"]),
        ("1,x\n2,y\n", ["column_1", "column_2"]),
        ("2020-01-31,x\n2020-02-01,y\n", ["column_1", "column_2"]),
        ("true,x\nfalse,y\n", ["column_1", "column_2"]),
        (",1.5\n2,2.5\n", ["column_1", "column_2"]),
        ("0,1\n1.5,2.5\n", ["0", "1"]),
        (",0,1\n0,1.5,2.5\n", ["Unnamed: 0", "0", "1"]),
        (",a\n0,1\n", ["Unnamed: 0", "a"]),
        (" a , b\n1,2\n", [" a ", " b"]),
        ("a,a\n1,2\n", ["a", "a"]),
        ("größe,日本\n1,2\n", ["größe", "日本"]),
        ("[a],[b]\n1,2\n", ["[a]", "[b]"]),
        ("PAR1,ORC,ARROW1\n1,2,3\n", ["PAR1", "ORC", "ARROW1"]),
        ('"two\nlines",b\n1,2\n', ["two\nlines", "b"]),
    ],
)
def test_header_is_told_from_data(text: str, names: list[str]) -> None:
    assert peek(text.encode()).schema.names == names


@pytest.mark.parametrize(
    ("text", "delimiter", "decimal"),
    [
        ("a;b\n1,5;2\n3;4\n", ";", ","),
        ("1,5;2,5\n3,5;4,5\n", ";", ","),
        ("a\tb\n1,5\tx\n", "\t", ","),
        ("a;b\n1,5;2.5\n", ";", "."),
        ("a;b\n1,5;x\n2,x;y\n", ";", "."),
        ("a;b\n1;2\n", ";", "."),
        ("a;b\n1.234,56;1.500\n12,5;2.500\n", ";", ","),
        ("a,b,c\n1|2,x,y\n3|4,x,y\n", ",", "."),
        ('a,b\n"x;y",2\n', ",", "."),
        ("x\n1\n2\n", ",", "."),
        ("word\nhello\ngood day\n", ",", "."),
    ],
)
def test_delimiter_and_decimal_sign_are_found(
    text: str, delimiter: str, decimal: str
) -> None:
    found = peek(text.encode()).format
    assert (found.delimiter, found.decimal) == (delimiter, decimal)


def test_one_column_without_its_empty_lines(tmp_path: Path) -> None:
    assert source(tmp_path, b"x\n1\n\n2\n").read().to_pydict() == {"x": ["1", "2"]}


def test_numbers_in_text_stay_exactly_as_written(tmp_path: Path) -> None:
    values = ["0.1", "1e-320", "9007199254740993", " 7", "1.50"]
    content = ("x,y\n" + "".join(f"{value},a\n" for value in values)).encode()
    assert source(tmp_path, content).read()["x"].to_pylist() == values


def test_rows_of_a_wrong_length_are_all_counted_and_named(tmp_path: Path) -> None:
    rows = ["1,2"] * 300_000
    rows[5], rows[299_999] = "secret", "4,5,6"
    error = refusal_of_rows(tmp_path, "\n".join(["a,b", "", *rows]).encode())
    assert (
        error.detail == "Row 5 has 1 field, but the table has 2 columns. (2 such rows)"
    )
    assert error.errors[1] == "Row 299999 has 3 fields, but the table has 2 columns."
    assert "secret" not in str(error.problem(None))


# What could not be read, or was read otherwise: text, names, the first row.
AS_WRITTEN: dict[str, tuple[str, list[str], list[str | None]]] = {
    "R's row names": (
        'a,b\n"Mazda RX4",5.1,x\n"Fiat",4.9,y\n',
        ["row_names", "a", "b"],
        ["Mazda RX4", "5.1", "x"],
    ),
    "R's table": (
        '"a" "b"\n"1" 5.1 3.5\n"2" 4.9 3\n',
        ["row_names", "a", "b"],
        ["1", "5.1", "3.5"],
    ),
    "years as names": (
        "land,2000,2001,2002\nA,5,6,7\nB,1.5,2,3\n",
        ["land", "2000", "2001", "2002"],
        ["A", "5", "6", "7"],
    ),
    "empty last columns": ("a,b,,\n1,2,,\n3,4,,\n", ["a", "b"], ["1", "2"]),
    "a delimiter at the end of rows": ("a,b\nx,y,\nz,z,\n", ["a", "b"], ["x", "y"]),
    "titles": (
        "Sales of 2020\n\nland;sum\nA;5\nB;6\n",
        ["land", "sum"],
        ["A", "5"],
    ),
    "titles with delimiters": (
        "Sales of 2020,,\n,,\nland,sum,n\nA,5,1\nB,6,2\n",
        ["land", "sum", "n"],
        ["A", "5", "1"],
    ),
    "names and values above": (
        "From;2020\nTo;2021\n\nday;sum;n\nMo;5;1\nDi;6;2\nMi;6;2\n",
        ["day", "sum", "n"],
        ["Mo", "5", "1"],
    ),
    "comments": (
        '# "made" by hand\n#\n# in R, 2020\na,b\nx,2\ny,4\n',
        ["a", "b"],
        ["x", "2"],
    ),
    "a comment over the header": ("# made\n#a,b\nx,2\n", ["#a", "b"], ["x", "2"]),
    "a comment as NumPy's header": (
        "# a b\n1.0 2.0\n3.0 4.0\n",
        ["a", "b"],
        ["1.0", "2.0"],
    ),
    "Excel's sep": ("sep=;\r\na;b\r\n1,5;2\r\n", ["a", "b"], ["1,5", "2"]),
    "blanks": (
        "  a    b  y\n  1    2  3\n 10   20  4  \n",
        ["a", "b", "y"],
        ["1", "2", "3"],
    ),
    "blanks and quotes": ('a b\n"x y" 2\n"z" 4\n', ["a", "b"], ["x y", "2"]),
    "blanks after commas": (
        ' a, b, c\n  1, "x, y", NA\n 2, "u", w\n',
        ["a", "b", "c"],
        ["1", "x, y", None],
    ),
    "a stray carriage return": ("a,b\n1,x\ry\n2,z\n", ["a", "b"], ["1", "x y"]),
}


@pytest.mark.parametrize(
    ("text", "names", "first"), AS_WRITTEN.values(), ids=AS_WRITTEN
)
def test_csv_is_read_as_people_write_it(
    text: str, names: list[str], first: list[str | None], tmp_path: Path
) -> None:
    sample, found = peek(text.encode()), source(tmp_path, text.encode())
    table = found.read()
    assert table.column_names == names
    assert [column[0].as_py() for column in table.columns] == first
    assert sample.rows == table
    assert sample.format == found.format


# What looks alike, and stays as it was.
AS_BEFORE: dict[str, tuple[str, list[str]]] = {
    "years as data": ("1999,2001\n1987,2004\n", ["column_1", "column_2"]),
    "a header that begins with a hash": ("#a,b\nx,2\n", ["#a", "b"]),
    "data that begin with a hash": ("#1,2\n#2,4\n", ["column_1", "column_2"]),
    "a column of times": ("time\n2020-01-01 10:00\n", ["time"]),
    "a column of large numbers": ("in all\n1 234\n5 678\n", ["in all"]),
    "a column of words": ("full name\nAnn Lee\nBob Ray\n", ["full name"]),
    "some blanks after commas": ("a, b\n1,2\n", ["a", " b"]),
    "old line ends": ("a,b\r1,2\r3,4\r", ["a", "b"]),
    "a hash after an empty name": ("\t#a\tb\n0\tx\t2\n", ["Unnamed: 0", "#a", "b"]),
    "sep of a letter": ("sep=é\naéb\n1é2\n", ["sep=é"]),
    "many empty lines": ("\n" * 70_000 + "a\n1\n2\n", ["a"]),
}


@pytest.mark.parametrize(("text", "names"), AS_BEFORE.values(), ids=AS_BEFORE)
def test_csv_that_was_read_well_is_read_as_before(text: str, names: list[str]) -> None:
    assert peek(text.encode()).schema.names == names


def test_number_with_a_decimal_comma_is_not_two_fields(tmp_path: Path) -> None:
    error = refusal_of_rows(tmp_path, b"a\n1,5\n2,75\n")
    assert "has 2 fields, but the table has 1 columns" in error.detail


def test_value_in_a_column_without_a_name_is_refused_by_row(tmp_path: Path) -> None:
    rows = ["1,2,"] * 5000
    rows[4321] = "1,2,secret"
    error = refusal_of_rows(tmp_path, "\n".join(["a,b,", *rows]).encode())
    assert error.detail == "Row 4321 has a value in column 3, which has no name."


def test_blanks_are_removed_across_any_blocks(tmp_path: Path) -> None:
    rows = [f' {i}, "{"é" * (i % 50)}, \n  {i}"' for i in range(60_000)]
    table = source(tmp_path, "\n".join(["a, b", *rows]).encode()).read()
    assert table["a"].to_pylist() == [str(i) for i in range(60_000)]
    assert table["b"][49].as_py() == f"{'é' * 49}, \n  49"


def test_lines_that_were_skipped_are_noted(tmp_path: Path) -> None:
    rows = "".join(f"{i % 7};{i % 3}\n" for i in range(40))
    text = f"# {WORDS['cp1251']}\nSales\nx;y\n{rows}"
    found = source(tmp_path, text.replace(" ", "\n# ").encode("cp1251"))
    assert found.format.n_lines_skipped == 12
    assert training_table.read(found, "y").notes[:2] == [
        "The text of the file is read as cp1251.",
        "Lines above the header of the file were skipped: 12.",
    ]


def test_models_of_names_with_blanks_get_them(tmp_path: Path) -> None:
    content = b"a, b\nx, y\nx, z\n"
    for manifest, name in (
        ({"features": [{"name": " b"}]}, " b"),
        ({"features": [{"name": "a", "categories": [" y"]}]}, " b"),
        ({"features": [{"name": "b"}]}, "b"),
    ):
        reading = ReadingOptions().of_model(manifest)
        (tmp_path / "table").write_bytes(content)
        found = formats.open_file(tmp_path / "table", LIMITS, reading)
        assert found.schema.names == ["a", name]


# Words of languages, with the encodings that their texts often have.
WORDS = {
    "cp1250": "Łódź żółty książka źródło dziękuję Gdańsk śnieg sześć mąż róża życie może",
    "cp1251": "город Москва улица красный большой дом человек время хлеб молоко",
    "koi8-r": "город Москва улица красный большой дом человек время хлеб молоко",
    "cp1253": "πόλη Αθήνα Πάτρα δρόμος μεγάλο σπίτι άνθρωπος νερό γάλα γυναίκα",
    "gb18030": "北京 上海 城市 价格 红色 大的 房子 人口 时间 年份 水果 面包 牛奶 广州 数量",
    "mac-roman": "Größe Straße Müller schön fünf über Bäcker Köln München natürlich für",
}
WESTERN_WORDS = {
    "German": "Größe Straße Müller schön fünf Äpfel Öl Übung Geschäft weiß",
    "French": "élève français où déjà Noël cœur forêt hôtel sûr très l\u2019été",
    "Spanish": "año niño mañana España corazón café ¿qué? Málaga Ávila pingüino",
    "Portuguese": "ação São coração não mãe João água pão avô três põe você",
    "mixed": "Škrtel Džeko Bjørn Agüero Ærø Åland Curaçao Zoë m² 25° 10€ Þór",
    "a single name": "Müller",
}


def table_of_words(words: str) -> str:
    return "\n".join(["word,x", *(f"{word},1" for word in words.split())])


@pytest.mark.parametrize("encoding", WORDS)
def test_encoding_is_found_by_the_words(encoding: str, tmp_path: Path) -> None:
    text = table_of_words(WORDS[encoding])
    for content in (text.encode(encoding), gzip.compress(text.encode(encoding))):
        found = source(tmp_path, content)
        assert found.format.encoding == peek(content).format.encoding == encoding
        assert found.read()["word"].to_pylist() == WORDS[encoding].split()


@pytest.mark.parametrize("words", WESTERN_WORDS.values(), ids=WESTERN_WORDS)
def test_languages_of_western_europe_stay_in_windows_1252(
    words: str, tmp_path: Path
) -> None:
    found = source(tmp_path, table_of_words(words).encode("cp1252"))
    assert found.format.encoding == "cp1252"
    assert found.read()["word"].to_pylist() == words.split()


@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        ("Москва Тверь", "cp1251"),
        ("Łódź żółty", "cp1250"),
        ("šuma kuća čovjek Šibenik već noć riječ Požega žena Đakovo", "cp1250"),
    ],
    ids=["few Russian words", "few Polish words", "Croatian"],
)
def test_doubtful_encoding_is_refused_with_a_guess(
    words: str, encoding: str, tmp_path: Path
) -> None:
    error = refusal_of_rows(tmp_path, table_of_words(words).encode(encoding))
    assert f"it looks like {encoding}" in error.detail
    assert f"encoding={encoding}" in error.hint


def test_text_of_which_most_is_utf_8_is_refused(tmp_path: Path) -> None:
    words = table_of_words(WORDS["cp1250"]).encode() + b"\nM\xfcller,1\n"
    content = words + table_of_words(WORDS["cp1251"]).encode()
    assert "Most of the text is UTF-8" in refusal_of_rows(tmp_path, content).detail


def test_late_words_decide_the_encoding_of_the_whole(tmp_path: Path) -> None:
    words = WORDS["cp1251"].split()
    rows = b"a,b\n" + b"1,x\n" * 400_000
    rows += "".join(f"{word},1\n" for word in words).encode("cp1251")
    found = source(tmp_path, rows)
    assert found.format.encoding == "cp1251"
    assert found.read()["a"][-1].as_py() == words[-1]


@pytest.mark.parametrize(
    "chunks",
    [
        [b'1, 5" x\n2, New', b" York\n3, y\n"],
        [b"1, x\r2, New", b" York\r3, y\r"],
        [b"1, x\r\n2, New", b" York\r", b"\n3, y\r\n"],
    ],
    ids=["open quote", "old line ends", "line ends between chunks"],
)
def test_blanks_within_a_field_stay_where_a_part_ends(
    chunks: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_cleaning, "_MAX_HELD_BYTES", 4)
    cleaned = b"".join(Cleaning("after").chunks(iter(chunks)))
    assert cleaned == b"".join(chunks).replace(b", ", b",")


def test_last_word_counts_without_a_line_end(tmp_path: Path) -> None:
    words = "\n".join(["word", *WORDS["cp1250"].split()[:5]]).encode("cp1250")
    for content in (words, words + b"\n"):
        assert source(tmp_path, content).format.encoding == "cp1250"
