"""What becomes of the value that a rank's function returns. They act inside the rank, in ranks that are functions."""

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
    """The supervisor must have got what the rank says that it returned."""
    size = int(aim.number("size"))
    return _received(aim, lambda: f"{size} bytes were returned, and received" if _said(aim, "returned") else "")


def slow(aim: Aim) -> Step:
    """The supervisor must have got the value, and sending it must have taken its time."""
    seconds = aim.number("seconds")

    def seen() -> str:
        began, ended = _said(aim, "sending"), _said(aim, "sent")
        if began is None or ended is None or ended - began < seconds:
            return ""
        return f"the value was received after its pickling had taken {ended - began:.3f} s"

    return _received(aim, seen)


def unpicklable(aim: Aim) -> Step:
    """The rank must have failed to send its value, or the supervisor have got what nobody can read."""
    kind = aim.text("kind")
    if kind == "unpickling":
        return _received(
            aim, lambda: "a value was returned and received that raises in its reader" if _said(aim, "returned") else ""
        )

    def check(status: ExitStatus) -> Result:
        if not _said(aim, "returned"):
            return _never(status)
        if aim.values:
            return Errored(f"a value was received from a function that returned an unpicklable one ({kind})")
        if status.signal in aim.sent_by_supervisor:
            return NotReached(f"the signal of the supervisor was faster: the rank ended with {status}")
        if status.ok:
            return Errored(f"the function returned an unpicklable value ({kind}), but the rank ended with {status}")
        return Injected(f"the function returned an unpicklable value ({kind}); the rank ended with {status}")

    return AtExit(check, "the end of a rank that cannot send its value")


def killed(aim: Aim) -> Step:
    """The rank must have been killed after a part of its value was out, and nobody have got it."""

    def check(status: ExitStatus) -> Result:
        if _said(aim, "sending") is None:
            return _never(status)
        if aim.values:
            return Errored("the value was received, although the rank said that it kills itself while sending")
        return ends_by(aim, status, signal.SIGKILL, f"killed itself after {int(aim.number('size'))} bytes of its value")

    return AtExit(check, "an exit by SIGKILL")


def crashes(aim: Aim) -> Step:
    """The rank must have crashed after its function had returned, with its value received or not."""
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
    """The supervisor hears of a value when all of it is there: with the rank's own word for what it is, that proves it.

    Args:
        aim: the fault.
        seen: what the rank's records say; empty if they do not yet.
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
    """When the rank wrote of an event; None if it did not."""
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
        "The rank's function returns so many bytes.",
        huge,
        "the rank's record that it returned them, and that the supervisor received a value",
        'faults.value_huge("256M", rank=1)',
        size_param("size", "How many."),
        flag_param("beside", "Whether what it would have returned comes with them, as (value, bytes)."),
    ),
    _value(
        "value_unpicklable",
        "The rank's function returns what cannot be sent.",
        unpicklable,
        "the rank's record of it, its failure, and that no value was received (for unpickling: that one was)",
        'faults.value_unpicklable("unpickling", rank=1)',
        choice_param(
            "kind",
            ("lambda", "raises", "unpickling"),
            "A function without a name; an object that raises when it is pickled; or one that does when it is read.",
            default="lambda",
        ),
    ),
    _value(
        "value_slow",
        "Sending what the rank's function returns takes its time; the value itself arrives unchanged.",
        slow,
        "the rank's records of the beginning and the end of the pickling, and that the supervisor received a value",
        "faults.value_slow(2, rank=1)",
        seconds_param("seconds", "How long.", default=1.0),
    ),
    _value(
        "killed_while_sending",
        "The rank gets SIGKILL when a part of the value that its function returned is on its way.",
        killed,
        "the rank's record that it was sending, SIGKILL in the status of its exit, and that no value was received",
        "faults.killed_while_sending(rank=1)",
        size_param("size", "Bytes that are out by then.", default=8 << 20),
    ),
    _value(
        "crash_after_return",
        "The rank crashes when its function has returned: after its value was sent, or before.",
        crashes,
        "the rank's record, the signal in the status of its exit, and whether the supervisor received a value",
        "faults.crash_after_return(rank=1)",
        choice_param("how", tuple(CRASHES), "What happens.", default="segfault"),
        flag_param("unsent", "Whether it crashes before its value is sent."),
        needs=CTYPES,
    ),
)
