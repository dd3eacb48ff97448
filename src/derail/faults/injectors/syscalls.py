"""Failing or slow system calls of an unchanged program: the n-th one fails, or is delayed."""

from __future__ import annotations

import errno
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Entry, Param, Requires, Setup
from derail.faults.catalogue.injector_api import Soon
from derail.faults.catalogue.params import flag_param, read_seconds, read_text, text_param
from derail.faults.mechanisms.exec_shims import seccomp as seccomp_shim
from derail.faults.mechanisms.syscall_rules import Rule
from derail.faults.model.occurrences import Hits
from derail.faults.model.results import NotReached, Unavailable
from derail.model.input_error import InputError, not_known
from derail.model.spec import Command
from derail.platform import seccomp
from derail.platform.syscalls import NAMES, fd_argument, path_argument, this_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.mechanisms.syscall_filter import Watch
    from derail.faults.model.plan import Fault, Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus
    from derail.model.spec import RankSpec
    from derail.platform.syscalls import Machine

SHIM = Path(seccomp_shim.__file__)
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
_watches: dict[int, Watch] = {}
"""Watches by the pid of the rank, which is not reused while its job runs."""


def prepare(rank: RankSpec, fault: Fault) -> RankSpec:
    """Return the rank with its program started under a filter for the system calls of the fault."""
    return under_filter(rank, fault, str(fault.param("call")), delays=fault.name == "syscall_delay")


def under_filter(rank: RankSpec, fault: Fault, word: str, *, delays: bool = False) -> RankSpec:
    """Return the rank with its program started under one filter for all faults in its system calls.

    Args:
        rank: the rank so far.
        fault: the fault that needs the filter.
        word: the names of the calls, separated by commas.
        delays: whether the calls may be held for long.

    Raises:
        InputError: if the rank is a function, which no shim can precede, or if no process can work without the call.
    """
    if not isinstance(rank.run, Command):
        raise InputError(
            f"{fault.name} on rank {rank.rank}: expected a rank that runs a program, got a function: the filter comes "
            f"before the program ({fault.id}). Run a script, for example"
        )
    machine = this_machine()
    assert machine is not None, "unavailable faults are not prepared"
    argv = rank.run.argv
    at = argv.index(str(SHIM)) - 5 if str(SHIM) in argv else _behind_other_shims(argv)
    earlier: dict[str, object] = {"numbers": [], "delays": False}
    rest = argv[at:]
    if str(SHIM) in argv:
        earlier, rest = json.loads(argv[at + 6]), argv[at + 7 :]
    numbers = {*_strings(earlier["numbers"]), *map(str, _numbers(word, machine))}
    if not numbers:
        return rank
    try:
        program = seccomp.filter_program(map(int, numbers), machine)
    except ValueError as error:
        raise InputError(f"{fault.name} on rank {rank.rank}: {error} ({fault.id})") from None
    delays = bool(earlier["delays"]) or delays
    what = {
        "numbers": sorted(numbers),
        "delays": delays,
        "filter": program.hex(),
        "seccomp": machine.seccomp,
        # A signal should not interrupt a call that fails at once, or the call would be counted twice; it must interrupt
        # a long call, or signals would have no effect during it.
        "flags": _NEW_LISTENER | (0 if delays else _WAIT_KILLABLE),
    }
    # -X and its value come first, so that a search for -I on a rank's command line stops before the shim's own -I.
    shim = (sys.executable, "-X", "utf8", "-I", "-S", str(SHIM), json.dumps(what))
    return replace(rank, run=Command((*argv[:at], *shim, *rest)))


def begin(aim: Aim) -> None:
    """Prepare the rule of this fault when the rank runs."""
    name = aim.text("errno") if "errno" in dict(aim.fault.params) else ""
    fd = aim.fault.param("fd")

    def rule(names: dict[int, str], pid: int) -> Rule:
        return Rule(
            id=aim.fault.id,
            word=aim.text("call"),
            names=names,
            pid=pid,
            calls=Hits.read(aim.text("calls")),
            errno=getattr(errno, name) if name else 0,
            error=name,
            delay=0.0 if name else aim.number("seconds"),
            fd=fd if isinstance(fd, int) else None,
            path=aim.text("path"),
            children=aim.flag("children"),
        )

    arm(aim, aim.text("call"), rule)


def arm(aim: Aim, word: str, make: Callable[[dict[int, str], int], Rule]) -> None:
    """Wait for the shim of a running rank, and prepare a rule, which does not count yet.

    Args:
        aim: the fault and its target.
        word: the names of the calls, separated by commas.
        make: makes the rule from the names of the calls by number, and the pid of the rank.
    """
    machine = this_machine()
    pid = aim.control.pid(aim.rank)
    if machine is None or pid is None or aim.sockets is None or not _numbers(word, machine):
        return
    watch = _watches.get(pid)
    if watch is None:
        from derail.faults.mechanisms.syscall_filter import Watch

        watch = _watches[pid] = Watch(pid)
        aim.undo.append((f"let the system calls of rank {aim.rank} go", lambda: _stop(pid)))
        watch.start(aim.sockets.endpoint(str(pid)))
        aim.control.call_later(0.0, watch.release)  # after all other actions at the start of this rank
    rule = make({number: machine.name(number) for number in _numbers(word, machine)}, pid)
    with watch.lock:
        watch.rules.append(rule)


def inject(aim: Aim) -> Step:
    """Start to count calls; the answered calls are the evidence."""
    pid = aim.control.pid(aim.rank)
    found = _of(aim, pid)
    if found is None:
        return Unavailable(f"this machine has no system call for {aim.fault}")
    watch, rule = found
    with watch.lock:
        rule.active = True
    return Soon(
        partial(_shown, watch, rule),
        f"call {rule.calls.first} of {rule.word}",
        within=float("inf"),
        at_exit=partial(_at_exit, watch, rule),
    )


def _of(aim: Aim, pid: int | None) -> tuple[Watch, Rule] | None:
    watch = None if pid is None else _watches.get(pid)
    rules = [] if watch is None else [rule for rule in watch.rules if rule.id == aim.fault.id]
    return (watch, rules[0]) if watch is not None and rules else None


def _stop(pid: int) -> None:
    watch = _watches.pop(pid, None)
    if watch is not None:
        watch.stop()


def _shown(watch: Watch, rule: Rule) -> Result | None:
    with watch.lock:
        return watch.problem or rule.shown()


def _at_exit(watch: Watch, rule: Rule, status: ExitStatus) -> Result:
    with watch.lock:
        watch.note_the_dead()
        if watch.problem is None and not watch.executed:
            return NotReached(f"the rank ended with {status} before its program had started under the filter")
        return watch.problem or rule.at_exit(status)


def _behind_other_shims(argv: Sequence[str]) -> int:
    """Return the index of the rank's own program in argv: calls of other shims must not count."""
    others = [index for index, word in enumerate(argv) if word == str(SHIM.with_name("namespace.py"))]
    return others[-1] + 2 if others else 0


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _numbers(word: str, machine: Machine) -> list[int]:
    """Return the numbers of the named calls that this machine has."""
    found = (machine.number(name) for name in word.split(","))
    return [number for number in found if number is not None]


def _unavailable() -> str:
    return seccomp.why_not() or ("" if sys.executable else "sys.executable is empty: derail cannot start Python")


def _read_call(value: object) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else read_text(value)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not (name.isascii() and name.isdigit() and len(name) < 5) and name not in NAMES:
            raise ValueError(f"{not_known(name, NAMES, 'system call')} (others by number)")
    return ",".join(dict.fromkeys(names))


def _read_errno(value: object) -> str:
    text = read_text(value).strip().upper()
    if not text.startswith("E") or not hasattr(errno, text):
        raise ValueError(not_known(text, sorted(errno.errorcode.values()), "errno"))
    return text


def _read_calls(value: object) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else read_text(value)
    return str(Hits.read(text))


def _read_fd(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError(f"expected the number of a descriptor, 0 or more, got {value!r}")
    return value


def _check(params: Mapping[str, Value]) -> str:
    """Refuse a restriction on a descriptor or path for calls without one, as it would never match."""
    for name in str(params["call"]).split(","):
        if params["fd"] is not None and fd_argument(name) is None:
            return f"fd: {name} has no descriptor argument"
        if params["path"] and fd_argument(name) is None and path_argument(name) is None:
            return f"path: {name} has neither a path nor a descriptor argument"
    return ""


_CALL = Param(
    "call",
    _read_call,
    "System call by name or number; several, separated by commas, are counted together.",
    "system call",
    required=True,
)
_WHICH = (
    Param(
        "calls",
        _read_calls,
        "Occurrences, counted from 1: `4`, `2..6`, `2..8+2` (every second one), `3..` (all from the third on).",
        "calls",
        default="1",
    ),
    Param("fd", _read_fd, "Only calls on this descriptor count.", "descriptor"),
    text_param(
        "path", "Only calls on a path that contains this text count, or on a descriptor of such a file.", default=""
    ),
    flag_param("children", "Whether calls of the rank's child processes count as well."),
)
_NEEDS = (
    "Linux 5.5 on x86_64 or aarch64, seccomp user notification; a rank that is a program; it cannot gain privileges by "
    "exec (no_new_privs), and 32-bit programs are not covered"
)
_HEALED = "held calls continue at the end of the job; such calls of a process that outlives it fail with ENOSYS"

ENTRIES = (
    Entry(
        name="syscall_errno",
        side="before start",
        summary="Makes the n-th call of a system call fail, without executing it, in an unchanged program.",
        inject=inject,
        verified="the kernel accepted the errno as the result of the rank's counted call, which was waiting",
        healed=_HEALED,
        example='faults.syscall_errno("write", "ENOSPC", calls=4, rank=0)',
        params=(_CALL, Param("errno", _read_errno, "Error of the call, by name.", "errno", required=True), *_WHICH),
        requires=Requires(_NEEDS, unavailable=_unavailable),
        check=_check,
        setup=Setup(prepare=prepare, begin=begin),
    ),
    Entry(
        name="syscall_delay",
        side="before start",
        summary="Delays the n-th call of a system call, in an unchanged program.",
        inject=inject,
        verified="the rank's counted call waited for the whole delay and then continued, or its caller died waiting",
        healed=_HEALED,
        example='faults.syscall_delay("connect", 0.5, calls="1..3", rank="all")',
        params=(
            _CALL,
            Param("seconds", read_seconds, "Delay in seconds.", "seconds", required=True),
            *_WHICH,
        ),
        requires=Requires(_NEEDS, unavailable=_unavailable),
        check=_check,
        setup=Setup(prepare=prepare, begin=begin),
    ),
)
