"""The Python client of Rowcast. It needs requests; pandas and tqdm are used where they are
installed.

    with Client("http://127.0.0.1:8000") as client:
        model_id = client.fit("train.csv", target="price", timeout=None)
        print(client.model(model_id))
        predictions = client.predict_table("test.csv", model_id)

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
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
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
from urllib.parse import quote, urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

if TYPE_CHECKING:
    from pandas import DataFrame

__version__ = "0.1.0"

ATTEMPTS = 4
OUTAGE_S = 120.0
# How long a caller who does not wait for a job's end waits for its place in a full queue.
FULL_QUEUE_S = 600.0
LONGEST_BACKOFF_S, LONGEST_RETRY_AFTER_S = 10.0, 60.0
# The service answers a waiting request when the job ends; a person who watches wants news in
# between.
LONG_POLL_S, WATCHED_POLL_S, SHORTEST_PAUSE_S = 20.0, 1.0, 0.1
# For connecting, and for each silence: a store may think long about a large table before it
# answers.
STORE_TIMEOUT_S = (30.0, 600.0)
CHUNK_BYTES = 1 << 20
# Of more bytes than that, the service is asked first whether it has them.
REUSE_BYTES = 1_000_000
BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
PASSING = frozenset({429, 502, 503, 504})
FINAL = frozenset({"finished", "failed", "canceled"})
ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
PAGE = 100
# What a prediction at once takes, and how large its table may be; the service may set a lower
# limit.
ONLINE_OPTIONS = frozenset({"output", "quantiles", "keep"})
ONLINE_BYTES, ONLINE_S = 5_000_000, 30.0
PARQUET = "application/vnd.apache.parquet"
# A job goes on where the answer at once ends: more rows, time, memory, or a fit that has not ended.
# A service that answers nothing at once takes no tables in requests.
BY_JOB = frozenset(
    {
        *(
            "no_online_worker",
            "online_worker_lost",
            "request_too_large",
            "model_too_large",
            "model_not_ready",
        ),
        "unsupported_media_type",
    }
)
# The ids are arguments of their own.
RESERVED = frozenset({"data", "dataset_id", "model", "model_id"})

T = TypeVar("T")
Source = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO, "DataFrame"
]


class RowcastError(Exception):
    """The root of all errors; its text says what is wrong and what to do about it."""

    code, detail, hint, job_id = "", "", "", ""
    errors: Sequence[str] = ()

    def __init__(self, message: str = "", **facts: Any) -> None:
        """Note the facts as attributes, which is also how pickle restores them."""
        super().__init__(message)
        self.__dict__.update(facts)


class ServiceUnreachableError(RowcastError, ConnectionError):
    """No answer came, or only a part of it; `sent` is False if nobody can have received the
    request."""

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


REFUSALS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
}
REFUSALS.update(dict.fromkeys((400, 413, 415, 422), InvalidRequestError))


class Client:
    """A connection to one Rowcast service, which threads may share; close it or use it in `with`.

    `url` defaults to ROWCAST_URL, else http://127.0.0.1:8000, and `api_key` to ROWCAST_API_KEY,
    else none. `timeout_s` bounds connecting to the service and each silence of it, not the transfer
    of tables. `jobs` lists what this client submitted, oldest first: dicts with "id" and "kind"
    (fit or predict). What `reuse` answered is among them, once.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 30,
    ) -> None:
        """Prepare the connection; nothing is sent yet. Raises RowcastError for what is unusable."""
        self.url = (
            url or os.environ.get("ROWCAST_URL") or "http://127.0.0.1:8000"
        ).rstrip("/")
        if not re.match(r"https?://[^/?#]", self.url):
            raise RowcastError(
                f"The address {self.url!r} must start with http:// or https://."
            )
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

    def upload(self, source: Source, *, reuse: bool = True) -> str:
        """Upload a table and return the id of the dataset.

        `source` is a path, the bytes of a file, an open binary file, or a DataFrame, which is sent
        as Parquet without its index. What is over 1 MB and lies in the store already is not sent
        again: the id is that of the dataset that is there, unless `reuse` is false. Raises
        RowcastError if a file changes its length meanwhile, or a column of a DataFrame cannot be
        written.
        """
        with _opened(source) as body:
            return self._upload(body, reuse=reuse)

    def fit(self, data: Source, timeout: float | None = -1, **options: Any) -> str:
        """Submit a fit and return its id, which is also that of the model.

        `data` is the id of a dataset, or what upload() takes; a str that is no UUID is a path.
        `timeout` in seconds: below 0 returns at once, None waits for the end, otherwise the end
        must come in that time. While the queue is full it keeps trying, for `timeout`, and if that
        is below 0 for ten minutes. Raises what the service refuses as an APIError, and when it
        waits, what wait() raises.
        """
        return self._submit("fit", {**options, "id": self._dataset_id(data)}, timeout)

    def predict(
        self,
        data: Source,
        model: str | Model,
        timeout: float | None = -1,
        **options: Any,
    ) -> str:
        """Submit a prediction and return its id, also that of the result; `data`, `timeout` as in
        fit().

        The model need not be there yet: the prediction starts when its fit has finished.
        """
        ids = {"dataset_id": self._dataset_id(data), "model_id": _id(model)}
        return self._submit("predict", {**options, **ids}, timeout)

    def predict_table(
        self, data: Source, model: str | Model, **options: Any
    ) -> DataFrame:
        """Predict, wait for the end and return the predictions; arguments and errors as in
        predict().

        A small table is sent with the request and answered at once; nothing of it is stored. A
        larger one is uploaded and predicted by a job, and so is any that no online worker takes.
        """
        if _is_id(data) or set(options) - ONLINE_OPTIONS:
            return self.download(self.predict(data, model, timeout=None, **options))
        with _opened(data) as body:
            if 0 < len(body) <= ONLINE_BYTES and (
                answer := self._predict_online(body, _id(model), options)
            ):
                return _read_table(io.BytesIO(answer), ".parquet")
            result_id = self.predict(
                self._upload(body, reuse=True), model, timeout=None, **options
            )
        return self.download(result_id)

    def status(self, job_id: str) -> dict[str, Any]:
        """Return what the service knows of the job; that it failed is no error here."""
        return self._call("GET", "/status", {"id": job_id}, "kind")

    def wait(self, job_id: str, timeout: float | None = None) -> dict[str, Any]:
        """Wait until the job has finished, at most `timeout` seconds, and return its last status.

        While nobody answers it keeps asking, without a timeout for two minutes. Raises
        JobFailedError, JobCanceledError, WaitTimeoutError, APIError or ServiceUnreachableError.
        """
        try:
            with closing(_Display()) as display:
                for job in self._watch(job_id, _deadline(timeout)):
                    display.show(job)
        except KeyboardInterrupt:
            how = f"client.cancel({job_id!r}), in a shell: rowcast cancel {job_id}"
            _tell(f"Only the waiting has ended; the job goes on. To cancel it: {how}\n")
            raise
        return _finished(job)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """End a job for good, with the predictions that wait for its model, and return its status.

        Raises ConflictError if it has finished or failed; nothing is changed then.
        """
        return self._call("POST", "/cancel", {"id": job_id}, "kind")

    def log(self, job_id: str) -> list[str]:
        """Return the lines that the job itself has logged, the last of them if there are many."""
        return cast(
            "list[str]",
            self._call("GET", f"/jobs/{_id(job_id)}/log", {}, "lines")["lines"],
        )

    def result(self, result_id: str) -> str:
        """Return a URL from which anybody can download the predictions for a while."""
        return cast(str, self._call("GET", "/result", {"id": result_id}, "url")["url"])

    @overload
    def download(self, result_id: str) -> DataFrame: ...
    @overload
    def download(self, result_id: str, path: str | os.PathLike[str]) -> Path: ...
    def download(
        self, result_id: str, path: str | os.PathLike[str] | None = None
    ) -> DataFrame | Path:
        """Return the predictions as a DataFrame, or save them in their format to `path` and return
        that.

        The file appears whole or not at all. Raises ConflictError if the job has not finished.
        """
        with (
            tempfile.TemporaryFile() if path is None else _replacing(Path(path)) as file
        ):
            url = self.result(result_id)
            _repeat(partial(self._fetch, url, file), _passes)
            if path is None:
                return _read_table(file, PurePosixPath(urlsplit(url).path).suffix)
        return Path(path)

    def model(self, model_id: str | Model) -> Model:
        """Return what is known of a model. Raises ConflictError if its fit has not finished."""
        return Model(self._call("GET", f"/models/{_id(model_id)}", {}))

    @overload
    def download_model(self, model: str | Model) -> Any: ...
    @overload
    def download_model(
        self, model: str | Model, path: str | os.PathLike[str]
    ) -> Path: ...
    def download_model(
        self, model: str | Model, path: str | os.PathLike[str] | None = None
    ) -> Any:
        """Return an estimator that predicts here what the service predicts, or save its file to
        `path`.

        Loading runs code that lies in the file: do it only if you trust the service. Raises
        RowcastError, before anything is loaded, if the file is not the one that the model's
        manifest names.
        """
        about = self.model(model)
        load = _estimators(self.url).load if path is None else None
        with (
            tempfile.TemporaryFile() if path is None else _replacing(Path(path)) as file
        ):
            url = self._call("GET", f"/models/{about.id}/file", {}, "url")["url"]
            _repeat(partial(self._fetch, url, file), _passes)
            _check_sha256(file, about)
            return Path(cast(Any, path)) if load is None else load(file, about.manifest)

    def models(self, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Iterate over the finished models, newest first, `limit` at most; pages are asked for as
        needed."""
        return islice(self._pages("models", limit), limit)

    def datasets(self, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Iterate over the uploaded datasets, newest first, `limit` at most."""
        return islice(self._pages("datasets", limit), limit)

    def list_jobs(
        self,
        limit: int | None = None,
        *,
        status: str | None = None,
        kind: str | None = None,
        model_id: str | Model | None = None,
        dataset_id: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Iterate over the jobs that the service knows, whoever submitted them, newest first.

        `status` and `kind` are words of status(); a fit's `model_id` is its own id.
        """
        wanted = None if model_id is None else _id(model_id)
        filters = {
            "status": status,
            "kind": kind,
            "model_id": wanted,
            "dataset_id": dataset_id,
        }
        return islice(self._pages("jobs", limit, **filters), limit)

    def delete(self, id: str | Model) -> None:  # noqa: A002 - as the service names it
        """Delete a model with its results, a dataset or a result. Raises NotFoundError if it is
        none."""
        for kind in ("models", "datasets", "results"):
            with suppress(NotFoundError):
                self._call("DELETE", f"/{kind}/{_id(id)}", {}, None)
                return
        raise NotFoundError(
            f"There is no model, dataset or result {_id(id)}.", status=404
        )

    def _pages(
        self, things: str, limit: int | None, **filters: str | None
    ) -> Iterator[dict[str, Any]]:
        parameters: dict[str, Any] = {
            "limit": PAGE if limit is None else max(1, min(limit, PAGE)),
            **filters,
        }
        while True:
            page = self._call("GET", f"/{things}", parameters, things)
            yield from page[things]
            if page.get("next") is None:
                return
            parameters["before"] = page["next"]

    def _upload(self, body: _Body, *, reuse: bool) -> str:
        is_offered = reuse and len(body) > REUSE_BYTES
        known = (
            {"sha256": _sha256(body.chunks()), "size": len(body)} if is_offered else {}
        )
        dataset = self._call("POST", "/upload", known, "url")
        if not dataset.get("exists"):
            # Empty bytes, because requests would send a stream of length 0 chunked, which S3
            # refuses.
            put = partial(self._store, "PUT", dataset["url"], data=body or b"")
            _repeat(put, partial(_passes, statuses={429, *range(500, 600)}))
        return cast(str, dataset["id"])

    def _dataset_id(self, data: Source) -> str:
        return cast(str, data) if _is_id(data) else self.upload(data)

    def _predict_online(
        self, body: _Body, model_id: str, options: dict[str, Any]
    ) -> bytes | None:
        """Return predictions as Parquet; None where the service would rather have a job."""
        named = {
            name: json.dumps(value)
            for name, value in options.items()
            if value is not None
        }
        url = f"{self.url}/predict?{urlencode({**named, **_plain(options), 'model_id': model_id})}"
        types = {"Content-Type": "application/octet-stream", "Accept": PARQUET}
        rest: dict[str, Any] = {
            "data": b"".join(body.chunks()),
            "headers": types,
            "auth": self._auth,
        }
        post = partial(
            self._send, "POST", url, timeout=self.timeout_s + ONLINE_S, **rest
        )
        try:
            response = _repeat(post, _passes_online)
        except APIError as error:
            if _is_for_jobs(error):
                return None
            raise
        if response.headers.get("Content-Type") != PARQUET:
            raise _stranger(response)
        return response.content

    def _submit(
        self, kind: str, parameters: dict[str, Any], timeout: float | None
    ) -> str:
        returns_at_once = timeout is not None and timeout < 0
        deadline = _deadline(FULL_QUEUE_S if returns_at_once else timeout)
        answer = self._call("POST", f"/{kind}", parameters, deadline=deadline)
        job: dict[str, str] = {"id": answer["id"], "kind": kind}
        if not (answer.get("reused") and job in self.jobs):
            self.jobs.append(job)
        if not returns_at_once:
            self.wait(
                job["id"], None if timeout is None else deadline - time.monotonic()
            )
        return job["id"]

    def _watch(self, job_id: str, deadline: float) -> Iterator[dict[str, Any]]:
        """Yield the job's status again and again until it is final, through outages if need be."""
        heard_at, failures, fault = time.monotonic(), 0, None
        while True:
            try:
                job, pause_s = self._poll(job_id, deadline)
            except (ServiceUnreachableError, APIError) as error:
                if not _passes(error) or (
                    deadline == math.inf and time.monotonic() > heard_at + OUTAGE_S
                ):
                    raise
                failures, fault, state = failures + 1, error, str(error)
                pause_s = _pause_s(failures, error)
            else:
                yield job
                if job["status"] in FINAL:
                    return
                heard_at, failures, fault, state = (
                    time.monotonic(),
                    0,
                    None,
                    f"it is {job['status']}.",
                )
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                message = f"The job {job_id} did not end in the time given: {state}"
                raise WaitTimeoutError(message, job_id=job_id) from fault
            time.sleep(min(pause_s, left_s))

    def _poll(self, job_id: str, deadline: float) -> tuple[dict[str, Any], float]:
        """Ask for the status and wait for its change; return it and the seconds to pause after
        it."""
        left_s = max(0, deadline - time.monotonic())
        wait_s = min(WATCHED_POLL_S if _is_watched() else LONG_POLL_S, left_s)
        timeout_s = wait_s + min(self.timeout_s, max(left_s - wait_s, 2))
        response = self._ask(
            "GET", "/status", {"id": job_id, "wait": wait_s}, timeout_s
        )
        return _answer(response, "kind"), _jittered(
            _retry_after_s(response) or SHORTEST_PAUSE_S
        )

    def _call(
        self,
        method: str,
        path: str,
        parameters: dict[str, Any],
        member: str | None = "id",
        deadline: float = -math.inf,
    ) -> dict[str, Any]:
        """Ask the service, again where that is safe, and return its answer, which must have the
        member."""
        # By its key the service knows a POST that it has done, and answers as it did the first
        # time.
        headers = {"Idempotency-Key": uuid.uuid4().hex} if method == "POST" else {}
        ask = partial(self._ask, method, path, parameters, self.timeout_s, headers)
        # A second deletion would find nothing.
        passes = partial(_passes, once=method == "DELETE")
        return _answer(_repeat(partial(_await_place, ask, deadline), passes), member)

    def _ask(
        self,
        method: str,
        path: str,
        parameters: dict[str, Any],
        timeout_s: float,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        where: dict[str, Any] = {
            "json" if method == "POST" else "params": parameters,
            "headers": headers,
        }
        timeouts_s = (min(self.timeout_s, timeout_s), timeout_s)
        return self._send(
            method, self.url + path, auth=self._auth, timeout=timeouts_s, **where
        )

    def _fetch(self, url: str, file: BinaryIO) -> None:
        """Fill the file, from its start, with what the store has; raise if the end is missing."""
        file.seek(0)
        file.truncate()
        with self._store(
            "GET", url, headers={"Accept-Encoding": "identity"}, stream=True
        ) as response:
            with _no_answer(url):
                for chunk in response.iter_content(CHUNK_BYTES):
                    file.write(chunk)
            n_bytes = response.raw.tell()
            if n_bytes != int(response.headers.get("Content-Length", n_bytes)):
                raise ServiceUnreachableError(
                    f"The answer of {_origin(url)} broke off before its end."
                )

    def _store(self, method: str, url: str, **rest: Any) -> requests.Response:
        """Ask the store, to whom a presigned URL says all; neither our key nor .netrc may be
        added."""
        return self._send(
            method, url, auth=partial(_authorize, ""), timeout=STORE_TIMEOUT_S, **rest
        )

    def _send(self, method: str, url: str, **rest: Any) -> requests.Response:
        """Send one request; all that this client says to anybody goes through here."""
        with _no_answer(url):
            response = self._session.request(method, url, **rest)
            if not 200 <= response.status_code < 300:
                raise _bad_answer(response)
        return response


class Model:
    """What is known of a model: prints as a summary, in a notebook as a table.

    `manifest` is all of it. `scores` and `baseline` are figures by name, on rows that were not
    trained on; `importances` is by how much the loss grows without a feature, largest first.
    """

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        self.id, self.task, self.target, self.learner, self.notes = (
            manifest.get(name) for name in ("id", "task", "target", "learner", "notes")
        )
        self.validation: dict[str, Any] = manifest.get("validation") or {}
        self.scores: dict[str, Any] = self.validation.get("scores") or {}
        self.baseline: dict[str, Any] = self.validation.get("baseline") or {}
        features = (manifest.get("importances") or {}).get("features") or ()
        self.importances: dict[str, float | None] = {
            each["name"]: each["mean"] for each in features
        }

    def __repr__(self) -> str:
        rows = self._summary()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)

    def _repr_html_(self) -> str:
        rows = ([html.escape(cell) for cell in row] for row in self._summary())
        lines = (f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in rows)
        return f"<table>{''.join(lines)}</table>"

    def plot(self) -> Any:
        """Return a matplotlib Figure of the importances and the confusion matrix or the
        residuals."""
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise RowcastError(
                "plot() needs matplotlib: pip install matplotlib"
            ) from error
        figure, (left, right) = pyplot.subplots(
            1, 2, figsize=(11, 4.5), layout="constrained"
        )
        known = [
            (name, value)
            for name, value in self.importances.items()
            if value is not None
        ][:15][::-1]
        left.barh([_literal(name) for name, _ in known], [value for _, value in known])
        left.set(title="importances", xlabel="increase of the loss")
        self._plot_errors(right)
        return figure

    def _plot_errors(self, axes: Any) -> None:
        matrix, quantiles = (
            self.scores.get("confusion_matrix"),
            self.scores.get("residual_quantiles"),
        )
        if matrix:
            shown, names = (
                axes.imshow(matrix["counts"], cmap="Blues"),
                [*map(_literal, matrix["labels"])],
            )
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
            axes.set(title="confusion matrix", xlabel="predicted", ylabel="true")
            axes.figure.colorbar(shown, ax=axes, label="rows")
        elif quantiles and None not in quantiles.values():
            axes.plot(
                [float(level) for level in quantiles],
                list(quantiles.values()),
                marker="o",
            )
            axes.set(title="residuals", xlabel="quantile", ylabel="target - prediction")
        else:
            axes.set(title="not validated")

    def _summary(self) -> list[tuple[str, str]]:
        about, method = self.manifest, self.validation.get("method", "none")
        rows = f"{about.get('n_rows')}, {about.get('n_rows_left_out', 0)} left out without a target"
        judged = (
            f"{method}, on {self.validation['n_rows']} rows"
            if "n_rows" in self.validation
            else method
        )
        top = [
            f"{name} {value:.4g}"
            for name, value in self.importances.items()
            if value is not None
        ][:5]
        return [
            ("model", str(self.id)),
            ("target", f"{self.target} ({self.task})"),
            ("learner", f"{self.learner} {json.dumps(about.get('params') or {})}"),
            ("rows", rows),
            ("validation", judged),
            *(
                (name, self._beside_baseline(name))
                for name in self.scores
                if _is_number(self.scores[name])
            ),
            ("importances", ", ".join(top) or "none"),
            *(("note", str(note)) for note in self.notes or ()),
        ]

    def _beside_baseline(self, name: str) -> str:
        base = self.baseline.get(name)
        return f"{self.scores[name]:.4g}" + (
            f" (baseline {base:.4g})" if _is_number(base) else ""
        )


class _Body:
    """The bytes of one upload; for its length and lack of read(), requests announces it and sends
    chunks."""

    def __init__(self, file: BinaryIO) -> None:
        # A pipe is kept in memory: its length is unknown, and it cannot be read twice.
        self.file = file if file.seekable() else io.BytesIO(file.read())
        self.start = self.file.tell()
        self.n_bytes = self.file.seek(0, io.SEEK_END) - self.start

    def __len__(self) -> int:
        return self.n_bytes

    def __iter__(self) -> Iterator[bytes]:
        with _upload_bar(self.n_bytes) as bar:
            for chunk in self.chunks():
                yield chunk
                if bar is not None:
                    bar.update(len(chunk))

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes from the start. Raises RowcastError if there are not as many as there
        were."""
        self.file.seek(self.start)
        left = self.n_bytes
        while left:
            chunk = self.file.read(min(left, CHUNK_BYTES))
            left -= len(chunk)
            # Looked at before the last chunk leaves, so that a wrong length never makes a whole
            # upload.
            if not chunk or (left == 0 and self.file.read(1)):
                raise RowcastError(
                    f"The file did not keep its {self.n_bytes} bytes; upload it again."
                )
            yield chunk


@contextmanager
def _opened(source: Source) -> Iterator[_Body]:
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
        raise TypeError(
            f"A table is a path, bytes, a binary file or a DataFrame, not {type(source)}."
        )


def _write_parquet(frame: DataFrame, file: BinaryIO) -> None:
    """Write a DataFrame without its index; names of columns become text."""
    names = [str(name) for name in frame.columns]
    frame = (
        frame if list(frame.columns) == names else frame.set_axis(names, axis="columns")
    )
    try:
        frame.to_parquet(cast(Any, file), index=False)
    except (ValueError, TypeError, NotImplementedError) as error:
        culprit = next(
            (
                name
                for name in names
                if names.count(name) == 1 and not _is_writable(frame[name])
            ),
            None,
        )
        what = "DataFrame" if culprit is None else f"column {culprit!r}"
        hint = (
            ""
            if culprit is None
            else " Give all its values one type, for example with astype(str)."
        )
        raise RowcastError(
            f"The {what} cannot be written as Parquet: {error}.{hint}"
        ) from error


def _is_writable(column: Any) -> bool:
    try:
        column.to_frame().to_parquet(io.BytesIO(), index=False)
    except (ValueError, TypeError, NotImplementedError):
        return False
    return True


def _read_table(file: BinaryIO, suffix: str) -> DataFrame:
    """Return a result as a DataFrame; pandas infers the types of a format that has none."""
    import pandas

    file.seek(0)
    if suffix == ".csv":
        return pandas.read_csv(file, keep_default_na=False, na_values=[""])
    if suffix == ".jsonl":
        # pandas' own reader takes columns for dates by their names, and rounds.
        return pandas.DataFrame([json.loads(line) for line in file])
    return pandas.read_parquet(file)


def _check_sha256(file: BinaryIO, about: Model) -> None:
    """Raise unless the file is the one that the manifest names; leave it at its start."""
    file.seek(0)
    sha256 = _sha256(iter(partial(file.read, CHUNK_BYTES), b""))
    file.seek(0)
    if sha256 != (about.manifest.get("file") or {}).get("sha256"):
        hint = "Somebody may have changed it in the store."
        raise RowcastError(
            f"The file of model {about.id} is not the one that its manifest names. {hint}"
        )


def _sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _estimators(url: str) -> Any:
    """Return our other module, which needs scikit-learn; it lies beside this one."""
    name = f"{__package__}.estimators" if __package__ else "estimators"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = f"Fetch {_origin(url)}/estimators.py and save it beside this file."
        if error.name != name:
            hint = "pip install 'scikit-learn>=1.6' pandas pyarrow"
        raise RowcastError(
            f"Models are loaded with the help of {error.name}. {hint}"
        ) from error


def _is_id(data: Source) -> bool:
    return isinstance(data, str) and bool(ID.fullmatch(data))


def _plain(options: dict[str, Any]) -> dict[str, str]:
    """Return the options that are text, which a query holds as they are."""
    return {name: value for name, value in options.items() if isinstance(value, str)}


def _id(thing: str | Model) -> str:
    """Return an id, ready to be a part of a path."""
    return quote(thing if isinstance(thing, str) else str(thing.id), safe="")


def _literal(name: Any) -> str:
    """Return a name for matplotlib, which takes what is between dollars for a formula."""
    return str(name).replace("$", r"\$")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
    """Return what `send` returns; try it again, ATTEMPTS times in all, while the fault is one that
    passes."""
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


def _await_place(send: Callable[[], T], deadline: float) -> T:
    """Return what `send` returns; if the queue is full, try it again while there is time."""
    refusals = 0
    while True:
        try:
            return send()
        except APIError as error:
            if error.code != "queue_full":
                raise
            refusals += 1
            pause_s = _pause_s(refusals, error)
            if time.monotonic() + pause_s > deadline:
                raise
            if refusals == 1:
                _tell(f"{error.detail} Waiting for a place.\n")
        time.sleep(pause_s)


def _passes(
    error: RowcastError, statuses: Container[int] = PASSING, *, once: bool = False
) -> bool:
    """Send whether to send again: the fault is one that passes, and what may be done but once was
    not done."""
    if isinstance(error, APIError):
        is_safe = error.status == 429 or error.code == "store_unavailable" or not once
        # How long to wait for a place in a full queue was the caller's to say.
        passes = is_safe and error.status in statuses and error.code != "queue_full"
        return passes and (error.retry_after_s or 0) <= LONGEST_RETRY_AFTER_S
    return isinstance(error, ServiceUnreachableError) and not (once and error.sent)


def _passes_online(error: RowcastError) -> bool:
    # A job takes over sooner than an online worker may be free.
    return not _is_for_jobs(error) and _passes(error)


def _is_for_jobs(error: RowcastError) -> bool:
    """Send whether the service would rather have a job, or a proxy before it takes no such body."""
    return isinstance(error, APIError) and (error.code in BY_JOB or error.status == 413)


def _deadline(timeout: float | None) -> float:
    return math.inf if timeout is None else time.monotonic() + max(timeout, 0)


def _pause_s(failures: int, error: RowcastError) -> float:
    retry_after_s: float | None = getattr(error, "retry_after_s", None)
    # The exponent is bounded too: an outage of hours would make it too large for a float.
    backoff_s = min(0.25 * 2 ** min(failures, 10), LONGEST_BACKOFF_S)
    return _jittered(backoff_s if retry_after_s is None else retry_after_s)


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


def _answer(response: requests.Response, member: str | None) -> dict[str, Any]:
    """Return the answer; without this member it did not come from Rowcast."""
    answer = _json(response)
    if member is not None and member not in answer:
        raise _stranger(response)
    return answer


def _stranger(response: requests.Response) -> APIError:
    message = (
        f"{_origin(response.url)} answered, but not as Rowcast does. Is this the "
        "service's address?"
    )
    return APIError(message, detail=message, status=response.status_code)


def _bad_answer(response: requests.Response) -> APIError:
    """Turn the problem that the service describes, or what a proxy or a store says instead, into an
    error."""
    facts, status = _facts(_json(response)), response.status_code
    page = re.sub(r"<[^>]*>", " ", response.content[:4096].decode("utf-8", "replace"))
    reason = " ".join(page.split())[:200] or response.reason
    facts.setdefault("detail", f"{_origin(response.url)} answered {status}: {reason}")
    if response.history:
        facts["hint"] = (
            f"The request was redirected; use {_origin(response.url)} as the address."
        )
    error = REFUSALS.get(status, APIError)
    return error(
        _sentence(facts), status=status, retry_after_s=_retry_after_s(response), **facts
    )


def _facts(problem: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a problem that are as they should be; another program may have written
    it."""
    types = {"code": str, "detail": str, "hint": str, "errors": list, "request_id": str}
    return {
        name: problem[name]
        for name, kind in types.items()
        if isinstance(problem.get(name), kind)
    }


def _sentence(facts: dict[str, Any]) -> str:
    """Join what is wrong, each problem that this does not name yet, and what to do."""
    detail = str(facts.get("detail") or facts.get("code") or "No reason was given")
    problems = "; ".join(
        str(problem)
        for problem in facts.get("errors", ())
        if str(problem) not in detail
    )
    parts = [part for part in (detail, problems, str(facts.get("hint", ""))) if part]
    return " ".join(
        part if part.endswith((".", "!", "?")) else f"{part}." for part in parts
    )


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
            raise RowcastError(
                f"The request to {_origin(url)} is not possible: {reason}."
            ) from error
        fault = getattr((*error.args, None)[0], "reason", None)
        sent = not isinstance(fault, (NewConnectionError, ConnectTimeoutError))
        hint = (
            "It may have got the request."
            if sent
            else "Is this the right address, and is it running?"
        )
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
        raise JobFailedError(
            f"{name} failed: {_sentence(facts)}", job_id=job["id"], **facts
        )
    if job["status"] == "canceled":
        raise JobCanceledError(f"{name} was canceled.", job_id=job["id"])
    return job


class _Display:
    """What a person sees while a job is waited for: one bar where tqdm is installed, else one
    line."""

    def __init__(self) -> None:
        self.tqdm, self.began = _tqdm(), time.monotonic()
        self.bar: Any = None
        self.end = ""

    def show(self, job: dict[str, Any]) -> None:
        """Show the status of the job in place of the last one."""
        kind, job_id, activity = job["kind"], job["id"], _activity(job)
        if self.tqdm is not None:
            if self.bar is None:
                # A whole id would leave a terminal of 80 columns no room for the bar.
                look = {
                    "desc": f"{kind} ...{job_id[-6:]}",
                    "bar_format": "{desc} |{bar}| {elapsed}{postfix}",
                }
                self.bar = self.tqdm(total=100, dynamic_ncols=True, **look)
            self.bar.n = (
                100
                if job["status"] == "finished"
                else _progress(job).get("percent", self.bar.n)
            )
            self.bar.set_postfix_str(activity)
        elif _is_watched():
            width = shutil.get_terminal_size().columns - 1
            line = (
                f"{kind} {job_id}: {activity} ({time.monotonic() - self.began:.0f} s)"
            )
            _tell(f"\r{line[:width]:<{width}}")
            self.end = "\n"

    def close(self) -> None:
        """Leave the last status on a line of its own."""
        if self.bar is not None:
            self.bar.close()
        _tell(self.end)


def _progress(job: dict[str, Any]) -> dict[str, Any]:
    return (job["status"] == "started" and job.get("progress")) or {}


def _activity(job: dict[str, Any]) -> str:
    """Send what a job is doing, as "fitting 43 %, 1 m 12 s left"."""
    progress, eta_s = (
        _progress(job),
        None if job["status"] in FINAL else job.get("eta_s"),
    )
    parts = [
        f"{progress['phase']} {progress['percent']:.0f} %"
        if progress
        else job["status"],
        f"{job['position']} ahead of it" if job.get("position") else "",
        f"attempt {job['attempts']}" if (job.get("attempts") or 0) > 1 else "",
        "" if eta_s is None else f"{_duration(eta_s)} left",
    ]
    return ", ".join(part for part in parts if part)


def _duration(seconds: float) -> str:
    """Return a time in its two largest units, as "1 m 12 s"."""
    minutes, s = divmod(math.ceil(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m} m" if hours else f"{m} m {s} s" if m else f"{s} s"


def _is_watched() -> bool:
    """Send whether a person sees stderr; threads of a pool would write over each other there."""
    alone = threading.current_thread() is threading.main_thread()
    return alone and sys.stderr is not None and (sys.stderr.isatty() or _is_notebook())


def _is_notebook() -> bool:
    """Send whether this is the kernel of a notebook; then IPython has been loaded."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return getattr(find and find(), "kernel", None) is not None


def _tell(text: str) -> None:
    if _is_watched():
        print(text, end="", file=sys.stderr, flush=True)


def _tqdm() -> Any:
    """Return tqdm's bar for where a person looks, None if nobody does or it is not installed."""
    if _is_watched():
        with suppress(ImportError), warnings.catch_warnings():
            # Without ipywidgets it warns, and its bar is one of text.
            warnings.simplefilter("ignore")
            return importlib.import_module(
                "tqdm.auto" if _is_notebook() else "tqdm"
            ).tqdm
    return None


def _upload_bar(n_bytes: int) -> Any:
    """Return a context with tqdm's bar, or with None where nobody watches or tqdm is not
    installed."""
    tqdm = _tqdm()
    if tqdm is not None:
        return tqdm(total=n_bytes, unit="B", unit_scale=True, desc="upload")
    _tell(f"uploading {n_bytes / 1e6:.1f} MB\n")
    return nullcontext()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code, 1 after a sentence on stderr."""
    given = vars(_parser().parse_args(arguments))
    try:
        with Client(given.pop("url")) as client:
            options = dict(given.pop("options", ()))
            if reserved := {"self", "method", "timeout", *given, *RESERVED} & set(
                options
            ):
                raise RowcastError(
                    f"--option {min(reserved)}=... is not an option of the service."
                )
            given.update(options)
            for line in _lines(getattr(client, given.pop("method"))(**given)):
                print(line)
    except (RowcastError, OSError) as error:
        filename = getattr(error, "filename", None)
        print(f"{filename}: {error.args[1]}" if filename else error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _lines(answer: Any) -> Iterator[Any]:
    """Yield what a command prints: of a listing a line for each thing, its id in front."""
    if isinstance(answer, list):
        yield from answer
    elif isinstance(answer, Iterator):
        columns = ("id", "kind", "status", "target", "task", "learner", "size")
        for thing in answer:
            known = [thing[name] for name in columns if name in thing]
            score = thing.get("score") or {}
            yield "\t".join(map(str, [*known, *score.values()]))
    elif answer is not None:
        yield answer["status"] if isinstance(answer, dict) else answer


def _parser() -> argparse.ArgumentParser:
    """Describe the command line: a command is a method of Client, its arguments are named as
    there."""
    parser = argparse.ArgumentParser(
        description="Fit and predict tables with Rowcast. Each command prints only what the "
        "next one needs.",
        epilog="The API key is taken from ROWCAST_API_KEY alone: arguments show in the list of "
        "processes.",
    )
    parser.add_argument(
        "--url", help="default: ROWCAST_URL, else http://127.0.0.1:8000"
    )
    methods = parser.add_subparsers(dest="method", required=True, metavar="COMMAND")

    def add(method: str, does: str, *arguments: str) -> argparse.ArgumentParser:
        command = methods.add_parser(
            method, help=does, description=does, argument_default=argparse.SUPPRESS
        )
        for each in arguments:
            command.add_argument(each)
        return command

    add("upload", "upload a table; prints the id of the dataset", "source")
    fit = add(
        "fit",
        "fit a model on a file or dataset; prints its id",
        "data",
        "--target",
        "--task",
    )
    predict = add(
        "predict",
        "predict a file or dataset; prints the id of the result",
        "data",
        "model",
    )
    for command in (fit, predict):
        command.add_argument(
            "--option",
            metavar="NAME=VALUE",
            dest="options",
            action="append",
            type=_option,
        )
        wait = command.add_mutually_exclusive_group()
        wait.add_argument(
            "--wait",
            dest="timeout",
            action="store_const",
            const=None,
            help="wait for the end",
        )
        wait.add_argument(
            "--timeout",
            type=_seconds,
            metavar="SECONDS",
            help="wait for the end that long",
        )
    status = add("status", "print the status of a job, one word", "job_id")
    status.add_argument(
        "--wait",
        dest="method",
        action="store_const",
        const="wait",
        help="wait for the end",
    )
    add(
        "cancel",
        "end a job for good, with those that wait for its model; prints: canceled",
        "job_id",
    )
    add("log", "print what a job has logged", "job_id")
    jobs = add(
        "jobs",
        "list the jobs, newest first",
        "--status",
        "--kind",
        "--model-id",
        "--dataset-id",
    )
    jobs.add_argument("--limit", type=int, help="how many at most")
    jobs.set_defaults(method="list_jobs")
    add("download", "save a result; prints the path", "result_id", "path")
    add("models", "list the models, newest first")
    add("datasets", "list the datasets, newest first")
    add("model", "print what is known of a model", "model_id")
    add("delete", "delete a model, dataset or result", "id")
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
