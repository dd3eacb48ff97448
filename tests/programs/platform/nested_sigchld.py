"""Two overlapping uses of the default disposition."""

import signal

from derail.platform.sigchld import default_sigchld, is_ignored

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
first, second = default_sigchld(), default_sigchld()
first.__enter__()
second.__enter__()
first.__exit__(None, None, None)
print(is_ignored(signal.SIGCHLD))
second.__exit__(None, None, None)
print(is_ignored(signal.SIGCHLD))
