"""Write the example tables: train.parquet and test.parquet, and two that Rowcast must refuse."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from sklearn.datasets import make_classification

N_ROWS, N_FEATURES = 100_000, 50


def main() -> None:
    """Write 75,000 rows to train on and 25,000 to test with, the same at every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="folder, default: the current one")
    out = parser.parse_args().out
    features, y = make_classification(N_ROWS, N_FEATURES, n_informative=15, n_classes=3, random_state=0)
    table = pd.DataFrame(features, columns=[f"col_{i}" for i in range(N_FEATURES)]).assign(y=y)
    train, test = table[: N_ROWS * 3 // 4], table[N_ROWS * 3 // 4 :]
    tables = {"train": train, "test": test}
    tables |= {"BAD_train": train.drop(columns="y"), "BAD_test": test.drop(columns="col_0")}
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        rows.to_parquet(out / f"{name}.parquet", index=False)


if __name__ == "__main__":
    main()
