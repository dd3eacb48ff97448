"""derail's own launcher as an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.agents.invocation import LocalJob
from derail.agents.native_job import default_teardown, start_job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from derail.agents.native_job import NativeJob
    from derail.model.events import Observer
    from derail.scenario.model import JobResult, Promise, Scenario

_ELSEWHERE = ". Use another agent: --agent torchrun (in pytest --derail-agent=torchrun)"


class NativeAgent:
    """derail's own launcher as the supervisor of scenarios.

    Args:
        observers: further observers of the jobs' events.
        started: called with each job when its ranks run.
        handle_signals: whether SIGTERM and the others raise ``SignalException`` in the main thread while a job runs.
        record: whether ranks record their collectives, so that the result of a job that times out has a verdict.
    """

    name = "native"

    def __init__(
        self,
        *,
        observers: Sequence[Observer] = (),
        started: Callable[[NativeJob], None] | None = None,
        handle_signals: bool = False,
        record: bool = False,
    ) -> None:
        self._record = record
        self._observers = observers
        self._started = started
        self._handle_signals = handle_signals

    @property
    def promises(self) -> frozenset[Promise]:
        """All promises."""
        from derail.scenario.model import ALL_PROMISES

        return ALL_PROMISES

    def version(self) -> str:
        """Return the version of derail."""
        from importlib.metadata import version

        return version("derail")

    def unavailable(self) -> str:
        """Return an empty text: it can always run."""
        return ""

    def unsupported(self, scenario: Scenario) -> str:
        """Return why it cannot run the scenario: it starts ranks on this machine, without a separate process."""
        if scenario.nodes > 1:
            return f"it launches on one node, and the scenario needs {scenario.nodes}{_ELSEWHERE}"
        aimed = any(fault.target == "the agent" for fault in scenario.faults.faults)
        return f"derail itself supervises the ranks, so there is no agent to target{_ELSEWHERE}" if aimed else ""

    def run(self, scenario: Scenario, workdir: Path) -> JobResult:
        """Run the job of a scenario, and return its result."""
        from derail.agents.launcher_under_test import native_command, run_launcher
        from derail.agents.programs.script_function import FileFunction
        from derail.scenario.model import JobResult
        from derail.supervise.supervisor import SupervisorError

        if scenario.launches:
            return run_launcher(
                scenario,
                native_command(scenario, workdir),
                workdir,
                observers=self._observers,
                started=self._started,
                handle_signals=self._handle_signals,
            )
        try:
            job = start_job(
                LocalJob(
                    FileFunction(scenario.worker, scenario.function) if scenario.function else scenario.worker,
                    ranks=scenario.ranks,
                    args=scenario.args,
                    env=scenario.env,
                    plan=scenario.faults,
                    teardown=default_teardown(scenario.grace),
                    name=scenario.name,
                    restarts=scenario.restarts,
                    record=self._record,
                    steps=scenario.watched_steps,
                ),
                workdir=workdir,
                observers=self._observers,
                handle_signals=self._handle_signals,
            )
        except OSError as error:
            return JobResult(error=f"cannot start the job: {error}")
        try:
            if self._started is not None:
                self._started(job)
            return job.wait(scenario.timeout)
        except SupervisorError as error:
            return JobResult(faults=job.fault_results(), error=str(error), workdir=workdir)
        finally:
            job.close()
