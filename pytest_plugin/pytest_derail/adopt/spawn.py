"""Functions that start processes in a test: ``spawn`` and ``start_processes`` of torch, and accelerate's launchers.

``debug_launcher`` calls ``start_processes``. ``notebook_launcher`` has torch's elastic agent start the processes.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from typing import TYPE_CHECKING, Any

from derail.faults.inrank.hooks.imports import when_imported
from derail.model.exit import signal_name
from pytest_derail.adopt.calls import TRACEBACK, LaunchCall, SpawnCall
from pytest_derail.adopt.controller import NotAdoptedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_derail.adopt.controller import AdoptedTest
    from pytest_derail.ranks.result import Verdict

MODULE = "torch.multiprocessing.spawn"
AGENT = "torch.distributed.launcher.api"
NOTEBOOKS = "accelerate.launchers"
NO_LIMIT = 300.0
"""Seconds: ``spawn`` waits for ever, and the other runners of torch for 300 s."""


def replace_when_imported(current: Callable[[], AdoptedTest | None]) -> None:
    """Replace the functions as soon as torch is imported.

    Args:
        current: returns the test that runs; None if there is none to adopt.
    """

    def replace_in(_: object) -> None:
        module: Any = importlib.import_module(MODULE)
        package: Any = importlib.import_module("torch.multiprocessing")
        start_processes = _adopting(module.start_processes, current)
        for each in (module, package):
            each.start_processes = start_processes

    def replace_agent(_: object) -> None:
        module: Any = importlib.import_module(AGENT)
        module.launch_agent = _launching(module.launch_agent, current)

    when_imported(MODULE, replace_in)
    when_imported(AGENT, replace_agent)


def _adopting(start_processes: Callable[..., Any], current: Callable[[], AdoptedTest | None]) -> Callable[..., Any]:
    """Return a ``start_processes`` that calls functions on ranks while a test runs."""

    @functools.wraps(start_processes)
    def start(
        fn: Callable[..., object],
        args: tuple[object, ...] = (),
        nprocs: int = 1,
        join: bool = True,  # noqa: FBT001, FBT002 - torch's signature
        daemon: bool = False,  # noqa: FBT001, FBT002
        start_method: str = "spawn",
        **options: object,
    ) -> Any:
        __tracebackhide__ = True

        def own() -> Any:
            return start_processes(fn, args, nprocs, join, daemon, start_method, **options)

        test = current()
        if test is None or nprocs < 1 or threading.current_thread() is not threading.main_thread():
            return own()
        name = f"{test.item.nodeid}: torch.multiprocessing.{start_processes.__name__}"
        if not join:
            test.reasons.append(f"{name}: join=False: the test itself waits for the processes")
            return own()
        try:
            verdict = test.call(
                [SpawnCall(fn, rank, tuple(args)) for rank in range(nprocs)],
                timeout=NO_LIMIT,
                fork=start_method == "fork",
            )
        except NotAdoptedError as error:
            test.reasons.append(f"{name}: {error}")
            return own()
        test.raise_failure(verdict, as_torch_raises(verdict) if verdict.bad else None)
        return None

    return start


def as_torch_raises(verdict: Verdict) -> Exception:
    """Return torch's exception for the first rank that failed."""
    torch: Any = importlib.import_module(MODULE)
    first = verdict.bad[0]
    number, outcome = first.rank, verdict.seen.ranks.get(first.rank)
    pid = 0 if outcome is None else outcome.pid
    if first.fate == "failed":
        text = "" if first.report is None else first.report.text
        text = getattr(first.exception, TRACEBACK, text)
        raised: Exception = torch.ProcessRaisedException(
            f"\n\n-- Process {number:d} terminated with the following error:\n{text}", number, pid
        )
        return raised
    status = None if outcome is None else outcome.status
    if status is not None and status.signal is not None:
        name = signal_name(status.signal)
        words, code = f"signal {name}", -status.signal
    else:
        name, code = None, -1 if status is None or status.code is None else status.code
        words = f"exit code {code}"
    exited: Exception = torch.ProcessExitedException(
        f"process {number:d} terminated with {words}",
        error_index=number,
        error_pid=pid,
        exit_code=code,
        signal_name=name,
    )
    return exited


def _launching(launch_agent: Callable[..., Any], current: Callable[[], AdoptedTest | None]) -> Callable[..., Any]:
    """Return a ``launch_agent`` that calls the function of a ``notebook_launcher`` on ranks while a test runs."""

    @functools.wraps(launch_agent)
    def launch(config: Any, entrypoint: Any, args: list[object], **options: object) -> Any:
        __tracebackhide__ = True
        test = current()
        caller = sys._getframe(2).f_globals.get("__name__")  # noqa: SLF001 - others use what the agent returns
        if test is None or caller != NOTEBOOKS or config.max_nodes != 1:
            return launch_agent(config, entrypoint, args, **options)
        calls = [LaunchCall(entrypoint, tuple(args)) for _ in range(config.nproc_per_node)]
        try:
            verdict = test.call(calls, timeout=NO_LIMIT, fork=config.start_method == "fork", launched=True)
        except NotAdoptedError as error:
            test.reasons.append(f"{test.item.nodeid}: accelerate.notebook_launcher: {error}")
            return launch_agent(config, entrypoint, args, **options)
        test.raise_failure(verdict, as_agent_raises(entrypoint, verdict) if verdict.bad else None)
        return {}

    return launch


def as_agent_raises(function: object, verdict: Verdict) -> Exception:
    """Return the exception of torch's elastic agent for the ranks that failed."""
    errors: Any = importlib.import_module("torch.distributed.elastic.multiprocessing.errors")
    failures = {}
    for rank in verdict.bad:
        outcome = verdict.seen.ranks.get(rank.rank)
        code = 1 if outcome is None or outcome.status is None or outcome.status.ok else outcome.status.returncode
        pid = 0 if outcome is None else outcome.pid
        failures[rank.rank] = errors.ProcessFailure(rank.rank, pid, code, "<N/A>")
    raised: Exception = errors.ChildFailedError(getattr(function, "__qualname__", str(function)), failures)
    return raised
