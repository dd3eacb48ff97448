"""Faults of a launcher: of a program that starts others and waits for them, and that runs as a rank of a job of ours.

Whoever tests a launcher runs it as the one rank of a job: the job is the witness, and outlives it.
"""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires, Setup
from derail.faults.catalogue.params import choice_param, count_param, read_text, signal_param
from derail.faults.injectors import _launcher_actions, syscalls
from derail.faults.mechanisms.namespaces import enter
from derail.faults.mechanisms.spawn_rules import (
    EXECUTES,
    MAKES_PIPES,
    MAKES_PROCESSES,
    WRITES,
    ExecRule,
    FirstShows,
    MakingRule,
    PipeRule,
)
from derail.faults.model.occurrences import Hits
from derail.platform import seccomp
from derail.platform.capabilities import why_no_proc

if TYPE_CHECKING:
    from derail.faults.catalogue.injector_api import Aim
    from derail.faults.mechanisms.syscall_rules import Rule
    from derail.faults.model.plan import Fault
    from derail.model.spec import RankSpec

_WORDS = {
    "spawn_eagain": MAKES_PROCESSES,
    "spawn_emfile": f"{MAKES_PROCESSES},{MAKES_PIPES}",
    "spawn_enoent": EXECUTES,
    "launcher_log_disk_full": WRITES,
}
"""The system calls that each is about."""


def prepare_calls(rank: RankSpec, fault: Fault) -> RankSpec:
    """The launcher, started under a filter for the calls that the fault is about."""
    return syscalls.under_filter(rank, fault, _WORDS[fault.name])


def begin_calls(aim: Aim) -> None:
    """The launcher runs: get the rule ready."""
    syscalls.arm(aim, _WORDS[aim.fault.name], lambda names, pid: _rule(aim, names, pid))


def _rule(aim: Aim, names: dict[int, str], pid: int) -> Rule:
    name = aim.fault.name
    child = 1 if name == "launcher_log_disk_full" else int(aim.number("child"))
    if name == "spawn_eagain":
        return MakingRule(
            aim.fault.id, "fork (or vfork, clone, clone3)", names, pid, Hits(1, None), errno.EAGAIN, "EAGAIN",
            before=child - 1,
        )  # fmt: skip
    if name == "spawn_emfile":
        return PipeRule(
            aim.fault.id, "pipe (or pipe2, socketpair)", names, pid, Hits(1, 1), errno.EMFILE, "EMFILE",
            before=child - 1,
        )  # fmt: skip
    if name == "spawn_enoent":
        return ExecRule(
            aim.fault.id, f"exec in process {child}", names, pid, Hits(1, None), errno.ENOENT, "ENOENT",
            children=True, child=child,
        )  # fmt: skip
    return FirstShows(aim.fault.id, "write", names, pid, Hits(1, None), errno.ENOSPC, "ENOSPC", path=aim.text("path"))


def _read_path(value: object) -> str:
    text = read_text(value)
    if not text:
        raise ValueError("expected a part of the path of the launcher's own files, got ''")
    return text


def _no_seccomp() -> str:
    return why_no_proc() or seccomp.why_not()


CHILD = count_param(
    "child",
    "Which process of the launcher, counted from 1; helpers that it starts too. A launcher's processes are those that "
    "it makes after its last exec, so that the commands of a wrapper do not count; of a shell's, those that live.",
    default=1,
    least=1,
)
FILTERED = "Linux 5.5 on x86_64 or aarch64, seccomp user notification; the launcher a program under derail"
PROGRAM = "the launcher a program under derail; /proc"


def _spawn(name: str, summary: str) -> Entry:
    return Entry(
        name=name,
        side="before start",
        summary=summary,
        inject=syscalls.inject,
        verified="the kernel took the errno as the answer to the call, which was waiting for it",
        healed="",
        example=f"faults.{name}(2, rank=0)",
        params=(CHILD,),
        requires=Requires(FILTERED, unavailable=_no_seccomp),
        setup=Setup(prepare=prepare_calls, begin=begin_calls),
    )


ENTRIES = (
    Entry(
        name="sigchld_ignored",
        side="before start",
        summary="The launcher is started with SIGCHLD ignored: the kernel reaps its children, and their ends are lost.",
        inject=_launcher_actions.ignored_sigchld,
        verified="SIGCHLD in SigIgn of /proc/PID/status",
        healed="",
        example="faults.sigchld_ignored(rank=0)",
        acts=Acts(triggers=("start",)),
        requires=Requires(PROGRAM, unavailable=why_no_proc),
        setup=Setup(
            prepare=lambda rank, fault: enter(rank, fault, {"namespaces": [], "ignored": [int(signal.SIGCHLD)]})
        ),
    ),
    Entry(
        name="stolen_wait",
        side="in rank",
        summary="Somebody else in the launcher's process waits for its children first: it is told that there is none.",
        inject=_launcher_actions.stolen,
        verified="the status that was taken, and the child gone from /proc",
        healed="",
        example="faults.stolen_wait(rank=0)",
        params=(count_param("count", "Of how many children.", default=1, least=1),),
        requires=Requires("a launcher that is Python, and waits by os.wait and its like", unavailable=why_no_proc),
    ),
    _spawn("spawn_eagain", "The launcher cannot make its n-th process: fork and its like fail with EAGAIN."),
    _spawn("spawn_emfile", "The launcher gets no pipe for its n-th process: EMFILE, once."),
    _spawn(
        "spawn_enoent",
        "The program of the launcher's n-th process is not there: exec fails with ENOENT, wherever it is sought.",
    ),
    Entry(
        name="launcher_killed",
        side="outside",
        summary="Kills a launcher, and not the processes that it has started.",
        inject=_launcher_actions.kill,
        verified="SIGKILL in the launcher's exit, and what its processes do then",
        healed="",
        example="faults.launcher_killed(rank=0, when=when.line('stopping rank'))",
        requires=Requires(PROGRAM, unavailable=why_no_proc),
    ),
    Entry(
        name="launcher_stopped",
        side="outside",
        summary="Stops a launcher, and not the processes that it has started.",
        inject=_launcher_actions.stop,
        verified="state T in /proc/PID/status",
        healed="SIGCONT",
        example="faults.launcher_stopped(rank=0, for_=2, when=when.line('step 2'))",
        requires=Requires(PROGRAM, unavailable=why_no_proc),
        acts=Acts(lasts=True),
    ),
    Entry(
        name="launcher_signalled",
        side="outside",
        summary="Sends a signal to a launcher that has started processes.",
        inject=_launcher_actions.send,
        verified="as for signal: its exit by it, or that it was delivered, ignored or is held back",
        healed="",
        example="faults.launcher_signalled('SIGTERM', rank=0, when=when.line('step 2'))",
        params=(signal_param("signal", "Which signal."),),
        requires=Requires(PROGRAM, unavailable=why_no_proc),
    ),
    Entry(
        name="launcher_stdout_closed",
        side="before start",
        summary="The launcher is started without a stdout, or with a pipe that nobody reads.",
        inject=_launcher_actions.no_stdout,
        verified="descriptor 1 in /proc/PID/fd; for a pipe, POLLERR: nobody has its other end",
        healed="",
        example="faults.launcher_stdout_closed('broken', rank=0)",
        params=(choice_param("how", ("closed", "broken"), "No descriptor 1, or a broken pipe.", default="closed"),),
        acts=Acts(triggers=("start",)),
        requires=Requires(PROGRAM, unavailable=why_no_proc),
        setup=Setup(prepare=lambda rank, fault: enter(rank, fault, {"namespaces": [], "stdout": fault.param("how")})),
    ),
    Entry(
        name="launcher_log_disk_full",
        side="before start",
        summary="The launcher's own writes to its files fail with ENOSPC; those of its processes do not.",
        inject=syscalls.inject,
        verified="the kernel took ENOSPC as the answer to a write, which was waiting for it",
        healed="at the end of the job",
        example="faults.launcher_log_disk_full('journal', rank=0, when=when.line('step 2'))",
        params=(Param("path", _read_path, "Files whose path has this in it.", "text", required=True),),
        requires=Requires(FILTERED, unavailable=_no_seccomp),
        setup=Setup(prepare=prepare_calls, begin=begin_calls),
    ),
)
