"""Forks while a notifier begins to close."""

import _thread
import os
import signal

held = _thread.allocate_lock()
held.acquire()
os.register_at_fork(before=lambda: inotify._closing.add(held))  # run after the one that waits
from derail.platform import inotify

pid = os.fork()
if not pid:
    signal.alarm(30)
    inner = os.fork()
    if not inner:
        os._exit(0)
    os.waitpid(inner, 0)
    os._exit(0)
print(os.waitpid(pid, 0)[1])
