"""Real jobs on gloo that hang: the rank that is out of step is named, and none if there is none."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest

from derail.agents.invocation import LocalJob
from derail.agents.native_job import default_teardown, start_job
from derail.diagnose.rings import read_rings
from derail.model.clock import SYSTEM_CLOCK
from derail.platform.proc_status import read_status
from diagnose import desyncs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import WaitUntil
    from derail.agents.invocation import Run
    from derail.agents.native_job import NativeJob

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("unmeasured")]
SEED = int(os.environ.get("DERAIL_DESYNC_SEED", "14"))
WAITS_IN = {
    "swapped_order": "broadcast",
    "wrong_shape": "all_reduce",
    "wrong_group": "all_reduce",
    "early_return": "barrier",
    "swallowed_exception": "barrier",
    "store_key": "store.wait",
}
"""Recorded calls in which culprits wait; the others wait in none."""
REASONS = {
    "missing_call": "missing call",
    "swapped_order": "other operation",
    "wrong_shape": "other shape",
    "wrong_group": "other group",
    "early_return": "other operation",
    "swallowed_exception": "other operation",
    "early_exit": "exited",
    "returned": "missing call",
    "stopped": "stopped",
    "lock": "missing call",
    "gil": "GIL held",
    "data_loader": "missing call",
    "store_key": "other operation",
}
WORDS = {
    "missing_call": "evaluate() at desyncs.py",
    "swapped_order": "called broadcast (float32[8], root 0) instead, as #",
    "wrong_shape": "called all_reduce (float32[3]) instead, as #",
    "wrong_group": "waits in all_reduce #1 (group 'other', float32[8])",
    "early_return": "called barrier instead, as #",
    "swallowed_exception": "called barrier instead, as #",
    "early_exit": "has ended (exit 0) after broadcast #",
    "stopped": "is stopped (state T) after broadcast #",
    "lock": "evaluate() at desyncs.py",
    "gil": "(waits on a lock and holds the GIL)",
    "returned": "never called it: after broadcast #6 its function returned",
    "data_loader": "(waits for its data loader)",
    "store_key": "waits in store.wait of key 'the key'",
}


@contextmanager
def running(run: Run, args: tuple[object, ...], directory: Path) -> Iterator[NativeJob]:
    """Run a job on recorded ranks, warm ones if it is a function."""
    job = start_job(
        LocalJob(
            run,
            ranks=desyncs.RANKS,
            args=args,
            env={"PYTHONPATH": str(Path(__file__).parents[1])},
            start_method="warm",
            preload=["torch", "torch.distributed"] if callable(run) else None,
            teardown=default_teardown(0),
            record=True,
            name="desync",
        ),
        workdir=directory,
    )
    try:
        yield job
    finally:
        job.stop("the test is over", grace=0)
        job.close()


def printed(job: NativeJob, rank: int) -> str:
    """Return what a rank has printed."""
    return job.log(rank, "stdout").read_text()


def is_stuck(job: NativeJob, kind: str, culprit: int) -> bool:
    """Return whether every rank waits where it stays, and has done so for longer than a step takes."""
    assert job.rings is not None
    rings = read_rings(job.rings)
    if "planted" not in printed(job, culprit) or len(rings) < desyncs.RANKS:
        return False
    waiting = {
        rank: ring.blocking or (ring.calls[-1] if ring.calls[-1].raised else None) for rank, ring in rings.items()
    }
    its_own = waiting.pop(culprit)
    if (its_own.operation if its_own is not None else None) != WAITS_IN.get(kind):
        return False
    if kind == "early_exit" and '"event": "exited"' not in job.journal.read_text():
        return False
    if kind == "stopped" and read_status(job.pids()[culprit]).get("State", "")[:1] != "T":
        return False
    calls = [call for ring in rings.values() for call in ring.calls]
    steps = [after.entered - before.entered for ring in rings.values() for before, after in pairwise(ring.calls)]
    silent = SYSTEM_CLOCK.now() - max(call.left or call.entered for call in calls)
    return all(waiting.values()) and silent > 10 * median(steps)


@pytest.mark.parametrize("kind", [each.__name__ for each in desyncs.CULPRITS])
def test_the_rank_that_is_out_of_step_is_named(tmp_path: Path, wait_until: WaitUntil, kind: str) -> None:
    """By its number, with the kind of evidence, and with what it does instead."""
    culprit = random.Random(f"{SEED} {kind}").randrange(desyncs.RANKS)
    program = [sys.executable, "-c", f"from diagnose import desyncs; desyncs.train({kind!r}, {culprit})"]
    run, args = (program, ()) if kind == "early_exit" else (desyncs.train, (kind, culprit))
    with running(run, args, tmp_path) as job:
        wait_until(lambda: is_stuck(job, kind, culprit), what="every rank waits")
        verdict = job.examine().verdict
        job.note_hang(verdict)
    print(verdict)

    assert verdict.ranks == (culprit,), verdict
    assert verdict.culprits[0].reason == REASONS[kind]
    assert WORDS[kind] in str(verdict)
    assert job.wait().hang == verdict


@pytest.mark.parametrize("kind", [each.__name__ for each in desyncs.CONTROLS])
def test_a_job_without_an_odd_rank_names_none(tmp_path: Path, wait_until: WaitUntil, kind: str) -> None:
    """It waits for something outside, is slow, waits for itself, or is paused."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        running(getattr(desyncs, kind), (server.getsockname()[1],), tmp_path) as job,
    ):
        wait_until(lambda: all("planted" in printed(job, rank) for rank in range(desyncs.RANKS)))
        if kind == "whole_job_paused":
            for pid in job.pids().values():
                os.kill(pid, signal.SIGSTOP)
            wait_until(lambda: all(read_status(pid)["State"][:1] == "T" for pid in job.pids().values()))
        if kind == "symmetric_deadlock":
            wait_until(lambda: all(ring.blocking for ring in read_rings(job.rings or tmp_path).values()))
        verdict = job.examine().verdict
    print(verdict)

    assert verdict.ranks == ()
    assert verdict.lines[0].startswith("hang: no rank stands out: ")
    assert "look here" not in str(verdict)
