"""Faults of a launcher: a program that starts others and waits for them, and that runs as a rank of a derail job.

To test a launcher, run it as the only rank of a job: the job observes the launcher, and outlives it.
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
"""System calls by fault."""


def prepare_calls(rank: RankSpec, fault: Fault) -> RankSpec:
    """Return the launcher's rank, started under a filter for the system calls of the fault."""
    return syscalls.under_filter(rank, fault, _WORDS[fault.name])


def begin_calls(aim: Aim) -> None:
    """Prepare the rule of the fault when the launcher runs."""
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
    "Number of the launcher's process, counted from 1, including helpers. Only processes made after its last exec "
    "count, so that the commands of a wrapper do not; for a shell, only living processes count.",
    default=1,
    least=1,
)
FILTERED = "Linux 5.5 on x86_64 or aarch64, seccomp user notification; a launcher that runs as a program under derail"
PROGRAM = "a launcher that runs as a program under derail; /proc"


def _spawn(name: str, summary: str) -> Entry:
    return Entry(
        name=name,
        side="before start",
        summary=summary,
        inject=syscalls.inject,
        verified="the kernel accepted the errno as the result of the waiting call",
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
        summary="Starts the launcher with SIGCHLD ignored: the kernel reaps its children and drops their statuses.",
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
        summary="Other code in the launcher's process reaps its children first: its own wait fails with ECHILD.",
        inject=_launcher_actions.stolen,
        verified="the stolen exit status, and the child gone from /proc",
        healed="",
        example="faults.stolen_wait(rank=0)",
        params=(count_param("count", "Number of children.", default=1, least=1),),
        requires=Requires("a launcher in Python that waits by os.wait or similar functions", unavailable=why_no_proc),
    ),
    _spawn("spawn_eagain", "The launcher cannot make its n-th process: fork and similar calls fail with EAGAIN."),
    _spawn("spawn_emfile", "The launcher gets no pipe for its n-th process: one call fails with EMFILE."),
    _spawn(
        "spawn_enoent",
        "The program of the launcher's n-th process is missing: every exec of it fails with ENOENT.",
    ),
    Entry(
        name="launcher_killed",
        side="outside",
        summary="Kills a launcher, but not the processes that it has started.",
        inject=_launcher_actions.kill,
        verified="SIGKILL in the launcher's exit status, with the processes that were still alive",
        healed="",
        example="faults.launcher_killed(rank=0, when=when.line('stopping rank'))",
        requires=Requires(PROGRAM, unavailable=why_no_proc),
    ),
    Entry(
        name="launcher_stopped",
        side="outside",
        summary="Stops a launcher, but not the processes that it has started.",
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
        verified="as for signal: the exit by that signal, or its delivery, or that it is ignored or pending",
        healed="",
        example="faults.launcher_signalled('SIGTERM', rank=0, when=when.line('step 2'))",
        params=(signal_param("signal", "Signal by name or number."),),
        requires=Requires(PROGRAM, unavailable=why_no_proc),
    ),
    Entry(
        name="launcher_stdout_closed",
        side="before start",
        summary="The launcher starts without a stdout, or with a broken pipe as stdout.",
        inject=_launcher_actions.no_stdout,
        verified="descriptor 1 in /proc/PID/fd; for a pipe, POLLERR: its read end is closed",
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
        verified="the kernel accepted ENOSPC as the result of the waiting write",
        healed="at the end of the job",
        example="faults.launcher_log_disk_full('journal', rank=0, when=when.line('step 2'))",
        params=(Param("path", _read_path, "Text that the path of a file must contain.", "text", required=True),),
        requires=Requires(FILTERED, unavailable=_no_seccomp),
        setup=Setup(prepare=prepare_calls, begin=begin_calls),
    ),
)
