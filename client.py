"""The Python client of Rowcast: one file that needs only requests.

    with Client("http://127.0.0.1:8080") as client:
        model_id = client.fit("train.csv", target="price", timeout=None)
        print(client.model(model_id))
        predictions = client.predict_table("test.csv", model_id)

DataFrames need pandas and pyarrow, plots need matplotlib, and tqdm draws the progress bars.

Local files raise the OSError of open(). Everything else that goes wrong is a RowcastError:

RowcastError                  code, detail, hint, errors: as the service sent them, or empty
├── ServiceUnreachableError   no answer, or only a part of it; also a ConnectionError
├── APIError                  an error answer: status, request_id, retry_after_s
│   ├── InvalidRequestError   400, 413, 415, 422; also a ValueError
│   ├── AuthenticationError   401
│   ├── NotFoundError         404; also a LookupError
│   └── ConflictError         409
├── JobFailedError            the job failed: job_id
├── JobCanceledError          the job was canceled: job_id
└── WaitTimeoutError          the job goes on: job_id; also a TimeoutError
"""

from __future__ import annotations

import argparse
import base64
import errno
import hashlib
import html
import importlib
import io
import json
import math
import os
import random
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import (
    TYPE_CHECKING,
    Any,
    BinaryIO,
    Callable,
    TypeVar,
    Union,
    cast,
    overload,
)
from urllib.parse import quote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

if TYPE_CHECKING:
    from pandas import DataFrame

__version__ = "0.1.0"

DEFAULT_URL = "http://127.0.0.1:8080"

# The final states of a job.
FINAL = frozenset({"finished", "failed", "canceled"})
# An Ed25519 public key: 32 bytes in base64url.
PUBLIC_KEY = re.compile(r"ed25519-public-([A-Za-z0-9_-]{43})")
ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Entries on a page of a listing.
PAGE = 100
PARQUET = "application/vnd.apache.parquet"

CHUNK_BYTES = 1 << 20
# For a larger table the client first asks whether the service has it already.
REUSE_BYTES = 1_000_000

# Online predictions: their options, the largest table, and the time to compute them in addition
# to the usual timeout. The service may have lower limits.
READING_OPTIONS = frozenset(
    {"encoding", "delimiter", "header", "decimal", "missing", "sheet"}
)
THRESHOLD_OPTIONS = frozenset(
    {"threshold", "min_recall", "min_precision", "cost_ratio", "positive_class"}
)
ONLINE_OPTIONS = (
    READING_OPTIONS | THRESHOLD_OPTIONS | {"output", "quantiles", "levels", "keep"}
)
ONLINE_BYTES = 5_000_000
ONLINE_S = 30.0
# A job can do what an online worker cannot: it may have more rows, time and memory, and waits for
# the fit of its model. A service without online predictions does not accept tables in requests.
NEEDS_JOB = frozenset(
    {
        "no_online_worker",
        "online_worker_lost",
        "request_too_large",
        "model_too_large",
        "model_not_ready",
        "unsupported_media_type",
    }
)

ATTEMPTS = 4
LONGEST_BACKOFF_S = 10.0
LONGEST_RETRY_AFTER_S = 60.0
# Without a timeout, wait() gives up after an outage of this length.
OUTAGE_S = 120.0
# With a negative timeout, a submission waits this long for a place in a full queue.
FULL_QUEUE_S = 600.0
# The service holds a status request until the job ends, at most for this long; less while a person
# watches the progress.
LONG_POLL_S = 20.0
WATCHED_POLL_S = 1.0
SHORTEST_PAUSE_S = 0.1
# A firewall may have forgotten a connection that rested for longer.
STALE_AFTER_S = 30.0
# Probes keep a firewall from forgetting a connection that waits, and find one that is dead.
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
SOCKET_OPTIONS = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in KEEPALIVE.items()
        if hasattr(socket, name)
    ),
]
# To connect, and for each silence: a store may take long to check a large table.
STORE_TIMEOUT_S = (30.0, 600.0)
TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})
TRANSIENT_STORE_STATUSES = frozenset({429, *range(500, 600)})
NO_ANSWER = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)

# What a model card calls rows that were not drawn at random.
HELD_BACK = {"later rows": "later rows", "whole groups": "rows of other groups"}

T = TypeVar("T")
JSONObject = dict[str, Any]
AnyPath = Union[str, "os.PathLike[str]"]
AnyBytes = Union[bytes, bytearray, memoryview]
# A table to upload.
Source = Union[AnyPath, AnyBytes, BinaryIO, "DataFrame"]
# A model, or its id.
AnyModel = Union[str, "Model"]


class RowcastError(Exception):
    """The root of all errors; its text says what is wrong and what to do about it."""

    code = ""
    detail = ""
    hint = ""
    job_id = ""
    errors: Sequence[str] = ()

    def __init__(self, message: str = "", **attributes: Any) -> None:
        """Set the attributes, which pickle restores in the same way."""
        super().__init__(message)
        self.__dict__.update(attributes)


class ServiceUnreachableError(RowcastError, ConnectionError):
    """No answer came, or only a part of it.

    `sent` is False if the request certainly did not reach the service.
    """

    sent = True


class APIError(RowcastError):
    """The service, a proxy or the store answered with an error.

    Branch on `code`, which is stable and empty if the answer is not from Rowcast. `status` is that
    of HTTP; `retry_after_s` is None without a Retry-After header.
    """

    status = 0
    request_id = ""
    retry_after_s: float | None = None


class InvalidRequestError(APIError, ValueError):
    """The service rejects the parameters or the table; `errors` names each problem."""


class AuthenticationError(APIError):
    """The API key is missing or unknown."""


class NotFoundError(APIError, LookupError):
    """The dataset, model or job does not exist, or belongs to another owner."""


class ConflictError(APIError):
    """The request comes too early or too late, as for the result of a running job."""


class JobFailedError(RowcastError):
    """The job failed; `code` is stable, `detail` and `hint` say why and what to do."""


class JobCanceledError(RowcastError):
    """The job was canceled."""


class WaitTimeoutError(RowcastError, TimeoutError):
    """The job did not end within the timeout; it still runs, and you may call wait() again."""


ERRORS_BY_STATUS: dict[int, type[APIError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
}


class Client:
    """A connection to one Rowcast service, which threads may share.

    `url` defaults to ROWCAST_URL, else http://127.0.0.1:8080, and `api_key` to ROWCAST_API_KEY,
    else none. `timeout_s` limits the seconds to connect to the service and each of its silences,
    not the transfer of tables. `verify_keys` are the public keys that downloaded models must be
    signed with, like "ed25519-public-...": they default to ROWCAST_VERIFY_KEYS, separated by
    commas, else to those that the service names. Close the client, or use it in `with`.

    `jobs` lists what this client submitted, oldest first: dicts with "id" and "kind" ("fit" or
    "predict"). A job that `reuse` found is listed once.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 30,
        verify_keys: Iterable[str] | None = None,
    ) -> None:
        """Prepare the connection without sending anything.

        Raises RowcastError for an unusable address, key or timeout.
        """
        self.url = _checked_url(url)
        self._verify_keys = _checked_verify_keys(verify_keys)
        key = _checked_key(api_key)
        if not timeout_s > 0:
            raise RowcastError(f"timeout_s must be positive, not {timeout_s}.")
        self.timeout_s = timeout_s
        self.jobs: list[dict[str, str]] = []

        # Without a key, requests looks into .netrc as usual.
        self._auth = partial(_authorize, key) if key else None
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"rowcast-client/{__version__}"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(pool_maxsize=32))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def upload(self, source: Source, *, reuse: bool = True) -> str:
        """Upload a table and return the id of the dataset.

        `source` is a path, the bytes of a file, an open binary file (Excel, CSV, Parquet, JSON
        Lines or Arrow), or a DataFrame, which is sent as Parquet without its index. If the service
        already has the same bytes, over 1 MB, they are not sent again and the id is that of the
        earlier dataset, unless `reuse` is false.

        Raises the OSError of open(), and RowcastError if the file changes its length during the
        upload or a column of the DataFrame cannot be written as Parquet.
        """
        with _opened(source) as body:
            return self._upload(body, reuse=reuse)

    def fit(
        self,
        data: Source,
        timeout: float | None = -1,
        **options: Any,
    ) -> str:
        """Submit a fit and return its id, which is also the id of the model.

        `data` is the id of a dataset, or a source of upload(); a str that is not a UUID is a path.
        `timeout` is in seconds: a negative one returns without waiting, None waits for the end of
        the fit without a limit. While the queue is full, the client tries again until the timeout,
        or for ten minutes if the timeout is negative. `options` are those of /fit, such as
        effort="thorough" and search_s=120.

        Raises the errors of upload(), APIError if the service rejects the fit, and if it waits, the
        errors of wait().
        """
        parameters = {**options, "id": self._dataset_id(data)}
        return self._submit("fit", parameters, timeout)

    def predict(
        self,
        data: Source,
        model: AnyModel,
        timeout: float | None = -1,
        **options: Any,
    ) -> str:
        """Submit a prediction and return its id, which is also the id of the result.

        `data`, `timeout` and the errors are those of fit(). The fit of the model may still be
        queued or running: the prediction starts when it has finished.
        """
        dataset_id = self._dataset_id(data)
        parameters = {**options, "dataset_id": dataset_id, "model_id": _id(model)}
        return self._submit("predict", parameters, timeout)

    def predict_table(
        self,
        data: Source,
        model: AnyModel,
        **options: Any,
    ) -> DataFrame:
        """Predict and return the predictions, a row for each row of the table.

        A table of up to 5 MB is sent with the request and predicted online, without storing it.
        A larger one is uploaded and predicted by a job, as is one that no online worker can
        predict. Arguments and errors are those of predict(), wait() and download().
        """
        needs_job = _is_id(data) or not ONLINE_OPTIONS.issuperset(options)
        if needs_job:
            result_id = self.predict(data, model, timeout=None, **options)
            return self.download(result_id)

        with _opened(data) as body:
            if 0 < len(body) <= ONLINE_BYTES:
                predictions = self._predict_online(body, _id(model), options)
                if predictions is not None:
                    return predictions
            dataset_id = self._upload(body, reuse=True)
        result_id = self.predict(dataset_id, model, timeout=None, **options)
        return self.download(result_id)

    def status(self, job_id: str) -> JSONObject:
        """Return the status of a job, also of one that failed. Raises NotFoundError.

        The dict has "id", "kind" ("fit" or "predict"), "status" ("queued", "started", "finished",
        "failed" or "canceled"), "error", "progress", "eta_s" in seconds, and more.
        """
        return self._call("GET", "/status", {"id": job_id}, "kind")

    def wait(self, job_id: str, timeout: float | None = None) -> JSONObject:
        """Wait until the job has finished, at most `timeout` seconds, and return its status.

        During an outage of the service it keeps asking; without a timeout it gives up after two
        minutes. Raises JobFailedError, JobCanceledError, WaitTimeoutError, APIError or
        ServiceUnreachableError.
        """
        try:
            with closing(_JobDisplay()) as display:
                for job in self._watch(job_id, _deadline(timeout)):
                    display.show(job)
        except KeyboardInterrupt:
            how = f"client.cancel({job_id!r}), or in a shell: rowcast cancel {job_id}"
            _show(f"Stopped waiting; the job goes on. To cancel it: {how}\n")
            raise
        _raise_unless_finished(job)
        return job

    def cancel(self, job_id: str) -> JSONObject:
        """Cancel a job and the predictions that wait for its model, and return its status.

        Raises ConflictError, and changes nothing, if the job has finished or failed.
        """
        return self._call("POST", "/cancel", {"id": job_id}, "kind")

    def log(self, job_id: str) -> list[str]:
        """Return the last lines that the job has logged, oldest first."""
        path = f"/jobs/{_id(job_id)}/log"
        answer = self._call("GET", path, {}, "lines")
        lines: list[str] = answer["lines"]
        return lines

    def result(self, result_id: str) -> str:
        """Return a URL from which anybody can download the predictions for a while.

        Raises ConflictError if the job has not finished, and NotFoundError.
        """
        answer = self._call("GET", "/result", {"id": result_id}, "url")
        return str(answer["url"])

    @overload
    def download(self, result_id: str) -> DataFrame: ...
    @overload
    def download(self, result_id: str, path: AnyPath) -> Path: ...
    def download(self, result_id: str, path: AnyPath | None = None) -> DataFrame | Path:
        """Return the predictions as a DataFrame, or save them to `path` and return that.

        A saved file keeps the format of the result, and appears whole or not at all. Raises
        ConflictError if the job has not finished, and RowcastError with the code "object_damaged"
        if the predictions are not those that the job wrote.
        """
        if path is None:
            with tempfile.TemporaryFile() as file:
                suffix = self._download_result(result_id, file)
                return _read_table(file, suffix)

        with _replacing(Path(path)) as file:
            self._download_result(result_id, file)
        return Path(path)

    def model(self, model_id: AnyModel) -> Model:
        """Return the description of a model. Raises ConflictError if its fit has not finished."""
        path = f"/models/{_id(model_id)}"
        manifest = self._call("GET", path, {})
        return Model(manifest)

    def compare(self, models: Iterable[AnyModel]) -> Comparison:
        """Return in what some models differ: options, scores, learners and features.

        Raises RowcastError for fewer than two models, and what model() raises.
        """
        given = [models] if isinstance(models, (str, Model)) else list(models)
        if len(given) < 2:
            raise RowcastError("compare() needs a list of at least two models.")
        found = [
            model if isinstance(model, Model) else self.model(model) for model in given
        ]
        return Comparison(found)

    def download_model(self, model: AnyModel, path: AnyPath | None = None) -> Any:
        """Return an estimator that predicts the same here, or save its file to `path`.

        Loading runs code from the file: do it only if you trust the service. Raises RowcastError,
        before it loads or saves anything, if the workers of the service have not signed the model,
        or its file is another one. To check that needs the package pycryptodome.
        """
        if path is not None:
            with _replacing(Path(path)) as file:
                self._download_model(model, file)
            return Path(path)

        # What loading needs is checked before the download.
        estimators = _import_estimators(self.url)
        with tempfile.TemporaryFile() as file:
            manifest = self._download_model(model, file)
            return estimators.load(file, manifest)

    def models(self, limit: int | None = None) -> Iterator[JSONObject]:
        """Iterate over the finished models, newest first, at most `limit`, page by page.

        Each is a dict with "id", "target", "task", "learner", "score" and more.
        """
        return self._list("models", limit)

    def datasets(self, limit: int | None = None) -> Iterator[JSONObject]:
        """Iterate over the uploaded datasets, newest first, at most `limit`, page by page.

        Each is a dict with "id", "size" in bytes, and more.
        """
        return self._list("datasets", limit)

    def list_jobs(
        self,
        limit: int | None = None,
        *,
        status: str | None = None,
        kind: str | None = None,
        model_id: AnyModel | None = None,
        dataset_id: str | None = None,
    ) -> Iterator[JSONObject]:
        """Iterate over your jobs, whichever client submitted them, newest first.

        `status` and `kind` are as in status(); the `model_id` of a fit is its own id.
        """
        if model_id is not None:
            model_id = _id(model_id)
        filters = {
            "status": status,
            "kind": kind,
            "model_id": model_id,
            "dataset_id": dataset_id,
        }
        return self._list("jobs", limit, **filters)

    def delete(self, id: AnyModel) -> None:  # noqa: A002 - as the service names it
        """Delete a model with its results, a dataset, or a result, whichever the id is of.

        Raises NotFoundError, and ConflictError while its job runs.
        """
        quoted_id = _id(id)
        for kind in ("models", "datasets", "results"):
            path = f"/{kind}/{quoted_id}"
            with suppress(NotFoundError):
                self._call("DELETE", path, {}, None)
                return
        message = f"No model, dataset or result {quoted_id} exists."
        raise NotFoundError(message, status=404)

    def me(self) -> JSONObject:
        """Return who this client is to the service, and what it may do and use.

        A dict with "owner", "key_name", "scopes", "expires_at" in Unix seconds or None, the
        "limits" and "usage" of the owner, the service's "version", and more. Raises
        AuthenticationError for a key that is not valid.
        """
        return self._call("GET", "/me", {}, "owner")

    def _dataset_id(self, data: Source) -> str:
        if _is_id(data):
            return str(data)
        return self.upload(data)

    def _upload(self, body: _Body, *, reuse: bool) -> str:
        content: JSONObject = {}
        if reuse and len(body) > REUSE_BYTES:
            content["size"] = len(body)
            content["sha256"] = _sha256(body.chunks())

        dataset = self._call("POST", "/upload", content, "url")
        if not dataset.get("exists"):
            # requests would send a stream of length 0 chunked, which S3 rejects.
            data = body or b""
            put = partial(self._ask_store, "PUT", dataset["url"], data=data)
            _repeat(put, _is_transient_of_store)
        return str(dataset["id"])

    def _predict_online(
        self,
        body: _Body,
        model_id: str,
        options: JSONObject,
    ) -> DataFrame | None:
        """Return the predictions; None if the service needs a job for them."""
        query = {name: _query_value(value) for name, value in options.items()}
        query["model_id"] = model_id
        headers = {"Content-Type": "application/octet-stream", "Accept": PARQUET}
        post = partial(
            self._ask,
            "POST",
            "/predict",
            timeout_s=self.timeout_s + ONLINE_S,
            params=query,
            data=b"".join(body.chunks()),
            headers=headers,
        )
        try:
            response = _repeat(post, _is_transient_online)
        except APIError as error:
            if _needs_job(error):
                return None
            raise
        if response.headers.get("Content-Type") != PARQUET:
            raise _not_rowcast(response)
        file = io.BytesIO(response.content)
        return _read_table(file, ".parquet")

    def _submit(
        self,
        kind: str,
        parameters: JSONObject,
        timeout: float | None,
    ) -> str:
        """Submit a job, wait for its end unless the timeout is negative, and return its id."""
        is_waiting = timeout is None or not timeout < 0
        deadline = _deadline(timeout if is_waiting else FULL_QUEUE_S)
        answer = self._call("POST", f"/{kind}", parameters, deadline=deadline)

        job = {"id": str(answer["id"]), "kind": kind}
        is_listed = answer.get("reused") and job in self.jobs
        if not is_listed:
            self.jobs.append(job)

        if timeout is None:
            self.wait(job["id"])
        elif is_waiting:
            left_s = deadline - time.monotonic()
            self.wait(job["id"], left_s)
        return job["id"]

    def _watch(self, job_id: str, deadline: float) -> Iterator[JSONObject]:
        """Yield the status of a job after each poll until it is final, also through outages."""
        answered_at = time.monotonic()
        failures = 0
        while True:
            fault = None
            try:
                job, pause_s = self._poll(job_id, deadline)
            except (ServiceUnreachableError, APIError) as error:
                outage_s = time.monotonic() - answered_at
                gives_up = deadline == math.inf and outage_s > OUTAGE_S
                if gives_up or not _is_transient(error):
                    raise
                fault = error
                failures += 1
                pause_s = _pause_s(failures, error)
                reason = str(error)
            else:
                yield job
                if job["status"] in FINAL:
                    return
                answered_at = time.monotonic()
                failures = 0
                reason = f"its status is {job['status']}."

            left_s = deadline - time.monotonic()
            if left_s <= 0:
                message = f"Job {job_id} did not end within the timeout: {reason}"
                raise WaitTimeoutError(message, job_id=job_id) from fault
            time.sleep(min(pause_s, left_s))

    def _poll(self, job_id: str, deadline: float) -> tuple[JSONObject, float]:
        """Return the status, once the job ends or the poll is over, and the pause after it."""
        now = time.monotonic()
        left_s = max(0, deadline - now)
        longest_s = WATCHED_POLL_S if _is_watched() else LONG_POLL_S
        wait_s = min(longest_s, left_s)
        # The service has at least 2 s to answer, even if the deadline comes sooner.
        answer_s = max(2, left_s - wait_s)
        answer_s = min(self.timeout_s, answer_s)

        response = self._ask(
            "GET",
            "/status",
            timeout_s=wait_s + answer_s,
            params={"id": job_id, "wait": wait_s},
        )
        job = _answer(response, "kind")
        # A service that is too busy to hold the request says when to ask again.
        pause_s = _retry_after_s(response) or SHORTEST_PAUSE_S
        return job, _jittered(pause_s)

    def _download_result(self, result_id: str, file: BinaryIO) -> str:
        """Write the predictions to the file and return the suffix of their format."""
        answer = self._call("GET", "/result", {"id": result_id}, "url")
        url = answer["url"]
        self._download(url, file)
        _check_bytes(file, answer, f"The result {result_id}")
        return PurePosixPath(urlsplit(url).path).suffix

    def _download_model(self, model: AnyModel, file: BinaryIO) -> JSONObject:
        """Write a model to the file, check both, and return the manifest that was signed."""
        answer = self._call("GET", f"/models/{_id(model)}/file", {}, "url")
        manifest = _signed_manifest(answer, _id(model), self._keys_of_models())
        self._download(answer["url"], file)
        _check_bytes(file, manifest["file"], f"The file of model {manifest['id']}")
        return manifest

    def _keys_of_models(self) -> list[str]:
        """Return the public keys that models must be signed with."""
        if self._verify_keys:
            return self._verify_keys
        answer = self._call("GET", "/signing_keys", {}, "keys")
        return [key["public_key"] for key in answer["keys"]]

    def _download(self, url: str, file: BinaryIO) -> None:
        _repeat(partial(self._fetch, url, file), _is_transient)

    def _fetch(self, url: str, file: BinaryIO) -> None:
        """Write an object to the file from its start. Raises if the answer ends early."""
        file.seek(0)
        file.truncate()
        headers = {"Accept-Encoding": "identity"}
        with self._ask_store("GET", url, headers=headers, stream=True) as response:
            with _no_answer(url):
                for chunk in response.iter_content(CHUNK_BYTES):
                    file.write(chunk)
            n_bytes = response.raw.tell()
            length = response.headers.get("Content-Length", n_bytes)
        if n_bytes != int(length):
            message = f"The answer from {_origin(url)} ended after {n_bytes} bytes."
            raise ServiceUnreachableError(message)

    def _list(
        self,
        things: str,
        limit: int | None,
        **filters: str | None,
    ) -> Iterator[JSONObject]:
        n_asked = PAGE
        if limit is not None:
            n_asked = max(1, min(limit, PAGE))
        pages = self._pages(things, {"limit": n_asked, **filters})
        return islice(pages, limit)

    def _pages(self, things: str, parameters: JSONObject) -> Iterator[JSONObject]:
        while True:
            page = self._call("GET", f"/{things}", parameters, things)
            yield from page[things]
            before = page.get("next")
            if before is None:
                return
            parameters["before"] = before

    def _call(
        self,
        method: str,
        path: str,
        parameters: JSONObject,
        member: str | None = "id",
        deadline: float = -math.inf,
    ) -> JSONObject:
        """Ask the service, again where that is safe, and return its answer with this member."""
        rest: JSONObject = {"params": parameters}
        if method == "POST":
            # By the key the service recognizes a repeated request, and sends its first answer.
            headers = {"Idempotency-Key": uuid.uuid4().hex}
            rest = {"json": parameters, "headers": headers}
        ask = partial(self._ask, method, path, timeout_s=self.timeout_s, **rest)

        is_repeatable = _is_transient if method != "DELETE" else _has_deleted_nothing
        response = _repeat(partial(_wait_for_place, ask, deadline), is_repeatable)
        return _answer(response, member)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        **rest: Any,
    ) -> requests.Response:
        """Send one request to the service; `timeout_s` limits each of its silences."""
        url = self.url + path
        connect_s = min(self.timeout_s, timeout_s)
        timeouts_s = (connect_s, timeout_s)
        return self._send(method, url, auth=self._auth, timeout=timeouts_s, **rest)

    def _ask_store(
        self,
        method: str,
        url: str,
        **rest: Any,
    ) -> requests.Response:
        """Send one request to the store.

        Its presigned URL is enough: neither our key nor .netrc may be added.
        """
        auth = partial(_authorize, "")
        return self._send(method, url, auth=auth, timeout=STORE_TIMEOUT_S, **rest)

    def _send(
        self,
        method: str,
        url: str,
        **rest: Any,
    ) -> requests.Response:
        """Send one request; all requests of the client go through here.

        It follows no redirect, which could send the data or the key to another host.
        """
        with _no_answer(url):
            response = self._session.request(method, url, allow_redirects=False, **rest)
            if not 200 <= response.status_code < 300:
                raise _api_error(response)
        return response


class _FreshPool(HTTPConnectionPool):
    """Closes connections that rested for STALE_AFTER_S before they are used again."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        now = time.monotonic()
        if now - getattr(connection, "released_at", now) > STALE_AFTER_S:
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.released_at = time.monotonic()
        super()._put_conn(conn)


class _FreshTLSPool(_FreshPool, HTTPSConnectionPool):
    pass


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        options["socket_options"] = SOCKET_OPTIONS
        super().init_poolmanager(*args, **options)
        pools = {"http": _FreshPool, "https": _FreshTLSPool}
        self.poolmanager.pool_classes_by_scheme = pools


class Model:
    """The description of a model; it prints as a summary, and in a notebook as a card.

    `manifest` holds everything. `scores` and `baseline` are figures by name, on rows that the
    model was not fitted on. `importances` are, by feature and the largest first, how much the loss
    grows when the feature is shuffled. `effects` are, by feature, dicts of its "values" and the
    "predictions" there: a list for each of `effect_classes`, or a single one. `verdict` says in
    words how good the model is, `leaderboard` lists what learner=auto tried, the best first,
    `chosen` what the model is a mean of, and `why` says why.

    For plots, all of rows that the model was not fitted on: `curves`, by class, are lists of
    thresholds, precision, recall and false positive rates; `residuals` are the histogram and a
    sample of a regression's; `learning_curve` is the loss by the number of rows. `sets` are what
    sets of classes follow from.
    """

    def __init__(self, manifest: JSONObject) -> None:
        self.manifest = manifest
        self.id = manifest.get("id")
        self.task = manifest.get("task")
        self.target = manifest.get("target")
        self.learner = manifest.get("learner")
        self.chosen: list[JSONObject] = manifest.get("chosen") or []
        self.leaderboard: list[JSONObject] = manifest.get("leaderboard") or []
        self.why: str | None = manifest.get("why")
        self.notes = manifest.get("notes")
        self.verdict: str | None = manifest.get("verdict")
        validation: JSONObject = manifest.get("validation") or {}
        self.validation = validation
        self.scores: JSONObject = validation.get("scores") or {}
        self.baseline: JSONObject = validation.get("baseline") or {}
        self.sets: JSONObject = manifest.get("sets") or {}
        plots: JSONObject = manifest.get("plots") or {}
        self.positive_class: str | None = plots.get("positive_class")
        self.curves: dict[str, JSONObject] = {
            curve["label"]: curve for curve in plots.get("curves") or ()
        }
        self.residuals: JSONObject = plots.get("residuals") or {}
        self.learning_curve: JSONObject = plots.get("learning_curve") or {}
        self.importances: dict[str, float | None] = {}
        importances = manifest.get("importances") or {}
        for feature in importances.get("features") or ():
            name = feature["name"]
            self.importances[name] = feature["mean"]
        effects = manifest.get("effects") or {}
        self.effect_classes: list[str] | None = effects.get("classes")
        self.effects: dict[str, JSONObject] = {}
        for feature in effects.get("features") or ():
            self.effects[feature["name"]] = feature

    def __repr__(self) -> str:
        rows = self._summary()
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {text}" for name, text in rows]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return _card(self)

    def plot(self) -> Any:
        """Return a matplotlib Figure of the importances and the errors.

        The errors are the confusion matrix, or the quantiles of the residuals, on rows that the
        model was not fitted on. Raises RowcastError without matplotlib.
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            message = "plot() needs matplotlib: pip install matplotlib"
            raise RowcastError(message) from error

        figure, (left, right) = pyplot.subplots(
            1, 2, figsize=(11, 4.5), layout="constrained"
        )
        self._plot_importances(left)
        self._plot_errors(right)
        return figure

    def _plot_importances(self, axes: Any) -> None:
        largest = self._known_importances()[:15]
        # matplotlib draws bars from the bottom up.
        largest.reverse()
        names = [_literal(name) for name, _ in largest]
        values = [value for _, value in largest]
        axes.barh(names, values)
        axes.set(title="importances", xlabel="increase of the loss")

    def _plot_errors(self, axes: Any) -> None:
        matrix = self.scores.get("confusion_matrix")
        quantiles = self.scores.get("residual_quantiles")
        if matrix:
            names = [_literal(label) for label in matrix["labels"]]
            places = range(len(names))
            image = axes.imshow(matrix["counts"], cmap="Blues")
            axes.set_xticks(places, names, rotation=90)
            axes.set_yticks(places, names)
            axes.set(title="confusion matrix", xlabel="predicted", ylabel="true")
            axes.figure.colorbar(image, ax=axes, label="rows")
        elif quantiles and None not in quantiles.values():
            levels = [float(level) for level in quantiles]
            values = list(quantiles.values())
            axes.plot(levels, values, marker="o")
            axes.set(title="residuals", xlabel="quantile", ylabel="target - prediction")
        else:
            axes.set(title="not validated")

    def _known_importances(self) -> list[tuple[str, float]]:
        importances = self.importances.items()
        return [(name, value) for name, value in importances if value is not None]

    def _summary(self) -> list[tuple[str, str]]:
        """Return the lines of the summary, a name and a text each."""
        about = self.manifest
        n_rows = about.get("n_rows")
        n_left_out = about.get("n_rows_left_out", 0)
        validation = self.validation.get("method", "none")
        if "n_rows" in self.validation:
            n_validated = self.validation["n_rows"]
            what = HELD_BACK.get(str(self.validation.get("held_back")), "rows")
            validation += f", on {n_validated} {what}"

        rows = [("verdict", str(self.verdict))] if self.verdict else []
        rows += [
            ("model", str(self.id)),
            ("target", f"{self.target} ({self.task})"),
            ("learner", self._learner_text()),
        ]
        if self.leaderboard and self.why:
            rows.append(("why", self.why))
        rows += [
            ("rows", f"{n_rows}, {n_left_out} left out without a target"),
            ("validation", validation),
        ]
        figures = [name for name, score in self.scores.items() if _is_number(score)]
        rows.extend((name, self._beside_baseline(name)) for name in figures)
        rows.extend(self._tried())
        texts = {
            "sets": self._sets_text(),
            "threshold": self._threshold_text(),
            "learning curve": self._learning_curve_text(),
        }
        rows.extend((name, text) for name, text in texts.items() if text)
        rows.append(("importances", self._largest_importances()))
        rows.extend(("note", str(note)) for note in self.notes or ())
        return rows

    def _sets_text(self) -> str:
        found = self.sets.get("coverage")
        if not found:
            return ""
        return (
            f"those of {found['level']:.0%} hold the true class in {found['share']:.0%}, "
            f"{found['mean_size']:.3g} classes on average"
        )

    def _threshold_text(self) -> str:
        """Return what it costs in precision to find nine tenths of the positive rows."""
        curve = self.curves.get(str(self.positive_class))
        if not curve:
            return ""
        names = ("recall", "precision", "thresholds")
        points = zip(*(curve[name][1:] for name in names), strict=True)
        able = [point for point in points if point[0] >= 0.9]
        if not able:
            return ""
        recall, precision, threshold = max(able, key=lambda point: point[1])
        return (
            f"{threshold:.3g} finds {recall:.0%} of {self.positive_class!r} with a "
            f"precision of {precision:.0%}"
        )

    def _learning_curve_text(self) -> str:
        points = self.learning_curve.get("points") or ()
        loss = str(self.learning_curve.get("loss")).replace("_", " ")
        texts = [f"{point['mean']:.4g} by {point['n_rows']:,} rows" for point in points]
        return f"{loss} {', '.join(texts)}" if texts else ""

    def _learner_text(self) -> str:
        if self.leaderboard:
            members = (
                f"{member['weight']:.0%} {member['name']}" for member in self.chosen
            )
            return f"{self.learner}: {', '.join(members)}"
        parameters = json.dumps(self.manifest.get("params") or {})
        return f"{self.learner} {parameters}"

    def _tried(self) -> Iterator[tuple[str, str]]:
        """Yield a line for each candidate: its loss with the standard deviation, and its cost."""
        for each in self.leaderboard:
            loss = str(each["loss"]).replace("_", " ")
            text = f"{each['name']}: "
            if _is_number(each["mean"]):
                text += f"{each['mean']:.4g} ± {each['std']:.2g}, "
            text += f"fit {each.get('fit_s', 0):.2g} s, "
            text += f"{each.get('predict_us_per_row', 0):.3g} µs a row"
            if each.get("size_bytes"):
                text += f", {each['size_bytes'] / 1000:,.0f} kB"
            yield f"tried ({loss})", text

    def _largest_importances(self) -> str:
        largest = self._known_importances()[:5]
        texts = [f"{name} {value:.4g}" for name, value in largest]
        return ", ".join(texts) or "none"

    def _beside_baseline(self, name: str) -> str:
        score = self.scores[name]
        text = f"{score:.4g}"
        uncertainty = self.validation.get("uncertainty") or {}
        error = (uncertainty.get("standard_errors") or {}).get(name)
        if _is_number(error):
            text += f" ± {error:.2g}"
        baseline = self.baseline.get(name)
        if _is_number(baseline):
            text += f" (baseline {baseline:.4g})"
        return text


class Comparison:
    """In what models differ; it prints as a table, and is one in a notebook.

    `differences` are dicts for "options", "scores", "learners" and "features". Each holds, by name,
    a list with the value of every one of `models`. What all models have in common is left out.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = list(models)
        scores = [
            {name: score for name, score in model.scores.items() if _is_number(score)}
            for model in models
        ]
        self.differences: dict[str, dict[str, list[Any]]] = {
            "options": _differences([_options_of(model) for model in models]),
            "scores": _differences(scores),
            "learners": _differences([_weights_of(model) for model in models]),
            "features": _differences([_features_of(model) for model in models]),
        }

    def __repr__(self) -> str:
        rows = [[_cut(cell) for cell in row] for row in self._rows()]
        places = range(len(rows[0]))
        widths = [max(len(row[place]) for row in rows) for place in places]
        lines = []
        for row in rows:
            cells = (row[place].ljust(widths[place]) for place in places)
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        first, *others = self._rows()
        head = "".join(f"<th>{_cell(name)}</th>" for name in first)
        lines = [f"<tr>{head}</tr>"]
        for name, *values in others:
            cells = "".join(
                f'<td style="{_NAME_STYLE}">{_cell(value)}</td>' for value in values
            )
            lines.append(
                f'<tr><th style="{_NAME_STYLE}">{_cell(name)}</th>{cells}</tr>'
            )
        return f"<table>{''.join(lines)}</table>"

    def _rows(self) -> list[list[str]]:
        rows = [["model", *(str(model.id) for model in self.models)]]
        for kind, found in self.differences.items():
            # Options have names of their own; a column may have the name of one.
            prefix = "" if kind == "options" else f"{kind[:-1]} "
            for name, values in islice(found.items(), COMPARED):
                rows.append([prefix + name, *map(_shown, values)])
            if len(found) > COMPARED:
                others = f"{len(found) - COMPARED} other {kind}"
                rows.append([others, *("..." for _ in self.models)])
        if len(rows) == 1:
            rows.append(["no difference", *("" for _ in self.models)])
        return rows


# Members of a manifest that tell models apart without being options, and options with members.
_NOT_OPTIONS = frozenset(
    {"id", "created_at", "expires_at", "n_threads", "n_background", "verdict", "why"}
)
_OBJECTS = ("params", "class_weight", "reading", "selection")
# A comparison shows at most this many of each kind, and cuts longer cells in a terminal.
COMPARED, CELL_WIDTH = 30, 60


def _options_of(model: Model) -> JSONObject:
    options = {
        name: value
        for name, value in model.manifest.items()
        if name in _OBJECTS
        or not (name in _NOT_OPTIONS or isinstance(value, (dict, list)))
    }
    return {**options, "validation": model.validation.get("method")}


def _weights_of(model: Model) -> JSONObject:
    return {str(each.get("name")): each.get("weight") for each in model.chosen}


def _features_of(model: Model) -> JSONObject:
    return {
        str(feature["name"]): feature.get("kind")
        for feature in model.manifest.get("features") or ()
    }


def _differences(found: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return what is not the same in all, None where it is missing, in the order of the first."""
    names = dict.fromkeys(name for each in found for name in each)
    values = {name: [each.get(name) for each in found] for name in names}
    return {
        name: each for name, each in values.items() if any(x != each[0] for x in each)
    }


def _shown(value: Any) -> str:
    """Return a value for people, in a line."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return str(value)


def _cut(text: str) -> str:
    return text if len(text) <= CELL_WIDTH else f"{text[: CELL_WIDTH - 3]}..."


# The card of a model: HTML without scripts and style sheets, which notebooks may remove. Its colors
# suit a light and a dark background.

CARD_FEATURES = 15
COLORS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#a855f7")
_TEXT_STYLE = "text-align:left;overflow-wrap:anywhere;max-width:36em"
_NAME_STYLE = "text-align:left;overflow-wrap:anywhere;max-width:16em"
_PANEL_STYLE = "display:inline-block;vertical-align:top;margin:0 2em 1em 0"


def _cell(value: Any) -> str:
    return html.escape(str(value))


def _card(model: Model) -> str:
    """Return the card: verdict, summary, leaderboard, importances and effects."""
    parts = []
    if model.verdict:
        parts.append(f'<p style="max-width:50em"><b>{_cell(model.verdict)}</b></p>')
    hidden = ("verdict", "importances") if model.importances else ("verdict",)
    lines = [
        f'<tr><th style="{_NAME_STYLE}">{_cell(name)}</th>'
        f'<td style="{_TEXT_STYLE}">{_cell(text)}</td></tr>'
        for name, text in model._summary()
        if name not in hidden and not name.startswith("tried")
    ]
    parts.append(f"<table>{''.join(lines)}</table>")
    parts.extend([_leaderboard(model), _importance_bars(model), _effect_panels(model)])
    return f"<div>{''.join(parts)}</div>"


def _heading(text: str) -> str:
    return f'<p style="margin:1em 0 .3em"><b>{_cell(text)}</b></p>'


def _bar(share: float) -> str:
    width = max(0.0, min(share, 1.0)) * 12
    style = f"background:{COLORS[0]};height:.8em;width:{width:.2f}em"
    return f'<div style="width:12em"><div style="{style}"></div></div>'


def _leaderboard(model: Model) -> str:
    lines = [
        f'<tr><td style="{_NAME_STYLE}">{_cell(each.get("name"))}</td>'
        f"<td>{_cell(_loss_text(each))}</td><td>{each.get('weight') or 0:.0%}</td>"
        f"<td>{_cell(_shown(each.get('fit_s')))}</td>"
        f"<td>{_cell(_shown(each.get('predict_us_per_row')))}</td>"
        f"<td>{_cell(_shown(each.get('size_bytes')))}</td></tr>"
        for each in model.leaderboard
    ]
    if not lines:
        return ""
    loss = str(model.leaderboard[0].get("loss")).replace("_", " ")
    names = ("candidate", loss, "weight", "fit, s", "a row, µs", "bytes")
    head = "".join(f"<th>{_cell(name)}</th>" for name in names)
    return f"{_heading('Leaderboard')}<table><tr>{head}</tr>{''.join(lines)}</table>"


def _loss_text(each: JSONObject) -> str:
    if not _is_number(each.get("mean")):
        return str(each.get("failure") or "-")
    return f"{each['mean']:.4g} ± {each.get('std') or 0:.2g}"


def _importance_bars(model: Model) -> str:
    known = model._known_importances()
    if not known:
        return ""
    # Without a positive one, no column has a bar.
    largest = max(0.0, *(value for _, value in known)) or 1.0
    lines = [
        f'<tr><td style="{_NAME_STYLE}">{_cell(name)}</td>'
        f"<td>{_bar(value / largest)}</td><td>{value:.4g}</td></tr>"
        for name, value in known[:CARD_FEATURES]
    ]
    n_others = len(known) - CARD_FEATURES
    if n_others > 0:
        lines.append(f"<tr><td>{n_others} others</td><td></td><td></td></tr>")
    title = "Importances: growth of the loss when a column is shuffled"
    return f"{_heading(title)}<table>{''.join(lines)}</table>"


def _effect_panels(model: Model) -> str:
    shown = [each for each in model.effects.values() if _is_drawable(each)]
    if not shown:
        return ""
    names = [""] if model.effect_classes is None else model.effect_classes
    lines = list(range(len(names)))
    if len(names) == 2:
        # The other one mirrors it.
        lines = [1]
    title = f"Effects: the mean prediction of {model.target}"
    if model.effect_classes is not None:
        title = f"Effects: the mean probability of {model.target}"
    legend = "".join(
        f'<span style="color:{COLORS[place % 5]}">&#9632;</span> {_cell(names[place])} '
        for place in lines
        if names[place]
    )
    panels = "".join(_effect_panel(each, lines) for each in shown)
    return f"{_heading(title)}<p>{legend}</p>{panels}"


def _is_drawable(effect: JSONObject) -> bool:
    predictions = effect.get("predictions") or ()
    return bool(predictions) and all(
        _is_number(value) for of in predictions for value in of
    )


def _effect_panel(effect: JSONObject, lines: Sequence[int]) -> str:
    draw = _curve if effect.get("kind") not in ("category", "boolean") else _levels
    name = _cell(effect["name"])
    style = f"{_NAME_STYLE};max-width:240px"
    return (
        f'<div style="{_PANEL_STYLE}"><div style="{style}">{name}</div>'
        f"{draw(effect, lines)}</div>"
    )


def _levels(effect: JSONObject, lines: Sequence[int]) -> str:
    """Draw a bar for each category, of the prediction above the lowest one."""
    found = {line: effect["predictions"][line] for line in lines}
    low, high = _range_of(found.values())
    # A bar of the lowest one must be seen too.
    low = min(0.0, low) if low >= 0 else low - (high - low) / 10
    rows = []
    for place, value in enumerate(effect["values"]):
        label = "missing" if value is None else str(value)
        bars = "".join(
            f'<div style="background:{COLORS[line % 5]};height:.6em;width:'
            f'{(of[place] - low) / (high - low) * 9:.2f}em"></div>'
            for line, of in found.items()
        )
        numbers = ", ".join(f"{of[place]:.4g}" for of in found.values())
        rows.append(
            f'<tr><td style="text-align:left;overflow-wrap:anywhere;max-width:8em">'
            f'{_cell(label)}</td><td><div style="width:9em">{bars}</div></td>'
            f"<td>{_cell(numbers)}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>"


def _curve(effect: JSONObject, lines: Sequence[int]) -> str:
    """Draw the predictions over the values as an SVG of 240 x 130 pixels."""
    positions = [_position(value) for value in effect["values"]]
    found = {line: effect["predictions"][line] for line in lines}
    low, high = _range_of(found.values())
    left, right = positions[0], positions[-1]
    drawn = []
    for line, of in found.items():
        points = " ".join(
            f"{8 + 224 * (position - left) / (right - left):.1f},"
            f"{96 - 78 * (of[place] - low) / (high - low):.1f}"
            for place, position in enumerate(positions)
        )
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{COLORS[line % 5]}" '
            'stroke-width="2"/>'
        )
    texts = (
        (8, 12, "start", f"{high:.4g}"),
        (8, 110, "start", f"{low:.4g}"),
        (8, 126, "start", _shown(effect["values"][0])),
        (232, 126, "end", _shown(effect["values"][-1])),
    )
    written = "".join(
        f'<text x="{x}" y="{y}" font-size="11" fill="currentColor" text-anchor="{anchor}">'
        f"{_cell(text)}</text>"
        for x, y, anchor, text in texts
    )
    axis = '<path d="M8 114H232" stroke="currentColor" stroke-opacity=".4"/>'
    return f'<svg width="240" height="130">{axis}{"".join(drawn)}{written}</svg>'


def _range_of(found: Iterable[Sequence[float]]) -> tuple[float, float]:
    values = [value for of in found for value in of]
    low, high = min(values), max(values)
    if high > low:
        return low, high
    return low - 1, high + 1


def _position(value: Any) -> float:
    """Return where a number or an ISO date lies on an axis."""
    if isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=timezone.utc).timestamp()
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _literal(name: Any) -> str:
    """Escape a name for matplotlib, which reads text between dollars as a formula."""
    return str(name).replace("$", r"\$")


def _checked_url(url: str | None) -> str:
    """Return the address without a slash at its end."""
    url = url or os.environ.get("ROWCAST_URL") or DEFAULT_URL
    if not re.match(r"https?://[^/?#]", url):
        raise RowcastError(f"The address {url!r} must start with http:// or https://.")
    return url.rstrip("/")


def _checked_key(api_key: str | None) -> str:
    """Return the API key, empty if there is none."""
    key = api_key or os.environ.get("ROWCAST_API_KEY") or ""
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        message = "The API key contains characters that an HTTP header cannot carry."
        raise RowcastError(message)
    return key


def _checked_verify_keys(keys: Iterable[str] | None) -> list[str]:
    """Return the pinned public keys of models; none: ask the service."""
    is_given = keys is not None
    if keys is None:
        keys = os.environ.get("ROWCAST_VERIFY_KEYS", "")
    if isinstance(keys, str):
        keys = keys.split(",")
    found = [key.strip() if isinstance(key, str) else key for key in keys]
    found = [key for key in found if key != ""]
    if is_given and not found:
        # Nobody who pins keys wants to trust the service for want of one.
        raise RowcastError("verify_keys holds no key; leave it out to ask the service.")
    for key in found:
        if not isinstance(key, str) or not PUBLIC_KEY.fullmatch(key):
            message = f"The key {key!r} of verify_keys must be like ed25519-public-...."
            raise RowcastError(message)
    return found


def _authorize(key: str, request: requests.PreparedRequest) -> requests.PreparedRequest:
    if key:
        request.headers["Authorization"] = f"Bearer {key}"
    return request


def _is_id(data: Source) -> bool:
    return isinstance(data, str) and ID.fullmatch(data) is not None


def _id(thing: AnyModel) -> str:
    """Return an id, quoted as a part of a path."""
    if not isinstance(thing, str):
        thing = str(thing.id)
    return quote(thing, safe="")


def _query_value(value: Any) -> str | None:
    """Return an option for a query: text as it is, the rest as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


class _Body:
    """The bytes of one upload.

    requests announces its length and sends it in chunks, because it has a length but no read().
    """

    def __init__(self, file: BinaryIO) -> None:
        # The length of a pipe is unknown, and it cannot be read twice: it is kept in memory.
        if not file.seekable():
            file = io.BytesIO(file.read())
        self.file = file
        self.start = self.file.tell()
        end = self.file.seek(0, io.SEEK_END)
        self.n_bytes = end - self.start

    def __len__(self) -> int:
        return self.n_bytes

    def __iter__(self) -> Iterator[bytes]:
        with _upload_bar(self.n_bytes) as bar:
            for chunk in self.chunks():
                yield chunk
                if bar is not None:
                    bar.update(len(chunk))

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes from the start. Raises RowcastError if the file changes its length."""
        self.file.seek(self.start)
        n_left = self.n_bytes
        while n_left:
            n_asked = min(n_left, CHUNK_BYTES)
            chunk = self.file.read(n_asked)
            n_left -= len(chunk)
            # Checked before the last chunk leaves, so that a wrong length never makes a whole
            # upload.
            is_longer = n_left == 0 and self.file.read(1)
            if is_longer or not chunk:
                message = f"The file changed its length from {self.n_bytes} bytes."
                raise RowcastError(f"{message} Upload it again.")
            yield chunk


@contextmanager
def _opened(source: Source) -> Iterator[_Body]:
    """Open a source of upload(). Raises OSError, RowcastError or TypeError."""
    if isinstance(source, (str, os.PathLike)):
        with Path(source).open("rb") as file:
            yield _Body(file)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield _Body(io.BytesIO(source))
    elif hasattr(source, "to_parquet"):
        with tempfile.TemporaryFile() as file:
            _write_parquet(cast("DataFrame", source), file)
            file.seek(0)
            yield _Body(file)
    elif hasattr(source, "read") and not isinstance(source, io.TextIOBase):
        yield _Body(source)
    else:
        kinds = "a path, bytes, an open binary file or a DataFrame"
        raise TypeError(f"A table must be {kinds}, not {type(source).__name__}.")


def _write_parquet(frame: DataFrame, file: BinaryIO) -> None:
    """Write a DataFrame without its index, with the names of its columns as text."""
    names = [str(name) for name in frame.columns]
    if list(frame.columns) != names:
        frame = frame.set_axis(names, axis="columns")
    try:
        frame.to_parquet(cast(Any, file), index=False)
    except (ValueError, TypeError, NotImplementedError) as error:
        column = _unwritable_column(frame, names)
        if column is None:
            message = f"The DataFrame cannot be written as Parquet: {error}."
        else:
            hint = "Convert its values to one type, for example with astype(str)."
            message = (
                f"The column {column!r} cannot be written as Parquet: {error}. {hint}"
            )
        raise RowcastError(message) from error


def _unwritable_column(frame: DataFrame, names: list[str]) -> str | None:
    for name in names:
        if names.count(name) == 1 and not _is_writable(frame[name]):
            return name
    return None


def _is_writable(column: Any) -> bool:
    try:
        column.to_frame().to_parquet(io.BytesIO(), index=False)
    except (ValueError, TypeError, NotImplementedError):
        return False
    return True


def _read_table(file: BinaryIO, suffix: str) -> DataFrame:
    """Return a result as a DataFrame; pandas infers the types of CSV and JSON Lines."""
    import pandas

    file.seek(0)
    if suffix == ".csv":
        return pandas.read_csv(file, keep_default_na=False, na_values=[""])
    if suffix == ".jsonl":
        # pandas' own reader rounds numbers, and takes columns for dates because of their names.
        records = [json.loads(line) for line in file]
        return pandas.DataFrame(records)
    return pandas.read_parquet(file)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that replaces the path if the block succeeds, else vanishes."""
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "Not a regular file", str(path))

    part = path.with_name(f".rowcast-{uuid.uuid4().hex}.part")
    try:
        file = part.open("w+b")
    except OSError as error:
        # The user knows the path, but not the temporary file beside it.
        raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        with file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _check_bytes(file: BinaryIO, expected: Mapping[str, Any], name: str) -> None:
    """Compare a download with the size and SHA-256 in its manifest, and leave it at its start.

    Raises RowcastError if they differ.
    """
    file.seek(0)
    chunks = iter(partial(file.read, CHUNK_BYTES), b"")
    sha256 = _sha256(chunks)
    size = file.tell()
    file.seek(0)

    # Earlier versions of the service do not name the bytes of results.
    differs = sha256 != expected.get("sha256", sha256)
    if differs or size != expected.get("size", size):
        detail = f"{name} is not the one that its manifest names."
        hint = "Somebody may have changed it in the store, or it is damaged there."
        raise RowcastError(
            f"{detail} {hint}", code="object_damaged", detail=detail, hint=hint
        )


def _sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _signed_manifest(
    answer: JSONObject, model_id: str, public_keys: Sequence[str]
) -> JSONObject:
    """Return a model's manifest, which the workers of the service have signed.

    Raises RowcastError if none of the keys has signed it as that of this model.
    """
    signature, text = answer.get("signature"), answer.get("manifest")
    if not (isinstance(signature, str) and isinstance(text, str)):
        problem = "has no signature that others than its workers can verify"
        raise _untrusted(model_id, problem, "Fit it again, on an up-to-date service.")
    digest = hashlib.sha256(text.encode()).hexdigest()
    owner, attempt = answer.get("owner"), answer.get("attempt")
    statement = ["rowcast model", owner, model_id.lower(), attempt, digest]
    signed = json.dumps(statement, separators=(",", ":")).encode()
    if not any(_is_signed(key, signed, signature) for key in public_keys):
        problem = "is not signed by any of the keys that count"
        hint = (
            "Correct verify_keys, or ask the operator for VERIFY_KEYS of the service."
        )
        raise _untrusted(model_id, problem, hint)
    manifest: JSONObject = json.loads(text)
    return manifest


def _untrusted(model_id: str, problem: str, hint: str) -> RowcastError:
    detail = f"Model {model_id} {problem}, so it is not loaded."
    return RowcastError(
        f"{detail} {hint}", code="model_untrusted", detail=detail, hint=hint
    )


def _is_signed(public_key: str, message: bytes, signature: Any) -> bool:
    """Return whether an Ed25519 signature, in base64, is that of a message."""
    try:
        eddsa = importlib.import_module("Crypto.Signature.eddsa")
    except ImportError as error:
        needed = "pycryptodome: pip install 'pycryptodome>=3.15'"
        raise RowcastError(f"Checking a model's signature needs {needed}") from error
    try:
        key_bytes = base64.urlsafe_b64decode(public_key[-43:] + "=")
        key = eddsa.import_public_key(key_bytes)
        signed = base64.b64decode(signature, validate=True)
        eddsa.new(key, "rfc8032").verify(message, signed)
    except ValueError:
        return False
    return True


def _import_estimators(url: str) -> Any:
    """Return the module estimators, which lies beside this one and needs scikit-learn."""
    name = f"{__package__}.estimators" if __package__ else "estimators"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = "pip install 'scikit-learn>=1.6' pandas pyarrow"
        if error.name == name:
            hint = f"Save {_origin(url)}/estimators.py beside this file."
        message = f"Loading a model needs {error.name}. {hint}"
        raise RowcastError(message) from error


def _repeat(send: Callable[[], T], is_repeatable: Callable[[RowcastError], bool]) -> T:
    """Return what `send` returns, after at most ATTEMPTS attempts.

    `is_repeatable` says which errors may be followed by another attempt.
    """
    failures = 0
    while True:
        try:
            return send()
        except (ServiceUnreachableError, APIError) as error:
            failures += 1
            if failures == ATTEMPTS or not is_repeatable(error):
                raise
            pause_s = _pause_s(failures, error)
        time.sleep(pause_s)


def _wait_for_place(send: Callable[[], T], deadline: float) -> T:
    """Return what `send` returns; while the queue is full, try again until the deadline."""
    failures = 0
    while True:
        try:
            return send()
        except APIError as error:
            if error.code != "queue_full":
                raise
            failures += 1
            pause_s = _pause_s(failures, error)
            if time.monotonic() + pause_s > deadline:
                raise
            if failures == 1:
                _show(f"{error.detail} Waiting for a place in the queue.\n")
        time.sleep(pause_s)


def _is_transient(
    error: RowcastError, statuses: Container[int] = TRANSIENT_STATUSES
) -> bool:
    """Return whether the same request may succeed within a minute."""
    if not isinstance(error, APIError):
        return isinstance(error, ServiceUnreachableError)
    # How long to wait for a place in a full queue is the caller's decision.
    if error.code == "queue_full" or error.status not in statuses:
        return False
    return error.retry_after_s is None or error.retry_after_s <= LONGEST_RETRY_AFTER_S


def _has_deleted_nothing(error: RowcastError) -> bool:
    """Return whether a deletion may be repeated: it would not find what is gone already."""
    if isinstance(error, APIError):
        did_nothing = error.status == 429 or error.code == "store_unavailable"
    else:
        did_nothing = isinstance(error, ServiceUnreachableError) and not error.sent
    return did_nothing and _is_transient(error)


def _is_transient_of_store(error: RowcastError) -> bool:
    return _is_transient(error, TRANSIENT_STORE_STATUSES)


def _is_transient_online(error: RowcastError) -> bool:
    # A job starts earlier than an online worker may be free.
    return _is_transient(error) and not _needs_job(error)


def _needs_job(error: RowcastError) -> bool:
    """Return whether a job could do what an online worker did not do."""
    if not isinstance(error, APIError):
        return False
    # A proxy in front of the service may limit the length of requests too.
    return error.code in NEEDS_JOB or error.status == 413


def _deadline(timeout: float | None) -> float:
    if timeout is None:
        return math.inf
    return time.monotonic() + max(timeout, 0)


def _pause_s(failures: int, error: RowcastError) -> float:
    """Return the seconds before the next attempt: those of Retry-After, or a growing pause."""
    retry_after_s: float | None = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        return _jittered(retry_after_s)
    # The exponent is limited too: an outage of hours would make it too large for a float.
    backoff_s = 0.25 * 2 ** min(failures, 10)
    return _jittered(min(backoff_s, LONGEST_BACKOFF_S))


def _jittered(pause_s: float) -> float:
    """Return up to half as much again, so that many clients do not come back together."""
    return pause_s * random.uniform(1, 1.5)


def _retry_after_s(response: requests.Response) -> float | None:
    header = response.headers.get("Retry-After", "")
    return float(header) if header.isdecimal() else None


def _answer(response: requests.Response, member: str | None) -> JSONObject:
    """Return the body. Raises APIError without the member: it is then not from Rowcast."""
    answer = _json(response)
    if member is not None and member not in answer:
        raise _not_rowcast(response)
    return answer


def _json(response: requests.Response) -> JSONObject:
    """Return the body if it is a JSON object, else an empty dict."""
    try:
        body = json.loads(response.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _not_rowcast(response: requests.Response) -> APIError:
    origin = _origin(response.url)
    message = f"{origin} answered, but not as Rowcast does. Is the address right?"
    return APIError(message, detail=message, status=response.status_code)


def _api_error(response: requests.Response) -> APIError:
    """Return the error for a problem of the service, or for what a proxy or a store answered."""
    status = response.status_code
    origin = _origin(response.url)
    attributes = _attributes(_json(response))
    if "detail" not in attributes:
        reason = _text_of_page(response.content) or response.reason
        attributes["detail"] = f"{origin} answered {status}: {reason}"
    if "Location" in response.headers and 300 <= status < 400:
        attributes.update(_redirect(response))
    attributes["status"] = status
    attributes["retry_after_s"] = _retry_after_s(response)

    error = ERRORS_BY_STATUS.get(status, APIError)
    return error(_message(attributes), **attributes)


def _redirect(response: requests.Response) -> JSONObject:
    """Describe a redirect, without the rest of its URL, which may be a presigned one."""
    here = _origin(response.url)
    there = _origin(urljoin(response.url, response.headers["Location"]))
    hint = f"If you trust it, use {there} as the address."
    if here == there:
        hint = "Is the address right?"
    detail = f"{here} redirects to {there}, and the client follows no redirect."
    return {"detail": detail, "hint": hint}


def _text_of_page(content: bytes) -> str:
    """Return the first 200 characters of a page of HTML or XML, without its tags."""
    page = content[:4096].decode("utf-8", "replace")
    words = re.sub(r"<[^<>]*>", " ", page).split()
    return " ".join(words)[:200]


def _attributes(problem: Mapping[str, Any]) -> JSONObject:
    """Return the members of a problem that have the right type; a proxy may have written it."""
    types = {"code": str, "detail": str, "hint": str, "errors": list, "request_id": str}
    attributes: JSONObject = {}
    for name, kind in types.items():
        value = problem.get(name)
        if isinstance(value, kind):
            attributes[name] = value
    return attributes


def _message(attributes: Mapping[str, Any]) -> str:
    """Join what is wrong, the problems that this does not name yet, and what to do."""
    detail = attributes.get("detail") or attributes.get("code") or "No reason was given"
    problems = [str(error) for error in attributes.get("errors", ())]
    unnamed = [problem for problem in problems if problem not in detail]
    hint = attributes.get("hint", "")

    sentences = []
    for text in (detail, "; ".join(unnamed), hint):
        if text.endswith((".", "!", "?")):
            sentences.append(text)
        elif text:
            sentences.append(f"{text}.")
    return " ".join(sentences)


@contextmanager
def _no_answer(url: str) -> Iterator[None]:
    """Turn the errors of requests into ours."""
    try:
        yield
    except requests.RequestException as error:
        raise _connection_error(url, error) from error


def _connection_error(url: str, error: requests.RequestException) -> RowcastError:
    """Describe an error without its own text, which shows presigned URLs."""
    origin = _origin(url)
    reason = _root_cause(error)
    if not isinstance(error, NO_ANSWER):
        return RowcastError(f"The request to {origin} cannot be sent: {reason}.")

    first = error.args[0] if error.args else None
    fault = getattr(first, "reason", None)
    sent = not isinstance(fault, (NewConnectionError, ConnectTimeoutError))
    hint = "It may have received the request."
    if not sent:
        hint = "Is the address right, and is the service running?"
    message = f"No answer from {origin}: {reason}. {hint}"
    return ServiceUnreachableError(message, sent=sent)


def _root_cause(error: requests.RequestException) -> Any:
    """Return what the network or the system says, or the name of the error."""
    cause: BaseException | None = error
    while isinstance(cause, (requests.RequestException, HTTPError)):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return type(error).__name__
    return getattr(cause, "strerror", None) or cause


def _origin(url: str) -> str:
    """Return scheme, host and port; the rest may contain a password or a signature."""
    parts = urlsplit(url)
    _, _, host = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{host}"


def _raise_unless_finished(job: JSONObject) -> None:
    """Raise JobFailedError or JobCanceledError."""
    kind = job["kind"]
    job_id = job["id"]
    if job["status"] == "canceled":
        message = f"The {kind} {job_id} was canceled."
        raise JobCanceledError(message, job_id=job_id)
    if job["status"] == "failed":
        attributes = _attributes(job.get("error") or {})
        message = f"The {kind} {job_id} failed: {_message(attributes)}"
        raise JobFailedError(message, job_id=job_id, **attributes)


class _JobDisplay:
    """What a person sees during wait(): one bar with tqdm, else one line."""

    def __init__(self) -> None:
        self.tqdm = _tqdm()
        self.bar: Any = None
        self.began = time.monotonic()
        self.end = ""

    def show(self, job: JSONObject) -> None:
        """Show the status of the job in place of the last one."""
        if self.tqdm is not None:
            self._show_bar(job)
        elif _is_watched():
            self._show_line(job)

    def close(self) -> None:
        """Leave the last status on a line of its own."""
        if self.bar is not None:
            self.bar.close()
        _show(self.end)

    def _show_bar(self, job: JSONObject) -> None:
        if self.bar is None:
            # A terminal of 80 columns has no room for a whole id beside the bar.
            end_of_id = job["id"][-6:]
            self.bar = self.tqdm(
                total=100,
                desc=f"{job['kind']} ...{end_of_id}",
                bar_format="{desc} |{bar}| {elapsed}{postfix}",
                dynamic_ncols=True,
            )
        progress = _progress(job)
        if job["status"] == "finished":
            self.bar.n = 100
        elif progress:
            self.bar.n = progress["percent"]
        self.bar.set_postfix_str(_activity(job))

    def _show_line(self, job: JSONObject) -> None:
        kind = job["kind"]
        job_id = job["id"]
        activity = _activity(job)
        waited_s = time.monotonic() - self.began
        line = f"{kind} {job_id}: {activity} ({waited_s:.0f} s)"

        width = shutil.get_terminal_size().columns - 1
        line = line[:width].ljust(width)
        _show(f"\r{line}")
        self.end = "\n"


def _progress(job: JSONObject) -> JSONObject:
    """Return the phase and the percentage of a running job, empty if they are unknown."""
    if job["status"] != "started":
        return {}
    return job.get("progress") or {}


def _activity(job: JSONObject) -> str:
    """Return what a job does, as "fitting 43 %, 1 m 12 s left"."""
    status = job["status"]
    progress = _progress(job)
    position = job.get("position")
    attempts = job.get("attempts") or 0
    eta_s = job.get("eta_s")

    parts = [status]
    if progress:
        phase = progress["phase"]
        percent = progress["percent"]
        parts = [f"{phase} {percent:.0f} %"]
        if progress.get("best_loss") is not None:
            parts.append(f"best loss {progress['best_loss']:.4g}")
    if position:
        parts.append(f"{position} ahead of it")
    if attempts > 1:
        parts.append(f"attempt {attempts}")
    if eta_s is not None and status not in FINAL:
        parts.append(f"{_duration(eta_s)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    """Return a time in its two largest units, as "1 m 12 s"."""
    minutes, s = divmod(math.ceil(seconds), 60)
    hours, m = divmod(minutes, 60)
    if hours:
        return f"{hours} h {m} m"
    if m:
        return f"{m} m {s} s"
    return f"{s} s"


def _upload_bar(n_bytes: int) -> Any:
    """Return a context with tqdm's bar; with None if nobody watches or tqdm is missing."""
    tqdm = _tqdm()
    if tqdm is not None:
        return tqdm(total=n_bytes, unit="B", unit_scale=True, desc="upload")
    _show(f"uploading {n_bytes / 1e6:.1f} MB\n")
    return nullcontext()


def _tqdm() -> Any:
    """Return the class of tqdm's bar; None if nobody watches or tqdm is missing."""
    if not _is_watched():
        return None
    name = "tqdm.auto" if _is_notebook() else "tqdm"
    with suppress(ImportError), warnings.catch_warnings():
        # tqdm warns that ipywidgets is missing, and then shows a bar of text.
        warnings.simplefilter("ignore")
        return importlib.import_module(name).tqdm
    return None


def _show(text: str) -> None:
    if _is_watched():
        print(text, end="", file=sys.stderr, flush=True)


def _is_watched() -> bool:
    """Return whether a person sees stderr; several threads would overwrite each other there."""
    if threading.current_thread() is not threading.main_thread():
        return False
    return sys.stderr is not None and (sys.stderr.isatty() or _is_notebook())


def _is_notebook() -> bool:
    """Return whether this is the kernel of a notebook, which has loaded IPython."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython else None
    return getattr(shell, "kernel", None) is not None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 1 after an error, 130 after Ctrl-C."""
    given = vars(_parser().parse_args(arguments))
    try:
        with Client(given.pop("url")) as client:
            method = _method(client, given)
            _add_options(given)
            for line in _lines(method(**given)):
                print(line)
    except (RowcastError, OSError) as error:
        filename = getattr(error, "filename", None)
        message = f"{filename}: {error.args[1]}" if filename else error
        print(message, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _method(client: Client, given: JSONObject) -> Any:
    """Return the method of a command, which usually has its name."""
    name = given.pop("command")
    if name == "jobs":
        return client.list_jobs
    if name == "status" and "timeout" in given:
        return client.wait
    return getattr(client, name)


def _add_options(given: JSONObject) -> None:
    """Turn each --option NAME=VALUE into an argument of the method.

    Raises RowcastError for a name that the method uses for something else.
    """
    options = dict(given.pop("options", ()))
    reserved = {"self", "timeout", "data", "dataset_id", "model", "model_id"}
    reserved.update(given)
    for name in sorted(options):
        if name in reserved:
            message = f"--option {name}=... is not an option of the service."
            raise RowcastError(message)
    given.update(options)


def _lines(answer: Any) -> Iterator[Any]:
    """Yield the lines that a command prints; those of a listing begin with an id."""
    if isinstance(answer, list):
        yield from answer
    elif isinstance(answer, Iterator):
        for thing in answer:
            yield _line_of(thing)
    elif isinstance(answer, dict):
        yield answer["status"]
    elif answer is not None:
        yield answer


def _line_of(thing: JSONObject) -> str:
    """Return a job, model or dataset as words separated by tabs."""
    score = thing.get("score") or {}
    words = [thing[name] for name in COLUMNS if name in thing]
    words.extend(score.values())
    return "\t".join(map(str, words))


def _parser() -> argparse.ArgumentParser:
    """Describe the command line; the arguments of a command are those of a method of Client."""
    parser = argparse.ArgumentParser(
        description="Fit and predict tables with Rowcast. "
        "Each command prints only what the next one needs.",
        epilog="The API key comes only from ROWCAST_API_KEY, "
        "because the list of processes shows arguments.",
    )
    parser.add_argument("--url", help=f"default: ROWCAST_URL, else {DEFAULT_URL}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (does, *arguments) in COMMANDS.items():
        command = commands.add_parser(
            name, help=does, description=does, argument_default=argparse.SUPPRESS
        )
        waits = "--wait" in arguments
        exclusive = command.add_mutually_exclusive_group() if waits else command
        for argument in arguments:
            group = exclusive if argument in ("--wait", "--timeout") else command
            group.add_argument(argument, **ARGUMENTS.get(argument, {}))
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if math.isnan(seconds):
        raise ValueError
    return seconds


def _option(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE; a VALUE that is not JSON is text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


# What a listing shows, as far as its entries have it.
COLUMNS = ("id", "kind", "status", "target", "task", "learner", "size")
JOB_ARGUMENTS = ("--option", "--wait", "--timeout")
# What each command does, and its arguments.
COMMANDS = {
    "upload": ("upload a table; prints the id of the dataset", "source"),
    "fit": (
        "fit a model on a file or dataset; prints its id",
        "data",
        "--target",
        "--task",
        *JOB_ARGUMENTS,
    ),
    "predict": (
        "predict a file or dataset; prints the id of the result",
        "data",
        "model",
        *JOB_ARGUMENTS,
    ),
    "status": ("print the status of a job, one word", "job_id", "--wait"),
    "cancel": (
        "cancel a job and the predictions that wait for its model; prints: canceled",
        "job_id",
    ),
    "log": ("print what a job has logged", "job_id"),
    "jobs": (
        "list the jobs, newest first",
        "--status",
        "--kind",
        "--model-id",
        "--dataset-id",
        "--limit",
    ),
    "download": ("save a result; prints the path", "result_id", "path"),
    "models": ("list the models, newest first",),
    "datasets": ("list the datasets, newest first",),
    "model": ("print the summary of a model", "model_id"),
    "compare": ("print in what models differ", "models"),
    "delete": ("delete a model, dataset or result", "id"),
}
# What an argument means, where its name does not say it.
ARGUMENTS: dict[str, JSONObject] = {
    "--option": {
        "metavar": "NAME=VALUE",
        "dest": "options",
        "action": "append",
        "type": _option,
        "help": "an option of the service; may be repeated",
    },
    "--wait": {
        "dest": "timeout",
        "action": "store_const",
        "const": None,
        "help": "wait for the end",
    },
    "--timeout": {
        "type": _seconds,
        "metavar": "SECONDS",
        "help": "wait for the end, at most this long",
    },
    "--limit": {"type": int, "help": "list at most so many"},
    "models": {"nargs": "+", "metavar": "model_id"},
}


if __name__ == "__main__":
    sys.exit(main())
