"""A launcher with a keeper: ``JOB_ID SHELL REGISTERED``; its rank has helpers in its group and in another."""

import os
import subprocess
import sys

from derail.platform import lifeline

job_id, shell, registered = sys.argv[1:]
lifeline.SHELL = shell
line = lifeline.Lifeline(job_id)
line.start()
env = {**os.environ, "DERAIL_JOB": f"outer:{job_id}"}
script = "sleep 600 & echo $!; setsid sleep 600 & echo $!; trap '' TERM INT HUP; echo $$; while :; do sleep 600; done"
rank = subprocess.Popen(["sh", "-c", script], env=env, start_new_session=True, stdout=subprocess.PIPE)
pids = [int(rank.stdout.readline()) for _ in range(3)]
unmarked = subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"]}, start_new_session=True)
if registered != "unregistered":
    for _ in range(5_000 if registered == "behind many" else 0):
        assert line.register(4194304) and line.unregister(4194304)
    assert line.register(rank.pid) and line.register(unmarked.pid)
    pids.append(unmarked.pid)
else:
    unmarked.kill()
    unmarked.wait()
print(line.pid, *pids, flush=True)
sys.stdin.readline()
