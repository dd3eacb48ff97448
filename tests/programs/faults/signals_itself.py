"""A rank whose SIGTERM may have the handler of a fault: it sends itself one, and stays."""

import os
import signal
import time

from waiting import until

until('"event": "start"')
try:
    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
except KeyError:
    time.sleep(60)
