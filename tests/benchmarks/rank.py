"""What the measured ranks run, under ``python -I -S``: it starts fast, and does what it is told at a given time."""

import os
import sys
import time


def sleep_until(target: int) -> None:
    """Until a time of the monotonic clock, in nanoseconds."""
    time.sleep(max(0, (target - time.monotonic_ns()) / 1e9))  # noqa: TID251 - a rank that idles is the subject


def leave(stamps: str, orders: str, code: str) -> None:
    """Tell that it is there; get a time; at that time note the clock and be gone."""
    out = os.open(stamps, os.O_WRONLY | os.O_APPEND)
    gate = os.open(orders, os.O_RDONLY)
    os.write(out, b"%d\n" % time.monotonic_ns())
    sleep_until(int(os.read(gate, 20)))
    os.write(out, b"%d\n" % time.monotonic_ns())
    os._exit(int(code))


def write(stamps: str, orders: str, rank: str, lines: str) -> None:
    """The same, and at that time write numbered lines as a program does whose stdout is a file."""
    out = os.open(stamps, os.O_WRONLY | os.O_APPEND)
    text = [f"rank {rank} line {number:07d} {'x' * (40 + number % 60)} end\n" for number in range(int(lines))]
    gate = os.open(orders, os.O_RDONLY)
    os.write(out, b"%d\n" % time.monotonic_ns())
    sleep_until(int(os.read(gate, 20)))
    for line in text:
        sys.stdout.write(line)


if __name__ == "__main__":
    {"leave": leave, "write": write}[sys.argv[1]](*sys.argv[2:])
