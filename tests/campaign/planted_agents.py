"""Agents that run nothing, and whose runs break in a way of their own. Importable, so that they can be handed on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from derail import faults
from derail.faults.model.results import FaultResult, Injected
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, RankOutcome
from derail.scenario.model import ALL_PROMISES, Expect, FailureSeen, JobResult, Scenario

if TYPE_CHECKING:
    from pathlib import Path

KILL = faults.plan([faults.signal("SIGKILL", rank=0)])
KILLED = RankOutcome(0, 100, ExitStatus(signal=9), Cause.SELF, exit_order=0, exited_at=2.0)
SEEN = JobResult(
    ranks={0: KILLED},
    root_cause=0,
    started_at=1.0,
    ended_at=2.0,
    stop_requested_at=1.5,
    failures={0: FailureSeen(0, "it was killed", status=ExitStatus(signal=9))},
    log_tail={(0, "stdout"): ("step 1", "step 2 \x1b[31mred")},
    faults=(FaultResult(KILL.faults[0], 0, Injected("gone"), 1.5),),
    exit_code=137,
)


def scenario(name: str, worker: Path, **more: object) -> Scenario:
    """One that an agent which saw ``SEEN`` passes, unless ``more`` says otherwise."""
    told: dict[str, object] = {
        "ranks": 1, "faults": KILL, "grace": 0.1, "timeout": 20.0,
        "expect": Expect(succeeded=False, root_cause=0, exit_code=137),
    }  # fmt: skip
    return Scenario(f"the story of {name}", worker=worker, name=name, **{**told, **more})


class Planted:
    """An agent whose run breaks as the name of the scenario says."""

    name = "planted"
    promises = ALL_PROMISES

    def __init__(self, *, missing: str = "", hook: object = None) -> None:
        self.missing = missing
        self.hook = hook

    def version(self) -> str:
        """Its own."""
        return "1.2.3"

    def unavailable(self) -> str:
        """What it was made to say."""
        return self.missing

    def unsupported(self, scenario: Scenario) -> str:
        """It breaks if it is asked about one."""
        if "unasked" in scenario.name:
            raise RuntimeError("do not ask")
        if "interrupted" in scenario.name:
            os.kill(os.getpid(), signal.SIGINT)
        return "it never does that" if "unsupported" in scenario.name else ""

    def run(self, scenario: Scenario, workdir: Path) -> JobResult:
        """What the last part of the name says."""
        match scenario.name.rpartition("/")[2]:
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "raises":
                raise RuntimeError("no idea what to do")
            case "hangs":
                print("here I stay", flush=True)
                signal.pause()
            case "deaf":
                signal.signal(signal.SIGTERM, lambda *_: print("I do not care", flush=True))
                print("here I stay", flush=True)
                while True:
                    signal.pause()
            case "leaves":
                started = subprocess.Popen(
                    [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
                )
                (workdir / "pid").write_text(str(started.pid))
            case "exits":
                sys.exit(3)
        return SEEN
