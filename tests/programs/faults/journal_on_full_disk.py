"""Writes to a journal which may not grow by more than ten bytes."""

import resource
import signal

JOURNAL = ""
SIZE = 0
from pathlib import Path

from derail.faults.engine.journal import Journal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE + 10, SIZE + 10))
try:
    Journal(Path(JOURNAL)).write("b", text="x" * 100)
except OSError as error:
    print(error)
