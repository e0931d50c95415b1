"""Every error a caller can see, each with the stable code that programs branch on.

RowcastError
├── InvalidRequest          400  a parameter is missing, unknown or malformed
│   ├── NotAPrediction      400  the id given to /result is that of a fit
│   └── UntrustedHost       400  the Host header names another server
├── Unauthorized            401
├── Forbidden               403  the key lacks a scope
│   └── CrossSiteRequest    403  a page of another site makes a browser send this
├── NotFound                404  the route does not exist
│   ├── KeyNotFound         404
│   ├── DatasetNotFound     404
│   ├── ModelNotFound       404
│   └── JobNotFound         404
├── MethodNotAllowed        405
├── NotAcceptable           406  predictions are available in no format of Accept
├── RequestTimeout          408  the request arrived too slowly
├── Conflict                409
│   ├── NotFinished         409  /result was requested before the job's end
│   ├── ModelNotReady       409  the model is still being fitted
│   ├── ModelFailed         409  the fit failed or was canceled
│   ├── JobCanceled         409
│   ├── JobEnded            409  the job cannot be canceled any more
│   ├── FitEnded            409  the fit ended while the prediction was queued
│   ├── KeysNotUsed         409  the server admits callers without a key
│   └── IdempotencyConflict 409  the Idempotency-Key belongs to another request
├── JobFailure              409  the cause of a failed job
│   ├── DatasetChanged           the dataset was overwritten after submitting
│   ├── DatasetDamaged           its bytes are not those that the first job read
│   ├── ModelUntrusted           the model's signature does not match
│   ├── ModelIncompatible        the model was made with other versions of the libraries
│   ├── TimedOut
│   ├── DependencyFailed         the fit failed or was canceled
│   ├── OutOfMemory              the job needed more memory than its limit
│   ├── ScratchFull              the job's files needed more space than their limit
│   └── WorkerLost
├── DatasetTooLarge         413
├── RequestTooLarge         413
├── ModelTooLarge           413  online workers do not load it
├── UriTooLong              414  the first line of the request is too long
├── UnsupportedMediaType    415
├── InvalidTable            422  the table cannot be used; every problem is listed
│   ├── TooManyRows         422  there are too many predictions to explain
│   └── TableTooComplex     422  to look at the table takes too much time or memory
├── HeadersTooLarge         431  the headers of the request are too long
├── OverLimit               429  the body has the limit and the usage
│   ├── QueueFull           429  the maximum number of jobs is queued
│   ├── RateLimited         429  too many requests within a minute
│   └── QuotaExceeded       413  the owner has as much as it may have
├── InternalError           500
├── ObjectDamaged           500  an object in the store is not what was written
├── OnlineWorkerLost        500  the process that computed an online prediction died
└── Unavailable             503  a part behind the service does not answer
    ├── StoreUnavailable    503  nothing was queued
    ├── QueueUnavailable    503
    ├── NoOnlineWorker      503  none was free in time
    ├── NoInspector         503  none was free to look at the table in time
    ├── SignerUnavailable   503  the job goes back to the queue
    ├── ServerBusy          503  too many bodies are on their way
    └── NotReady            503  /readyz found a part that does not answer
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

# Redis and the store keep the cause of a failed job, so a caller must not decide how long it is.
MAX_DETAIL_CHARACTERS = 1000
MAX_ERRORS = 100
MAX_ERRORS_CHARACTERS = 16_000


class RowcastError(Exception):
    """The root of all errors that a caller can see.

    `detail` says what is wrong with this request or job, and `hint` what to do about it. `errors`
    lists the problems if there may be several. All of them are bounded.
    """

    code = "internal_error"
    status = 500
    title = "Internal error"
    hint = ""
    retry_after_s = 1

    def __init__(
        self, detail: str = "", *, hint: str = "", errors: Sequence[str] = ()
    ) -> None:
        """Keep the sentence for people; `hint` defaults to that of the class."""
        self.detail = shortened(detail or self.title)
        self.hint = shortened(hint or self.hint)
        self.errors = _first_of(errors)
        super().__init__(self.detail)

    def cause(self) -> dict[str, Any]:
        """Return the members of `error` in a failed job's status."""
        return {
            "code": self.code,
            "detail": self.detail,
            "hint": self.hint,
            "errors": self.errors,
        }

    def problem(self, request_id: str | None = None) -> dict[str, Any]:
        """Return the body of an `application/problem+json` answer (RFC 9457)."""
        head = {
            "type": f"urn:rowcast:error:{self.code}",
            "title": self.title,
            "status": self.status,
        }
        return {**head, **self.cause(), "request_id": request_id}


def shortened(text: str) -> str:
    """Return a text of at most MAX_DETAIL_CHARACTERS."""
    if len(text) <= MAX_DETAIL_CHARACTERS:
        return text
    return f"{text[: MAX_DETAIL_CHARACTERS - 3]}..."


def _first_of(problems: Sequence[str]) -> list[str]:
    """Return the first problems; a line says how many more there are."""
    listed: list[str] = []
    n_characters = 0
    for problem in map(shortened, problems):
        n_left = len(problems) - len(listed)
        is_last_line = len(listed) == MAX_ERRORS - 1 and n_left > 1
        n_characters += len(problem)
        if is_last_line or n_characters > MAX_ERRORS_CHARACTERS:
            return [*listed, f"There are {n_left:,} more problems."]
        listed.append(problem)
    return listed


class InvalidRequest(RowcastError):
    """A parameter is missing, unknown or malformed."""

    code, status, title = "invalid_request", 400, "Invalid request"
    hint = "Correct the parameters; /docs describes them."


class NotAPrediction(InvalidRequest):
    """The id is that of a fit, which has a model and no result."""

    code, title = "not_a_prediction", "Not a prediction"
    hint = "Use this id as model_id in /predict, and request the result of that job."


class UntrustedHost(InvalidRequest):
    """The Host header names a host that is not this server's."""

    code, title = "untrusted_host", "Untrusted host"
    hint = "Operators: add the host name to TRUSTED_HOSTS if users shall call the server by it."


class Unauthorized(RowcastError):
    """The API key is missing or unknown."""

    code, status, title = "unauthorized", 401, "Unauthorized"
    hint = "Send a valid key in the header 'Authorization: Bearer <key>'."


class Forbidden(RowcastError):
    """The API key is valid, and may not do this."""

    code, status, title = "forbidden", 403, "Forbidden"
    hint = "Use a key with this scope; an administrator makes one."


class CrossSiteRequest(Forbidden):
    """A page of another site made a browser send a request that changes something."""

    code, title = "cross_site_request", "Cross-site request"
    hint = "Send it from a program, or from a page of this server."


class NotFound(RowcastError):
    """The route does not exist."""

    code, status, title = "not_found", 404, "Not found"
    hint = "/docs lists the endpoints."


class KeyNotFound(NotFound):
    """The API key does not exist."""

    code, title = "key_not_found", "Key not found"
    hint = "GET /keys lists the ids of all keys."


class DatasetNotFound(NotFound):
    """The dataset does not exist."""

    code, title = "dataset_not_found", "Dataset not found"
    hint = (
        "The upload may not have ended: PUT the table to the url that /upload returned, then "
        "submit again."
    )


class ModelNotFound(NotFound):
    """The model does not exist."""

    code, title = "model_not_found", "Model not found"
    hint = "Use the id that /fit returned."


class JobNotFound(NotFound):
    """The job does not exist."""

    code, title = "job_not_found", "Job not found"
    hint = "Use an id that /fit or /predict returned."


class MethodNotAllowed(RowcastError):
    """The endpoint does not support this method."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"
    hint = "The Allow header lists the methods of this endpoint."


class Conflict(RowcastError):
    """The request conflicts with the state of a dataset, model or job."""

    code, status, title = "conflict", 409, "Conflict"


class NotFinished(Conflict):
    """The job has not ended."""

    code, title = "not_finished", "Not finished"
    hint = "Wait for the job: GET /status?id=<job>&wait=20."


class ModelNotReady(Conflict):
    """The model is still being fitted."""

    code, title = "model_not_ready", "Model not ready"
    hint = "Wait for the fit: GET /status?id=<model>&wait=20. Then predict again."


class ModelFailed(Conflict):
    """The fit failed or was canceled, so its model does not exist."""

    code, title = "model_failed", "Model failed"
    hint = "GET /status?id=<model> says why the fit failed. Fit again."


class JobCanceled(Conflict):
    """The job was canceled and has no result."""

    code, title = "job_canceled", "Job canceled"
    hint = "Submit the job again."


class JobEnded(Conflict):
    """The job has ended, so it cannot be canceled."""

    code, title = "job_ended", "Job ended"
    hint = "Nothing was changed. GET /status?id=<job> says how the job ended."


class FitEnded(Conflict):
    """The fit that the prediction would have waited for has ended."""

    code, title = "fit_ended", "Fit ended"
    hint = "Submit the prediction again."


class KeysNotUsed(Conflict):
    """The server admits callers without a key."""

    code, title = "keys_not_used", "Keys not used"
    hint = "Set API_KEYS, or ALLOW_ANONYMOUS=false, then create keys."


class OverLimit(RowcastError):
    """An owner, a key or an address has used up a limit."""

    code, status, title = "over_limit", 429, "Over a limit"

    def __init__(
        self,
        detail: str = "",
        *,
        hint: str = "",
        errors: Sequence[str] = (),
        limit: int | None = None,
        usage: int | None = None,
        retry_after_s: int = 1,
    ) -> None:
        """Keep the limit and what was used of it, in the same unit."""
        super().__init__(detail, hint=hint, errors=errors)
        self.limit, self.usage = limit, usage
        self.retry_after_s = retry_after_s

    def problem(self, request_id: str | None = None) -> dict[str, Any]:
        """Return the body of the answer, with the limit and the usage where they are known."""
        body = super().problem(request_id)
        if self.limit is None:
            return body
        return {**body, "limit": self.limit, "usage": self.usage}


class QueueFull(OverLimit):
    """The owner or the service has the maximum number of queued jobs."""

    code, title = "queue_full", "Queue full"
    hint = "Submit again after Retry-After, when some of these jobs have ended."


class RateLimited(OverLimit):
    """A key or an address has sent too many requests within a minute."""

    code, title = "rate_limited", "Rate limited"
    hint = (
        "Wait for the seconds of Retry-After; the header RateLimit says what is left."
    )


class QuotaExceeded(OverLimit):
    """The owner has as many datasets, models, results or bytes as it may have."""

    code, status, title = "quota_exceeded", 413, "Quota exceeded"
    hint = "Delete what is not needed any more, or ask the operator for a larger quota."


class IdempotencyConflict(Conflict):
    """The Idempotency-Key was used before with another request."""

    code, title = "idempotency_conflict", "Idempotency conflict"
    hint = "Use a new key for a new request; an unchanged request gets its first answer again."


class DatasetTooLarge(RowcastError):
    """The uploaded table is over MAX_UPLOAD_BYTES."""

    code, status, title = "dataset_too_large", 413, "Dataset too large"
    hint = (
        "Upload fewer rows or columns, or ask the operator to raise MAX_UPLOAD_BYTES."
    )


class RequestTooLarge(RowcastError):
    """The body of a request to the API is over the limit."""

    code, status, title = "request_too_large", 413, "Request too large"
    hint = (
        "PUT tables to the url that /upload returns; only small ones may be sent to /predict "
        "itself."
    )


class ModelTooLarge(RowcastError):
    """The model is larger than ONLINE_CACHE_BYTES, so online workers do not load it."""

    code, status, title = "model_too_large", 413, "Model too large"
    hint = (
        "Upload the rows and predict them by a job, or ask the operator to raise "
        "ONLINE_CACHE_BYTES."
    )


class NotAcceptable(RowcastError):
    """Predictions are available in no format of the Accept header."""

    code, status, title = "not_acceptable", 406, "Not acceptable"
    hint = "Leave Accept out for JSON, or use a format that docs/http_api.md lists."


class RequestTimeout(RowcastError):
    """The request arrived too slowly."""

    code, status, title = "request_timeout", 408, "Request timeout"
    hint = "Send the head of the request within 10 s, and its body at 10 kB/s or more."


class UriTooLong(RowcastError):
    """The first line of the request is too long."""

    code, status, title = "uri_too_long", 414, "URI too long"
    hint = "Send the parameters of a POST in a JSON body instead of the query string."


class HeadersTooLarge(RowcastError):
    """The headers of the request are too long or too many."""

    code, status, title = "headers_too_large", 431, "Headers too large"
    hint = "Send fewer or shorter headers."


class UnsupportedMediaType(RowcastError):
    """The Content-Type of a body is not supported by this endpoint."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"
    hint = (
        "Send the parameters in the query string, or as JSON with 'Content-Type: "
        "application/json'."
    )


class InvalidTable(RowcastError):
    """The table cannot be used."""

    code, status, title = "invalid_table", 422, "Invalid table"
    hint = "Correct the table, upload it again and submit the new id."


class TooManyRows(InvalidTable):
    """There are more predictions than can be explained in the time of a request or a job."""

    code, title = "too_many_rows", "Too many rows"
    hint = "Upload fewer rows, such as a sample of them, and submit the new id."


class TableTooComplex(InvalidTable):
    """To look at the table takes more time or memory than the service gives to it."""

    code, title = "table_too_complex", "Table too complex"
    hint = (
        "Make the table simpler: fewer columns, fewer row groups, shorter cells, no nesting. If it "
        "was accepted before, submit it once more."
    )


class JobFailure(RowcastError):
    """A job ran and failed; /result answers 409."""

    code, status, title = "job_failed", 409, "Job failed"

    @classmethod
    def of(cls, cause: dict[str, Any]) -> JobFailure:
        """Return the failure that a job's status describes under `error`, with its code."""
        failure = cls(cause["detail"], hint=cause["hint"], errors=cause["errors"])
        failure.code = cause["code"]
        return failure


class DatasetChanged(JobFailure):
    """The dataset was overwritten between submitting and running."""

    code, title = "dataset_changed", "Dataset changed"
    hint = (
        "Upload the table under a new id and submit that; never upload to a url twice."
    )


class DatasetDamaged(JobFailure):
    """The dataset's bytes are not those that its first job read."""

    code, title = "dataset_damaged", "Dataset damaged"
    hint = (
        "It was overwritten, or damaged in the store. Upload the table under a new id and submit "
        "that; the operator may restore the dataset from a backup."
    )


class ModelUntrusted(JobFailure):
    """The model's signature matches no key that models are verified with."""

    code, title = "model_untrusted", "Model untrusted"
    hint = (
        "The model's files were changed, or the operator's VERIFY_KEYS no longer contain its key. "
        "Fit again."
    )


class ModelIncompatible(JobFailure):
    """The model was made with other versions of the libraries, and does not work here."""

    code, title = "model_incompatible", "Model incompatible"
    hint = "Fit the model again, or ask the operator for workers with the versions that made it."


class TimedOut(JobFailure):
    """The job ran longer than its `timeout_s` or JOB_TIMEOUT_S."""

    code, title = "timed_out", "Timed out"
    hint = (
        "Give the job a larger timeout_s, up to the operator's JOB_TIMEOUT_S, or a smaller "
        "table."
    )


class OutOfMemory(JobFailure):
    """The job needed more memory than its limit, or the machine ran out."""

    code, title = "out_of_memory", "Out of memory"
    hint = (
        "Use fewer rows or columns, or ask the operator to raise JOB_MEMORY_BYTES or run "
        "fewer WORKERS."
    )


class ScratchFull(JobFailure):
    """The files of the job needed more space than their limit."""

    code, title = "scratch_full", "Scratch space full"
    hint = (
        "Use a smaller table, keep fewer columns, or ask the operator to raise "
        "JOB_SCRATCH_BYTES."
    )


class DependencyFailed(JobFailure):
    """The fit failed or was canceled, so its model does not exist."""

    code, title = "dependency_failed", "Dependency failed"
    hint = "GET /status?id=<model> says why the fit failed. Fit and predict again."


class WorkerLost(JobFailure):
    """The processes that ran the job died, in each of its attempts."""

    code, title = "worker_lost", "Worker lost"
    hint = (
        "The job may need more memory than a worker has. Try a smaller table, or ask the "
        "operator."
    )


class InternalError(RowcastError):
    """The service has a fault; the log has its traceback under the request id."""

    code, status, title = "internal_error", 500, "Internal error"
    hint = "Try again. If it persists, give the operator the id of the job or the request_id."


class ObjectDamaged(RowcastError):
    """A manifest, record or file in the store is not what was written."""

    code, status, title = "object_damaged", 500, "Object damaged"
    hint = "Ask the operator to restore it from a backup, or make it again."


class OnlineWorkerLost(RowcastError):
    """The process that computed an online prediction died, or exceeded a limit."""

    code, status, title = "online_worker_lost", 500, "Online worker lost"
    hint = (
        "Send fewer rows, or upload them and predict them by a job, which gets more time and "
        "memory."
    )


class Unavailable(RowcastError):
    """A part behind the service does not answer."""

    code, status, title = "unavailable", 503, "Unavailable"
    hint = "Try again in a few seconds."


class StoreUnavailable(Unavailable):
    """The object store does not answer, or rejects our requests; nothing was queued."""

    code, title = "store_unavailable", "Store unavailable"


class QueueUnavailable(Unavailable):
    """Redis does not answer."""

    code, title = "queue_unavailable", "Queue unavailable"


class NoOnlineWorker(Unavailable):
    """No online worker was free in time, or none runs."""

    code, title = "no_online_worker", "No online worker"
    hint = "Try again after Retry-After, or upload the rows and predict them by a job."


class NoInspector(Unavailable):
    """No inspector was free to look at the table in time, or none runs; nothing was queued."""

    code, title = "no_inspector", "No inspector"
    hint = "Submit again after Retry-After."


class SignerUnavailable(Unavailable):
    """The process that signs models has ended; the job goes back to the queue."""

    code, title = "signer_unavailable", "Signer unavailable"
    hint = "Wait until the workers have started again, or tell the operator."


class ServerBusy(Unavailable):
    """Too many bodies of requests are on their way."""

    code, title = "server_busy", "Server busy"
    hint = "Try again after Retry-After, or upload the rows and predict them by a job."


class NotReady(Unavailable):
    """A part behind the service does not answer; `errors` lists each."""

    code, title = "not_ready", "Not ready"
    hint = "Repair the listed parts; the service works again as soon as they answer."


ABSTRACT = frozenset({RowcastError, Conflict, JobFailure, OverLimit, Unavailable})


def all_errors() -> Iterator[type[RowcastError]]:
    """Yield every class whose code a caller can see."""
    stack: list[type[RowcastError]] = [RowcastError]
    while stack:
        error = stack.pop()
        stack.extend(error.__subclasses__())
        if error not in ABSTRACT:
            yield error


def of_cause(cause: dict[str, Any]) -> RowcastError:
    """Return the error that another process described by `cause`."""
    by_code = {error.code: error for error in all_errors()}
    kind = by_code.get(cause["code"], InternalError)
    return kind(cause["detail"], hint=cause["hint"], errors=cause["errors"])
