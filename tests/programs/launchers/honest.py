"""A small launcher without faults of its own: ``honest.py RANKS RESTARTS GRACE SCRIPT [ARGS]``.

The first rank that fails is the root cause; the others get SIGTERM, and SIGKILL after the grace; what is left in the
groups of ranks is killed. It says what became of each rank, and exits as a shell would say of the root cause.
"""

import os
import signal
import subprocess
import sys
import time

ranks, restarts, grace, command = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
asked = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda got, _: asked.append(got))


def group(process, number):
    """Signal a rank and its group."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def attempt():
    """Run all ranks once; what a shell would say of the job."""
    running = {}
    for rank in range(ranks):
        env = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(ranks)}
        running[rank] = subprocess.Popen(
            [sys.executable, "-u", *command] if command[0].endswith(".py") else command, env=env, start_new_session=True
        )
    codes, failed = {}, None
    while len(codes) < ranks and failed is None and not asked:
        time.sleep(0.005)
        for rank, process in running.items():
            if rank not in codes and process.poll() is not None:
                codes[rank] = process.returncode
                failed = rank if failed is None and process.returncode else failed
    if failed is not None:
        end = f"signal {-codes[failed]}" if codes[failed] < 0 else f"exit {codes[failed]}"
        print(f"rank {failed}: {end}: it failed", flush=True)
        print(f"root cause: rank {failed}", flush=True)
    for process in running.values():
        group(process, signal.SIGTERM)
    deadline = time.monotonic() + grace
    for process in running.values():
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            group(process, signal.SIGKILL)
            process.wait()
        group(process, signal.SIGKILL)
    if asked:
        return 128 + asked[0]
    return 0 if failed is None else codes[failed] if codes[failed] > 0 else 128 - codes[failed]


code = attempt()
while code and restarts and not asked:
    restarts -= 1
    code = attempt()
sys.exit(code)
