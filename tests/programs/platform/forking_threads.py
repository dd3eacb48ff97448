"""Threads fork while a notifier is closed: ``DIRECTORY``."""

import os
import sys
import threading

from derail.platform import inotify


def fork():
    together.wait()
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


for _ in range(20):
    notifier = inotify.Notifier.open()
    notifier.watch_directory(sys.argv[1])
    together = threading.Barrier(4)
    threads = [threading.Thread(target=fork) for _ in range(3)]
    for thread in threads:
        thread.start()
    notifier.close(wait=False)
    together.wait()
    for thread in threads:
        thread.join()
print("done")
