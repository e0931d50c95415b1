"""The Python client of Rowcast. It needs requests; pandas and tqdm are used where they are installed.

    with Client("http://127.0.0.1:8000") as client:
        model_id = client.fit(client.upload("train.parquet"), timeout=None)
        result_id = client.predict(client.upload("test.parquet"), model_id, timeout=None)
        predictions = client.download(result_id)

What goes wrong is a RowcastError, except that local files raise the OSError of open():

RowcastError                  code, detail, hint, errors: as the service gave them, else empty
├── ServiceUnreachableError   no answer, or only a part of it; also a ConnectionError
├── APIError                  a bad answer: status, request_id, retry_after_s
│   ├── InvalidRequestError   400, 413, 415, 422; also a ValueError
│   ├── AuthenticationError   401
│   ├── NotFoundError         404; also a LookupError
│   └── ConflictError         409
├── JobFailedError            the job ended without success: job_id
├── JobCanceledError          somebody canceled the job: job_id
└── WaitTimeoutError          the job goes on, only the waiting ended: job_id; also a TimeoutError
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import math
import os
import random
import re
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, TypeVar, Union, cast, overload
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

if TYPE_CHECKING:
    from pandas import DataFrame

__version__ = "0.1.0"

ATTEMPTS = 4
OUTAGE_S = 120.0
LONGEST_BACKOFF_S, LONGEST_RETRY_AFTER_S = 10.0, 60.0
# The service answers a waiting request when the job ends; a person who watches wants news in between.
LONG_POLL_S, WATCHED_POLL_S, SHORTEST_PAUSE_S = 20.0, 2.0, 0.1
# For connecting, and for each silence: a store may think long about a large table before it answers.
STORE_TIMEOUT_S = (30.0, 600.0)
CHUNK_BYTES = 1 << 20
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
PASSING = frozenset({429, 502, 503, 504})
# The member of each answer without which it did not come from Rowcast.
MEMBER = {"/upload": "url", "/fit": "id", "/predict": "id", "/status": "kind", "/result": "url"}

T = TypeVar("T")
Source = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO, "DataFrame"]


class RowcastError(Exception):
    """The root of all errors; its text says what is wrong and what to do about it."""

    code, detail, hint, job_id = "", "", "", ""
    errors: Sequence[str] = ()

    def __init__(self, message: str = "", **facts: Any) -> None:
        """Note the facts as attributes, which is also how pickle restores them."""
        super().__init__(message)
        self.__dict__.update(facts)


class ServiceUnreachableError(RowcastError, ConnectionError):
    """No answer came, or only a part of it; `sent` is False if nobody can have received the request."""

    sent = True


class APIError(RowcastError):
    """A bad answer came; `code` is the stable word to branch on, empty if not Rowcast answered."""

    status, request_id = 0, ""
    retry_after_s: float | None = None


class InvalidRequestError(APIError, ValueError):
    """The service refuses the parameters or the table."""


class AuthenticationError(APIError):
    """The API key is missing or unknown."""


class NotFoundError(APIError, LookupError):
    """There is no such dataset, model or job, or it is another owner's."""


class ConflictError(APIError):
    """The request comes too early or too late, as for the result of a job that has not ended."""


class JobFailedError(RowcastError):
    """The job ended without success; `code` is the stable word to branch on."""


class JobCanceledError(RowcastError):
    """Somebody canceled the job."""


class WaitTimeoutError(RowcastError, TimeoutError):
    """The job had not ended in the time given; it goes on, and wait() may be called again."""


REFUSALS: dict[int, type[APIError]] = {401: AuthenticationError, 404: NotFoundError, 409: ConflictError}
REFUSALS.update(dict.fromkeys((400, 413, 415, 422), InvalidRequestError))


class Client:
    """A connection to one Rowcast service, which threads may share; close it or use it in `with`.

    `url` defaults to ROWCAST_URL, else http://127.0.0.1:8000, and `api_key` to ROWCAST_API_KEY, else none.
    `timeout_s` bounds connecting to the service and each silence of it, not the transfer of tables.
    `jobs` lists what this client submitted, oldest first: dicts with "id" and "kind" (fit or predict).
    """

    def __init__(self, url: str | None = None, *, api_key: str | None = None, timeout_s: float = 30) -> None:
        """Prepare the connection; nothing is sent yet. Raises RowcastError for what is unusable."""
        self.url = (url or os.environ.get("ROWCAST_URL") or "http://127.0.0.1:8000").rstrip("/")
        if not re.match(r"https?://[^/?#]", self.url):
            raise RowcastError(f"The address {self.url!r} must start with http:// or https://.")
        key = (api_key or os.environ.get("ROWCAST_API_KEY") or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise RowcastError("The API key holds characters that no header can carry.")
        if not timeout_s > 0:
            raise RowcastError(f"timeout_s must be over 0, not {timeout_s}.")
        # Without a key, requests keeps its habit of looking into .netrc.
        self._auth = partial(_authorize, key) if key else None
        self.timeout_s = timeout_s
        self.jobs: list[dict[str, str]] = []
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"rowcast-client/{__version__}"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=32))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def upload(self, source: Source) -> str:
        """Upload a table and return the id of the dataset.

        `source` is a path, the bytes of a file, an open binary file, or a DataFrame, which is sent as Parquet
        without its index. Raises RowcastError if a file changes its length meanwhile.
        """
        with _opened(source) as body:
            dataset = self._call("POST", "/upload", {})
            # Empty bytes, because requests would send a stream of length 0 chunked, which S3 refuses.
            put = partial(self._store, "PUT", dataset["url"], data=body or b"")
            _repeat(put, partial(_passes, statuses={429, *range(500, 600)}))
        return cast(str, dataset["id"])

    def fit(self, dataset_id: str, timeout: float | None = -1, **options: Any) -> str:
        """Submit a fit and return its id, which is also that of the model.

        `timeout` in seconds: below 0 returns at once, None waits for the end, otherwise the end must come in
        that time. Raises what the service refuses as an APIError, and when it waits, what wait() raises.
        """
        return self._submit("fit", {**options, "id": dataset_id}, timeout)

    def predict(self, dataset_id: str, model_id: str, timeout: float | None = -1, **options: Any) -> str:
        """Submit a prediction and return its id, also that of the result; `timeout` as in fit()."""
        return self._submit("predict", {**options, "dataset_id": dataset_id, "model_id": model_id}, timeout)

    def status(self, job_id: str) -> dict[str, Any]:
        """Return what the service knows of the job; that it failed is no error here."""
        return self._call("GET", "/status", {"id": job_id})

    def wait(self, job_id: str, timeout: float | None = None) -> dict[str, Any]:
        """Wait until the job has finished, at most `timeout` seconds, and return its last status.

        While nobody answers it keeps asking, without a timeout for two minutes. Raises JobFailedError,
        JobCanceledError, WaitTimeoutError, APIError or ServiceUnreachableError.
        """
        began = time.monotonic()
        try:
            for job in self._watch(job_id, math.inf if timeout is None else began + max(timeout, 0)):
                _tell(f"\r\x1b[K{_activity(job)} ({time.monotonic() - began:.0f} s)")
        finally:
            _tell("\n")
        return _finished(job)

    def result(self, result_id: str) -> str:
        """Return a URL from which anybody can download the predictions as Parquet for a while."""
        return cast(str, self._call("GET", "/result", {"id": result_id})["url"])

    @overload
    def download(self, result_id: str) -> DataFrame: ...
    @overload
    def download(self, result_id: str, path: str | os.PathLike[str]) -> Path: ...
    def download(self, result_id: str, path: str | os.PathLike[str] | None = None) -> DataFrame | Path:
        """Return the predictions as a DataFrame, or save them as Parquet to `path` and return that.

        The file appears whole or not at all. Raises ConflictError if the job has not finished.
        """
        with tempfile.TemporaryFile() if path is None else _replacing(Path(path)) as file:
            _repeat(partial(self._fetch, self.result(result_id), file), _passes)
            if path is None:
                import pandas

                return pandas.read_parquet(file)
        return Path(path)

    def _submit(self, kind: str, parameters: dict[str, Any], timeout: float | None) -> str:
        job_id: str = self._call("POST", f"/{kind}", parameters)["id"]
        self.jobs.append({"id": job_id, "kind": kind})
        if timeout is None or timeout >= 0:
            self.wait(job_id, timeout)
        return job_id

    def _watch(self, job_id: str, deadline: float) -> Iterator[dict[str, Any]]:
        """Yield the job's status again and again until it is final, through outages if need be."""
        heard_at, failures, fault = time.monotonic(), 0, None
        while True:
            try:
                job, pause_s = self._poll(job_id, deadline)
            except (ServiceUnreachableError, APIError) as error:
                if not _passes(error) or (deadline == math.inf and time.monotonic() > heard_at + OUTAGE_S):
                    raise
                failures, fault, state = failures + 1, error, str(error)
                pause_s = _pause_s(failures, error)
            else:
                yield job
                if job["status"] in {"finished", "failed", "canceled"}:
                    return
                heard_at, failures, fault, state = time.monotonic(), 0, None, f"it is {job['status']}."
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                message = f"The job {job_id} did not end in the time given: {state}"
                raise WaitTimeoutError(message, job_id=job_id) from fault
            time.sleep(min(pause_s, left_s))

    def _poll(self, job_id: str, deadline: float) -> tuple[dict[str, Any], float]:
        """Ask for the status and wait for its change; return it and the seconds to pause after it."""
        left_s = max(0, deadline - time.monotonic())
        wait_s = min(WATCHED_POLL_S if _is_watched() else LONG_POLL_S, left_s)
        timeout_s = wait_s + min(self.timeout_s, max(left_s - wait_s, 2))
        response = self._ask("GET", "/status", {"id": job_id, "wait": wait_s}, timeout_s)
        return _answer(response, "/status"), _jittered(_retry_after_s(response) or SHORTEST_PAUSE_S)

    def _call(self, method: str, path: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Ask the service, again where that is safe, and return its answer."""
        ask = partial(self._ask, method, path, parameters, self.timeout_s)
        return _answer(_repeat(ask, partial(_passes, queues=path in {"/fit", "/predict"})), path)

    def _ask(self, method: str, path: str, parameters: dict[str, Any], timeout_s: float) -> requests.Response:
        where = {"params" if method == "GET" else "json": parameters}
        timeouts_s = (min(self.timeout_s, timeout_s), timeout_s)
        return self._send(method, self.url + path, auth=self._auth, timeout=timeouts_s, **where)

    def _fetch(self, url: str, file: BinaryIO) -> None:
        """Fill the file, from its start, with what the store has; raise if the end is missing."""
        file.seek(0)
        file.truncate()
        with self._store("GET", url, headers={"Accept-Encoding": "identity"}, stream=True) as response:
            with _no_answer(url):
                for chunk in response.iter_content(CHUNK_BYTES):
                    file.write(chunk)
            n_bytes = response.raw.tell()
            if n_bytes != int(response.headers.get("Content-Length", n_bytes)):
                raise ServiceUnreachableError(f"The answer of {_origin(url)} broke off before its end.")

    def _store(self, method: str, url: str, **rest: Any) -> requests.Response:
        """Ask the store, to whom a presigned URL says all; neither our key nor .netrc may be added."""
        return self._send(method, url, auth=partial(_authorize, ""), timeout=STORE_TIMEOUT_S, **rest)

    def _send(self, method: str, url: str, **rest: Any) -> requests.Response:
        """Send one request; all that this client says to anybody goes through here."""
        with _no_answer(url):
            response = self._session.request(method, url, **rest)
            if not 200 <= response.status_code < 300:
                raise _bad_answer(response)
        return response


class _Body:
    """The bytes of one upload; for its length and lack of read(), requests announces it and sends chunks."""

    def __init__(self, file: BinaryIO) -> None:
        # A pipe is kept in memory: its length is unknown, and it cannot be read twice.
        self.file = file if file.seekable() else io.BytesIO(file.read())
        self.start = self.file.tell()
        self.n_bytes = self.file.seek(0, io.SEEK_END) - self.start

    def __len__(self) -> int:
        return self.n_bytes

    def __iter__(self) -> Iterator[bytes]:
        self.file.seek(self.start)
        left = self.n_bytes
        with _progress_bar(self.n_bytes) as bar:
            while left:
                chunk = self.file.read(min(left, CHUNK_BYTES))
                left -= len(chunk)
                # Looked at before the last chunk leaves, so that a wrong length never makes a whole upload.
                if not chunk or (left == 0 and self.file.read(1)):
                    raise RowcastError(f"The file did not keep its {self.n_bytes} bytes; upload it again.")
                yield chunk
                if bar is not None:
                    bar.update(len(chunk))


@contextmanager
def _opened(source: Source) -> Iterator[_Body]:
    if isinstance(source, (str, os.PathLike)):
        with Path(source).open("rb") as file:
            yield _Body(file)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield _Body(io.BytesIO(source))
    elif hasattr(source, "to_parquet"):
        with tempfile.TemporaryFile() as file:
            try:
                source.to_parquet(file, index=False)
            except (ValueError, TypeError) as error:
                raise RowcastError(f"The DataFrame cannot be written as Parquet: {error}") from error
            file.seek(0)
            yield _Body(file)
    elif hasattr(source, "read") and not isinstance(source, io.TextIOBase):
        yield _Body(source)
    else:
        raise TypeError(f"A table is a path, bytes, a binary file or a DataFrame, not {type(source)}.")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that takes the path's place if the block succeeds, and vanishes if not."""
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "Not a regular file", str(path))
    part = path.with_name(f".rowcast-{uuid.uuid4().hex}.part")
    try:
        file = part.open("w+b")
    except OSError as error:
        # The user knows the path, not what stands in for it meanwhile.
        raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        with file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _repeat(send: Callable[[], T], passes: Callable[[RowcastError], bool]) -> T:
    """Return what `send` returns; try it again, ATTEMPTS times in all, while the fault is one that passes."""
    failures = 0
    while True:
        try:
            return send()
        except (ServiceUnreachableError, APIError) as error:
            failures += 1
            if failures == ATTEMPTS or not passes(error):
                raise
            pause_s = _pause_s(failures, error)
        time.sleep(pause_s)


def _passes(error: RowcastError, statuses: Container[int] = PASSING, *, queues: bool = False) -> bool:
    """Say whether to send again: the fault is one that passes, and a request that queues surely did not."""
    if isinstance(error, APIError):
        is_sure = error.status == 429 or error.code == "store_unavailable" or not queues
        return is_sure and error.status in statuses and (error.retry_after_s or 0) <= LONGEST_RETRY_AFTER_S
    return isinstance(error, ServiceUnreachableError) and not (queues and error.sent)


def _pause_s(failures: int, error: RowcastError) -> float:
    retry_after_s: float | None = getattr(error, "retry_after_s", None)
    return _jittered(min(0.25 * 2**failures, LONGEST_BACKOFF_S) if retry_after_s is None else retry_after_s)


def _jittered(pause_s: float) -> float:
    """Return up to half as much again, so that many clients do not come back at once."""
    return pause_s * random.uniform(1, 1.5)


def _retry_after_s(response: requests.Response) -> float | None:
    header = response.headers.get("Retry-After", "")
    return float(header) if header.isdecimal() else None


def _json(response: requests.Response) -> dict[str, Any]:
    """Return the body, or an empty dict if it is anything but a JSON object."""
    with suppress(ValueError):
        body = json.loads(response.content)
        return body if isinstance(body, dict) else {}
    return {}


def _answer(response: requests.Response, path: str) -> dict[str, Any]:
    answer = _json(response)
    if MEMBER[path] not in answer:
        message = f"{_origin(response.url)} answered, but not as Rowcast does. Is this the service's address?"
        raise APIError(message, detail=message, status=response.status_code)
    return answer


def _bad_answer(response: requests.Response) -> APIError:
    """Turn the problem that the service describes, or what a proxy or a store says instead, into an error."""
    facts, status = _facts(_json(response)), response.status_code
    page = re.sub(r"<[^>]*>", " ", response.content[:4096].decode("utf-8", "replace"))
    reason = " ".join(page.split())[:200] or response.reason
    facts.setdefault("detail", f"{_origin(response.url)} answered {status}: {reason}")
    if response.history:
        facts["hint"] = f"The request was redirected; use {_origin(response.url)} as the address."
    error = REFUSALS.get(status, APIError)
    return error(_sentence(facts), status=status, retry_after_s=_retry_after_s(response), **facts)


def _facts(problem: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a problem that are as they should be; another program may have written it."""
    types = {"code": str, "detail": str, "hint": str, "errors": list, "request_id": str}
    return {name: problem[name] for name, kind in types.items() if isinstance(problem.get(name), kind)}


def _sentence(facts: dict[str, Any]) -> str:
    """Join what is wrong, each problem that this does not name yet, and what to do."""
    detail = str(facts.get("detail") or facts.get("code") or "No reason was given")
    problems = "; ".join(str(problem) for problem in facts.get("errors", ()) if str(problem) not in detail)
    parts = [part for part in (detail, problems, str(facts.get("hint", ""))) if part]
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts)


@contextmanager
def _no_answer(url: str) -> Iterator[None]:
    """Turn the errors of requests into ours, without their texts, which show presigned URLs."""
    try:
        yield
    except requests.RequestException as error:
        cause: BaseException | None = error
        while isinstance(cause, (requests.RequestException, HTTPError)):
            cause = cause.__cause__ or cause.__context__
        reason = getattr(cause, "strerror", None) or cause or type(error).__name__
        if not isinstance(error, BROKEN):
            raise RowcastError(f"The request to {_origin(url)} is not possible: {reason}.") from error
        fault = getattr((*error.args, None)[0], "reason", None)
        sent = not isinstance(fault, (NewConnectionError, ConnectTimeoutError))
        hint = "It may have got the request." if sent else "Is this the right address, and is it running?"
        message = f"No answer from {_origin(url)}: {reason}. {hint}"
        raise ServiceUnreachableError(message, sent=sent) from error


def _origin(url: str) -> str:
    """Return scheme, host and port: the rest may hold a password or a signature."""
    scheme, netloc = urlsplit(url)[:2]
    return f"{scheme}://{netloc.rpartition('@')[2]}"


def _authorize(key: str, request: requests.PreparedRequest) -> requests.PreparedRequest:
    if key:
        request.headers["Authorization"] = f"Bearer {key}"
    return request


def _finished(job: dict[str, Any]) -> dict[str, Any]:
    name = f"The {job['kind']} {job['id']}"
    if job["status"] == "failed":
        facts = _facts(job.get("error") or {})
        raise JobFailedError(f"{name} failed: {_sentence(facts)}", job_id=job["id"], **facts)
    if job["status"] == "canceled":
        raise JobCanceledError(f"{name} was canceled.", job_id=job["id"])
    return job


def _activity(job: dict[str, Any]) -> str:
    ahead = f", {job['position']} ahead of it" if job.get("position") else ""
    again = f", attempt {job['attempts']}" if (job.get("attempts") or 0) > 1 else ""
    return f"{job['kind']} {job['id']}: {job['status']}{ahead}{again}"


def _is_watched() -> bool:
    """Say whether a person sees stderr; threads of a pool would write over each other there."""
    alone = threading.current_thread() is threading.main_thread()
    return alone and sys.stderr is not None and sys.stderr.isatty()


def _tell(text: str) -> None:
    if _is_watched():
        print(text, end="", file=sys.stderr, flush=True)


def _progress_bar(n_bytes: int) -> Any:
    """Return a context with tqdm's bar, or with None where nobody watches or tqdm is not installed."""
    if not _is_watched():
        return nullcontext()
    try:
        from tqdm import tqdm
    except ImportError:
        _tell(f"uploading {n_bytes / 1e6:.1f} MB\n")
        return nullcontext()
    return tqdm(total=n_bytes, unit="B", unit_scale=True, desc="upload")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code, 1 after a sentence on stderr."""
    given = vars(_parser().parse_args(arguments))
    try:
        with Client(given.pop("url")) as client:
            options = dict(given.pop("options", ()))
            if reserved := {"self", "method", *given, "dataset_id", "model_id", "timeout"} & set(options):
                raise RowcastError(f"--option {min(reserved)}=... is not an option of the service.")
            given.update(options)
            answer = getattr(client, given.pop("method"))(**given)
            print(answer["status"] if isinstance(answer, dict) else answer)
    except (RowcastError, OSError) as error:
        filename = getattr(error, "filename", None)
        print(f"{filename}: {error.args[1]}" if filename else error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """Describe the command line: a command is a method of Client, its arguments are named as there."""
    parser = argparse.ArgumentParser(
        description="Fit and predict tables with Rowcast. Each command prints only what the next one needs.",
        epilog="The API key is taken from ROWCAST_API_KEY alone: arguments show in the list of processes.",
    )
    parser.add_argument("--url", help="default: ROWCAST_URL, else http://127.0.0.1:8000")
    methods = parser.add_subparsers(dest="method", required=True, metavar="COMMAND")

    def add(method: str, does: str, *arguments: str) -> argparse.ArgumentParser:
        command = methods.add_parser(method, help=does, description=does, argument_default=argparse.SUPPRESS)
        for each in arguments:
            command.add_argument(each)
        return command

    add("upload", "upload a table; prints the id of the dataset", "source")
    fit = add("fit", "fit a model; prints its id", "dataset_id", "--target", "--task")
    predict = add("predict", "predict rows; prints the id of the result", "dataset_id", "model_id")
    for command in (fit, predict):
        command.add_argument("--option", metavar="NAME=VALUE", dest="options", action="append", type=_option)
        wait = command.add_mutually_exclusive_group()
        wait.add_argument("--wait", dest="timeout", action="store_const", const=None, help="wait for the end")
        wait.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="wait for the end that long")
    status = add("status", "print the status of a job, one word", "job_id")
    status.add_argument("--wait", dest="method", action="store_const", const="wait", help="wait for the end")
    add("download", "save a result as Parquet; prints the path", "result_id", "path")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if math.isnan(seconds):
        raise ValueError
    return seconds


def _option(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE, the value as JSON where it is that, else as text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
