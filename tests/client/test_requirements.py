"""What the client needs: requests and Python 3.9."""

from __future__ import annotations

import ast
from pathlib import Path

import client as module
from tests.support.fake_service import Server
from tests.support.terminal import run_python


def test_import_loads_nothing_but_requests() -> None:
    loaded = run_python("-c", "import client, sys; print(*sys.modules)").stdout.split()
    assert {"pandas", "pyarrow", "numpy", "tqdm", "sklearn", "rowcast"}.isdisjoint(
        loaded
    )


def test_source_is_that_of_python_3_9() -> None:
    ast.parse(Path(module.__file__).read_text(), feature_version=(3, 9))


def test_download_to_a_path_works_without_pandas(
    service: Server, tmp_path: Path
) -> None:
    script = """
import sys
sys.modules["pandas"] = sys.modules["pyarrow"] = sys.modules["numpy"] = None
import client
sys.exit(client.main(["download", "r1", sys.argv[1]]))
"""
    run_python("-c", script, str(tmp_path / "result.parquet"), ROWCAST_URL=service.url)
    assert (tmp_path / "result.parquet").exists()
