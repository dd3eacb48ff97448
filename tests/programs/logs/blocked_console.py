"""A host whose console is a pipe that nobody reads: ``LINE_LENGTH``."""

import os
import sys
import threading

from derail.logs import ConsoleSink, Lines

reading, writing = os.pipe()
os.dup2(writing, 1)
sink = ConsoleSink(sys.stdout)
sink.start()
for _ in range(40):
    sink.take(0, Lines(b"x" * int(sys.argv[1]) + b"\n"))
missed = sink.close(idle=0.2)
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(60)
print(missed > 0, threading.active_count(), file=sys.stderr)
raise SystemExit(7)
