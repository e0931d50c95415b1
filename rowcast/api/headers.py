"""The headers of every answer, which tell browsers what they must not do with it."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

import flask

# Nothing here is a page, so nothing may be loaded, run or framed.
_NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
# An answer may set others: files may be kept, and pages load more.
DEFAULTS = (("Cache-Control", "no-store"), ("Content-Security-Policy", _NO_PAGE))
# What is not closed is matched to the end, so that no part of it is looked at twice.
_INLINE = re.compile(rb"<(script|style)>((?:[^<]++|<(?!/\1>))*+)(?:</\1>|\Z)")


def add(response: flask.Response) -> None:
    """Add the headers to an answer, and make its redirects relative."""
    headers = response.headers
    if response.mimetype == "text/html":
        headers.setdefault("Content-Security-Policy", policy_of(response.get_data()))
    for name, value in DEFAULTS:
        if name not in headers:
            headers.add(name, value)
    for name, value in ALWAYS:
        headers.add(name, value)
    if response.location:
        # Behind a proxy, this server does not know its address.
        response.location = response.location.removeprefix(
            flask.request.host_url.rstrip("/")
        )


@lru_cache(maxsize=16)
def policy_of(page: bytes) -> str:
    """Return the policy of a page of the documentation, which runs what is written in it."""
    hashes: dict[bytes, str] = {b"script": "", b"style": ""}
    for kind, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        hashes[kind] += f" 'sha256-{digest}'"
    return (
        f"{_NO_PAGE}; script-src 'self'{hashes[b'script']}; "
        f"style-src 'self'{hashes[b'style']}; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    )
