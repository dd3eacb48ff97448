"""A job for which there are too few descriptors."""

import os
import resource
import sys

from derail import DefaultLogsSpecs, start_processes

fds = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (fds + 12, fds + 12))
n = 40
try:
    start_processes(
        "job", "/bin/sleep", dict.fromkeys(range(n), ("600",)), {r: {} for r in range(n)}, DefaultLogsSpecs(sys.argv[1])
    )
except OSError as error:
    print(error.errno, error)
resource.setrlimit(resource.RLIMIT_NOFILE, (fds + 12, fds + 12))
print(len(os.listdir("/proc/self/fd")) == fds)
