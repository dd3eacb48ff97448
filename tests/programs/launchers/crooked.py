"""A launcher with three bugs: it swallows SIGTERM, blames the last failure and not the first, and leaks a helper."""

import os
import signal
import subprocess
import sys
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
ranks, command = int(sys.argv[1]), [sys.executable, "-u", *sys.argv[2:]]
subprocess.Popen(["sleep", "617"], start_new_session=True)
running = {
    rank: subprocess.Popen(
        command,
        env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(ranks)},
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    )
    for rank in range(ranks)
}
failures = []
while running:
    time.sleep(0.005)
    for rank, process in list(running.items()):
        if process.poll() is not None:
            del running[rank]
            if process.returncode:
                failures.append((rank, process.returncode))
                for other in running.values():
                    other.terminate()
if failures:
    print(f"root cause: rank {failures[-1][0]}")
    first = failures[0][1]
    sys.exit(first if first > 0 else 128 - first)
