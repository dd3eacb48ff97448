"""``torch.multiprocessing.spawn`` and ``start_processes`` in a test, and accelerate's launchers, which call them."""

from __future__ import annotations

import functools
import importlib
import threading
from typing import TYPE_CHECKING, Any

from derail.faults.inrank.hooks.imports import when_imported
from derail.model.exit import signal_name
from pytest_derail.adopt.calls import TRACEBACK, SpawnCall
from pytest_derail.adopt.controller import NotAdoptedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_derail.adopt.controller import AdoptedTest
    from pytest_derail.ranks.result import Verdict

MODULE = "torch.multiprocessing.spawn"
NO_LIMIT = 300.0
"""Seconds: ``spawn`` waits for ever, and the other runners of torch for 300 s."""


def replace_when_imported(current: Callable[[], AdoptedTest | None]) -> None:
    """Replace ``start_processes`` as soon as torch is imported.

    Args:
        current: returns the test that runs; None if there is none to adopt.
    """

    def replace_in(_: object) -> None:
        module: Any = importlib.import_module(MODULE)
        package: Any = importlib.import_module("torch.multiprocessing")
        start_processes = _adopting(module.start_processes, current)
        for each in (module, package):
            each.start_processes = start_processes

    when_imported(MODULE, replace_in)


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
        if test is None or threading.current_thread() is not threading.main_thread():
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
