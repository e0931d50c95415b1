"""The examples as a person runs them, and the client as a program that has copied it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.support import ROOT
from tests.support.stack import Stack

MISSING = ("numpy", "pandas", "pyarrow", "tqdm", "flask", "rowcast")


# Far less than what the example makes when nobody says how much.
N_ROWS = 800


def make_data(folder: Path, *arguments: str) -> Path:
    command = [sys.executable, "make_data.py", "--out", str(folder), *arguments]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("tables"), "--rows", str(N_ROWS))


def run(
    script: str, url: str, *arguments: str, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, script, "--url", url, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_example_tables_are_as_promised(tmp_path: Path) -> None:
    paths = make_data(tmp_path).iterdir()
    tables = {path.stem: pq.ParquetFile(path) for path in paths}
    shapes = {
        name: (file.metadata.num_rows, file.metadata.num_columns)
        for name, file in tables.items()
    }
    assert shapes["train"] == (75_000, 51)
    assert shapes["test"] == (25_000, 51)
    assert shapes["BAD_train"] == (75_000, 50)
    assert shapes["BAD_test"] == (25_000, 50)
    assert "y" not in tables["BAD_train"].schema.names
    assert "col_0" not in tables["BAD_test"].schema.names


def test_example_1_prints_predictions_far_better_than_the_most_frequent_class(
    stack: Stack, tables: Path
) -> None:
    done = run(
        "example_1.py",
        stack.url,
        f"--train={tables}/train.parquet",
        f"--test={tables}/test.parquet",
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.replace(";", "").split()
    accuracy = float(words[words.index("accuracy") + 1])
    baseline = float(words[-1])
    assert accuracy > baseline + 0.3
    assert f"Length: {N_ROWS // 4}" in done.stdout
    assert "better than the baseline" in done.stdout
    assert "The leading features: col_" in done.stdout


@pytest.mark.parametrize(
    ("train", "test", "named"),
    [("BAD_train", "test", "'y'"), ("train", "BAD_test", "'col_0'")],
)
def test_example_1_ends_with_one_clear_sentence_on_a_bad_table(
    stack: Stack, tables: Path, train: str, test: str, named: str
) -> None:
    done = run(
        "example_1.py",
        stack.url,
        f"--train={tables}/{train}.parquet",
        f"--test={tables}/{test}.parquet",
    )
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_example_2_shows_every_fit_and_the_makespan(stack: Stack, tables: Path) -> None:
    done = run("example_2.py", stack.url, "-n", "3", f"--train={tables}/train.parquet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" of 3, model ") == 3
    assert "makespan" in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_an_example_without_a_service_ends_with_one_clear_sentence(
    tables: Path,
) -> None:
    done = run("example_1.py", "http://127.0.0.1:9", f"--train={tables}/train.parquet")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:9" in done.stderr


def test_the_client_alone_needs_only_requests(
    stack: Stack, tables: Path, tmp_path: Path
) -> None:
    """The libraries other than requests and its dependencies cannot be imported."""
    shutil.copy(ROOT / "client.py", tmp_path)
    alone = tmp_path / "alone.py"
    alone.write_text(
        f"import sys\nfor name in {MISSING}:\n    sys.modules[name] = None\n"
        "import client\nclient.main()\n"
    )

    def command(*arguments: str) -> str:
        done = run("alone.py", stack.url, *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    train = command("upload", str(tables / "train.parquet"))
    test = command("upload", str(tables / "test.parquet"))
    model = command("fit", train, "--wait")
    result = command("predict", test, model, "--wait")
    assert command("status", result) == "finished"
    command("download", result, "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet").columns.tolist() == ["y"]


@pytest.mark.slow
def test_the_wheel_holds_the_client_alone(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    build += ["--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        modules = [name for name in archive.namelist() if name.endswith(".py")]
    assert modules == ["rowcast_client/__init__.py", "rowcast_client/estimators.py"]
    code = "import rowcast_client.estimators, sys; assert 'client' not in sys.modules"
    # Python imports from a wheel; in another folder than ROOT, where it would find `client` too.
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment
    )
