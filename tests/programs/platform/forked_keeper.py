"""A forked child of a launcher with a keeper: ``JOB_ID``; the child has let go of it."""

import os
import sys

from derail.platform.lifeline import Lifeline

line = Lifeline(sys.argv[1])
line.start()
keeper = line.pid
if (pid := os.fork()) == 0:
    assert (line.fd, line.pid, line.register(os.getpid())) == (-1, None, False)
    print(keeper, os.getpid(), flush=True)
    sys.stdin.readline()
    os._exit(0)
os.waitpid(pid, 0)
