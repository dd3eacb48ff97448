"""The step loop under @record: what it raises stands in its error file."""

import os
import time

from derail.errors import record


@record
def main():
    rank = os.environ["RANK"]
    for step in range(1, 101):
        print(f"rank {rank}: step {step}", flush=True)
        time.sleep(0.05)  # noqa: TID251 - this is the work


if __name__ == "__main__":
    main()
