"""Rank 1 leaves a daemon."""

import os
import signal

import pytest


def leave():
    if os.environ["RANK"] == "1":
        its_end, ready = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(ready, b"%d" % os.getpid())
                os.closerange(0, 100)
                while True:
                    signal.pause()
            os._exit(0)
        os.wait()
        print("DAEMON", os.read(its_end, 100).decode())
        os.close(its_end)
        os.close(ready)
