"""A forked child gets the control signal, and lives."""

import os
import time

from derail.faults.catalogue.injector_api import control_signal

child = os.fork()
if child == 0:
    os.kill(os.getpid(), control_signal())
    time.sleep(0.05)
    print("child lives", flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("ready", flush=True)
time.sleep(60)
