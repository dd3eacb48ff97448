"""Calls what a plan names, and prints all by which a program could see that it is watched."""

import inspect
import json
import signal
import sys
import time

import things

signal.signal(signal.SIGUSR1, signal.SIG_IGN)
for n in range(2):
    things.first(n)
    json.dumps(n)
    time.sleep(0)
import wave  # noqa: F401 - the plan names it

signal.raise_signal(signal.SIGUSR1)
print([name for name in vars(things) if "derail" in name], str(inspect.signature(things.first)))
print([finder for finder in sys.meta_path if "derail" in type(finder).__module__])
print([getattr(sys, "monitoring").get_tool(tool) for tool in (3, 4)] if hasattr(sys, "monitoring") else [None, None])
print(time.sleep, json.dumps.__code__.co_filename == json.__file__, signal.signal.__module__)
print(signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN, __import__)
