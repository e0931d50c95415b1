"""Write the example tables: train.parquet and test.parquet, and two that Rowcast must reject."""

import argparse
from pathlib import Path

import pandas as pd
from sklearn.datasets import make_classification

N_FEATURES = 50

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path(), help="folder, default: here")
parser.add_argument("--rows", type=int, default=100_000, help="default: %(default)s")
arguments = parser.parse_args()

features, y = make_classification(
    arguments.rows, N_FEATURES, n_informative=15, n_classes=3, random_state=0
)
table = pd.DataFrame(features).add_prefix("col_")
table["y"] = y
n_train = arguments.rows * 3 // 4
train = table[:n_train]
test = table[n_train:]
tables = {
    "train": train,
    "test": test,
    "BAD_train": train.drop(columns="y"),
    "BAD_test": test.drop(columns="col_0"),
}

folder = arguments.out
folder.mkdir(parents=True, exist_ok=True)
for name, rows in tables.items():
    rows.to_parquet(folder / f"{name}.parquet", index=False)
