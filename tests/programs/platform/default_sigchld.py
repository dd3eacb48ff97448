"""The exit code of a child while SIGCHLD is ignored, and not: ``main`` or ``thread``."""

import signal
import subprocess
import sys
import threading

from derail.platform.sigchld import default_sigchld, is_ignored


def code():
    return subprocess.run(["sh", "-c", "exit 7"]).returncode


def look():
    with default_sigchld():
        inside.append((code(), is_ignored(signal.SIGCHLD)))


signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(code(), is_ignored(signal.SIGCHLD))
inside = []
if sys.argv[1] == "thread":
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
else:
    look()
print(*inside[0])
print(code(), is_ignored(signal.SIGCHLD), signal.getsignal(signal.SIGCHLD).name)
