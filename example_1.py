"""Fit a model on one table, predict another, and print how good both are."""

import argparse
import sys

import pandas as pd

from client import Client, RowcastError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--train", default="train.parquet", help="default: %(default)s")
parser.add_argument("--test", default="test.parquet", help="default: %(default)s")
parser.add_argument("--url", help="default: ROWCAST_URL, else http://127.0.0.1:8080")
given = parser.parse_args()

try:
    with Client(given.url) as client:
        model_id = client.fit(given.train, timeout=None)
        model = client.model(model_id)
        result_id = client.predict(given.test, model_id, timeout=None)
        predictions = client.download(result_id)["y"]
except (RowcastError, OSError) as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit(130)

y = pd.read_parquet(given.test, columns=["y"])["y"]
accuracy = (predictions == y).mean()
baseline = (y == y.mode()[0]).mean()
print(model.verdict)
print("The leading features:", ", ".join(list(model.importances)[:5]))
print(predictions)
print(
    f"accuracy {accuracy:.3f}; always predicting the most frequent class: {baseline:.3f}"
)
