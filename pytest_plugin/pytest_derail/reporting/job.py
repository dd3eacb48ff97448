"""Sections about one job in the report of a failed test."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from derail.report.text import SHOWN_RANKS, TAIL_LINES, printable
from pytest_derail.faults_marker import again, once_more
from pytest_derail.jobs.job import Job
from pytest_derail.ranks.stacks import places
from pytest_derail.reporting.sections import sections

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from pytest_derail.jobs.agent_job import AgentJob


def job_sections(
    item: pytest.Item, index: int, job: Job | AgentJob, *, text: str, marked: bool
) -> Iterator[tuple[str, str]]:
    """Yield the sections, each with its title.

    Args:
        item: the test.
        index: the number of the job in the test.
        job: the job.
        text: the report so far; facts that an assertion has shown already are not repeated.
        marked: whether its plan comes from the test's marker.
    """
    name = f"derail: job {index}"
    seen = job.poll()
    whole = f"{name} ({job.name}, {len(job.pids())} ranks)"
    if seen is None:
        yield whole, "\n".join([f"rank {rank}: runs, pid {pid}" for rank, pid in sorted(job.pids().items())])
        yield from _whereabouts(name, job)
        if isinstance(job, Job):
            yield from _printed(name, job)
        yield f"{name}: evidence", f"logs: {job.workdir}"
        return
    yield from _whereabouts(name, job)
    asserted = re.search(rf"^E\s+logs: {re.escape(str(seen.workdir))}$", text, re.MULTILINE) is not None
    for part, body in sections(seen, shown=asserted):
        yield f"{name}: {part}" if part else whole, body
    commands = "\n".join(again(item, job.plan, job.workdir) if marked else once_more(item, job))
    if commands:
        yield f"{name}: to run it again", commands


def _whereabouts(name: str, job: Job | AgentJob) -> Iterator[tuple[str, str]]:
    for title, text in places(getattr(job, "where", {})):
        yield f"{name}: {title}", "\n".join(map(printable, text.splitlines()))


def _printed(name: str, job: Job) -> Iterator[tuple[str, str]]:
    """Yield the last lines of each rank, without the stack that derail has requested."""
    for rank in sorted(job.pids())[:SHOWN_RANKS]:
        for stream in ("stdout", "stderr"):
            try:
                data = job.log(rank, stream).read_bytes()
            except OSError:
                continue
            place = job.where.get(rank)
            if stream == "stderr" and place is not None:
                data = data[: place.stderr_end]
            lines = data.decode(errors="replace").splitlines()[-TAIL_LINES:]
            if lines:
                yield f"{name}: rank {rank}, last lines of {stream}", "\n".join(map(printable, lines))
