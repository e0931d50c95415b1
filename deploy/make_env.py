"""Write `.env` from `.env.example`, with random secrets in the place of its placeholders.

`make env` runs it. It needs Python alone, and does not overwrite an existing file.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def filled(example: str) -> str:
    """Return the text of `.env.example` with a secret for each placeholder."""

    def secret(match: re.Match[str]) -> str:
        # Access keys of S3 have 20 characters at most in some stores.
        n_bytes = 10 if match[1] == "S3_ACCESS_KEY" else 20
        return f"{match[1]}={secrets.token_hex(n_bytes)}"

    return re.sub(r"^([A-Z0-9_]+)=change-me-.*$", secret, example, flags=re.MULTILINE)


def main(folder: Path = ROOT) -> int:
    """Write the file; return the exit code."""
    text = filled((folder / ".env.example").read_text())
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(folder / ".env", flags, 0o600)
    except FileExistsError:
        sys.stderr.write(".env exists, and stays as it is.\n")
        return 1
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    sys.stdout.write("Wrote .env with random secrets. Keep a copy in a safe place.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
