"""What is still there afterwards: processes, descriptors, threads, temp files."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from contract import ranks
from contract.registry import Facts, Fault, case

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage


@case(
    {"helper": "ended", "exit code": 3},
    torch=Fault(
        "pytorch#110065, NVRx#270, seen on 2.13.0: the group of a rank is not ended when the rank itself is dead",
        {"helper": "running", "exit code": 3},
    ),
)
def the_children_of_a_crashed_program_are_ended(api: Api, stage: Stage) -> Facts:
    """Processes that a crashed rank had started do not outlive the job."""
    result = stage.programs([f"sleep 600 & echo $! > {stage.dir}/helper; exit 3"]).wait()
    helper = "ended" if stage.gone(stage.pid("helper")) else "running"
    return {"helper": helper, "exit code": result.failures[0].exitcode}


@case(
    {"helper": "ended", "exit code": 3},
    torch=Fault(
        "pytorch#76287, seen on 2.13.0: function ranks have no group of their own to be ended with",
        {"helper": "running", "exit code": 3},
    ),
)
def the_children_of_a_crashed_function_are_ended(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""
    context = stage.functions(ranks.start_helper_and_crash, [(str(stage.path("helper")),)])
    result = context.wait()
    helper = "ended" if stage.gone(stage.pid("helper")) else "running"
    return {"helper": helper, "exit code": result.failures[0].exitcode}


@case(
    {"helper": "ended"},
    torch=Fault(
        "pytorch#76287, seen on 2.13.0: close() signals function ranks only, not what they have started",
        {"helper": "running"},
    ),
)
def the_children_of_a_closed_function_are_ended(api: Api, stage: Stage) -> Facts:
    """``close`` ends what living ranks had started."""
    context = stage.functions(ranks.start_helper_and_stay, [(str(stage.path("helper")),)])
    helper = stage.pid("helper")
    context.close(signal.SIGTERM, 60)
    return {"helper": "ended" if stage.gone(helper) else "running"}


@case(
    {"helper": "ended", "failed": False},
    torch=Fault(
        "pytorch#110065, seen on 2.13.0: what a finished rank left in its group runs on",
        {"helper": "running", "failed": False},
    ),
)
def the_children_of_a_finished_program_are_ended(api: Api, stage: Stage) -> Facts:
    """A rank that succeeded leaves nothing behind either."""
    result = stage.programs([f"sleep 600 & echo $! > {stage.dir}/helper"]).wait()
    helper = "ended" if stage.gone(stage.pid("helper")) else "running"
    return {"helper": helper, "failed": result.is_failed()}


@case(
    {"ranks": "ended"},
    torch=Fault(
        "pytest-timeout#159, seen on 2.13.0: programs outlive a launcher that was killed",
        {"ranks": "running"},
    ),
)
def programs_do_not_outlive_a_killed_launcher(api: Api, stage: Stage) -> Facts:
    """SIGKILL to the launcher ends the ranks."""

    def launch() -> None:
        stage.programs([f"echo $$ > {stage.dir}/pid.{rank}; exec sleep 600" for rank in (0, 1)]).wait()

    launcher = stage.launcher(launch)
    pids = [stage.pid(f"pid.{rank}") for rank in (0, 1)]
    os.kill(launcher, signal.SIGKILL)
    stage.exit_of(launcher)
    return {"ranks": "ended" if all(stage.gone(pid) for pid in pids) else "running"}


@case({"ranks": "ended"})
def functions_do_not_outlive_a_killed_launcher(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""

    def launch() -> None:
        stage.functions(ranks.touch_and_stay, [(str(stage.path(f"pid.{rank}")),) for rank in (0, 1)]).wait()

    launcher = stage.launcher(launch)
    pids = [stage.pid(f"pid.{rank}") for rank in (0, 1)]
    os.kill(launcher, signal.SIGKILL)
    stage.exit_of(launcher)
    return {"ranks": "ended" if all(stage.gone(pid) for pid in pids) else "running"}


@case(
    {"ranks": "ended"},
    torch=Fault(
        "seen on 2.13.0: a function that ignores SIGINT outlives a launcher that was killed",
        {"ranks": "running"},
    ),
)
def stubborn_functions_do_not_outlive_a_killed_launcher(api: Api, stage: Stage) -> Facts:
    """Nor do functions that ignore SIGINT and SIGTERM."""

    def launch() -> None:
        stage.functions(_ignore_and_stay, [(str(stage.path("pid.0")),)]).wait()

    launcher = stage.launcher(launch)
    pid = stage.pid("pid.0")
    os.kill(launcher, signal.SIGKILL)
    stage.exit_of(launcher)
    return {"ranks": "ended" if stage.gone(pid) else "running"}


def _ignore_and_stay(path: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ranks.touch_and_stay(path)


@case(
    {"launcher": "ended", "ranks": "ended"},
    torch=Fault(
        "seen on 2.13.0: a launcher that dies of an exception joins its function ranks at interpreter exit, for ever",
        {"launcher": "running", "ranks": "running"},
    ),
)
def a_launcher_that_forgets_its_functions_still_ends(api: Api, stage: Stage) -> Facts:
    """A process that leaves without ``close`` ends, and its ranks with it."""

    def launch() -> None:
        context = stage.functions(ranks.touch_and_stay, [(str(stage.path("pid.0")),)])
        stage.pid("pid.0")
        context.wait(0)
        from multiprocessing import util

        util._exit_function()  # type: ignore[attr-defined]  # what the interpreter calls at its exit; a forked launcher leaves by os._exit

    launcher = stage.launcher(launch)
    pid = stage.pid("pid.0")
    ended = stage.exit_of(launcher, within=stage.patience) is not None
    gone = stage.gone(pid)
    return {"launcher": "ended" if ended else "running", "ranks": "ended" if gone else "running"}


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@case(
    {"descriptors": "as before"},
    torch=Fault(
        "seen on 2.13.0: the log files of ranks that ended by themselves stay open as long as the context lives",
        {"finished": True, "descriptors": "more"},
    ),
)
def a_finished_job_holds_no_descriptors(api: Api, stage: Stage) -> Facts:
    """After ``wait`` there are as many open descriptors as before the start."""
    stage.programs(["true"]).wait()
    before = _descriptors()
    context = stage.programs(["true"] * 4, redirects=api.Std.ALL)
    context.wait()
    more = _descriptors() - before
    del context
    return {"descriptors": "as before" if more <= 0 else "more"}


@case(
    {"descriptors": "as before"},
    torch=Fault(
        "seen on 2.13.0: a finished function job keeps its queues and semaphores as long as the context lives",
        {"finished": True, "descriptors": "more"},
    ),
)
def a_finished_function_job_holds_no_descriptors(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""
    stage.functions(ranks.add, [(1, 2)]).wait()
    before = _descriptors()
    context = stage.functions(ranks.add, [(1, 2)] * 4)
    context.wait()
    more = _descriptors() - before
    del context
    return {"descriptors": "as before" if more <= 0 else "more"}


@case({"threads": "as before"})
def a_finished_job_has_no_threads(api: Api, stage: Stage) -> Facts:
    """After ``wait`` no thread of the job is left."""
    before = threading.active_count()
    stage.programs(["true"] * 4, tee=api.Std.ALL).wait()
    same = stage.soon(lambda: threading.active_count() <= before)
    return {"threads": "as before" if same else "more"}


@case(
    {"files": "none"},
    torch=Fault(
        "seen on 2.13.0: a failed function leaves a file in the temp directory",
        {"finished": True, "files": "some"},
    ),
)
def a_finished_job_leaves_no_temp_files(api: Api, stage: Stage) -> Facts:
    """All files of a job are in its log directory."""
    stage.functions(ranks.fail_if, [(True, "x"), (False, "")]).wait()
    return {"files": "some" if os.listdir(os.environ["TMPDIR"]) else "none"}


@case({"children": "none"})
def a_finished_job_leaves_no_zombies(api: Api, stage: Stage) -> Facts:
    """Every rank is reaped when ``wait`` has returned."""
    stage.programs(["exit 3", "exec sleep 600", "true"]).wait()
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return {"children": file.read().strip() or "none"}
