"""What the tests share: a running stack, tables, servers, and readers of documents."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
