"""A small launcher, its declaration, and a worker, for tests of ``derail.agent``."""

import os
import pathlib
import sys

import pytest

from derail import faults, when
from pytest_derail import *

LAUNCHERS = ""
HERE = pathlib.Path(__file__).parent
LAUNCHER = [sys.executable, "-u", f"{LAUNCHERS}/honest.py"]
SOME = [sys.executable, f"{LAUNCHERS}/starts_some.py"]
HONEST = [*LAUNCHER, "{ranks}", "{restarts}", "{grace}", "{script}", "{args}"]
DECLARED = HERE / "honest.toml"
DECLARED.write_text("""
name = "honest"
[report]
root_cause = '^root cause: rank (?P<rank>\\d+)$'
failure = '^rank (?P<rank>\\d+): (exit (?P<code>\\d+)|signal (?P<signal>\\d+)): (?P<message>.*)$'
""")
WORKER = HERE / "worker.py"
WORKER.write_text("""
import os, sys, time
def work():
    time.sleep(0.02)
for step in range(int(sys.argv[1])):
    print("step", step, flush=True)
    work()
""")
KILL = faults.signal("SIGKILL", rank=1, when=when.line("step 3"))
