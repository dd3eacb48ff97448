"""A launcher that may start fewer ranks than it is asked for, and may clear their environment.

``starts_some.py RANKS CODE ENVIRONMENT COMMAND``
"""

import os
import subprocess
import sys

start, code, environment, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
inherited = {} if environment == "cleared" else dict(os.environ)
ranks = [subprocess.Popen(command, env={**inherited, "RANK": str(number)}) for number in range(start)]
ends = [rank.wait() for rank in ranks]
sys.exit(code or max(ends, default=0))
