"""A launcher that numbers its ranks by variables of any names: ``numbers.py RANKS RANK_NAME SIZE_NAME COMMAND``.

A name of "-" is not set.
"""

import os
import subprocess
import sys

ranks, (rank_name, size_name), command = int(sys.argv[1]), sys.argv[2:4], sys.argv[4:]
env = {**os.environ, size_name: str(ranks)}
running = [subprocess.Popen(command, env={**env, rank_name: str(rank)}) for rank in range(ranks)]
sys.exit(max(process.wait() for process in running))
