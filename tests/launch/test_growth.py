"""The cost of a job per rank is the same for few ranks and for many."""

from __future__ import annotations

import collections
import os
import signal
import threading

import pytest

from derail import DefaultLogsSpecs, start_processes

FEW, MANY = 32, 256


def calls_per_rank(ranks, log_dir, end):
    """Return the average calls of each function, Python's and C's, in the thread of a job of sleeping programs.

    Of a look at all processes of the machine, only the look itself counts: other programs start processes, too.
    """
    calls = collections.Counter()
    looks = []

    def count(frame, event, arg):
        name = frame.f_code.co_qualname
        if looks:
            if event == "return" and frame is looks[0]:
                looks.clear()
        elif event == "call":
            calls[name] += 1
            if name == "find_processes":
                looks.append(frame)
        elif event == "c_call":
            calls[arg.__qualname__] += 1

    everyone = range(ranks)
    threading.setprofile(count)
    try:
        job = start_processes(
            "growth",
            "sleep",
            args=dict.fromkeys(everyone, ("600",)),
            envs={rank: {} for rank in everyone},
            logs_specs=DefaultLogsSpecs(log_dir=str(log_dir)),
        )
    finally:
        threading.setprofile(None)
    end(job)
    return {name: number / ranks for name, number in calls.items()}


def close(job):
    """End the job before a rank has ended."""
    job.close()


def kill_one(job):
    """Make the job end by killing one of its ranks."""
    os.kill(job.pids()[0], signal.SIGKILL)
    assert job.wait(60).failures


@pytest.mark.parametrize("end", [close, kill_one])
def test_no_function_is_called_more_often_per_rank_in_a_large_job(end, tmp_path):
    """Start, supervision and end of 256 ranks are eight times the work of 32 ranks, not sixty-four times."""
    few = calls_per_rank(FEW, tmp_path / "few", end)
    many = calls_per_rank(MANY, tmp_path / "many", end)

    assert {name: (few.get(name, 0), each) for name, each in many.items() if each > 1.5 * few.get(name, 0) + 2} == {}
    assert sum(many.values()) < 1.1 * sum(few.values())
