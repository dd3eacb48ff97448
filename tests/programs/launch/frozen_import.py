"""Imports derail while the time is frozen, and waits for a job."""

import sys
import time

TOOL = "freezegun"
LONG_AGO = "2001-01-01"
read = time.clock_gettime
if TOOL == "freezegun":
    import freezegun

    frozen = freezegun.freeze_time(LONG_AGO)
else:
    import time_machine

    frozen = time_machine.travel(LONG_AGO, tick=False)
frozen.start()
assert not any(name.partition(".")[0] == "derail" for name in sys.modules)
from derail import DefaultLogsSpecs, start_processes
from derail.model.clock import SYSTEM_CLOCK

job = start_processes("j", "/bin/sleep", {0: ("600",)}, {0: {}}, logs_specs=DefaultLogsSpecs())
begun = read(time.CLOCK_MONOTONIC)
print(job.wait(0.3), read(time.CLOCK_MONOTONIC) - begun >= 0.3, time.gmtime(SYSTEM_CLOCK.wall()).tm_year > 2001)
job.close()
