"""What the server hands out of itself: its OpenAPI document, its client and its estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import flask
from flask_openapi3.openapi import OpenAPI

from rowcast.api.openapi import blueprint

api = blueprint("documents")

_ROOT = Path(__file__).resolve().parents[3]


@api.get("/openapi.json", doc_ui=False)
def openapi() -> dict[str, Any]:
    """Describe the API."""
    return cast(OpenAPI, flask.current_app).api_doc


@api.get("/client.py", doc_ui=False)
def client() -> flask.Response:
    """Hand out the Python client that matches this server."""
    return flask.send_file(_ROOT / "client.py", mimetype="text/x-python")


@api.get("/estimators.py", doc_ui=False)
def estimators() -> flask.Response:
    """Hand out the scikit-learn estimators that go with the Python client."""
    return flask.send_file(_ROOT / "estimators.py", mimetype="text/x-python")
