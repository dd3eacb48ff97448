"""Takes in two exceptions, one of them while a function of the runtime runs."""

import os
import signal
import sys
import time

FUNCTION = ""
JOURNAL = os.environ["JOURNAL"]
NUMBER = 0


def wake(frame, event, _):
    if event == "line" and frame.f_code.co_name == FUNCTION and "inrank" in frame.f_code.co_filename:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [NUMBER])
    return wake


signal.pthread_sigmask(signal.SIG_BLOCK, [NUMBER])
print("ready", flush=True)
while '"tell"' not in open(JOURNAL).read():
    time.sleep(0.01)
caught = set()
sys.settrace(wake)
while len(caught) < 2:
    try:
        time.localtime()
        time.sleep(0.01)
    except ConnectionError as error:
        caught.add(str(error))
sys.settrace(None)
print(*sorted(caught), flush=True)
