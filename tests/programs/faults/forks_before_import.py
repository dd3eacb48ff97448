"""Parent and child of a fork import the same module."""

import os
import threading

from waiting import until

child = os.fork()
if child:
    os.waitpid(child, 0)
    threading.Thread(target=lambda: (until('"event": "end"'), os._exit(0)), daemon=True).start()
import colorsys  # noqa: F401 - the plan names it

if not child:
    print("child", flush=True)
