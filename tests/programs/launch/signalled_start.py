"""SIGTERM arrives while the thread of the job starts: in this thread, then as in another."""

import signal
import threading
import time

from derail import DefaultLogsSpecs, Teardown, start_processes

name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
real = getattr(threading, name)


def start(function, *args, **more):
    result = real(function, *args, **more)
    thread = function.__self__
    if thread.name.startswith("derail-j"):
        while thread in threading._limbo:
            time.sleep(0.0001)
        if blocked:
            signal.raise_signal(signal.SIGTERM)
        else:
            signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)  # as when another thread took the signal
    return result


setattr(threading, name, start)
for blocked in (True, False):
    try:
        start_processes("j", "sleep", {0: ("100",)}, {0: {}}, DefaultLogsSpecs(), teardown=Teardown(grace=0))
    except Exception as error:
        print(type(error).__name__, len(threading.enumerate()))
