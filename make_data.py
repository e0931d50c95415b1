"""Write the example tables: train.parquet and test.parquet, and two that Rowcast must refuse."""

import argparse
from pathlib import Path

import pandas as pd
from sklearn.datasets import make_classification

N_ROWS, N_TRAIN, N_FEATURES = 100_000, 75_000, 50

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument(
    "--out", type=Path, default=Path(), help="folder, default: the current one"
)
out = parser.parse_args().out

features, y = make_classification(
    N_ROWS, N_FEATURES, n_informative=15, n_classes=3, random_state=0
)
table = pd.DataFrame(features, columns=[f"col_{i}" for i in range(N_FEATURES)]).assign(
    y=y
)
train, test = table[:N_TRAIN], table[N_TRAIN:]
bad_train, bad_test = train.drop(columns="y"), test.drop(columns="col_0")
tables = {"train": train, "test": test, "BAD_train": bad_train, "BAD_test": bad_test}

out.mkdir(parents=True, exist_ok=True)
for name, rows in tables.items():
    rows.to_parquet(out / f"{name}.parquet", index=False)
