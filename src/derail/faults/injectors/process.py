"""Endings that a rank causes itself: exit codes, exceptions, another program, a helper left behind.

These faults act inside the rank.
"""

from __future__ import annotations

import builtins
import os
import signal
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Entry, Param, Requires
from derail.faults.catalogue.injector_api import FOREVER, AtExit, Soon
from derail.faults.catalogue.params import (
    choice_param,
    count_param,
    read_code,
    read_exception,
    read_text,
    seconds_param,
    text_param,
)
from derail.faults.injectors.crashes import CTYPES, IN_RANK
from derail.faults.model.results import Errored, Injected, NotReached
from derail.platform.processes import command_line, look_up
from derail.platform.zombies import status_of_zombie

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus

NAME_LENGTH = 15
"""Maximum bytes of a program's name in the kernel (comm)."""


def exits(aim: Aim) -> Step:
    """Verify the exit code of the rank."""
    code, how = aim.fault.param("code"), aim.text("how")
    expected = code & 0xFF if isinstance(code, int) else 1
    call = f"{'os._exit' if how == '_exit' else 'sys.exit'}({code!r}) in {aim.where}"

    def check(status: ExitStatus) -> Result:
        if status.code == expected:
            return Injected(f"{call}; the rank ended with {status}")
        if status.signal in aim.sent_by_supervisor:
            return NotReached(f"{call}, but the supervisor's signal came first: the rank ended with {status}")
        lost = " Python ignores exceptions there;" if _said(aim, "lost") else ""
        hint = "" if how == "_exit" else f';{lost} the rank may catch SystemExit; how="_exit" prevents that'
        return Errored(f"{call}, but the rank ended with {status}{hint}")

    return AtExit(check, f"an exit with code {expected}")


def raises(aim: Aim) -> Step:
    """Verify that Python did not swallow the exception where it was raised."""
    raised = f"{aim.text('type')} raised in {aim.where}"

    def check(status: ExitStatus) -> Result:
        if _said(aim, "lost"):
            return Errored(f"{raised}, where Python ignores exceptions")
        return Injected(f"{raised}; the rank {'continued and ' if status.ok else ''}ended with {status}")

    return AtExit(check, "the exit of the rank")


def raises_from_outside(aim: Aim) -> Step:
    """Verify that the exception of the other thread has arrived in the main thread."""

    def check() -> Result | None:
        raised = f"{aim.text('type')} was set in {aim.where}, and raised in the main thread"
        return Injected(raised) if _said(aim, "arrived") else None

    def at_exit(status: ExitStatus) -> Result:
        return NotReached(f"the main thread ran no more Python code for it to arrive in; it ended with {status}")

    return Soon(check, "an exception in the main thread", within=FOREVER, at_exit=at_exit)


def becomes(aim: Aim) -> Step:
    """Verify that the kernel shows the new program's name for the process, alive or zombie."""
    pid, argv = _who(aim), aim.texts("argv")
    name = os.fsencode(os.path.basename(argv[0]))[:NAME_LENGTH].decode(errors="replace")

    def check() -> Result | None:
        now = look_up(pid)
        if now is None or now.name != name:
            return None
        return Injected(f"pid {pid} is {name!r} in /proc/{pid}/stat ({command_line(now)}), since {aim.where}")

    def at_exit(status: ExitStatus) -> Result:
        return Errored(f"it ended with {status} before its exec of {name!r} was verified")

    return Soon(check, f"a process named {name!r}", at_exit=at_exit)


def orphans(aim: Aim) -> Step:
    """Verify that the rank has exited and its helper is alive."""
    kind, code = aim.text("kind"), int(aim.number("code")) & 0xFF
    record = _said(aim, "helper") or {}
    # The rank need not lead its group: launchers that share a group or a session among ranks exist.
    helper, group, session = (int(str(record.get(name, 0))) for name in ("pid", "group", "session"))

    def check(status: ExitStatus) -> Result:
        found, how = look_up(helper), status_of_zombie(helper)
        if how is not None and how.signal in (signal.SIGTERM, signal.SIGKILL) and status.code == code:
            # Its sleep was far from over: another process killed it as a leftover of the rank.
            return Injected(f"the rank ended with {status}, and its helper (pid {helper}) after it, with {how}")
        if found is None or not found.alive:
            return Errored(f"the helper (pid {helper}) had ended when the rank ended with {status}")
        if status.code != code:
            faster = status.signal in aim.sent_by_supervisor
            what = f"expected the rank to exit with code {code}, but it ended with {status}"
            return NotReached(what) if faster else Errored(what)
        alone = {"session": found.sid == helper, "daemon": found.sid not in (session, helper)}
        if not alone.get(kind, found.pgid == group):
            own = f"the rank's own are {group} and {session}"
            return Errored(f"the helper (pid {helper}) is in group {found.pgid} and session {found.sid}; {own}")
        return Injected(
            f"the rank ended with {status}; its helper (pid {helper}) lives on in group {found.pgid} "
            f"and session {found.sid}, with parent {found.ppid}"
        )

    return AtExit(check, f"an exit with code {code}")


def _said(aim: Aim, event: str) -> Mapping[str, object] | None:
    """Return the rank's record of an event; None if there is none."""
    return next((record for record in aim.records if record["event"] == event), None)


def _who(aim: Aim) -> int:
    """Return the pid of the acting process."""
    return int(str((_said(aim, "start") or {}).get("by", 0)))


def _check_exit(values: Mapping[str, Value]) -> str:
    if values["how"] == "_exit" and not isinstance(values["code"], int):
        return f'expected a number for os._exit, got {values["code"]!r}. Omit how="_exit"'
    return ""


def _check_exception(values: Mapping[str, Value]) -> str:
    kind = vars(builtins).get(str(values["type"]))
    try:
        if kind is not None:
            kind(values["message"])
    except TypeError as error:
        return f"{values['type']} needs more than a message: {error}"
    return ""


def _read_argv(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(word, str) for word in value):
        raise ValueError(f"expected a program and its arguments like ['sleep', '60'], got {value!r}")
    return tuple(read_text(word) for word in value)


def _raised(name: str, summary: str, inject: Callable[[Aim], Step], verified: str, needs: str, example: str) -> Entry:
    """Return the declaration of a raised exception."""
    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=inject,
        verified=verified,
        healed="",
        example=example,
        params=(
            Param("type", read_exception, "A builtin exception, or package.module:Class.", "exception", required=True),
            text_param("message", "Argument of the exception.", default="injected by derail"),
        ),
        requires=Requires(needs),
        check=_check_exception,
    )


ENTRIES = (
    Entry(
        name="exit",
        side="in rank",
        summary="The rank exits with a code, in its main thread.",
        inject=exits,
        verified="the code in the rank's exit status",
        healed="",
        example="faults.exit(7, rank=1, when=when.after(0.2))",
        params=(
            Param("code", read_code, "Argument of sys.exit: a number (256 is 0) or a message.", "code", required=True),
            choice_param("how", ("exit", "_exit"), "sys.exit, which can be caught, or os._exit.", default="exit"),
        ),
        requires=Requires(IN_RANK),
        check=_check_exit,
    ),
    _raised(
        "exception",
        "An exception is raised in the rank's main thread, at its present position.",
        raises,
        "the rank's record of its position, that Python did not ignore the exception there, and the rank's exit",
        IN_RANK,
        'faults.exception("RuntimeError", "boom", rank=0)',
    ),
    _raised(
        "async_exception",
        "Another thread raises an exception in the main thread, at its next Python instruction.",
        raises_from_outside,
        "the rank's record of its arrival in the main thread",
        CTYPES,
        'faults.async_exception("TimeoutError", rank=0, when=when.after(1))',
    ),
    Entry(
        name="exec",
        side="in rank",
        summary="The rank's process execs another program, under the same pid.",
        inject=becomes,
        verified="the program's name in /proc/PID/stat, which an exited rank keeps as well",
        healed="",
        example='faults.exec(["sleep", "60"], rank=1, when=when.line("step 2"))',
        params=(
            Param("argv", _read_argv, "The program, looked up in PATH, and its arguments.", "texts", required=True),
        ),
        requires=Requires(f"{IN_RANK}; /proc"),
    ),
    Entry(
        name="orphan",
        side="in rank",
        summary="The rank starts a helper process and exits at once without it.",
        inject=orphans,
        verified="the rank's exit code; then the helper's state, group and session in /proc/PID/stat",
        healed="the helper exits after `lives` seconds",
        example='faults.orphan("daemon", rank=1, when=when.line("step 2"))',
        params=(
            choice_param(
                "kind",
                ("group", "session", "daemon", "chatty"),
                "In the rank's group; in its own session; forked twice; or in the group, writing to the rank's stdout.",
                default="group",
            ),
            count_param("code", "Exit code of the rank.", default=1, most=255),
            seconds_param("lives", "Seconds until the helper exits.", default=60.0),
        ),
        requires=Requires(f"{IN_RANK}; /proc"),
        before_launcher=True,
    ),
)
