"""A Flask application with one route, which returns a constant of the size of a job's status."""

import flask

app = flask.Flask(__name__)
CONSTANT = {
    "id": "01a20767-aca3-73f1-8125-5e2a6f7d6e75",
    "kind": "fit",
    "status": "finished",
    "enqueued_at": 1795000000.123456,
    "started_at": 1795000000.234567,
    "ended_at": 1795000000.345678,
    "attempts": 1,
    "earlier": [],
    "priority": "normal",
    "position": None,
    "progress": None,
    "eta_s": None,
    "dataset_id": "01a20767-aca3-73f1-8125-5e2a6f7d6e75",
    "model_id": "01a20767-aca3-73f1-8125-5e2a6f7d6e75",
    "error": None,
}


@app.get("/")
def constant() -> dict[str, object]:
    return CONSTANT
