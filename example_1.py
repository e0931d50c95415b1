"""Fit a model on one table, predict another with it, and print the predictions and how many are right."""

from __future__ import annotations

import argparse
import sys

import pandas as pd

from client import Client, RowcastError


def main() -> None:
    """Run the example on the tables of make_data.py, or on others whose target is y."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", default="train.parquet", help="default: %(default)s")
    parser.add_argument("--test", default="test.parquet", help="default: %(default)s")
    parser.add_argument("--url", help="default: ROWCAST_URL, else http://127.0.0.1:8000")
    given = parser.parse_args()
    with Client(given.url) as client:
        train_id, test_id = client.upload(given.train), client.upload(given.test)
        model_id = client.fit(train_id, timeout=None)
        predictions = client.download(client.predict(test_id, model_id, timeout=None))["y"]
    y = pd.read_parquet(given.test, columns=["y"])["y"]
    right, most_frequent = (predictions == y).mean(), (y == y.mode()[0]).mean()
    print(predictions)
    print(f"accuracy {right:.3f}; the most frequent class alone would give {most_frequent:.3f}")


if __name__ == "__main__":
    try:
        main()
    except (RowcastError, OSError) as error:
        sys.exit(str(error))
