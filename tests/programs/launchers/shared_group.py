"""A launcher whose ranks share its group and session: ``shared_group.py RANKS [pipes|console] COMMAND``.

With "pipes" it reads its ranks' output and prints it; without, they have its console. It waits for all of them, and
leaves with the first code that is not 0.
"""

import os
import subprocess
import sys
import threading

ranks, piped = int(sys.argv[1]), sys.argv[2] == "pipes"
command = sys.argv[3:] if sys.argv[2] in ("pipes", "console") else sys.argv[2:]
streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if piped else {}
running = [
    subprocess.Popen(command, env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(ranks)}, **streams)
    for rank in range(ranks)
]


def relay(process):
    """Print what a rank prints."""
    for line in process.stdout:
        os.write(1, line)


readers = [threading.Thread(target=relay, args=(process,)) for process in running if piped]
for reader in readers:
    reader.start()
codes = [process.wait() for process in running]
for reader in readers:
    reader.join()
sys.exit(next((code if code > 0 else 128 - code for code in codes if code), 0))
