"""Options that overrule how a file is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import ValidationError

from rowcast.api.schemas import FitRequest
from rowcast.errors import InvalidRequest
from rowcast.tables import ReadingOptions, Source, formats, reading
from tests.support.http import UNKNOWN, assert_problem
from tests.support.sources import BINARY, LIMITS, refusal
from tests.support.stack import Stack


def read(tmp_path: Path, content: bytes, **options: Any) -> Source:
    """Return a file as a source, after a look that must find the same."""
    said = ReadingOptions(**options)
    path = tmp_path / "table"
    path.write_bytes(content)
    found = formats.open_file(path, LIMITS, said)

    def part(offset: int, length: int) -> bytes:
        return content[offset : offset + length]

    assert formats.peek(len(content), part, LIMITS, said).format == found.format
    return found


@pytest.mark.parametrize(
    ("row", "encoding"),
    [
        ({"město": "Žďár", "y": "1"}, "cp1250"),
        ({"город": "Тверь", "y": "1"}, "koi8-r"),
        ({"πόλη": "Πάτρα", "y": "1"}, "iso8859-7"),
        ({"都市": "東京", "y": "1"}, "shift_jis"),
        ({"Größe": "fünf", "y": "1"}, "mac-roman"),
        ({"Größe": "fünf", "y": "1"}, "utf-16-be"),
        ({"Größe": "fünf", "y": "1"}, "utf-8"),
    ],
)
def test_named_encoding_is_used(
    row: dict[str, str], encoding: str, tmp_path: Path
) -> None:
    text = ",".join(row) + "\n" + ",".join(row.values())
    found = read(tmp_path, text.encode(encoding), encoding=encoding)
    assert found.format.encoding == encoding
    assert found.read().to_pylist() == [row]

    lines = json.dumps(row, ensure_ascii=False).encode(encoding)
    assert read(tmp_path, lines, encoding=encoding).read().to_pylist() == [row]


def test_mark_of_gb18030_is_not_text(tmp_path: Path) -> None:
    content = "\ufeff城市,y\n北京,1\n".encode("gb18030")
    found = read(tmp_path, content, encoding="gb18030")
    assert found.read().to_pylist() == [{"城市": "北京", "y": "1"}]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Latin-1", "iso8859-1"),
        ("ISO 8859-2", "iso8859-2"),
        ("windows-1250", "cp1250"),
        ("GBK", "gb18030"),
        ("UTF-8-SIG", "utf-8"),
        *((name, name) for name in reading.ENCODINGS),
    ],
)
def test_encoding_may_have_any_of_its_names(name: str, found: str) -> None:
    assert reading.canonical_encoding(name) == found


def test_unknown_name_of_an_encoding_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up: list[str] = []
    monkeypatch.setattr("codecs.lookup", looked_up.append)
    for i in range(3):
        with pytest.raises(ValueError, match="it must be one of"):
            reading.canonical_encoding(f"unknown-{i}")
    assert looked_up == []


@pytest.mark.parametrize(
    ("content", "encoding", "detail"),
    [
        (b"a,y\n\xff,1\n", "utf-8", "not utf-8, although 'encoding' says so"),
        (b"\xef\xbb\xbfa,y\n1,2\n", "cp1252", "is UTF-8 by its byte order mark"),
        (b"\xff\xfea\0,\0", "utf-16-be", "is UTF-16 by its byte order mark"),
    ],
)
def test_text_in_another_encoding_than_named_is_refused(
    content: bytes, encoding: str, detail: str, tmp_path: Path
) -> None:
    assert detail in refusal(lambda: read(tmp_path, content, encoding=encoding)).detail


@pytest.mark.parametrize(
    ("text", "options", "rows"),
    [
        ("a;b\n1;5\n", {"delimiter": ","}, [{"a;b": "1;5"}]),
        ("a:b\n1:2\n", {"delimiter": ":"}, [{"a": "1", "b": "2"}]),
        ("a,b\n", {"header": False}, [{"column_1": "a", "column_2": "b"}]),
        ("1,2\n3,4\n", {"header": True}, [{"1": "3", "2": "4"}]),
        (
            f"# c\n{' ' * 70_000}a b\n1 2\n",
            {"delimiter": " "},
            [{"a": "1", "b": "2"}],
        ),
        ("#a\n5\n", {"header": False}, [{"column_1": "5"}]),
        (
            "5,,\n1,2,3\n",
            {"header": False},
            [
                {"column_1": "5", "column_2": None, "column_3": None},
                {"column_1": "1", "column_2": "2", "column_3": "3"},
            ],
        ),
        ("a,b\nNA,-\n", {"missing": ["-"]}, [{"a": "NA", "b": None}]),
        ("a,b\nNA,\n", {"missing": []}, [{"a": "NA", "b": None}]),
    ],
)
def test_option_overrules_what_is_found(
    text: str, options: dict[str, Any], rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert read(tmp_path, text.encode(), **options).read().to_pylist() == rows


def test_decimal_sign_is_the_named_one(tmp_path: Path) -> None:
    found = read(tmp_path, b'a,b\n"1,5",x\n', decimal=",")
    assert (found.format.delimiter, found.format.decimal) == (",", ",")


@pytest.mark.parametrize(
    ("content", "options", "named"),
    [
        (
            BINARY["parquet"],
            {"delimiter": ";", "header": True},
            ["delimiter", "header"],
        ),
        (BINARY["feather"], {"encoding": "utf-8"}, ["encoding"]),
        (BINARY["stream"], {"missing": ["?"]}, ["missing"]),
        (b'{"a":1}\n', {"decimal": ",", "encoding": "utf-8"}, ["decimal"]),
        (b"a,b\n1,2\n", {"sheet": "Data", "encoding": "utf-8"}, ["sheet"]),
    ],
)
def test_option_that_does_not_apply_is_refused_by_name(
    content: bytes, options: dict[str, Any], named: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(tmp_path, content, **options)
    assert [problem.split("'")[1] for problem in caught.value.errors] == named


def test_missing_texts_of_a_fit_hold_for_its_predictions(stack: Stack) -> None:
    rows = [f"{-999 if i % 5 == 0 else i};{i % 2}" for i in range(60)]
    training = "\n".join(["x;y", *rows]).encode()
    model = stack.fitted(
        training, missing='["-999"]', encoding="latin1", learner="linear"
    )
    about = stack.get(f"/models/{model}").json()
    assert about["reading"] == {"encoding": "iso8859-1", "missing": ["-999"]}
    assert about["columns"][0]["share_missing"] == 0.2

    dataset = stack.upload(b"x;z\n-999;1\n3;1\n")
    job = stack.post("/predict", dataset_id=dataset, model_id=model, delimiter=";")
    stack.finished(job.json()["id"])
    result = stack.get(f"/results/{job.json()['id']}").json()
    assert result["reading"] == {"delimiter": ";"}
    assert result["columns"][0]["n_missing"] == 1


def test_option_is_refused_by_a_fit_and_by_an_online_prediction(stack: Stack) -> None:
    dataset = stack.upload(BINARY["parquet"])
    body = assert_problem(
        stack.post("/fit", id=dataset, sheet="Data"), 400, "invalid_request"
    )
    assert "has no sheets" in body["detail"]

    model = stack.fitted(b"x,y\n" + b"1,0\n2,1\n" * 20, validation="none")
    rows = [{"x": 1}]
    answer = requests.post(
        f"{stack.url}/predict?model_id={model}&encoding=utf8", json=rows
    )
    assert "'encoding'" in assert_problem(answer, 400, "invalid_request")["detail"]
    answer = requests.post(
        f"{stack.url}/predict?model_id={model}&delimiter=:",
        data=b"x:b\n1:5\n",
        headers={"Content-Type": "text/csv"},
    )
    assert len(answer.json()) == 1


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("encoding", "rot13"),
        ("encoding", "../x"),
        ("delimiter", "ab"),
        ("delimiter", "a"),
        ("delimiter", '"'),
        ("decimal", ";"),
        ("missing", ["x" * 101]),
        ("missing", ["x"] * 101),
        ("header", 1),
    ],
)
def test_option_that_cannot_be_one_is_refused(name: str, given: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        FitRequest(id=UNKNOWN, **{name: given})
    assert caught.value.errors()[0]["loc"][0] == name


def test_delimiter_and_decimal_sign_differ() -> None:
    with pytest.raises(ValidationError, match="the same character"):
        FitRequest(id=UNKNOWN, delimiter=",", decimal=",")
