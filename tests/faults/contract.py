"""Thousands of made-up requests with a key and real ids, checked against the OpenAPI document.

    python -m tests.faults.contract [--requests 10000]

No request may be answered with 5xx or with a status that the document does not name. What the
document allows is accepted or refused for what is in the data, and what it forbids is refused.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.stack import Stack, launch
from tests.support.tables import table

KEY = "key-of-the-contract"
STACK: dict[str, Any] = {
    "API_KEYS": f"ann:{KEY}",
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
DEPENDENT = ("GET /upload", "POST /upload", "POST /fit", "POST /predict")
# A parameter of the query is not looked at where the body has it as well.
SHADOWED = ("POST /upload",)
# Operations that the document describes; each gets an equal share of the requests.
N_OPERATIONS = 25


def main() -> None:
    """Run them on a stack of their own; exit with 1 if a check failed."""
    parser = argparse.ArgumentParser(description="Check the API against its document.")
    parser.add_argument("--requests", type=int, default=10_000, help="about (10,000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rowcast-contract-") as folder:
        stack = launch(Path(folder), **STACK)
        try:
            found = check(stack, Path(folder), options.requests)
        finally:
            stack.stop()
    print(found.stdout[-20_000:])
    sys.exit(found.returncode)


def check(
    stack: Stack, folder: Path, n_requests: int
) -> subprocess.CompletedProcess[str]:
    """Send about `n_requests` requests, and return what schemathesis says.

    Those that cover each constraint of the document once, about 700, are always among them.
    """
    stack.headers["Authorization"] = f"Bearer {KEY}"
    configuration = folder / "schemathesis.toml"
    configuration.write_text(_configuration(stack))
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={configuration}",
        "run",
        f"{stack.url}/openapi.json",
        f"--max-examples={max(1, n_requests // N_OPERATIONS)}",
        f"--phases=examples,coverage{',fuzzing' if n_requests else ''}",
        "--continue-on-failure",
        "--no-color",
        "--seed=1",
    ]
    return subprocess.run(
        command, cwd=folder, check=False, capture_output=True, text=True
    )


def _configuration(stack: Stack) -> str:
    """Return a configuration in which every id is one that exists."""
    model = stack.fitted(table(60, 3))
    result = stack.predict(table(20, 3), model)
    stack.finished(result)
    dataset = stack.upload(table(60, 3))
    ids = {
        "query.model_id": model,
        "query.dataset_id": dataset,
    }
    of_operations = {
        "POST /fit": {"query.id": dataset},
        "GET /status": {"query.id": model},
        "GET /result": {"query.id": result},
        "POST /cancel": {"query.id": model},
        "GET /jobs/{id}/log": {"path.id": model},
        "GET /models/{id}": {"path.id": model},
        "GET /models/{id}/file": {"path.id": model},
        "GET /results/{id}": {"path.id": result},
    }
    lines = [
        f'headers = {{ Authorization = "Bearer {KEY}" }}',
        "[checks]",
        "enabled = false",
        *[f"{check}.enabled = true" for check in CHECKS],
        # A request that is too long does not reach the route.
        f"negative_data_rejection.expected-statuses = {json.dumps(REFUSED)}",
        "[parameters]",
        *_assignments(ids),
    ]
    for name in sorted({*of_operations, *DEPENDENT}):
        lines.append("[[operations]]")
        lines.append(f"include-name = {json.dumps(name)}")
        if name in DEPENDENT:
            lines.append("checks.positive_data_acceptance.enabled = false")
        if name in SHADOWED:
            lines.append("checks.negative_data_rejection.enabled = false")
        lines.append("[operations.parameters]")
        lines += _assignments(of_operations.get(name, {}))
    return "\n".join(lines) + "\n"


def _assignments(values: dict[str, str]) -> list[str]:
    return [f'"{name}" = "{value}"' for name, value in values.items()]


if __name__ == "__main__":
    main()
