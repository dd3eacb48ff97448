"""Children of the host's own are not reaped with the orphans of a job."""

import subprocess
import time

from orphans import zombies
from small_jobs import job

own = [subprocess.Popen(["sh", "-c", "exit 5"], start_new_session=new) for new in (False, True)]
running = job("for i in $(seq 10); do (true &); done; while :; do sleep 0.05; done")
context = next(running)
end = time.monotonic() + 60
while set(zombies()) != {str(child.pid) for child in own}:
    assert time.monotonic() < end, zombies()
    time.sleep(0.01)
context.wait(2.5)  # two looks, and half of one
context.close()
print([child.wait() for child in own])
