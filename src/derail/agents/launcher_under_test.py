"""A launcher as the rank of a job of ours, which sees how it ends and what it leaves, and outlives it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from derail.agents.native_job import NativeJob
    from derail.model.events import Observer
    from derail.model.spec import JobSpec
    from derail.scenario.model import JobResult, Scenario

STEPS_ENV = "DERAIL_STEPS"
"""Environment variable that names a file to which workers append what they print, past the launcher."""
_MARGIN = 10.0
"""Seconds that a launcher may take, besides its own grace, to end when it is asked to."""


def run_launcher(
    scenario: Scenario,
    argv: Sequence[str],
    workdir: Path,
    *,
    observers: Sequence[Observer] = (),
    started: Callable[[NativeJob], None] | None = None,
    handle_signals: bool = False,
) -> JobResult:
    """Run a scenario about a launcher: ``argv`` is rank 0, faults and expectations are about it and what it leaves.

    The variables of our rank are not the launcher's business, so its ranks inherit none of those that it does not set.
    What the ranks print reaches the triggers of faults also if the launcher shows nothing of it: see ``STEPS_ENV``.
    """
    from derail.agents.invocation import LocalJob
    from derail.agents.native_job import default_teardown, start_job
    from derail.scenario.model import JobResult
    from derail.supervise.supervisor import SupervisorError

    try:
        job = start_job(
            LocalJob(
                ["env", *_without_rank(), *map(str, argv)],
                ranks=1,
                env=scenario.env,
                plan=scenario.faults,
                teardown=default_teardown(scenario.grace + _MARGIN),
                name=scenario.name,
            ),
            workdir=workdir,
            observers=observers,
            handle_signals=handle_signals,
            prepare=_with_steps,
        )
    except OSError as error:
        return JobResult(error=f"the launcher could not be started: {error}")
    try:
        if started is not None:
            started(job)
        return job.wait(scenario.timeout)
    except SupervisorError as error:
        return JobResult(faults=job.fault_results(), error=str(error), workdir=workdir)
    finally:
        job.close()


def _with_steps(spec: JobSpec) -> JobSpec:
    """Give the launcher's ranks a way past the launcher: the file of its stderr, whose lines set off faults."""
    from dataclasses import replace

    ranks = tuple(
        replace(rank, env={**rank.env, STEPS_ENV: os.fspath(rank.streams.stderr or "")}) for rank in spec.ranks
    )
    return replace(spec, ranks=ranks)


def _without_rank() -> list[str]:
    """What `env` leaves out: all that makes a process a rank of ours."""
    from derail.agents.invocation import rank_environment

    names = [*rank_environment(0, ranks=1, run_id="", master_port=0), "TORCHELASTIC_ERROR_FILE"]
    return [word for name in names for word in ("-u", name)]


def native_command(scenario: Scenario, workdir: Path) -> list[str]:
    """``derail launch``, for the ranks of a scenario about a launcher, with their logs under ``workdir``."""
    words = [sys.executable, "-u", "-c", "import sys; from derail.cli import main; sys.exit(main())", "launch"]
    words += ["-n", str(scenario.launches), "--grace", f"{scenario.grace:g}", "--tee", "3"]
    words += ["--output-dir", str(workdir / "launcher"), "--"]
    return [*words, os.fspath(scenario.worker), *scenario.args]
