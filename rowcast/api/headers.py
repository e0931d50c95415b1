"""The headers of every answer, which tell browsers what they must not do with it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
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
_INLINE = (b"script", b"style")


def add(response: flask.Response, request: flask.Request) -> None:
    """Add the headers to an answer, and make its redirects relative."""
    headers = response.headers
    if response.mimetype == "text/html":
        headers.setdefault("Content-Security-Policy", policy_of(response.get_data()))
    given = {name.lower() for name, _ in headers}
    for name, value in DEFAULTS:
        if name.lower() not in given:
            headers.add(name, value)
    for name, value in ALWAYS:
        headers.add(name, value)
    if "location" in given:
        # Behind a proxy, this server does not know its address.
        own = request.host_url.rstrip("/")
        headers["Location"] = headers["Location"].removeprefix(own)


@lru_cache(maxsize=16)
def policy_of(page: bytes) -> str:
    """Return the policy of a page of the documentation, which runs what is written in it."""
    hashes = {kind: "".join(_hashes(page, kind)) for kind in _INLINE}
    return (
        f"{_NO_PAGE}; script-src 'self'{hashes[b'script']}; "
        f"style-src 'self'{hashes[b'style']}; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hashes(page: bytes, kind: bytes) -> Iterator[str]:
    """Yield the hash of each script or style that is written in a page."""
    for part in page.split(b"<%s>" % kind)[1:]:
        text = part.partition(b"</%s>" % kind)[0]
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        yield f" 'sha256-{digest}'"
