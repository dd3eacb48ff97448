"""Waits for a child while SIGCHLD is ignored: ``USE_PIDFD``."""

import signal
import subprocess
import sys

from derail.platform import exits

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
child = subprocess.Popen(["sh", "-c", "read line; exit 7"], stdin=subprocess.PIPE)
exit_fd = exits.open_exit_fd(child.pid, use_pidfd=sys.argv[1] == "True")
child.stdin.write(b"\n")
child.stdin.close()
exits.wait_readable(exit_fd, 60)
status = exits.peek(child.pid, exit_fd)
print(status.code, bool(status.lost))
child.returncode = 0
