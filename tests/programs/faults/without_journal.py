"""Comes to each kind of trigger while no journal can be written."""

import json
import os
import signal

from waiting import until

from derail.faults import fail_point

until('"event": "started"')  # the driver, too, makes a new journal where there is none
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
journal = os.environ["JOURNAL"]
os.rename(journal, journal + ".old")
os.mkdir(journal)
json.loads("1")
fail_point("here")
signal.raise_signal(signal.SIGUSR1)
import wave  # noqa: F401 - the plan names it

print("went on", flush=True)
os.rmdir(journal)
os.rename(journal + ".old", journal)
