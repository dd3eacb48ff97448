"""Interrupt waits for flags by a signal handler that raises, at any point, and print what was not as it should be."""

import random
import signal
import threading

from derail.platform.threads import Flag

ROUNDS = 3000


class Interrupted(Exception):
    """Raised by the handler."""


def interrupt(*_):
    raise Interrupted


signal.signal(signal.SIGALRM, interrupt)
counted = {"interrupted": 0, "others": 0, "not set": 0}
for _ in range(ROUNDS):
    flag = Flag()
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(5e-6, 60e-6))
        while True:
            flag.wait(0.0001)
    except Interrupted:
        counted["interrupted"] += 1
    except RuntimeError:
        counted["others"] += 1
    setter = threading.Thread(target=flag.set, daemon=True)
    setter.start()
    if not flag.wait(20):
        counted["not set"] += 1
        break
    setter.join(20)
    flag.set()
print(counted)
