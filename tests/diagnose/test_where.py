"""``derail where``: the place of a job that runs or ran, by a pid or its journal."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from derail.agents.invocation import LocalJob
from derail.agents.native_job import default_teardown, start_job
from derail.diagnose.rings import read_rings
from derail.diagnose.where import of_journal, of_process
from derail.model.input_error import InputError
from program_files import program_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import WaitUntil
    from derail.agents.native_job import NativeJob

PROGRAM = program_text("diagnose/one_goes_elsewhere")
WORDS = "rank 1 never called it: after exchange #5 it went to evaluate() at <string>:"


@pytest.fixture
def job(tmp_path: Path, wait_until: WaitUntil, unmeasured: None) -> Iterator[NativeJob]:
    """A job of programs whose rank 1 goes elsewhere."""
    started = start_job(
        LocalJob([sys.executable, "-uc", PROGRAM], ranks=3, teardown=default_teardown(0), record=True),
        workdir=tmp_path / "job",
    )
    try:
        wait_until(lambda: is_stuck(started))
        yield started
    finally:
        started.close()


def is_stuck(job: NativeJob) -> bool:
    """Return whether all ranks are where they stay."""
    assert job.rings is not None
    waiting = {rank for rank, ring in read_rings(job.rings).items() if ring.blocking is not None}
    return waiting == {0, 2} and "begun" in job.log(1, "stdout").read_text()


def test_a_running_job_is_found_by_a_rank_or_its_journal(job: NativeJob) -> None:
    """The verdict names the rank, and the stacks of all ranks are there."""
    for place in (of_process(job.pids()[2]), of_journal(job.journal)):
        assert place.verdict.ranks == (1,)
        assert WORDS in str(place.verdict)
        assert set(place.stacks) == {0, 1, 2}
        assert "in evaluate" in place.stacks[1]
        assert not place.is_over
        assert place.journal == job.journal


def test_a_running_job_is_found_by_its_launcher(job: NativeJob) -> None:
    """That is an ancestor of its ranks."""
    assert of_process(os.getpid()).verdict.ranks == (1,)


def test_a_job_that_timed_out_keeps_its_verdict(job: NativeJob) -> None:
    """It is in the journal, with the evidence."""
    result = job.wait(0.5)
    place = of_journal(job.journal)

    assert place.is_over
    assert result.hang is not None
    assert (place.verdict.culprits, place.verdict.lines) == (result.hang.culprits, result.hang.lines)
    assert place.stacks == {}


def test_a_job_that_was_ended_is_judged_by_what_its_ranks_had_recorded(job: NativeJob) -> None:
    """Ranks that were ended with the job count as they were before."""
    job.close()
    place = of_journal(job.journal)

    assert place.is_over
    assert place.verdict.ranks == (1,)
    assert "hang: ranks 0, 2 wait in exchange #6 called at <string>:" in str(place.verdict)


def test_what_has_no_record_is_an_error_that_says_so(tmp_path: Path, job: NativeJob) -> None:
    """Processes and journals without one, several jobs of one process, and paths that lead nowhere."""
    journal = tmp_path / "journal.jsonl"
    journal.write_text(json.dumps({"event": "plan"}) + "\n")
    for ask, words in (
        (lambda: of_journal(journal), "its ranks recorded no collectives"),
        (lambda: of_journal(tmp_path / "none"), "No such file"),
        (lambda: of_journal(tmp_path), "not a regular file"),
        (lambda: of_process(1 << 30), "there is no process"),
    ):
        with pytest.raises(InputError, match=words):
            ask()
    second = start_job(
        LocalJob([sys.executable, "-uc", PROGRAM], ranks=3, teardown=default_teardown(0), record=True),
        workdir=tmp_path / "second",
    )
    try:
        while not is_stuck(second):
            pass
        with pytest.raises(InputError, match="has 2 jobs"):
            of_process(os.getpid())
    finally:
        second.close()
