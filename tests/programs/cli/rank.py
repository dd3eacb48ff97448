"""A rank that does what its first argument says: hello, exit, steps, or wait for signals."""

import os
import signal
import sys
import time

rank, what = int(os.environ["RANK"]), sys.argv[1]
if what == "hello":
    print(f"hello from {rank} of {os.environ['WORLD_SIZE']}")
    print(f"warning from {rank}", file=sys.stderr)
elif what == "exit":
    print(f"rank {rank} leaves")
    sys.exit(int(sys.argv[2]) if rank == 1 else 0)
elif what == "steps":
    for step in range(6000):
        print(f"step {step} of rank {rank}")
        time.sleep(0.01)
else:

    def handle(number, frame):
        print(f"rank {rank} got {signal.Signals(number).name}")
        if number == signal.SIGUSR1:
            sys.exit(0)

    for name in sys.argv[2:]:
        signal.signal(getattr(signal, name), handle)
    print(f"ready {os.getpid()}")
    end = time.monotonic() + 600
    while time.monotonic() < end:
        time.sleep(1)
