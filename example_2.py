"""Start many fits at once, show them finish one by one, and print how long all of them took."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from client import Client, RowcastError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("-n", type=int, default=20, help="number of fits (default: %(default)s)")
parser.add_argument("--train", default="train.parquet", help="default: %(default)s")
parser.add_argument("--url", help="default: ROWCAST_URL, else http://127.0.0.1:8000")
given = parser.parse_args()

try:
    # The threads only wait; the workers of the service do the work.
    with Client(given.url) as client, ThreadPoolExecutor(given.n) as pool:
        dataset_id = client.upload(given.train)
        began = time.monotonic()
        fits = [pool.submit(client.fit, dataset_id, timeout=None) for _ in range(given.n)]
        for done, fit in enumerate(as_completed(fits), start=1):
            print(f"{time.monotonic() - began:6.1f} s: {done} of {given.n}, model {fit.result()}", flush=True)
except (RowcastError, OSError) as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit(130)
print(f"makespan {time.monotonic() - began:.1f} s")
