"""The end of a job's logs: all lines reach the consoles that accept them, however busy the machine is."""

from __future__ import annotations

import io
import sys
import time

from derail import DefaultLogsSpecs, Std, start_processes
from derail.supervise import log_readers


class StandsStill:
    """A clock of a process that gets no CPU time for a minute and a half between any two readings."""

    def __init__(self):
        self.lost = 0.0

    def now(self):
        """Return a later time at each call."""
        self.lost += 90.0
        return time.monotonic() + self.lost


def test_a_console_is_not_given_up_while_the_launcher_is_stalled(tmp_path, monkeypatch):
    """It accepts all output; a delay of the launcher does not count against the console."""
    console = io.StringIO()
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(log_readers, "SYSTEM_CLOCK", StandsStill())
    script = "yes 'a line of some length' | head -n 200000"
    context = start_processes(
        "job", "/bin/sh", {0: ("-c", script)}, {0: {}}, DefaultLogsSpecs(str(tmp_path), tee=Std.OUT)
    )
    result = context.wait(120)

    assert (result.console_missed, console.getvalue().count("\n")) == (0, 200_000)
