"""The parts of the local stack while they run: they start, serve and stop in order."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from functools import partial

from rowcast.config import Settings
from rowcast.local import append_only_file
from rowcast.local.data_folder import HOST, StackError
from rowcast.local.probes import listens, redis_answers, server_is_ready
from rowcast.local.programs import Parts
from rowcast.local.reserve import LOOK_S, Reserve
from rowcast.local.supervisor import Supervisor, after_fork

START_LIMIT_S = 60.0
# An idle pool of workers stops in about a second.
IDLE_STOP_LIMIT_S = 2.0
# After STOP_GRACE_S, a stopping worker has this long to kill and requeue its unfinished jobs.
REQUEUE_LIMIT_S = 10.0
SERVER_STOP_LIMIT_S = 5.0
STORE_STOP_LIMIT_S = 10.0
COMMAND_STOP_LIMIT_S = 5.0


class InterruptedStack(Exception):
    """A signal came before the work was done."""

    def __init__(self, number: int) -> None:
        """Keep the exit code of a process that the signal `number` ended."""
        super().__init__(number)
        self.exit_code = 128 + number


class Stack:
    """The running parts: `start` them, `serve` or `run` a command, `stop` them."""

    def __init__(
        self,
        parts: Parts,
        supervisor: Supervisor,
        reserve: Reserve,
        say: Callable[[str], None],
        settings: Settings,
    ) -> None:
        """Manage `parts` by `supervisor`, and write messages for people with `say`."""
        self.url = f"http://{HOST}:{parts.ports.server}"
        self._parts = parts
        self._supervisor = supervisor
        self._reserve = reserve
        self._say = say
        self._grace_s = settings.stop_grace_s
        self._has_online_workers = settings.online_workers > 0

    def start(self) -> None:
        """Start all parts and wait until the server is ready.

        Raises:
            StackError: a part cannot be started, keeps dying, or does not answer in time.
            InterruptedStack: a signal came first.
        """
        store = self._parts.store()
        if mended := append_only_file.mend(self._parts.redis_folder):
            self._say(mended)
        self._supervisor.start(self._parts.redis())
        if store:
            self._supervisor.start(store)

        self._wait_for("redis", partial(redis_answers, self._parts.redis_url))
        if store:
            self._wait_for("store", partial(listens, self._parts.ports.store))

        self._supervisor.start(self._parts.server())
        self._supervisor.start(self._parts.worker())
        if self._has_online_workers:
            self._supervisor.start(self._parts.online())
        self._wait_for("server", partial(server_is_ready, self._parts.ports.server))

    def serve(self) -> None:
        """Serve until a signal comes.

        Raises:
            StackError: a part keeps dying.
        """
        self._supervisor.wait_until(self._is_over, every_s=LOOK_S)
        self._raise_if_failed()

    def run(self, command: Sequence[str]) -> int:
        """Run a command against the server and return its exit code.

        Raises:
            StackError: the command cannot be started, or a part keeps dying.
            InterruptedStack: a signal came first.
        """
        try:
            process = subprocess.Popen(
                command,
                env={**self._parts.environ, "ROWCAST_URL": self.url},
                preexec_fn=after_fork(),  # noqa: PLW1509 - safe without threads, see after_fork
            )
        except OSError as error:
            raise StackError(f"{command[0]} cannot be run: {error.strerror}.") from None

        self._supervisor.wait_until(
            lambda: process.poll() is not None or self._is_over(), every_s=LOOK_S
        )
        self._end(process)
        self._raise_if_over()
        return exit_code_of(process)

    def stop(self) -> None:
        """Stop the worker, then the server, then Redis and the store.

        A further signal kills worker and server immediately.
        """
        n_signals = len(self._supervisor.signals)
        self._stop_worker(lambda: len(self._supervisor.signals) > n_signals)
        self._supervisor.stop("server", limit_s=SERVER_STOP_LIMIT_S)
        self._supervisor.stop("online", limit_s=SERVER_STOP_LIMIT_S)
        self._supervisor.stop("redis", "store", limit_s=STORE_STOP_LIMIT_S)

    def _stop_worker(self, is_hurried: Callable[[], bool]) -> None:
        self._supervisor.terminate("worker")

        def is_done() -> bool:
            return is_hurried() or not self._supervisor.running("worker")

        # Only a longer wait needs a message.
        has_stopped = self._supervisor.wait_until(is_done, limit_s=IDLE_STOP_LIMIT_S)
        if not has_stopped and self._jobs_can_finish():
            self._say(
                f"Running jobs may finish, for up to {self._grace_s:g} s; "
                "Ctrl-C stops them immediately."
            )
            limit_s = self._grace_s + REQUEUE_LIMIT_S
            self._supervisor.wait_until(is_done, limit_s=limit_s)

        if is_hurried():
            self._supervisor.kill("worker", "server", "online")
        self._supervisor.kill("worker")

    def _jobs_can_finish(self) -> bool:
        failed = self._supervisor.failed
        return not failed or failed.name not in ("redis", "store")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End the command, unless it has ended."""

        def has_ended() -> bool:
            return process.poll() is not None

        # A terminal has sent its Ctrl-C to the command as well.
        if self._supervisor.signals[:1] == [signal.SIGINT]:
            self._supervisor.wait_until(has_ended, COMMAND_STOP_LIMIT_S)
        if not has_ended():
            process.terminate()
            self._supervisor.wait_until(has_ended, COMMAND_STOP_LIMIT_S)
        if not has_ended():
            process.kill()
            process.wait()

    def _wait_for(self, name: str, answers: Callable[[], bool]) -> None:
        def is_done() -> bool:
            return self._is_over() or answers()

        while not self._supervisor.wait_until(is_done, START_LIMIT_S):
            if not self._reserve.explanation():
                raise StackError(
                    f"{name} did not answer within {START_LIMIT_S:g} s."
                    f"{self._last_lines(name)}"
                )
        self._raise_if_over()

    def _is_over(self) -> bool:
        self._reserve.look()
        return bool(self._supervisor.signals or self._supervisor.failed)

    def _raise_if_over(self) -> None:
        if self._supervisor.signals:
            raise InterruptedStack(self._supervisor.signals[0])
        self._raise_if_failed()

    def _raise_if_failed(self) -> None:
        if failed := self._supervisor.failed:
            raise StackError(
                f"{failed.name} died {len(failed.deaths)} times within a minute, so the stack "
                f"was stopped. The last time: {failed.last_end}."
                f"{self._last_lines(failed.name)}"
            )

    def _last_lines(self, name: str) -> str:
        lines = self._supervisor.recent_lines(name)
        return "\n  ".join(["\nIts last lines:", *lines]) if lines else ""


def exit_code_of(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of an ended process as shells do: 128 and the signal that killed it."""
    code: int = process.returncode
    return code if code >= 0 else 128 - code
