"""A launcher that is rank 0 itself: ``rank_zero.py RANKS [helper] COMMAND``, where COMMAND ends with the worker's path.

It starts the other ranks, then runs the worker in its own process. With "helper" it first starts a process that has
its environment, RANK=0 with it, and is no rank.
"""

import os
import runpy
import subprocess
import sys

ranks, has_helper = int(sys.argv[1]), sys.argv[2] == "helper"
command = sys.argv[3:] if has_helper else sys.argv[2:]
os.environ |= {"RANK": "0", "WORLD_SIZE": str(ranks)}
helper = subprocess.Popen(["sleep", "600"]) if has_helper else None
others = [subprocess.Popen(command, env={**os.environ, "RANK": str(rank)}) for rank in range(1, ranks)]
try:
    runpy.run_path(command[-1], run_name="__main__")
finally:
    codes = [other.wait() for other in others]
    if helper is not None:
        helper.kill()
        helper.wait()
sys.exit(max(codes))
