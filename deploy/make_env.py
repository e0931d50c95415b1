"""Write `.env` from `.env.example`, with random secrets in the place of its placeholders.

    python3 deploy/make_env.py                write .env; of an existing file, say what it lacks
    python3 deploy/make_env.py signing-key    print a new pair of keys for models

`make env` runs it. It needs Python alone, so the public key of the pair is computed here: by the
formulas of RFC 8032, section 5.1. Nothing is signed here.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Old names of secrets.
RENAMED = (("SIGNING_KEYS", "HMAC_SIGNING_KEYS"),)
# The curve of Ed25519: its prime, its constant d, and its base point.
PRIME = 2**255 - 19
D = -121665 * pow(121666, -1, PRIME) % PRIME
BASE = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)


def filled(example: str) -> str:
    """Return the text of `.env.example` with a secret for each placeholder."""

    pair = signing_pair(secrets.token_bytes(32))

    def secret(match: re.Match[str]) -> str:
        if match[1] in pair:
            return f"{match[1]}={pair[match[1]]}"
        # Access keys of S3 have 20 characters at most in some stores.
        n_bytes = 10 if match[1] == "S3_ACCESS_KEY" else 20
        return f"{match[1]}={secrets.token_hex(n_bytes)}"

    return re.sub(r"^([A-Z0-9_]+)=change-me-.*$", secret, example, flags=re.MULTILINE)


def signing_pair(seed: bytes) -> dict[str, str]:
    """Return SIGNING_KEY, with a private key of 32 bytes, and VERIFY_KEYS, with its public key."""
    return {
        "SIGNING_KEY": f"ed25519-private-{_base64url(seed)}",
        "VERIFY_KEYS": f"ed25519-public-{_base64url(public_key(seed))}",
    }


def _base64url(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def public_key(seed: bytes) -> bytes:
    """Return the Ed25519 public key of a private key; both have 32 bytes."""
    digest = hashlib.sha512(seed).digest()[:32]
    scalar = int.from_bytes(digest, "little") & ((1 << 254) - 8) | 1 << 254
    point, total = BASE, (0, 1)
    while scalar:
        if scalar & 1:
            total = _sum(total, point)
        point = _sum(point, point)
        scalar >>= 1
    x, y = total
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _sum(p: tuple[int, int], q: tuple[int, int]) -> tuple[int, int]:
    """Return the sum of two points of the curve."""
    (x1, y1), (x2, y2) = p, q
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, PRIME)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, PRIME)
    return x % PRIME, y % PRIME


def main(arguments: Sequence[str] = (), folder: Path = ROOT) -> int:
    """Do what the command line says; return the exit code."""
    match list(arguments):
        case []:
            return _write(folder)
        case ["signing-key"]:
            pair = signing_pair(secrets.token_bytes(32))
            sys.stdout.writelines(f"{name}={key}\n" for name, key in pair.items())
            return 0
    sys.stderr.write("usage: make_env.py [signing-key]\n")
    return 2


def _write(folder: Path) -> int:
    text = filled((folder / ".env.example").read_text())
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(folder / ".env", flags, 0o600)
    except FileExistsError:
        sys.stderr.write(".env exists, and stays as it is.\n")
        sys.stderr.write(_missing((folder / ".env").read_text(), text))
        return 1
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    sys.stdout.write("Wrote .env with random secrets. Keep a copy in a safe place.\n")
    return 0


def _missing(present: str, complete: str) -> str:
    """Return what an `.env` of an earlier version lacks: its old names, and new secrets."""
    names = set(re.findall(r"^([A-Z0-9_]+)=", present, re.MULTILINE))
    advice = [f"Rename {old} to {new} in it.\n" for old, new in RENAMED if old in names]
    example = (ROOT / ".env.example").read_text()
    secret = re.findall(r"^([A-Z0-9_]+)=change-me-", example, re.MULTILINE)
    lines = complete.splitlines(keepends=True)
    added = [line for line in lines if line.partition("=")[0] in {*secret} - names]
    if added:
        advice.append("Add these lines to it:\n")
    return "".join([*advice, *added])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
