"""A child that is forked while the keeper adopts forks: ``JOB_ID``."""

import os
import sys
import time

from derail.platform.lifeline import Lifeline

line = Lifeline(sys.argv[1])
line.start()
with line.adopts_forks():
    pid = os.fork()
if pid == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    time.sleep(600)
os.waitpid(pid, 0)
