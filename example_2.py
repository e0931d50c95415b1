"""Start many fits at once, with a prediction by each model, show them finish, and print how long
all took."""

import argparse
import sys
import time

from client import Client, RowcastError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument(
    "-n", type=int, default=20, help="number of fits (default: %(default)s)"
)
parser.add_argument("--train", default="train.parquet", help="default: %(default)s")
parser.add_argument("--url", help="default: ROWCAST_URL, else http://127.0.0.1:8000")
given = parser.parse_args()

try:
    with Client(given.url) as client:
        dataset_id = client.upload(given.train)
        began = time.monotonic()
        # Nothing waits here: the service starts each prediction when its fit has finished.
        model_ids = [client.fit(dataset_id) for _ in range(given.n)]
        result_ids = [client.predict(dataset_id, model_id) for model_id in model_ids]
        for done, (model_id, result_id) in enumerate(
            zip(model_ids, result_ids, strict=True), start=1
        ):
            client.wait(result_id)
            print(
                f"{time.monotonic() - began:6.1f} s: {done} of {given.n}, model {model_id}",
                flush=True,
            )
except (RowcastError, OSError) as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit(130)
print(f"makespan {time.monotonic() - began:.1f} s")
