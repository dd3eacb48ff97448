"""Five steps of a trainer, each of which calls a function."""

import json
import time


def work(n):
    json.dumps(n)
    time.sleep(0)
    print("worked", n, flush=True)


class Trainer:
    """Its method is watched."""

    def step(self, n):
        work(n)


if __name__ == "__main__":
    for n in range(1, 6):
        Trainer().step(n)
