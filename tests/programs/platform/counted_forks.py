"""Forks while a notifier is closed: ``DIRECTORY``; prints how many threads each fork met."""

import os
import sys

seen = []
os.register_at_fork(before=lambda: seen.append(len(inotify._closing)))  # the first one registered is the last one run
from derail.platform import inotify

for _ in range(20):
    notifier = inotify.Notifier.open()
    notifier.watch_directory(sys.argv[1])
    notifier.close(wait=False)
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
print(len(seen), sum(seen))
