"""Something happens once an exception was sent to the main thread."""

import os
import threading
import time

from waiting import until


def when_sent(act):
    def watch():
        until('"event": "start"')
        while len(os.listdir("/proc/self/task")) > 2:  # the main thread, this one, and the one that sends it
            time.sleep(0.001)
        act()

    threading.Thread(target=watch, daemon=True).start()
