"""A launcher with a keeper that has unregistered the first process: ``JOB_ID PID ...``."""

import sys

from derail.platform.lifeline import Lifeline

line = Lifeline(sys.argv[1])
line.start()
for pid in sys.argv[2:]:
    assert line.register(int(pid))
assert line.unregister(int(sys.argv[2]))
print(line.pid, flush=True)
sys.stdin.readline()
