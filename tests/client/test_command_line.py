"""The command line: what each command prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import client as module
from client import main
from tests.support import ROOT
from tests.support.fake_service import D1, MANIFEST, Reply, Server, job, problem
from tests.support.terminal import run_python


def test_commands_print_only_what_the_next_command_needs(
    service: Server, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "result.parquet"
    options = "--target price --task regression --option seed=3 --option name=a=b"
    commands = {
        f"upload {table}": D1,
        f"fit {D1}": "j1",
        f"fit {D1} {options} --wait": "j1",
        f"predict {D1} j1 --timeout 5": "r1",
        "status j1": "finished",
        "status j1 --wait": "finished",
        f"download r1 {saved}": str(saved),
    }
    for command, printed in commands.items():
        assert main(["--url", service.url, *command.split()]) == 0
        assert capsys.readouterr() == (f"{printed}\n", "")
    assert json.loads(service.received("/fit")[1].body) == {
        "id": D1,
        "target": "price",
        "task": "regression",
        "seed": 3,
        "name": "a=b",
    }
    assert saved.exists()


def test_error_of_a_command_is_a_sentence_on_stderr_and_exit_code_1(
    service: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    service.queued["/status"] = [
        problem(404, "job_not_found"),
        Reply(200, job("failed")),
    ]
    commands = {
        "status j1": "It is job_not_found.",
        "status j1 --wait": "The fit j1 failed: No reason was given.",
        f"upload {tmp_path}/none": f"{tmp_path}/none: No such file or directory",
        f"download r1 {tmp_path}": f"{tmp_path}: Not a regular file",
    }
    for command, message in commands.items():
        assert main(["--url", service.url, *command.split()]) == 1
        assert capsys.readouterr() == ("", f"{message}\n")


def test_commands_that_list_show_and_delete(
    service: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    score = {"metric": "r2", "value": 0.5}
    models = [
        {"id": "m2", "target": "y", "learner": "linear", "score": score},
        {"id": "m1", "score": None},
    ]
    datasets = [{"id": "d1", "size": 7}]
    jobs = [{**job(), "id": "j2", "kind": "predict"}, job(), job()]
    log = {"id": "j1", "lines": ["Read 9 rows.", "Done."]}
    service.queued["/models"] = [Reply(200, {"models": models, "next": None})]
    service.queued["/datasets"] = [Reply(200, {"datasets": datasets, "next": None})]
    service.queued["/models/m1"] = [Reply(200, MANIFEST), Reply(204)]
    service.queued["/jobs"] = [Reply(200, {"jobs": jobs, "next": None})]
    service.queued["/jobs/j1/log"] = [Reply(200, log)]
    filters = "--status finished --model-id m1 --limit 2"
    commands = {
        "models": "m2\ty\tlinear\tr2\t0.5\nm1\n",
        "datasets": "d1\t7\n",
        "model m1": f"{module.Model(MANIFEST)}\n",
        "delete m1": "",
        "cancel j1": "canceled\n",
        "log j1": "Read 9 rows.\nDone.\n",
        f"jobs {filters}": "j2\tpredict\tfinished\nj1\tfit\tfinished\n",
    }
    for command, printed in commands.items():
        assert main(["--url", service.url, *command.split()]) == 0
        assert capsys.readouterr() == (printed, "")
    query = {"limit": "2", "status": "finished", "model_id": "m1"}
    assert service.received("/jobs")[0].query == query


@pytest.mark.parametrize(
    "command",
    [
        "",
        "fit",
        "fit d1 --option x",
        "fit d1 --wait --timeout 3",
        "upload a --api-key k",
    ],
)
def test_misspelt_command_is_exit_code_2(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(command.split())
    assert raised.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_names_the_commands_and_the_variable_of_the_key() -> None:
    shown = run_python(str(ROOT / "client.py"), "--help").stdout
    for name in (*module.COMMANDS, "ROWCAST_API_KEY", "ROWCAST_URL"):
        assert name in shown
