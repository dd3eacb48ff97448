"""How a rank takes the signals that it gets: blocked, ignored, or handled in a way that a supervisor must live with.

Part of the family ``signals``. All of it acts in the rank.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Entry, Param, Requires
from derail.faults.catalogue.injector_api import Soon
from derail.faults.catalogue.params import (
    choice_param,
    read_exception,
    read_signal,
    read_signals,
    seconds_param,
    text_param,
)
from derail.faults.injectors.crashes import IN_RANK
from derail.faults.model.results import Errored, Injected, NotReached
from derail.model.exit import signal_number
from derail.platform.capabilities import PROC, why_no_proc
from derail.platform.proc_status import read_process_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus

    Verdict = Callable[[Aim, int, ExitStatus | None, str], Result]

FOREVER = float("inf")
UNTOUCHABLE = ("SIGKILL", "SIGSTOP")


def blocks(aim: Aim) -> Step:
    """The rank has said that it blocks signals: all its threads must."""
    pid, wanted = _acting(aim), _wanted(aim)

    def check() -> Result | None:
        now = read_process_state(pid)
        if now is None or not wanted <= now.blocked:
            return None
        threads = {int(name): read_process_state(int(name)) for name in os.listdir(PROC / str(pid) / "task")}
        awake = [
            tid for tid, seen in threads.items() if seen is not None and not seen.ended and not wanted <= seen.blocked
        ]
        if awake:
            return Errored(
                f"the main thread blocks them (SigBlk), but threads {awake} of pid {pid}, which ran before, take them"
            )
        return Injected(f"{_names(aim)} in SigBlk of all {len(threads)} threads of pid {pid}; set in {aim.where}")

    return Soon(check, f"{_names(aim)} in SigBlk of /proc/{pid}/status", at_exit=_too_soon(aim))


def ignores(aim: Aim) -> Step:
    """The rank has said that it ignores signals."""
    pid, wanted = _acting(aim), _wanted(aim)

    def check() -> Result | None:
        now = read_process_state(pid)
        if now is None or not wanted <= now.ignored:
            return None
        return Injected(f"{_names(aim)} in SigIgn of /proc/{pid}/status; set in {aim.where}")

    return Soon(check, f"{_names(aim)} in SigIgn of /proc/{pid}/status", at_exit=_too_soon(aim))


def _too_soon(aim: Aim) -> Callable[[ExitStatus], Result]:
    return lambda status: Errored(f"acted in {aim.where}, but the rank ended with {status} before that was seen")


def _handled(verdict: Verdict) -> Callable[[Aim], Step]:
    """The rank has a handler now: the signal must come and be handled by it, and the end of the rank must fit."""

    def inject(aim: Aim) -> Step:
        pid, name = _acting(aim), aim.text("signal")
        number = signal_number(name)
        seen: list[str] = []

        def check() -> Result | None:
            now = read_process_state(pid)
            if now is not None and number in now.caught and not seen:
                seen.append(f" (SigCgt in /proc/{pid}/status)")
            return None

        def judge(status: ExitStatus | None) -> Result:
            handled = f"{name} handled by the handler{''.join(seen)} that was set in {aim.where}"
            if any(record["event"] == "handling" for record in aim.records):
                return verdict(aim, number, status, handled)
            sent = number in aim.sent_by_supervisor
            why = "was sent, but never handled by it" if sent else "never came"
            return NotReached(f"{name} {why}; {_end(status)}")

        return Soon(check, f"{name}, handled in the rank", within=FOREVER, at_exit=judge, at_end=lambda: judge(None))

    return inject


def _end(status: ExitStatus | None) -> str:
    return "the rank never ended" if status is None else f"the rank ended with {status}"


def _slept(aim: Aim, _: int, status: ExitStatus | None, handled: str) -> Result:
    done = any(record["event"] == "handled" for record in aim.records)
    how = f"it slept {aim.number('seconds'):g} s" if done else f"it was to sleep {aim.number('seconds'):g} s"
    if done or status is None or status.signal in aim.sent_by_supervisor:
        return Injected(f"{handled}: {how}; {_end(status)}")
    return Errored(f"{handled}: {how}, but {_end(status)} before")


def _raised(aim: Aim, _: int, status: ExitStatus | None, handled: str) -> Result:
    if any(record["event"] == "lost" for record in aim.records):
        return Errored(f"{handled}: it raised where Python ignores exceptions; {_end(status)}")
    return Injected(f"{handled}: it raised {aim.text('type')}; {_end(status)}")


def _left(aim: Aim, _: int, status: ExitStatus | None, handled: str) -> Result:
    if status is not None and status.code == 0:
        return Injected(f"{handled}; {_end(status)}")
    if status is not None and status.signal in aim.sent_by_supervisor:
        return NotReached(f"{handled}, but the supervisor was faster: {_end(status)}")
    return Errored(f"{handled}, but {_end(status)}, and was to end with 0")


def _died(aim: Aim, number: int, status: ExitStatus | None, handled: str) -> Result:
    if status is not None and status.signal == number:
        return Injected(f"{handled}, and sent again; {_end(status)}")
    if status is not None and status.signal in aim.sent_by_supervisor:
        return NotReached(f"{handled}, but the supervisor was faster: {_end(status)}")
    return Errored(f"{handled} and sent again, but {_end(status)}")


def _forked(aim: Aim, _: int, status: ExitStatus | None, handled: str) -> Result:
    pid = next((int(str(record["pid"])) for record in aim.records if record["event"] == "helper"), None)
    if pid is None:
        return Errored(f"{handled}, but no child of it was seen; {_end(status)}")
    now = read_process_state(pid)
    if now is None or now.ended:
        return NotReached(f"{handled}: it forked pid {pid}, which had ended before that was looked at; {_end(status)}")
    return Injected(f"{handled}: it forked pid {pid}, which lives (state {now.state}); {_end(status)}")


def _acting(aim: Aim) -> int:
    """The process that acts for the rank, as it says itself."""
    return next((int(str(record["by"])) for record in aim.records if record["event"] == "start"), 0)


def _wanted(aim: Aim) -> set[int]:
    return {signal_number(name) for name in aim.texts("signals")}


def _names(aim: Aim) -> str:
    return ", ".join(aim.texts("signals"))


def _check(values: Mapping[str, Value]) -> str:
    given = values["signals"] if "signals" in values else (values["signal"],)
    if not isinstance(given, tuple) or not given:
        return "expected one signal at least"
    never = [str(name) for name in given if name in UNTOUCHABLE]
    return f"no process can do anything about {' or '.join(never)}" if never else ""


def _entry(
    name: str, summary: str, inject: Callable[[Aim], Step], verified: str, example: str, *params: Param
) -> Entry:
    """One of these faults, which have much in common."""
    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=inject,
        verified=verified,
        healed="",
        example=example,
        params=params,
        requires=Requires(f"{IN_RANK}; /proc", unavailable=why_no_proc),
        check=_check,
    )


SIGNALS = Param("signals", read_signals, "Which signals.", "signals", default=("SIGTERM",))
SIGNAL = Param("signal", read_signal, "Which signal it handles.", "signal", default="SIGTERM")
HANDLING = "the rank's record that the handler ran, SigCgt in /proc/PID/status"

ENTRIES = (
    _entry(
        "block_signal",
        "The rank blocks signals: they stay pending, and do nothing.",
        blocks,
        "SigBlk of all threads in /proc/PID/task",
        'faults.block_signal(["SIGTERM"], rank=1)',
        SIGNALS,
    ),
    _entry(
        "ignore_signal",
        "The rank ignores signals.",
        ignores,
        "SigIgn in /proc/PID/status",
        'faults.ignore_signal(["SIGTERM", "SIGINT"], rank=1, when=when.line("step 1"))',
        SIGNALS,
    ),
    _entry(
        "slow_handler",
        "The rank takes its time over a signal: its handler sleeps before it does what was done without it.",
        _handled(_slept),
        f"{HANDLING}, and that it slept to the end or was killed before",
        "faults.slow_handler(5, rank=1)",
        seconds_param("seconds", "How long it sleeps.", default=5.0),
        SIGNAL,
    ),
    _entry(
        "raising_handler",
        "The rank's handler raises an exception, wherever the main thread is when the signal comes.",
        _handled(_raised),
        f"{HANDLING}, and that Python did not ignore the exception there",
        'faults.raising_handler("KeyError", rank=1)',
        Param(
            "type", read_exception, "A builtin exception, or package.module:Class.", "exception", default="RuntimeError"
        ),
        text_param("message", "What it is made with.", default="injected by derail"),
        SIGNAL,
    ),
    _entry(
        "exit_zero_handler",
        "The rank leaves with 0 when it is told to end, as if it had finished.",
        _handled(_left),
        f"{HANDLING}, and the rank's exit code 0",
        "faults.exit_zero_handler(rank=1)",
        SIGNAL,
        choice_param("how", ("exit", "_exit"), "sys.exit, which can be caught, or os._exit.", default="exit"),
    ),
    _entry(
        "reraising_handler",
        "The rank's handler cleans up and sends itself the signal again, with the default action.",
        _handled(_died),
        f"{HANDLING}, and the signal in the status of the rank's exit",
        "faults.reraising_handler(rank=1)",
        SIGNAL,
    ),
    _entry(
        "forking_handler",
        "The rank's handler forks before it does what was done without it: the child outlives the rank.",
        _handled(_forked),
        f"{HANDLING}, and the child, alive at the rank's exit",
        "faults.forking_handler(rank=1)",
        SIGNAL,
        seconds_param("lives", "Seconds after which the child ends; it ignores the signal.", default=60.0),
    ),
)
