"""A launcher with a keeper, whose rank starts a Python helper: ``JOB_ID SHELL HELPER FILE``."""

import os
import subprocess
import sys

from derail.platform import lifeline

job_id, shell, helper, path = sys.argv[1:]
lifeline.SHELL = shell
line = lifeline.Lifeline(job_id)
line.start()
script = '"$1" -c "$2" "$3" & wait'
rank = subprocess.Popen(
    ["sh", "-c", script, "sh", sys.executable, helper, path],
    start_new_session=True,
    env={**os.environ, "DERAIL_JOB": job_id},
    stdout=subprocess.PIPE,
)
rank.stdout.readline()
assert line.register(rank.pid)
print(line.pid, rank.pid, flush=True)
sys.stdin.readline()
