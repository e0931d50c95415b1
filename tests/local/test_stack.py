"""The stack without Docker starts, recovers, and stops without leftovers; its parts are real."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pandas as pd
import psutil
import pytest
import requests

from tests.support import ROOT
from tests.support.processes import has_ended
from tests.support.signing import new_pair
from tests.support.waiting import eventually

# Each test starts a stack, or a program that would.
pytestmark = pytest.mark.stack

READY = re.compile(r"Rowcast is ready at (http://127\.0\.0\.1:\d+)\n")
# What would make a stack use something of the caller's instead of its own.
FOREIGN = (
    "S3_ENDPOINT",
    "S3_PUBLIC_ENDPOINT",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "SIGNING_KEYS",
    "API_KEYS",
)


def clean_environ(**more: str) -> dict[str, str]:
    """Return an environment in which a stack starts everything itself."""
    return {
        name: value for name, value in os.environ.items() if name not in FOREIGN
    } | more


class RunningStack:
    """`python -m rowcast.local`, as a user starts it, in a folder of its own."""

    def __init__(self, data: Path, *arguments: str, **variables: str) -> None:
        """Start it; `url` waits until it is ready."""
        self.data = data
        self._log = data.with_name(f"{data.name}-{time.monotonic_ns()}.log")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "rowcast.local",
                    "--port",
                    "0",
                    "--data",
                    str(data),
                    *arguments,
                ],
                cwd=ROOT,
                env=clean_environ(**variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._url = ""

    @property
    def url(self) -> str:
        """Where the server is, once the stack says that it is ready."""
        if not self._url:
            assert self.process.stdout
            line = self.process.stdout.readline()
            ready = READY.fullmatch(line)
            assert ready, f"{line!r} instead of the ready line; the log:\n{self.log}"
            self._url = ready[1]
        return self._url

    @property
    def log(self) -> str:
        """What went to standard error so far."""
        return self._log.read_text()

    @property
    def keys(self) -> dict[str, str]:
        """The secrets of its data folder."""
        keys: dict[str, str] = json.loads((self.data / "secrets.json").read_text())
        return keys

    def tree(self) -> list[psutil.Process]:
        """Return all processes below it, however deep."""
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def part(self, name: str) -> psutil.Process:
        """Return its child of that name."""
        patterns = {"redis": "(redis|valkey)-server", "store": "serve s3|minio server"}
        patterns |= {"server": "gunicorn", "worker": "worker.py"}
        children = psutil.Process(self.process.pid).children()
        return next(
            child
            for child in children
            if re.search(patterns[name], " ".join(child.cmdline()))
        )

    def is_ready(self) -> bool:
        """Ask /readyz."""
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and return its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout
        self.process.stdout.close()
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningStack]]:
    """Start stacks that end with the test."""
    stacks: list[RunningStack] = []

    def start_one(
        *arguments: str, data: str = "data", **variables: str
    ) -> RunningStack:
        stacks.append(RunningStack(tmp_path / data, *arguments, **variables))
        return stacks[-1]

    yield start_one
    for stack in stacks:
        stack.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Share one stack among the tests that leave it as it was."""
    stack = RunningStack(
        tmp_path_factory.mktemp("stack") / "data", "--workers", "1", CANARY="sings"
    )
    assert stack.url
    yield stack
    stack.end()


def run_local(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a stack that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "rowcast.local", *arguments],
        cwd=ROOT,
        env=clean_environ(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def upload(url: str) -> str:
    """Upload a small table and return its id."""
    table = io.BytesIO()
    pd.DataFrame({"a": range(60), "y": [0, 1] * 30}).to_parquet(table)
    slot = requests.get(f"{url}/upload", timeout=5).json()
    requests.put(slot["url"], data=table.getvalue(), timeout=5).raise_for_status()
    return str(slot["id"])


def submit_fit(url: str, dataset_id: str) -> str:
    """Submit a fit and return its id."""
    params = {"id": dataset_id, "learner": "boosting"}
    answer = requests.post(f"{url}/fit", params=params, timeout=10)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def final_status(url: str, job_id: str) -> str:
    """Wait for the end of a job."""
    deadline = time.monotonic() + 60
    status = ""
    while (
        status not in ("finished", "failed", "canceled") and time.monotonic() < deadline
    ):
        status = requests.get(
            f"{url}/status", params={"id": job_id, "wait": "20"}, timeout=30
        ).json()["status"]
    return status


# The stack itself.


def test_secrets_are_private(stack: RunningStack) -> None:
    modes = {
        path.name: path.stat().st_mode & 0o777
        for path in [stack.data, *stack.data.rglob("*")]
    }
    private = {"data": 0o700, "redis": 0o700, "scratch": 0o700}
    private |= {"secrets.json": 0o600, "redis.conf": 0o600, "ports.json": 0o600}
    assert {name: modes[name] for name in private} == private


def test_no_secret_is_in_the_process_list_or_the_log(stack: RunningStack) -> None:
    command_lines = [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline"])
    ]
    for secret in filter(None, stack.keys.values()):
        assert not [line for line in command_lines if secret in line]
        assert secret not in stack.log


def test_server_has_no_signing_key(start: Callable[..., RunningStack]) -> None:
    private, public = new_pair()
    stack = start(
        API_KEYS="owner:a-key-of-ours",
        SIGNING_KEY=private,
        HMAC_SIGNING_KEYS="a-signing-key-of-earlier",
    )
    assert stack.url
    server, worker = stack.part("server").environ(), stack.part("worker").environ()
    assert not {"SIGNING_KEY", "HMAC_SIGNING_KEYS"} & server.keys()
    assert server["API_KEYS"] == "owner:a-key-of-ours"
    assert not {"API_KEYS", "SIGNING_KEY"} & worker.keys()
    assert worker["HMAC_SIGNING_KEYS"] == "a-signing-key-of-earlier"
    # The stack adds the public key of a private one that its caller gives.
    for environment in (server, worker):
        assert public in environment["VERIFY_KEYS"].split(",")


def test_only_our_own_programs_get_the_variables_of_the_caller(
    stack: RunningStack,
) -> None:
    hearing = {
        name
        for name in ("redis", "store", "server", "worker")
        if "CANARY" in stack.part(name).environ()
    }
    assert hearing == {"server", "worker"}


@pytest.mark.parametrize("name", ["redis", "store", "server", "worker"])
def test_killed_part_comes_back_by_itself(stack: RunningStack, name: str) -> None:
    dataset_id = upload(stack.url)
    killed = stack.part(name)
    family = [killed, *killed.children(recursive=True)]
    killed.kill()
    # Redis could still give the job to a worker that is dying; it would wait until that is noticed.
    assert eventually(lambda: all(has_ended(process) for process in family))
    assert eventually(
        lambda: f"{name} ended: killed by signal 9" in stack.log and stack.is_ready()
    )
    assert final_status(stack.url, submit_fit(stack.url, dataset_id)) == "finished"


def test_queued_jobs_run_after_redis_was_killed(stack: RunningStack) -> None:
    dataset_id = upload(stack.url)
    workers = [stack.part("worker"), *stack.part("worker").children()]
    for process in workers:
        process.suspend()
    queued = [submit_fit(stack.url, dataset_id) for _ in range(3)]
    # While the disk is busy with the last second's writes, Redis holds the next ones back, for up
    # to 2 s.
    time.sleep(2.5)
    killed = stack.part("redis")
    killed.kill()
    assert eventually(lambda: has_ended(killed) and stack.is_ready())
    for process in workers:
        process.resume()
    assert {
        job_id: final_status(stack.url, job_id) for job_id in queued
    } == dict.fromkeys(queued, "finished")


def test_second_stack_on_the_same_data_is_refused(stack: RunningStack) -> None:
    second = run_local("--port", "0", "--data", str(stack.data))
    assert second.returncode == 1
    assert f"(process {stack.process.pid})" in second.stderr
    assert "--data" in second.stderr
    assert stack.is_ready()


def test_busy_port_is_a_clear_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = run_local("--port", str(port), "--data", str(tmp_path / "data"))
    assert refused.returncode == 1
    assert f"Port {port} cannot be used: Address already in use" in refused.stderr
    assert "--port 0" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"STORE": "tape"}, "STORE=tape is unknown; it may be embedded or minio"),
        ({"STORE": "minio", "PATH": "/nowhere"}, "minio is not on PATH"),
        (
            {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_ACCESS_KEY": "k"},
            "S3_SECRET_KEY must be set",
        ),
        ({"JOB_TIMEOUT_S": "soon"}, "JOB_TIMEOUT_S"),
        (
            {"JOB_TIMEOT_S": "10"},
            "Unknown setting JOB_TIMEOT_S. Did you mean JOB_TIMEOUT_S?",
        ),
    ],
)
def test_unusable_environment_is_refused(
    tmp_path: Path, variables: Mapping[str, str], message: str
) -> None:
    refused = run_local("--port", "0", "--data", str(tmp_path / "data"), **variables)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_foreign_secrets_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{}")
    refused = run_local("--port", "0", "--data", str(tmp_path))
    assert refused.returncode == 1
    assert "does not contain the secrets" in refused.stderr


def test_part_that_keeps_dying_stops_everything(tmp_path: Path) -> None:
    fake = tmp_path / "minio"
    fake.write_text("#!/bin/sh\necho disk is on fire >&2\nexit 3\n")
    fake.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    stopped = run_local(
        "--port", "0", "--data", str(tmp_path / "data"), STORE="minio", PATH=path
    )
    assert stopped.returncode == 1
    assert stopped.stdout == ""
    conclusion = stopped.stderr.partition("rowcast.local: ")[2]
    assert conclusion.startswith(
        "store died 5 times within a minute, so the stack was stopped. "
    )
    assert "exit code 3" in conclusion
    assert "disk is on fire" in conclusion
    assert not [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(tmp_path) in str(process.info)
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_everything(
    start: Callable[..., RunningStack], number: int
) -> None:
    stack = start("--workers", "1")
    assert stack.is_ready()
    processes = stack.tree()
    assert len(processes) >= 6
    stack.process.send_signal(number)
    output, _ = stack.process.communicate(timeout=20)
    assert (stack.process.returncode, output) == (0, "")
    assert all(has_ended(process) for process in processes)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a death signal")
def test_nothing_survives_a_kill(start: Callable[..., RunningStack]) -> None:
    stack = start("--workers", "2")
    assert (
        final_status(stack.url, submit_fit(stack.url, upload(stack.url))) == "finished"
    )
    processes = stack.tree()
    stack.end(signal.SIGKILL)
    assert eventually(lambda: all(has_ended(process) for process in processes), 5)


def test_everything_is_still_there_after_a_restart(
    start: Callable[..., RunningStack],
) -> None:
    first = start("--workers", "1")
    dataset_id = upload(first.url)
    done = submit_fit(first.url, dataset_id)
    assert final_status(first.url, done) == "finished"
    # More than the worker, which ends the job that it has begun, can do before it stops.
    queued = [submit_fit(first.url, dataset_id) for _ in range(10)]
    assert first.end() == 0
    ports = (first.data / "ports.json").read_text()
    second = start("--workers", "1")
    assert final_status(second.url, done) == "finished"
    assert {final_status(second.url, job_id) for job_id in queued} == {"finished"}
    assert submit_fit(second.url, dataset_id)
    assert (second.data / "ports.json").read_text() == ports


def handles(process: psutil.Process, number: int) -> bool:
    """Return whether a process has its own handler for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def test_second_signal_does_not_wait_for_jobs(
    start: Callable[..., RunningStack],
) -> None:
    stack = start("--workers", "1")
    assert stack.is_ready()
    # A worker that cannot react stands for one that has a long job. Before it handles signals, it
    # would.
    assert eventually(lambda: handles(stack.part("worker"), signal.SIGTERM))
    stack.part("worker").suspend()
    processes = stack.tree()
    stack.process.send_signal(signal.SIGINT)
    assert eventually(lambda: "Running jobs may finish, for up to 60 s" in stack.log)
    assert stack.end(signal.SIGINT) == 0
    assert all(has_ended(process) for process in processes)


def test_given_store_is_used(
    stack: RunningStack, start: Callable[..., RunningStack]
) -> None:
    store_port = json.loads((stack.data / "ports.json").read_text())["store"]
    endpoint = f"http://127.0.0.1:{store_port}"
    access_key, secret_key = stack.keys["s3_access_key"], stack.keys["s3_secret_key"]
    other = start(
        S3_ENDPOINT=endpoint, S3_ACCESS_KEY=access_key, S3_SECRET_KEY=secret_key
    )
    assert (
        requests.get(f"{other.url}/upload", timeout=5)
        .json()["url"]
        .startswith(endpoint)
    )
    assert len(psutil.Process(other.process.pid).children()) == 4


# With a command.


def test_command_runs_against_the_stack_and_gives_the_exit_code(tmp_path: Path) -> None:
    script = (
        "import os, sys, urllib.request; url = os.environ['ROWCAST_URL'];"
        "print(url, urllib.request.urlopen(url + '/readyz').status); sys.exit(7)"
    )
    arguments = ["--port", "0", "--data", str(tmp_path / "data")]
    done = run_local(*arguments, "--", sys.executable, "-c", script)
    assert done.returncode == 7
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+ 200\n", done.stdout)
    assert "server |" not in done.stderr
    assert "server |" in (tmp_path / "data" / "local.log").read_text()


def test_unknown_command_is_a_clear_message(tmp_path: Path) -> None:
    refused = run_local(
        "--port", "0", "--data", str(tmp_path / "data"), "--", "no-such-command"
    )
    assert refused.returncode == 1
    assert "The command no-such-command does not exist." in refused.stderr
    assert not (tmp_path / "data").exists()


def test_signal_ends_command_and_stack(start: Callable[..., RunningStack]) -> None:
    stack = start("--", "/bin/sh", "-c", "echo started; exec sleep 60")
    assert stack.process.stdout
    assert stack.process.stdout.readline() == "started\n"
    processes = stack.tree()
    assert stack.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert all(has_ended(process) for process in processes)
