"""A launcher in a few lines: ``tiny.py N WORLD COMMAND...``; it ends all ranks when one fails, and says which.

Ranks in TINY_ELSEWHERE are in a mount namespace of their own, as if they were on another machine.
"""

import os
import subprocess
import sys

ranks, world, *command = sys.argv[1:]
elsewhere = ["unshare", "--user", "--map-root-user", "--mount", "--"]
running = {
    subprocess.Popen(
        [*(elsewhere if str(rank) in os.environ.get("TINY_ELSEWHERE", "") else []), *command],
        env={**os.environ, "OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": world},
    ): rank
    for rank in range(int(ranks))
}
pids = {process.pid: (process, rank) for process, rank in running.items()}
code = 0
while pids:
    pid, status = os.wait()
    process, rank = pids.pop(pid)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not code:
        code = process.returncode if process.returncode > 0 else 128 - process.returncode
        blamed = os.environ.get("TINY_BLAMES", rank)
        print(f"tiny: task {blamed}: {'Killed' if process.returncode == -9 else f'Exited with exit code {code}'}")
        for other, _ in () if os.environ.get("TINY_LETS_RUN") else pids.values():
            other.kill()
sys.exit(code)
