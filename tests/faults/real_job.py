"""Jobs that derail launches itself, for tests that inspect the ranks from outside."""

import json
import os
import time
from contextlib import contextmanager
from pathlib import Path

from derail.agents.invocation import LocalJob
from derail.agents.native_job import default_teardown, start_job
from derail.faults import Plan
from derail.faults.engine import journal
from program_files import UNTIL

DEADLINE = 120.0
ENDED, HEALED, EXITED = (f'"event": "{event}"' for event in ("end", "healed", "exited"))
"""What the journal has when it is known what came of a fault, when it is over, and when a rank has ended."""
LATER_THAN_RANK_0 = f"""{UNTIL}
if os.environ["RANK"] != "0":
    until('{EXITED}')
print("ready", flush=True)
"""
"""A program that is over at once in rank 0, and in the others when the engine has seen that."""


@contextmanager
def running(tmp_path, program, *given, ranks=1, grace=1.0, seed=0, observers=(), **options):
    """Yield a running job, and end it afterwards; ``program`` is Python source, an argv or a function."""
    run = program
    if isinstance(program, str):
        run = tmp_path / "program.py"
        run.write_text("import os, sys, time\n" + program)
    job = start_job(
        LocalJob(run, ranks=ranks, teardown=default_teardown(grace), **{"plan": Plan(tuple(given), seed), **options}),
        workdir=tmp_path / "work",
        observers=observers,
    )
    try:
        yield job
    finally:
        job.close()


def ended(tmp_path, program, *given, **options):
    """What was observed of a job that ran to its end, and what rank 0 wrote."""
    with running(tmp_path, program, *given, **options) as job:
        seen = job.wait(DEADLINE)
        return seen, job.log(0, "stdout").read_text()


def wait_for(look, what="it"):
    """Poll until the result is true."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.01)  # noqa: TID251 - /proc tells nobody when it changes
    raise AssertionError(f"{what} was not seen within {DEADLINE:g} s")


def output_of(job, *, lines=1):
    """Return the stdout of rank 0 once it has this many whole lines: print() may write a line in several parts."""
    log = job.log(0, "stdout")
    return wait_for(lambda: text if (text := log.read_text()).count("\n") >= lines else "", f"line {lines}")


def record_of(job, event):
    """Return the first record of a kind in the journal, once it exists."""
    return wait_for(lambda: next((r for r in journal.read(job.journal) if r["event"] == event), None), event)


def result_of(job):
    """Return the result of the only fault, once it is final."""
    return record_of(job, "end")["result"]


def stat_of(pid):
    """Return the fields of /proc/PID/stat after the name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def state_of(pid):
    """Return the state letter; "" if the process is gone."""
    try:
        return stat_of(pid)[0]
    except OSError:
        return ""


def unprivileged():
    """Return whether this process has no more rights than an ordinary user."""
    return os.geteuid() != 0


def told(text):
    """Return the JSON of a rank's last line."""
    return json.loads(text.splitlines()[-1])
