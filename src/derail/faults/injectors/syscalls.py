"""System calls of a program that was never changed: the n-th one fails, or takes its time."""

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
"""By the pid of the rank, which is nobody else's as long as its job runs."""


def prepare(rank: RankSpec, fault: Fault) -> RankSpec:
    """The rank, with its program started under a filter for the call that the fault names."""
    return under_filter(rank, fault, str(fault.param("call")), delays=fault.name == "syscall_delay")


def under_filter(rank: RankSpec, fault: Fault, word: str, *, delays: bool = False) -> RankSpec:
    """The rank, with its program started under one filter for all faults that work on system calls.

    Args:
        rank: as it is so far.
        fault: who wants it.
        word: which calls, by name, with commas between.
        delays: whether they may be held for long.

    Raises:
        InputError: if the rank is a function, whose process this cannot be put before; or the call is one without which
            nothing could go on.
    """
    if not isinstance(rank.run, Command):
        raise InputError(
            f"{fault.name} on rank {rank.rank}: the filter must be there before the program starts, and this rank is a "
            f"function ({fault.id}); run a program, e.g. a script"
        )
    machine = this_machine()
    assert machine is not None, "it was asked before whether this machine can do it"
    argv = rank.run.argv
    at = argv.index(str(SHIM)) - 5 if str(SHIM) in argv else _behind_other_shims(argv)
    told: dict[str, object] = {"numbers": [], "delays": False}
    rest = argv[at:]
    if str(SHIM) in argv:
        told, rest = json.loads(argv[at + 6]), argv[at + 7 :]
    numbers = {*_strings(told["numbers"]), *map(str, _numbers(word, machine))}
    if not numbers:
        return rank
    try:
        program = seccomp.filter_program(map(int, numbers), machine)
    except ValueError as error:
        raise InputError(f"{fault.name} on rank {rank.rank}: {error} ({fault.id})") from None
    delays = bool(told["delays"]) or delays
    what = {
        "numbers": sorted(numbers),
        "delays": delays,
        "filter": program.hex(),
        "seccomp": machine.seccomp,
        # A call that fails at once should not be interrupted meanwhile, or it would be counted twice; one that takes
        # long must be, or signals would not get through.
        "flags": _NEW_LISTENER | (0 if delays else _WAIT_KILLABLE),
    }
    # -X and its word stand first so that whoever looks for -I on a rank's command line sees none: it is the shim's own.
    shim = (sys.executable, "-X", "utf8", "-I", "-S", str(SHIM), json.dumps(what))
    return replace(rank, run=Command((*argv[:at], *shim, *rest)))


def begin(aim: Aim) -> None:
    """The rank runs: get the rule of this fault ready."""
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
    """Wait for the shim of a rank that runs, and get a rule ready. It does not count yet.

    Args:
        aim: at whom.
        word: which calls the rule is about.
        make: gets those calls by number, and the pid of the rank.
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
        aim.control.call_later(0.0, watch.release)  # after all that happens at the start of this rank
    rule = make({number: machine.name(number) for number in _numbers(word, machine)}, pid)
    with watch.lock:
        watch.rules.append(rule)


def inject(aim: Aim) -> Step:
    """Count calls from now on. The answers show it, whenever they come."""
    pid = aim.control.pid(aim.rank)
    found = _of(aim, pid)
    if found is None:
        return Unavailable(f"this machine has no such system call as {aim.fault} is about")
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
    """Where the rank's own program begins: what others put before it must not count among its calls."""
    others = [index for index, word in enumerate(argv) if word == str(SHIM.with_name("namespace.py"))]
    return others[-1] + 2 if others else 0


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _numbers(word: str, machine: Machine) -> list[int]:
    """The calls that this machine has, of those that are named."""
    found = (machine.number(name) for name in word.split(","))
    return [number for number in found if number is not None]


def _unavailable() -> str:
    return seccomp.why_not() or ("" if sys.executable else "it is not known which Python runs this (sys.executable)")


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
    """A filter on what a call does not have would never match."""
    for name in str(params["call"]).split(","):
        if params["fd"] is not None and fd_argument(name) is None:
            return f"fd: {name} works on no descriptor"
        if params["path"] and fd_argument(name) is None and path_argument(name) is None:
            return f"path: {name} works on no path, and on no descriptor that has one"
    return ""


_CALL = Param(
    "call",
    _read_call,
    "Which system call, by name or number; several with commas between are counted together.",
    "system call",
    required=True,
)
_WHICH = (
    Param(
        "calls",
        _read_calls,
        "Which of its calls, counted from 1: `4`, `2..6`, `2..8+2` (every second one), `3..` (all from the third on).",
        "calls",
        default="1",
    ),
    Param("fd", _read_fd, "Only calls on this descriptor count.", "descriptor"),
    text_param(
        "path", "Only calls count on a path, or on a descriptor of a file whose path, has this in it.", default=""
    ),
    flag_param("children", "Whether calls of processes that the rank started count too."),
)
_NEEDS = (
    "Linux 5.5 on x86_64 or aarch64, seccomp user notification; the rank a program; what it runs gains no privileges "
    "(no_new_privs), and its 32-bit programs are not reached"
)
_HEALED = "what is held goes on at the end of the job; calls of whatever outlives it, if any, then fail with ENOSYS"

ENTRIES = (
    Entry(
        name="syscall_errno",
        side="before start",
        summary="Lets the n-th call of a system call fail, without being made, in a program that was never changed.",
        inject=inject,
        verified="the kernel took the errno as the answer to the counted call of the rank, which was waiting for it",
        healed=_HEALED,
        example='faults.syscall_errno("write", "ENOSPC", calls=4, rank=0)',
        params=(_CALL, Param("errno", _read_errno, "What it fails with, by name.", "errno", required=True), *_WHICH),
        requires=Requires(_NEEDS, unavailable=_unavailable),
        check=_check,
        setup=Setup(prepare=prepare, begin=begin),
    ),
    Entry(
        name="syscall_delay",
        side="before start",
        summary="Holds the n-th call of a system call for some time before it is made, in a program that was never "
        "changed.",
        inject=inject,
        verified="the counted call of the rank waited all that time and then was let go, or its caller died waiting",
        healed=_HEALED,
        example='faults.syscall_delay("connect", 0.5, calls="1..3", rank="all")',
        params=(
            _CALL,
            Param("seconds", read_seconds, "How long it is held.", "seconds", required=True),
            *_WHICH,
        ),
        requires=Requires(_NEEDS, unavailable=_unavailable),
        check=_check,
        setup=Setup(prepare=prepare, begin=begin),
    ),
)
