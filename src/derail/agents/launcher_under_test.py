"""Run of a launcher as the rank of a derail job, which observes its exit and its leftovers, and outlives it."""

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
"""Environment variable with a file to which ranks append their output as well, bypassing the launcher."""
_MARGIN = 10.0
"""Seconds that a launcher may need to stop, in addition to its own grace period."""


def run_launcher(
    scenario: Scenario,
    argv: Sequence[str],
    workdir: Path,
    *,
    observers: Sequence[Observer] = (),
    started: Callable[[NativeJob], None] | None = None,
    handle_signals: bool = False,
) -> JobResult:
    """Run a scenario about a launcher: ``argv`` is rank 0, the target of its faults and expectations.

    The launcher does not see the variables of a derail rank, so that its own ranks do not inherit them. The output of
    its ranks reaches the triggers of faults even if the launcher does not show it: see ``STEPS_ENV``.
    """
    from derail.agents.invocation import LocalJob
    from derail.agents.native_job import default_teardown, start_job
    from derail.scenario.model import JobResult
    from derail.supervise.supervisor import SupervisorError

    try:
        job = start_job(
            LocalJob(
                ["env", *without_rank(), *map(str, argv)],
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
        return JobResult(error=f"cannot start the launcher: {error}")
    try:
        if started is not None:
            started(job)
        return job.wait(scenario.timeout)
    except SupervisorError as error:
        return JobResult(faults=job.fault_results(), error=str(error), workdir=workdir)
    finally:
        job.close()


def _with_steps(spec: JobSpec) -> JobSpec:
    """Give the launcher's ranks a path that bypasses the launcher: the file of its stderr, which triggers read."""
    from dataclasses import replace

    ranks = tuple(
        replace(rank, env={**rank.env, STEPS_ENV: os.fspath(rank.streams.stderr or "")}) for rank in spec.ranks
    )
    return replace(spec, ranks=ranks)


def without_rank() -> list[str]:
    """Return the arguments of ``env`` that unset all variables of a derail rank."""
    from derail.agents.invocation import rank_environment

    names = [*rank_environment(0, ranks=1, run_id="", master_port=0), "TORCHELASTIC_ERROR_FILE"]
    return [word for name in names for word in ("-u", name)]


def native_command(scenario: Scenario, workdir: Path) -> list[str]:
    """Return ``derail launch`` for the ranks of a scenario about a launcher, with logs under ``workdir``."""
    words = [sys.executable, "-u", "-c", "import sys; from derail.cli import main; sys.exit(main())", "launch"]
    words += ["-n", str(scenario.launches), "--grace", f"{scenario.grace:g}", "--tee", "3"]
    words += ["--output-dir", str(workdir / "launcher"), "--"]
    return [*words, os.fspath(scenario.worker), *scenario.args]
