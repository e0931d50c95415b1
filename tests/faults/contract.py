"""Thousands of made-up requests with a key and real ids, checked against the OpenAPI document.

    python -m tests.faults.contract [--requests 10000]

No request may be answered with 5xx, with a status that the document does not name, or with a code
that is not an error of docs/errors.md. What the document allows is accepted or refused for what is
in the data, and what it forbids is refused. Every operation succeeds at least once.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

from rowcast.access import Scope, keys
from rowcast.access.key_store import KeyStore
from rowcast.errors import all_errors
from tests.faults import contract_hooks
from tests.support.stack import Stack, launch
from tests.support.tables import slow_table, table

STACK: dict[str, Any] = {
    "ALLOW_ANONYMOUS": "false",
    "ONLINE_WORKERS": "1",
    "JOB_TIMEOUT_S": "20",
}
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "ignored_auth",
)
REFUSED = ["400", "401", "403", "404", "405", "406", "409", "413", "414", "415", "422"]
# Their parameters depend on each other, which OpenAPI cannot say, and a refusal is 400.
DEPENDENT = ("GET /upload", "POST /upload", "POST /fit", "POST /predict", "POST /keys")
# Operations that the document describes; the first round gives each an equal share.
N_OPERATIONS = 25
# Requests with a method that the document does not give to their path.
OTHER_METHODS = "other methods"


class Answer(NamedTuple):
    """What one request was answered with; `code` is that of a problem, else empty."""

    phase: str
    operation: str
    status: int
    code: str


@dataclass
class Found:
    """What the rounds of schemathesis found."""

    answers: Counter[Answer] = field(default_factory=Counter)
    # What schemathesis printed in a round that failed.
    failures: list[str] = field(default_factory=list)
    n_rounds: int = 0

    @property
    def n_requests(self) -> int:
        """How many requests were sent."""
        return self.answers.total()

    @property
    def problems(self) -> list[str]:
        """What breaks the contract, one line each, and the output of failed rounds."""
        known = {(error.status, error.code) for error in all_errors()}
        lines = [
            f"{answer.operation}: {answer.status} {answer.code!r} is not documented"
            for answer in self.answers
            if not _is_documented(answer, known)
        ]
        lines += [f"{operation} never succeeded" for operation in self.never_succeeded]
        return [*self.failures, *sorted(set(lines))]

    @property
    def never_succeeded(self) -> list[str]:
        """The operations whose real work the random requests did not reach, if there were any."""
        if not any(answer.phase == "fuzzing" for answer in self.answers):
            return []
        return [
            operation
            for operation, counts in self.statuses().items()
            if not any(200 <= status < 300 for status in counts)
        ]

    def statuses(self) -> dict[str, Counter[int]]:
        """Return how often each operation was answered with each status."""
        counts: dict[str, Counter[int]] = {}
        for answer, n in sorted(self.answers.items()):
            counts.setdefault(answer.operation, Counter())[answer.status] += n
        return counts

    def n_fuzzed(self, operation: str) -> int:
        """Return how many random requests an operation has had."""
        return sum(
            n
            for answer, n in self.answers.items()
            if answer.operation == operation and answer.phase == "fuzzing"
        )


def _is_documented(answer: Answer, known: Collection[tuple[int, str]]) -> bool:
    # schemathesis compares successes with the document, which names each of their statuses.
    return 200 <= answer.status < 300 or (answer.status, answer.code) in known


def main() -> None:
    """Run them on a stack of their own; exit with 1 if a check failed."""
    parser = argparse.ArgumentParser(description="Check the API against its document.")
    parser.add_argument(
        "--requests", type=int, default=10_000, help="at least (10,000)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rowcast-contract-") as folder:
        stack = launch(Path(folder), **STACK)
        try:
            found = check(stack, Path(folder), options.requests)
        finally:
            stack.stop()
    for problem in found.problems:
        print(problem[-20_000:])
    for operation, counts in found.statuses().items():
        line = ", ".join(f"{n} x {status}" for status, n in sorted(counts.items()))
        print(f"{operation}: {line}")
    print(
        f"{found.n_requests:,} requests in {found.n_rounds} rounds, "
        f"{len(found.problems)} problems"
    )
    sys.exit(1 if found.problems else 0)


def check(stack: Stack, folder: Path, n_requests: int) -> Found:
    """Send at least `n_requests` requests, and return what they were answered with.

    Those that cover each constraint of the document once, about 1,500, are always among them.
    """
    key = _administrator(stack)
    stack.headers["Authorization"] = f"Bearer {key}"
    configuration = folder / "schemathesis.toml"
    _configure(configuration, stack, key)
    found = Found()
    share = n_requests // N_OPERATIONS
    phases = "examples,coverage,fuzzing" if share else "examples,coverage"
    _round(stack, configuration, found, [f"--phases={phases}", *_at_most(share)])

    # Some operations have few different requests; the others make up for them.
    while missing := max(0, n_requests - found.n_requests):
        fertile = [
            name for name in found.statuses() if found.n_fuzzed(name) >= max(1, share)
        ]
        n_before = found.n_requests
        names = [f"--include-name={name}" for name in fertile]
        n_each = -(-missing // max(1, len(fertile)))
        _round(
            stack,
            configuration,
            found,
            ["--phases=fuzzing", *names, *_at_most(n_each)],
        )
        if found.n_requests == n_before:
            break
    if stack.get("/me").status_code != 200:
        found.failures.append("the key of the contract was revoked")
    return found


def _at_most(n_examples: int) -> list[str]:
    return [f"--max-examples={max(1, n_examples)}"]


def _round(
    stack: Stack, configuration: Path, found: Found, options: Collection[str]
) -> None:
    """Run schemathesis once, with other random requests in each round."""
    found.n_rounds += 1
    report = configuration.with_name(f"round-{found.n_rounds}.ndjson")
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={configuration}",
        "run",
        f"{stack.url}/openapi.json",
        *options,
        "--continue-on-failure",
        "--no-color",
        f"--seed={found.n_rounds}",
        "--report=ndjson",
        f"--report-ndjson-path={report}",
    ]
    done = subprocess.run(
        command, cwd=report.parent, check=False, capture_output=True, text=True
    )
    if done.returncode:
        found.failures.append(done.stdout + done.stderr)
    if report.exists():
        found.answers.update(_answers(report))


def _answers(report: Path) -> Iterator[Answer]:
    """Yield the answers in a report of schemathesis: JSON lines, one for each scenario."""
    with report.open() as lines:
        for line in lines:
            scenario = json.loads(line).get("ScenarioFinished", {})
            recorder = scenario.get("recorder", {})
            for sent in recorder.get("interactions", {}).values():
                response = sent["response"] or {"status_code": 0}
                operation = recorder["label"]
                if operation.split()[0] != sent["request"]["method"]:
                    operation = OTHER_METHODS
                status = response["status_code"]
                yield Answer(scenario["phase"], operation, status, _code(response))


def _code(response: dict[str, Any]) -> str:
    types = response.get("headers", {}).get("content-type", [])
    if "application/problem+json" not in types:
        return ""
    content = base64.b64decode(response["content"]["$base64"])
    return str(json.loads(content)["code"])


def _administrator(stack: Stack) -> str:
    """Create a key that may do everything, and return it."""
    plain, key = keys.new_key("ann", "contract", get_args(Scope))
    with stack.redis() as connection:
        KeyStore(connection).add(keys.digest_of(plain), key)
    return plain


def _configure(configuration: Path, stack: Stack, key: str) -> None:
    """Write a configuration in which most ids are those of something that exists."""
    model = stack.fitted(table(60, 3))
    result = stack.predict(table(20, 3), model)
    stack.finished(result)
    canceled = stack.fit(slow_table())
    stack.post("/cancel", id=canceled).raise_for_status()
    old_model = stack.fitted(table(20, 3))
    old_result = stack.predict(table(20, 3), model)
    stack.finished(old_result)

    dataset = stack.upload(table(60, 3))
    real = {
        "POST /fit": {"id": dataset},
        "POST /predict": {"dataset_id": dataset, "model_id": model},
        "POST /cancel": {"id": canceled},
    }
    configuration.with_name(contract_hooks.IDS).write_text(json.dumps(real))
    of_operations = {
        "GET /status": {"query.id": model},
        "GET /result": {"query.id": result},
        "GET /jobs/{id}": {"path.id": model},
        "GET /jobs/{id}/log": {"path.id": model},
        "GET /models/{id}": {"path.id": model},
        "GET /models/{id}/file": {"path.id": model},
        "GET /results/{id}": {"path.id": result},
        # Without these, schemathesis deletes what the listings name. Keys are those it creates.
        "DELETE /datasets/{id}": {"path.id": stack.upload(table(20, 3))},
        "DELETE /models/{id}": {"path.id": old_model},
        "DELETE /results/{id}": {"path.id": old_result},
    }
    lines = [
        f"hooks = {json.dumps(contract_hooks.__file__)}",
        f'headers = {{ Authorization = "Bearer {key}" }}',
        "[checks]",
        "enabled = false",
        *[f"{check}.enabled = true" for check in CHECKS],
        # A request that is too long does not reach the route.
        f"negative_data_rejection.expected-statuses = {json.dumps(REFUSED)}",
    ]
    for name in sorted({*of_operations, *DEPENDENT}):
        lines.append("[[operations]]")
        lines.append(f"include-name = {json.dumps(name)}")
        if name in DEPENDENT:
            lines.append("checks.positive_data_acceptance.enabled = false")
        lines.append("[operations.parameters]")
        lines += [
            f'"{parameter}" = "{value}"'
            for parameter, value in of_operations.get(name, {}).items()
        ]
    configuration.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
