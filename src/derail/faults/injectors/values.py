"""Faults in the value that a rank's function returns. They act inside ranks that are functions."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Entry, Requires
from derail.faults.catalogue.injector_api import FOREVER, AtExit, Soon
from derail.faults.catalogue.params import choice_param, flag_param, seconds_param, size_param
from derail.faults.injectors.crashes import CRASHES, CTYPES, IN_RANK, ends_by
from derail.faults.model.results import Errored, Injected, NotReached

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.faults.catalogue.entry import Param
    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus


def huge(aim: Aim) -> Step:
    """Verify that the supervisor has received a value after the rank returned its bytes."""
    size = int(aim.number("size"))
    return _received(aim, lambda: f"{size} bytes were returned, and received" if _said(aim, "returned") else "")


def slow(aim: Aim) -> Step:
    """Verify that the supervisor has received the value, and that sending it was slow."""
    seconds = aim.number("seconds")

    def seen() -> str:
        began, ended = _said(aim, "sending"), _said(aim, "sent")
        if began is None or ended is None or ended - began < seconds:
            return ""
        return f"the value was received after its pickling had taken {ended - began:.3f} s"

    return _received(aim, seen)


def unpicklable(aim: Aim) -> Step:
    """Verify that the rank failed to send its value, or that the supervisor received an unreadable one."""
    kind = aim.text("kind")
    if kind == "unpickling":
        return _received(
            aim, lambda: "the returned value was received, and raises in its reader" if _said(aim, "returned") else ""
        )

    def check(status: ExitStatus) -> Result:
        if not _said(aim, "returned"):
            return _never(status)
        if aim.values:
            return Errored(f"a value was received from a function that returned an unpicklable one ({kind})")
        if status.signal in aim.sent_by_supervisor:
            return NotReached(f"the supervisor's signal came first: the rank ended with {status}")
        if status.ok:
            return Errored(f"the function returned an unpicklable value ({kind}), but the rank ended with {status}")
        return Injected(f"the function returned an unpicklable value ({kind}); the rank ended with {status}")

    return AtExit(check, "the exit of a rank that cannot send its value")


def killed(aim: Aim) -> Step:
    """Verify that the rank was killed after a part of its value was sent, and that no value was received."""

    def check(status: ExitStatus) -> Result:
        if _said(aim, "sending") is None:
            return _never(status)
        if aim.values:
            return Errored("the value was received, although the rank recorded its own SIGKILL during sending")
        return ends_by(aim, status, signal.SIGKILL, f"killed itself after {int(aim.number('size'))} bytes of its value")

    return AtExit(check, "an exit by SIGKILL")


def crashes(aim: Aim) -> Step:
    """Verify that the rank crashed after its function returned, with its value received or not."""
    how, unsent = aim.text("how"), aim.flag("unsent")

    def check(status: ExitStatus) -> Result:
        if _said(aim, "crash") is None:
            return _never(status)
        if bool(aim.values) == unsent:
            return Errored(f"the value was {'' if aim.values else 'not '}received; the rank ended with {status}")
        sent = "before its value was sent" if unsent else "after its value was received"
        return ends_by(aim, status, CRASHES[how], f"{how} {sent}")

    return AtExit(check, "an exit by a signal")


def _received(aim: Aim, seen: Callable[[], str]) -> Step:
    """Return the step that waits for the supervisor to receive a value; with the rank's record, that is the evidence.

    Args:
        aim: the fault.
        seen: returns the evidence in the rank's records; empty if there is none yet.
    """

    def check() -> Result | None:
        return Injected(seen()) if aim.values and seen() else None

    def at_exit(status: ExitStatus) -> Result:
        if any(record["event"] in ("returned", "sending") for record in aim.records):
            return Errored(f"the function returned, but its value was not received; the rank ended with {status}")
        return _never(status)

    return Soon(check, "a value that the supervisor receives", within=FOREVER, at_exit=at_exit)


def _never(status: ExitStatus) -> NotReached:
    return NotReached(f"the function never returned; the rank ended with {status}")


def _said(aim: Aim, event: str) -> float | None:
    """Return the time of the rank's record of an event; None if there is none."""
    return next((float(str(record["at"])) for record in aim.records if record["event"] == event), None)


def _value(
    name: str,
    summary: str,
    inject: Callable[[Aim], Step],
    verified: str,
    example: str,
    *params: Param,
    needs: str = IN_RANK,
) -> Entry:
    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=inject,
        verified=verified,
        healed="",
        example=example,
        params=params,
        requires=Requires(f"a rank that is a function; {needs}"),
    )


ENTRIES = (
    _value(
        "value_huge",
        "The rank's function returns a large number of bytes.",
        huge,
        "the rank's record of the return, and that the supervisor received a value",
        'faults.value_huge("256M", rank=1)',
        size_param("size", "Number of bytes."),
        flag_param("beside", "Whether the original value is returned with them, as (value, bytes)."),
    ),
    _value(
        "value_unpicklable",
        "The rank's function returns a value that cannot be sent.",
        unpicklable,
        "the rank's record of the return, its failure, and that no value was received (for unpickling: that one was)",
        'faults.value_unpicklable("unpickling", rank=1)',
        choice_param(
            "kind",
            ("lambda", "raises", "unpickling"),
            "A lambda; an object that raises when it is pickled; or one that raises when it is unpickled.",
            default="lambda",
        ),
    ),
    _value(
        "value_slow",
        "Sending the value that the rank's function returns takes time; the value itself arrives unchanged.",
        slow,
        "the rank's records of the start and end of the pickling, and that the supervisor received a value",
        "faults.value_slow(2, rank=1)",
        seconds_param("seconds", "Delay in seconds.", default=1.0),
    ),
    _value(
        "killed_while_sending",
        "The rank gets SIGKILL after a part of its function's return value has been sent.",
        killed,
        "the rank's record that it was sending, SIGKILL in its exit status, and that no value was received",
        "faults.killed_while_sending(rank=1)",
        size_param("size", "Bytes sent before the signal.", default=8 << 20),
    ),
    _value(
        "crash_after_return",
        "The rank crashes after its function has returned, and after or before its value is sent.",
        crashes,
        "the rank's record, the signal in its exit status, and whether the supervisor received a value",
        "faults.crash_after_return(rank=1)",
        choice_param("how", tuple(CRASHES), "Kind of crash.", default="segfault"),
        flag_param("unsent", "Whether it crashes before its value is sent."),
        needs=CTYPES,
    ),
)
