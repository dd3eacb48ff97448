"""A process of the job gets the PID of one that was there before."""

import os
import subprocess
import sys

from small_jobs import job, sleepers

before = subprocess.Popen(["sleep", "888"])
running = job("read line < fifo; sleep 777 & exit 0")
os.chdir(sys.argv[1])
os.mkfifo("fifo")
next(running)
before.kill()
before.wait()
with open("fifo", "w") as fifo:
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(before.pid - 1))
    fifo.write("go\n")
left = next(running)
print(left, sleepers())
