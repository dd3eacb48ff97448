"""Campaign of many scenarios on one agent: skip those that cannot run here, run each in a subprocess, score them."""

from __future__ import annotations

import os
import shutil
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from derail.campaign.run_scenario import Run, as_data, gate, judged, load_scenario, run_scenario
from derail.campaign.runner import interpreter
from derail.faults.engine.journal import JOURNAL
from derail.faults.registry import entry
from derail.model.clock import SYSTEM_CLOCK
from derail.platform.private_files import is_of_another_user, make_private
from derail.scenario.model import Verdict
from derail.scenario.observe import tail
from derail.spawn.payload import path_front

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from derail.agents.agent import Agent
    from derail.campaign.runner import Ended, Runner
    from derail.report.lanes import Timeline
    from derail.report.scorecard import Machine, Row, Scorecard
    from derail.scenario.model import Kind, Scenario

__all__ = ["Began", "Judged", "News", "Run", "as_data", "gate", "load_scenario", "run_scenario", "verify"]

MARGIN = 60.0
"""Seconds that a run may take in addition to the time limit of its job: start, clean-up, a busy machine."""
ORDER, ROW, OUTPUT = "order", "row.json", "runner.log"
TIMED = frozenset({"stragglers"})
"""Families of faults with timed runs: no other run happens at the same time."""


@dataclass(frozen=True, slots=True)
class Began:
    """Event: a scenario starts to run."""

    scenario: str


@dataclass(frozen=True, slots=True)
class Judged:
    """Event: a scenario has its row."""

    row: Row


News: TypeAlias = Began | Judged


def verify(
    agent: Agent,
    scenarios: Iterable[Scenario],
    *,
    workdir: Path,
    jobs: int = 1,
    on_news: Callable[[News], None] = lambda _: None,
    keep: bool = True,
    handle_signals: bool = False,
) -> Scorecard:
    """Run scenarios on an agent, each in a subprocess, and return the scorecard.

    A run that breaks, or takes too long, is INCONCLUSIVE; the others still run. Leftovers of a run are ended before the
    next one begins. If an exception leaves this function (from a signal, for example), all runs are ended.

    Args:
        agent: the agent; it is pickled, so its class must be importable.
        scenarios: each with a unique name.
        workdir: each run has a folder in it, named after its scenario. A folder of an earlier campaign is cleared.
        jobs: the number of runs at the same time. Timed runs have the machine for themselves, after the others.
        on_news: receives each beginning and each row, in this thread.
        keep: whether the folders of the runs are kept.
        handle_signals: whether SIGTERM and similar signals raise ``SignalException`` in the main thread. A second one,
            while runs are being ended, ends them at once.

    Raises:
        SignalException: if signals are handled and one arrived; nothing is left of the runs then.
        ValueError: if scenarios have no names or the same, the agent cannot be pickled, or the folder of a run has
            files that do not come from a campaign.
        OSError: if no process can be started, or the folder cannot be written.
    """
    from importlib.metadata import version

    from derail.campaign.runner import Runner, Signals
    from derail.report.scorecard import PROMISES, Scorecard

    chosen = list(scenarios)
    names = [scenario.name for scenario in chosen]
    if "" in names or len(set(names)) < len(names):
        raise ValueError("scenarios: each scenario needs a unique name")
    for name in names:
        _check_is_ours(workdir / name)
    for name in names:  # logs, journals and checkpoints of an earlier campaign do not belong to this one
        shutil.rmtree(workdir / name, ignore_errors=True)
    began, date = SYSTEM_CLOCK.now(), datetime.fromtimestamp(SYSTEM_CLOCK.wall(), UTC)
    campaign = _Campaign(agent, workdir, on_news, keep=keep)
    signals = Signals(times=2, anywhere=False)
    with signals if handle_signals else nullcontext(), Runner(signals) as runner:
        campaign.run(runner, [scenario for scenario in chosen if not is_timed(scenario)], jobs)
        campaign.run(runner, [scenario for scenario in chosen if is_timed(scenario)], 1)
    return Scorecard(
        agent=agent.name,
        version=agent.version(),
        promises=tuple(promise for promise in PROMISES if promise in agent.promises),
        machine=_machine(),
        date=f"{date:%Y-%m-%dT%H:%M:%SZ}",
        seconds=round(SYSTEM_CLOCK.now() - began, 3),
        derail=version("derail"),
        rows=tuple(campaign.rows[name] for name in sorted(campaign.rows)),
    )


def _check_is_ours(folder: Path) -> None:
    """Refuse a folder with files that do not come from an earlier run, which may be cleared.

    Raises:
        ValueError: if the folder has such files.
    """
    if is_of_another_user(folder):
        raise ValueError(f"{folder}: not safe to clear: another user could replace its files. Give your own directory")
    if folder.is_symlink() or (folder.exists() and not (folder / ORDER).is_file() and any(folder.iterdir())):
        raise ValueError(f"{folder}: contains files that do not come from a run of derail. Give another directory")


def is_timed(scenario: Scenario) -> bool:
    """Return whether a run of the scenario is timed, and needs the machine for itself."""
    return any(entry(fault.name).family in TIMED for fault in scenario.faults.faults)


class _Campaign:
    """Runs of one agent, and their rows by scenario."""

    def __init__(self, agent: Agent, workdir: Path, on_news: Callable[[News], None], *, keep: bool) -> None:
        self._agent = agent
        self._workdir = workdir
        self._on_news = on_news
        self._keep = keep
        self._began: dict[str, tuple[Scenario, float]] = {}
        self.rows: dict[str, Row] = {}

    def run(self, runner: Runner, scenarios: Iterable[Scenario], jobs: int) -> None:
        """Run these scenarios, at most ``jobs`` at the same time."""
        waiting = deque(scenarios)
        while waiting or runner.running:
            while waiting and len(runner.running) < max(1, jobs):
                self._start(runner, waiting.popleft())
            if runner.running:
                self._end(runner.wait())

    def _start(self, runner: Runner, scenario: Scenario) -> None:
        self._on_news(Began(scenario.name))
        self._began[scenario.name] = (scenario, SYSTEM_CLOCK.now())
        try:
            skipped = gate(scenario, self._agent)
        except Exception as error:  # an agent may be third-party code
            self._broke(scenario, f"{self._agent.name}: its availability check failed: {type(error).__name__}: {error}")
            return
        if skipped is not None:
            self._enter(_row(skipped, self._agent))
            return
        folder = self._folder(scenario)
        make_private(folder)
        (folder / ORDER).write_text(f"{self._agent.name}: {scenario.name}\n", encoding="utf-8")
        runner.start(
            scenario.name,
            interpreter(__name__, name=scenario.name),
            stdin=path_front() + _order(self._agent, scenario, folder),
            output=folder / OUTPUT,
            seconds=scenario.timeout + 2 * scenario.grace + MARGIN,
        )

    def _end(self, ended: Ended) -> None:
        """Read the row of a run that has ended; make one if the run left none."""
        from derail.model.input_error import InputError
        from derail.report.scorecard_json import decode_row

        scenario, began = self._began[ended.name]
        folder = self._folder(scenario)
        try:
            row = decode_row((folder / ROW).read_bytes())
        except (OSError, InputError):
            self._broke(scenario, _how_it_broke(ended, folder / OUTPUT), ended.leftovers)
        else:
            late = [] if ended.status.ok else [f"the process of the run ended with {ended.status} after the verdict"]
            late += [f"outlived the run: {left}" for left in ended.leftovers]
            if late:
                row = _doubted(row, late, ended.leftovers)
            self._enter(replace(row, elapsed=round(SYSTEM_CLOCK.now() - began, 3)))
        if not self._keep:
            shutil.rmtree(folder, ignore_errors=True)

    def _broke(self, scenario: Scenario, reason: str, leftovers: tuple[str, ...] = ()) -> None:
        from derail.report.timeline import observed
        from derail.scenario.model import JobResult

        seen = JobResult(error=reason, journal=self._folder(scenario) / JOURNAL)
        verdict = Verdict("INCONCLUSIVE", (reason,))
        row = _row(Run(scenario, self._agent.name, seen, verdict), self._agent, timeline=observed(seen))
        elapsed = round(SYSTEM_CLOCK.now() - self._began[scenario.name][1], 3)
        self._enter(replace(row, leftovers=leftovers, elapsed=elapsed))

    def _enter(self, row: Row) -> None:
        if self._keep and row.verdict != "SKIPPED":
            row = replace(row, evidence=str(self._workdir / row.scenario))
        self.rows[row.scenario] = row
        self._on_news(Judged(row))

    def _folder(self, scenario: Scenario) -> Path:
        return self._workdir / scenario.name


def _doubted(row: Row, reasons: Iterable[str], leftovers: tuple[str, ...]) -> Row:
    """Return a row that cannot be PASS any more, because its run did not end as expected."""
    verdict: Kind = "INCONCLUSIVE" if row.verdict == "PASS" else row.verdict
    return replace(row, verdict=verdict, reasons=(*row.reasons, *reasons), leftovers=(*row.leftovers, *leftovers))


def _how_it_broke(ended: Ended, output: Path) -> str:
    if ended.overran:
        return "the run took too long, and was ended"
    lines = tail(output, lines=1)
    return f"the process of the run ended with {ended.status}{': ' if lines else ''}{''.join(lines)}"


def _row(run: Run, agent: Agent, *, timeline: Timeline | None = None) -> Row:
    from derail.report.lanes import Timeline
    from derail.report.scorecard import row

    drawn = timeline or Timeline()
    if run.scenario.launches:  # derail has started the launcher as its rank
        names = {"agent": "derail", "rank 0": "launcher"}
        drawn = replace(drawn, lanes=tuple(replace(lane, name=names.get(lane.name, lane.name)) for lane in drawn.lanes))
    return row(run.scenario, run.result, run.verdict, promises=agent.promises, timeline=drawn)


def _order(agent: Agent, scenario: Scenario, folder: Path) -> bytes:
    """Return the pickled work of a run's process; it is preceded by the preparation of its main module, if needed."""
    import pickle
    from multiprocessing import spawn

    try:
        work = pickle.dumps((agent, scenario, folder))
    except Exception as error:  # reducers are third-party code
        raise ValueError(
            f"the agent {agent.name} cannot be pickled for the processes of its runs: {type(error).__name__}: {error}."
            " Define its class at the top level of a module, and keep only picklable attributes"
        ) from error
    preparation = spawn.get_preparation_data("run") if b"__main__" in work else {}
    preparation.pop("authkey", None)  # it cannot be pickled, and no process listens
    return pickle.dumps(preparation) + work


def main(order: BinaryIO) -> None:
    """Run the scenario in this process, judge it, and write its row."""
    import pickle
    from multiprocessing import spawn

    from derail.campaign.runner import Signals, unblock_signals
    from derail.report.scorecard_json import encode_row
    from derail.report.timeline import observed

    unblock_signals()
    with order:
        spawn.prepare(pickle.load(order))
        agent, scenario, folder = pickle.load(order)
    with Signals():
        run = judged(scenario, agent, folder)
        written = folder / f"{ROW}.part"
        written.write_bytes(encode_row(_row(run, agent, timeline=observed(run.result))))
        written.replace(folder / ROW)


def _machine() -> Machine:
    import platform

    from derail.report.scorecard import Machine

    system = os.uname()
    return Machine(
        system=f"{system.sysname} {system.release}",
        python=platform.python_version(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        uid=os.geteuid(),
    )
