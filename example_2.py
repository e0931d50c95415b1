"""Submit many fits and a prediction for each, and print when they finish."""

import argparse
import sys
import time

from client import Client, RowcastError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("-n", type=int, default=20, help="number of fits, default: 20")
parser.add_argument("--train", default="train.parquet", help="default: %(default)s")
parser.add_argument("--url", help="default: ROWCAST_URL, else http://127.0.0.1:8080")
given = parser.parse_args()

try:
    with Client(given.url) as client:
        dataset_id = client.upload(given.train)
        began = time.monotonic()
        model_ids = [client.fit(dataset_id) for _ in range(given.n)]
        # The service starts each prediction when the fit of its model has finished.
        result_ids = [client.predict(dataset_id, model_id) for model_id in model_ids]
        for i, result_id in enumerate(result_ids):
            client.wait(result_id)
            seconds = time.monotonic() - began
            progress = f"{i + 1} of {given.n}, model {model_ids[i]}"
            print(f"{seconds:6.1f} s: {progress}", flush=True)
except (RowcastError, OSError) as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit(130)
makespan = time.monotonic() - began
print(f"makespan {makespan:.1f} s")
