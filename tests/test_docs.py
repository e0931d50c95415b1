"""What the documents say is what the code does: settings, codes, endpoints, links, the README's
examples."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pandas as pd
import pyarrow.parquet as pq
import pytest
import threadpoolctl
from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rowcast.config import ConfigurationError, Settings
from rowcast.errors import all_errors
from rowcast.learning import learners, training
from rowcast.tables import Feature
from server import create_app
from tests.support import ROOT
from tests.support.markdown import (
    DOCS,
    code_blocks,
    rows_of,
    section_of,
    text_of,
    without_code,
)
from tests.support.stack import Stack
from tests.support.tables import table
from tests.support.waiting import eventually

LOCAL_URL = "http://127.0.0.1:8080"
# Answers that the OpenAPI document does not describe: itself, its page, and files.
BESIDE_OPENAPI = {
    ("GET", path) for path in ("/openapi.json", "/docs", "/client.py", "/estimators.py")
}


def settings_rows() -> list[tuple[str, ...]]:
    """Return variable, default, range and description of every setting, as the table shows them."""
    return [
        (
            f"`{name.upper()}`",
            shown_default(field),
            shown_range(field),
            str(field.description).replace("<", r"\<"),
        )
        for name, field in Settings.model_fields.items()
    ]


def shown_default(field: FieldInfo) -> str:
    value: Any = "" if field.default is PydanticUndefined else field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{value}`" if value not in ("", None, ()) else ""


def shown_range(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(field.annotation))
    least = next(
        (str(bound.ge) for bound in field.metadata if isinstance(bound, Ge)), None
    )
    most = next(
        (str(bound.le) for bound in field.metadata if isinstance(bound, Le)), None
    )
    if least and most:
        return f"{least} to {most}"
    return f"from {least}" if least else ""


def test_settings_table_is_the_settings() -> None:
    rows = rows_of(
        text_of("configuration.md"),
        "variable",
        "default",
        "range",
        "read by",
        "description",
    )
    assert [(r[0], r[1], r[2], r[4]) for r in rows] == settings_rows()
    readers = {"server", "worker", "maintenance", "online"}
    assert all(row[3] == "all" or set(row[3].split(", ")) <= readers for row in rows)


def test_codes_table_is_the_errors() -> None:
    rows = rows_of(text_of("errors.md"), "code", "status", "meaning", "what to do")
    documented = sorted((row[0].strip("`"), int(row[1])) for row in rows)
    assert documented == sorted((error.code, error.status) for error in all_errors())


def test_codes_of_the_endpoints_are_errors_with_these_statuses() -> None:
    rows = rows_of(text_of("http_api.md"), "status", "code", "when")
    named = {
        (code, int(row[0])) for row in rows for code in re.findall(r"`(\w+)`", row[1])
    }
    assert named
    assert named <= {(error.code, error.status) for error in all_errors()}


@functools.cache
def openapi() -> dict[str, Any]:
    return create_app(Settings()).api_doc


def test_endpoints_table_is_the_api() -> None:
    rows = rows_of(text_of("http_api.md"), "method", "path", "returns")
    described = {
        (method.upper(), path)
        for path, methods in openapi()["paths"].items()
        for method in methods
    }
    assert {(row[0], row[1].strip("`")) for row in rows} == described | BESIDE_OPENAPI


@pytest.mark.parametrize(("method", "path"), sorted(BESIDE_OPENAPI))
def test_endpoint_beside_the_openapi_document_answers(method: str, path: str) -> None:
    with (
        create_app(Settings())
        .test_client()
        .open(path, method=method, follow_redirects=True) as answer
    ):
        assert answer.status_code == 200


def schema_of(parameter: dict[str, Any]) -> dict[str, Any]:
    holder = parameter.get("content", {}).get("application/json", parameter)
    return dict(holder["schema"])


def shown_default_of(schema: dict[str, Any]) -> str:
    return "" if schema.get("default") is None else str(schema["default"])


@pytest.mark.parametrize(
    "section",
    ["Upload", "Fit", "Predict", "Status", "Jobs", "Result", "Models", "Datasets"],
)
def test_parameters_of_a_section_are_those_of_its_endpoint(section: str) -> None:
    rows = rows_of(
        section_of("http_api.md", section),
        "parameter",
        "type",
        "default",
        "range",
        "meaning",
    )
    for operation in openapi()["paths"][f"/{section.lower()}"].values():
        parameters = operation.get("parameters", ())
        # What holds for all, such as headers, is described once.
        in_query = [p for p in parameters if p["in"] == "query"]
        described = {(p["name"], shown_default_of(schema_of(p))) for p in in_query}
        assert {(row[0].strip("`"), row[2].strip("`")) for row in rows} == described


@pytest.mark.parametrize(
    ("section", "answer"),
    [
        ("Upload", "UploadAnswer"),
        ("Status", "StatusAnswer"),
        ("Jobs", "JobsAnswer"),
        ("Result", "ResultAnswer"),
        ("Models", "ModelsAnswer"),
        ("Datasets", "DatasetsAnswer"),
    ],
)
def test_members_of_an_answer_are_documented(section: str, answer: str) -> None:
    rows = rows_of(section_of("http_api.md", section), "member", "meaning")
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert named == set(openapi()["components"]["schemas"][answer]["properties"])


@pytest.mark.parametrize(
    ("thing", "answer"),
    [
        ("model", "ModelLine"),
        ("file", "ModelFileAnswer"),
        ("dataset", "DatasetLine"),
        ("log", "LogAnswer"),
        ("job's progress", "Progress"),
        ("caller", "MeAnswer"),
        ("key", "KeyLine"),
    ],
)
def test_members_of_a_listed_thing_are_documented(thing: str, answer: str) -> None:
    rows = rows_of(text_of("http_api.md"), f"of a {thing}", "meaning")
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert named == set(openapi()["components"]["schemas"][answer]["properties"])


def test_members_of_a_problem_are_documented() -> None:
    rows = rows_of(text_of("errors.md"), "member", "meaning")
    described = set(openapi()["components"]["schemas"]["Problem"]["properties"])
    assert {row[0].strip("`") for row in rows} == described


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("name", DOCS)
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(name))):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (DOCS[name].parent / file).resolve() if file else DOCS[name]
        assert target.exists(), link
        headings = (
            re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
        )
        assert not anchor or anchor in map(slug, headings), link


@pytest.mark.parametrize("name", DOCS)
def test_targets_named_are_listed_by_make_help(name: str) -> None:
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = set(re.findall(r"^\s*make ([a-z-]+)\b", shown, re.MULTILINE))
    text = text_of(name)
    named = {
        word
        for line in re.findall(r"(?:^|`)make ([a-z -]+)", text, re.MULTILINE)
        for word in line.split()
    }
    assert named <= targets


@pytest.mark.parametrize("name", DOCS)
def test_lines_are_not_too_long(name: str) -> None:
    lines = without_code(text_of(name)).splitlines()
    assert not [line for line in lines if len(line) > 160 and not line.startswith("|")]


def paths_in(text: str) -> list[str]:
    """Return the files and folders in backticks, without those that a text calls new."""
    folder = r"(?:rowcast|deploy)/[\w./]*|(?:tests|benchmarks)/(?:[\w/]*/|[\w/]*\.py)"
    path = rf"{folder}|client\.py|server\.py"
    found = re.findall(rf"`({path})`( \(new)?", text)
    return [path for path, is_new in found if not is_new]


@pytest.mark.parametrize("name", DOCS)
def test_files_named_exist(name: str) -> None:
    missing = [path for path in paths_in(text_of(name)) if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("name", [name for name in DOCS if "internals" in name])
def test_functions_named_exist(name: str) -> None:
    code = "".join(path.read_text() for path in (ROOT / "rowcast").rglob("*.py"))
    names = {path.stem for path in (ROOT / "rowcast").rglob("*.py")}
    names |= set(re.findall(r"^class (\w+)", code, re.MULTILINE))
    named = re.findall(r"`(\w+)\.(\w+)`", text_of(name))
    functions = [function for owner, function in named if owner in names]
    # File names, such as `queue.lua`, begin with the name of a module too.
    suffixes = {"py", "lua", "md"}
    missing = {each for each in functions if f"def {each}(" not in code} - suffixes
    assert not missing


@pytest.mark.parametrize(
    ("addition", "place"),
    rows_of(text_of("CONTRIBUTING.md"), "what you want to add", "where it goes"),
)
def test_place_of_an_addition_has_what_is_named(addition: str, place: str) -> None:
    files = [path for path in map(ROOT.joinpath, paths_in(place)) if path.is_file()]
    code = "".join(path.read_text() for path in files).lower()
    named = re.findall(r"`(\w+)`", place)
    assert not [word for word in named if word.lower() not in code], addition


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with all that the README's examples expect in theirs, the tables smaller."""
    for name, rows in {"train": table(600), "test": table(200, seed=1)}.items():
        rows.to_parquet(tmp_path / f"{name}.parquet", index=False)
    shutil.copy(ROOT / "client.py", tmp_path)
    maker = (ROOT / "make_data.py").read_text()
    assert "default=100_000" in maker
    (tmp_path / "make_data.py").write_text(
        maker.replace("default=100_000", "default=2_000")
    )
    return tmp_path


def adapted(text: str, stack: Stack) -> str:
    assert LOCAL_URL in text
    return text.replace(LOCAL_URL, stack.url).replace(
        ".venv/bin/python", sys.executable
    )


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_readme_python_example_runs(stack: Stack, folder: Path) -> None:
    (example,) = code_blocks("README.md", "python")
    assert len(example.splitlines()) == 10
    assert "Name: count" in run([sys.executable, "-c", adapted(example, stack)], folder)


def test_readme_curl_transcript_runs(stack: Stack, folder: Path) -> None:
    transcript = next(
        block for block in code_blocks("README.md", "bash") if "curl" in block
    )
    run(["bash", "-euo", "pipefail", "-c", adapted(transcript, stack)], folder)
    predictions = pq.read_table(folder / "predictions.parquet")
    assert predictions.column_names == ["y"]
    assert predictions.num_rows == pq.read_metadata(folder / "test.parquet").num_rows


def test_readme_curl_transcript_can_be_pasted_line_by_line() -> None:
    transcript = next(
        block for block in code_blocks("README.md", "bash") if "curl" in block
    )
    for line in transcript.splitlines():
        subprocess.run(["bash", "-n", "-c", line], check=True)


def test_curl_examples_of_online_predictions_run(stack: Stack, tmp_path: Path) -> None:
    homes = pd.DataFrame(
        {"rooms": [1.0, 2, 3, 4, None] * 12, "city": ["Ulm", "Bonn", "Kiel"] * 20}
    )
    prices = homes.assign(price=80 * homes["rooms"].fillna(3) + homes.index)
    model_id = stack.fitted(prices, target="price", task="regression")
    homes[:2].to_csv(tmp_path / "new.csv", index=False)
    examples = section_of("http_api.md", "Predict").partition("### Online prediction")[
        2
    ]
    commands = [
        re.sub(r"(?<=model_id=)[0-9a-f-]{36}", model_id, adapted(command, stack))
        for command in re.findall(r"^\$ (curl .*)$", examples, re.MULTILINE)
    ]
    # Online workers start slower than their server.
    eventually(
        lambda: "no_online_worker" not in run(["bash", "-c", commands[0]], tmp_path)
    )
    records, csv = (run(["bash", "-c", command], tmp_path) for command in commands)
    assert [set(row) for row in json.loads(records)] == [{"price"}] * 2
    header = next(line for line in examples.splitlines() if line.startswith('"price"'))
    assert (csv.splitlines()[0], len(csv.splitlines())) == (header, 3)


def test_configuration_example_of_a_misspelt_variable_is_true(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (sentence,) = re.findall(
        r"`rowcast: (Unknown setting .*?)`", text_of("configuration.md")
    )
    monkeypatch.setenv("API_KEY", "x" * 16)
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        Settings.from_environment()


def test_parameters_of_learners_are_documented() -> None:
    rows = rows_of(text_of("models.md"), "`learner`", "`params`")
    documented = {
        name: set(re.findall(r"`(\w+)`", row[1]))
        for row in rows
        for name in re.findall(r"`(\w+)`", row[0])
    }
    assert documented == {
        name: set(learners.of(name).params) for name in learners.NAMES
    }


def test_members_of_a_model_manifest_are_documented(
    stack: Stack, model_id: str
) -> None:
    rows = rows_of(text_of("models.md"), "member of a model's", "what it is")
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert documented == set(stack.get(f"/models/{model_id}").json())


def test_members_of_a_result_manifest_are_documented(
    stack: Stack, model_id: str
) -> None:
    result_id = stack.predict(table(20), model_id)
    stack.finished(result_id)
    rows = rows_of(text_of("models.md"), "member of a result's", "what it is")
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert documented == set(stack.get(f"/results/{result_id}").json())


def test_learner_of_the_guide_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = code_blocks("models.md", "python")
    ((name, learner),) = eval(f"{{{entry}}}", dict(vars(learners))).items()
    monkeypatch.setitem(learners.LEARNERS, name, learner)
    frame = table(200, 3)
    plan = training.Plan(name, "classification", {"n_neighbors": 3})
    learners.check(plan.learner, plan.params, task=plan.task)
    features = [Feature(f"col_{i}", "numeric") for i in range(3)]
    with threadpoolctl.threadpool_limits(1):
        trained = training.train(
            plan,
            features,
            training.Rows(frame.drop(columns="y"), frame["y"].to_numpy()),
        )
    assert (
        trained.validation["scores"]["accuracy"]
        > trained.validation["baseline"]["accuracy"]
    )
