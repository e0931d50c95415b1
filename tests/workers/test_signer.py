"""The signer alone has the private key, and a work horse gets one signature, for its own job."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from rowcast.ids import new_id
from rowcast.jobs import JobFields, JobQueue
from rowcast.redis_clients import connect_for_heartbeats
from rowcast.setting_types import ed25519_bytes
from rowcast.signatures import is_signed
from rowcast.store import Kind, signing
from rowcast.system import hide_memory, memory, sandbox, show_memory
from rowcast.workers import signer
from rowcast.workers.lease import Lease
from rowcast.workers.order import Order
from rowcast.workers.report_pipe import ReportPipe
from rowcast.workers.stop_request import StopRequest
from rowcast.workers.supervision import JobLimits, Watch
from rowcast.workers.work_horse import WorkHorse
from tests.support import ROOT
from tests.support.signing import new_key, new_pair
from tests.support.stack import Stack, StartStack
from tests.support.tables import table
from tests.support.waiting import eventually

KEY = new_key()
DIGEST = hashlib.sha256(b"a manifest").hexdigest()
NOBODY = 65534


@pytest.fixture
def running() -> Iterator[signer.Signer]:
    started = signer.start(KEY)
    yield started
    started.close()
    stop(started)


def stop(started: signer.Signer) -> None:
    with suppress(ProcessLookupError):
        os.kill(started.pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(started.pid, 0)


def test_signature_is_that_of_the_statement(running: signer.Signer) -> None:
    for attempt in (1, 2):
        stated = signing.statement("ann", "model", attempt, DIGEST)
        found = running.sign(stated)
        assert found is not None
        assert found["key_id"] == KEY.key_id
        assert is_signed(KEY.public_bytes, stated, found["signature"])


def test_signer_survives_what_is_no_statement_and_callers_that_leave(
    running: signer.Signer,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    channel = running._channel
    for message in (b"{", b"[" * 3000, b""):
        socket.send_fds(channel, [message], [writer])
    channel.send(b"no pipe")
    os.close(writer)
    assert running.sign(["after"]) is not None
    assert running.is_alive()


def test_worker_is_told_when_the_signer_has_ended(running: signer.Signer) -> None:
    stop(running)
    assert running.sign(["too late"]) is None
    assert not running.is_alive()


def test_signer_ends_with_the_process_that_started_it() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, str(signer.start(KEY).pid).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    process = int(os.read(reader, 20))
    for end in (reader, writer):
        os.close(end)
    eventually(lambda: not psutil.pid_exists(process))


def started_with(**settings: str) -> str:
    """Return why `worker.py` does not start with these settings."""
    found = subprocess.run(
        [sys.executable, "worker.py"],
        env={"PATH": os.environ["PATH"], **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 1
    return found.stderr


def test_workers_do_not_start_without_a_pair_of_keys() -> None:
    private, public = new_pair()
    _, other = new_pair()
    assert "make_env.py signing-key" in started_with(VERIFY_KEYS=public)
    for verify_keys in ("", other):
        said = started_with(SIGNING_KEY=private, VERIFY_KEYS=verify_keys)
        assert said == (
            "rowcast: VERIFY_KEYS: the public key of SIGNING_KEY is missing: add "
            f"{public}\n"
        )


# What a work horse reaches


def memory_of(pid: int) -> Iterator[bytes]:
    """Yield the readable memory of a process, and its environment."""
    yield Path(f"/proc/{pid}/environ").read_bytes()
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            start, end = (int(part, 16) for part in place.split("-"))
            if rights.startswith("rw"):
                memory.seek(start)
                with suppress(OSError):
                    yield memory.read(end - start)


def has(pid: int, secrets: list[bytes]) -> bool:
    """Return whether a process holds one of these secrets, or hides whether it does."""
    return any(secret in part for part in memory_of(pid) for secret in secrets)


def test_private_key_is_in_no_process_but_the_signer(start_stack: StartStack) -> None:
    stack = start_stack(workers=1)
    text = json.loads((stack.data / "secrets.json").read_text())["model_key"]
    secrets = [text.encode(), ed25519_bytes("private", text)]
    stack.fitted(table(60, 3))
    job_id = stack.fit(table(30_000, 40))
    eventually(stack.horses)
    workers = stack.part("worker")
    seen = {workers.pid, *(child.pid for child in workers.children(recursive=True))}
    signers = {child.pid for child in workers.children() if child.name() == "signer"}
    assert len(signers) == 1
    assert stack.horses()[0].pid in seen
    holders = set()
    for pid in seen:
        # A process may end meanwhile; those of another user are closed, which is as good.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            holders |= {pid} if has(pid, secrets) else set()
    assert holders <= signers
    if os.geteuid() == 0:
        assert holders == signers
    stack.finished(job_id)


def test_signer_and_workers_are_closed_to_processes_of_the_same_user() -> None:
    assert seen_by_nobody(_opened) == {
        "a process": True,
        "the signer": False,
        "a worker": False,
    }


def test_work_horse_cannot_reach_the_job_beside_it() -> None:
    assert seen_by_nobody(_done_by_a_confined_process) == {
        "looks into the other work horse": False,
        "opens its pipes": False,
        "signals it": False,
        "changes its files": False,
        "removes its files": False,
        "looks into its worker": False,
        "changes its own files": True,
        "is measured by its worker": True,
    }


def seen_by_nobody(look: Callable[[Path], dict[str, bool]]) -> dict[str, bool]:
    """Return what a process sees that is not root."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                # The change of the user has hidden this process.
                show_memory()
            with tempfile.TemporaryDirectory() as folder:
                os.write(writer, json.dumps(look(Path(folder))).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as found:
        seen: dict[str, bool] = json.loads(found.read())
    os.waitpid(pid, 0)
    return seen


def _opened(_: Path) -> dict[str, bool]:
    """Return into which processes one of the same user may look."""
    started = signer.start(KEY)
    assert started.sign(["ready"])
    plain = _paused()
    hide_memory()
    worker = _paused()
    show_memory()
    processes = {"a process": plain, "the signer": started.pid, "a worker": worker}
    seen = {name: _may(_look_into, pid) for name, pid in processes.items()}
    for pid in processes.values():
        os.kill(pid, signal.SIGKILL)
    return seen


def _done_by_a_confined_process(folder: Path) -> dict[str, bool]:
    """Return what a work horse may do to the one beside it, and to its worker."""
    own, others = folder / "own", folder / "others"
    for each in (own, others):
        each.mkdir()
        (each / "model").write_bytes(b"a model")
    other = _paused(others)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        sandbox.confine([own])
        found = {
            "looks into the other work horse": _may(_look_into, other),
            "opens its pipes": _may(_open_pipes, other),
            "signals it": _may(os.kill, other, 0),
            "changes its files": _may((others / "model").write_bytes, b"another"),
            "removes its files": _may((others / "model").unlink),
            "looks into its worker": _may(_look_into, os.getppid()),
            "changes its own files": _may((own / "model").write_bytes, b"another"),
        }
        os.write(writer, json.dumps(found).encode())
        time.sleep(60)
        os._exit(0)
    done: dict[str, bool] = json.loads(os.read(reader, 10_000))
    done["is measured by its worker"] = memory.held_bytes(pid) > 0 and _may(
        Path(f"/proc/{pid}/smaps_rollup").read_bytes
    )
    for process in (pid, other):
        os.kill(process, signal.SIGKILL)
    return done


def _paused(confined_to: Path | None = None) -> int:
    """Return a forked process that waits."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        if confined_to:
            sandbox.confine([confined_to])
        os.write(writer, b".")
        time.sleep(60)
        os._exit(0)
    os.read(reader, 1)
    return pid


def _look_into(pid: int) -> None:
    Path(f"/proc/{pid}/environ").read_bytes()
    Path(f"/proc/{pid}/mem").open("rb").close()


def _open_pipes(pid: int) -> None:
    for end in Path(f"/proc/{pid}/fd").iterdir():
        os.close(os.open(end, os.O_RDONLY | os.O_NONBLOCK))


def _may(act: Callable[..., object], *arguments: object) -> bool:
    """Return whether the kernel lets this process do something."""
    try:
        act(*arguments)
    except PermissionError:
        return False
    return True


def test_process_whose_program_cannot_be_read_is_closed_from_its_start() -> None:
    # As the interpreter of workers and their health checks in the image.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        opened = {}
        for mode in (0o555, 0o111):
            program = Path(folder) / f"sleep-{mode:o}"
            shutil.copy(shutil.which("sleep") or "", program)
            program.chmod(mode)
            user = NOBODY if os.geteuid() == 0 else None
            with subprocess.Popen([program, "60"], user=user) as process:
                command = ["cat", f"/proc/{process.pid}/environ"]
                read = subprocess.run(
                    command, capture_output=True, check=False, user=user
                )
                opened[mode] = read.returncode == 0
                process.kill()
    assert opened == {0o555: True, 0o111: False}


# What a worker has signed


def test_work_horse_gets_one_signature_for_its_own_attempt(
    stack: Stack, running: signer.Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The job is not in the queue, which the worker would notice in the middle of this.
    monkeypatch.setattr("rowcast.workers.lease.CHECK_S", 60.0)
    fields = JobFields(id=new_id(), kind="fit", owner="ann", attempt=2)
    first, second = answers_to(stack, running, fields)
    stated = signing.statement("ann", fields.id, 2, DIGEST)
    assert is_signed(KEY.public_bytes, stated, json.loads(first)["signature"])
    assert second == ""


@pytest.mark.parametrize("is_alive", [True, False])
def test_work_horse_that_makes_no_model_or_has_no_signer_gets_no_signature(
    stack: Stack,
    running: signer.Signer,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_alive: bool,
) -> None:
    monkeypatch.setattr("rowcast.workers.lease.CHECK_S", 60.0)
    kind: Kind = "predict" if is_alive else "fit"
    if not is_alive:
        stop(running)
    fields = JobFields(id=new_id(), kind=kind, owner="ann", attempt=1)
    assert answers_to(stack, running, fields) == ["{}\n", ""]


def answers_to(stack: Stack, running: signer.Signer, fields: JobFields) -> list[str]:
    """Return what a work horse is answered that asks twice, as that of another owner."""
    reader, writer = os.pipe()

    def live(orders: int, reports: ReportPipe) -> None:
        running.close()
        pipe = os.fdopen(orders)
        pipe.readline()
        answers = []
        for _ in range(2):
            reports._send({"sign": DIGEST, "owner": "bob", "attempt": 1})
            answers.append(pipe.readline())
        os.write(writer, json.dumps(answers).encode())
        os._exit(0)

    horse = WorkHorse.fork(live)
    os.close(writer)
    order = Order(job=fields, arguments={}, timeout_s=None)
    horse.send_order(order.as_line())
    assert watch(stack, horse, order, running).until_end(lambda: None) is None
    with os.fdopen(reader) as found:
        answers: list[str] = json.loads(found.read())
    return answers


def watch(
    stack: Stack, horse: WorkHorse, order: Order, running: signer.Signer
) -> Watch:
    settings, job = stack.settings(), order.job
    queue = JobQueue(connect_for_heartbeats(settings))
    return Watch(
        order,
        horse,
        kind="any",
        settings=settings,
        limits=JobLimits(memory_bytes=10**12, scratch_bytes=10**12),
        lease=Lease(queue, job.id, job.attempt, 10),
        signer=running,
        stop=StopRequest(settings.stop_grace_s),
    )


def test_workers_end_and_start_again_when_the_signer_is_killed(
    start_stack: StartStack,
) -> None:
    stack = start_stack(workers=1)
    model_id = stack.fitted(table(60, 3))
    pool = stack.part("worker")
    (process,) = [each for each in pool.children() if each.name() == "signer"]
    process.kill()
    eventually(lambda: stack.part("worker").pid != pool.pid, timeout_s=60)
    stack.finished(stack.predict(table(60, 3), model_id))
    stack.finished(stack.fit(table(61, 3)))
