"""Signals to the launcher: what is raised, what is relayed, what is put back."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from contract import ranks
from contract.registry import Facts, Fault, add, case
from contract.stage import is_alive, until

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage

HANDLED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")


def _raises(name: str) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        context = stage.programs(["exec sleep 600"])
        try:
            signal.raise_signal(signal.Signals[name])
            context.wait(60)
        except api.SignalException as error:
            context.close(error.sigval, 60)
            return {"sigval": signal.Signals(error.sigval).name, "text": f"{os.getpid()} got" in str(error)}
        context.close()
        return {"sigval": None}

    doc = f"{name} to the launcher raises SignalException with its number in the main thread."
    add(f"{name.lower()}_raises_a_signal_exception", run, expect={"sigval": name, "text": True}, doc=doc)


for _name in HANDLED:
    _raises(_name)


@case({"relayed": "INT", "launcher": 0})
def the_documented_pattern_relays_the_signal(api: Api, stage: Stage) -> Facts:
    """``except SignalException as e: close(e.sigval, timeout)`` sends the ranks the launcher's signal."""
    trap = f"trap 'echo INT > {stage.dir}/got; exit 0' INT; echo $$ > {stage.dir}/pid; while :; do sleep 0.02; done"

    def launch() -> None:
        context = stage.programs([trap])
        try:
            stage.path("started").write_text("now\n")
            context.wait(period=0.1)
        except api.SignalException as error:
            context.close(error.sigval, 60)

    launcher = stage.launcher(launch)
    stage.pid("pid")
    stage.text("started")
    os.kill(launcher, signal.SIGINT)
    return {"relayed": stage.text("got"), "launcher": stage.exit_of(launcher)}


@case(
    {"launcher": "ended", "ranks": "ended"},
    torch=Fault(
        "seen on 2.13.0: a second signal interrupts the cleanup after the first, and the ranks stay",
        {"launcher": "ended", "ranks": "running"},
    ),
)
def a_second_signal_does_not_abort_the_cleanup(api: Api, stage: Stage) -> Facts:
    """While stubborn ranks are being ended, another signal makes it faster, and never leaves one behind."""
    stubborn = f"trap '' TERM INT; echo $$ > {stage.dir}/pid.$$; exec sleep 600"

    def launch() -> None:
        context = stage.programs([stubborn] * 2)
        try:
            stage.path("started").write_text("now\n")
            context.wait(period=0.1)
        except api.SignalException as error:
            stage.path("closing").write_text("now\n")
            context.close(error.sigval, 600)

    launcher = stage.launcher(launch)
    stage.text("started")
    until(lambda: len(list(stage.dir.glob("pid.*"))) == 2)
    pids = [int(path.suffix[1:]) for path in stage.dir.glob("pid.*")]
    for _ in range(3):
        if is_alive(launcher):
            os.kill(launcher, signal.SIGTERM)
        stage.text("closing")
        until(lambda: not is_alive(launcher), within=0.5)
    ended = stage.exit_of(launcher) is not None
    left = not stage.soon(lambda: not any(map(is_alive, pids)))
    return {"launcher": "ended" if ended else "running", "ranks": "running" if left else "ended"}


@case(
    {"put back": [True, True, True, True]},
    torch=Fault(
        "pytorch#67742, seen on 2.13.0: the launcher's signal handlers stay after the job is over",
        {"finished": True, "put back": [False, False, False, False]},
    ),
)
def handlers_are_put_back_when_the_job_is_over(api: Api, stage: Stage) -> Facts:
    """After ``wait`` the process handles signals as it did before ``start_processes``."""
    mine = {number: lambda *_: None for number in (getattr(signal, name) for name in HANDLED)}
    for number, handler in mine.items():
        signal.signal(number, handler)
    stage.programs(["true"]).wait()
    return {"put back": [signal.getsignal(number) is handler for number, handler in mine.items()]}


@case(
    {"put back": True},
    torch=Fault(
        "pytorch#67742, seen on 2.13.0: the launcher's signal handlers stay when the start fails",
        {"finished": True, "put back": False},
    ),
)
def handlers_are_put_back_when_the_start_fails(api: Api, stage: Stage) -> Facts:
    """A failing start leaves the process as it was."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        api.start_processes("job", "/no/such/program", {0: ()}, {0: {}}, api.DefaultLogsSpecs(log_dir=stage.logs))
    except FileNotFoundError:
        pass
    return {"put back": signal.getsignal(signal.SIGTERM) is before}


@case(
    {"job": "complete"},
    torch=Fault(
        "pytorch#67538, #76894, seen on 2.13.0: under nohup the ignored SIGHUP is handled, and ends the job",
        {"job": "ended by SIGHUP"},
    ),
)
def an_ignored_sighup_stays_ignored(api: Api, stage: Stage) -> Facts:
    """A job that was started with nohup survives the end of its terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    context = stage.programs([f"while ! [ -e {stage.dir}/go ]; do sleep 0.01; done"])
    try:
        signal.raise_signal(signal.SIGHUP)
        stage.path("go").write_text("")
        result = context.wait(60)
    except api.SignalException:
        context.close()
        return {"job": "ended by SIGHUP"}
    return {"job": "complete" if result and not result.is_failed() else "failed"}


@case({"handled": ["SIGTERM", "SIGUSR1"]})
def the_signals_to_handle_can_be_chosen(api: Api, stage: Stage) -> Facts:
    """TORCHELASTIC_SIGNALS_TO_HANDLE lists them by name, with spaces or without."""
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGUSR1, SIGTERM"
    names = (*HANDLED, "SIGUSR1", "SIGUSR2")
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    context = stage.programs(["exec sleep 600"])
    changed = [name for name in names if signal.getsignal(getattr(signal, name)) is not before[name]]
    context.close()
    return {"handled": sorted(changed)}


@case({"handled": ["SIGTERM"], "job": "complete"})
def an_unknown_signal_to_handle_is_passed_over(api: Api, stage: Stage) -> Facts:
    """A name that is no signal does not stop the start."""
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGNONSENSE,SIGTERM"
    before = {name: signal.getsignal(getattr(signal, name)) for name in HANDLED}
    context = stage.programs([f"while ! [ -e {stage.dir}/go ]; do sleep 0.01; done"])
    changed = [name for name in HANDLED if signal.getsignal(getattr(signal, name)) is not before[name]]
    stage.path("go").write_text("")
    result = context.wait()
    return {"handled": changed, "job": "failed" if result.is_failed() else "complete"}


@case(
    {"job": "complete"},
    torch=Fault(
        "seen on 2.13.0: SIGKILL among the signals to handle fails the start with a bare OSError",
        {"raised": "OSError"},
    ),
)
def a_signal_that_cannot_be_handled_is_passed_over(api: Api, stage: Stage) -> Facts:
    """Nor does one that the kernel lets nobody handle."""
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGKILL,SIGTERM"
    result = stage.programs(["true"]).wait()
    return {"job": "failed" if result.is_failed() else "complete"}


@case({"handled": []})
def a_job_in_a_thread_touches_no_handler(api: Api, stage: Stage) -> Facts:
    """Handlers belong to the main thread; a job that is started elsewhere does without."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in HANDLED}
    seen: list[str] = []

    def job() -> None:
        context = stage.programs(["exec sleep 600"])
        seen.extend(name for name in HANDLED if signal.getsignal(getattr(signal, name)) is not before[name])
        context.close()

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    return {"handled": seen}


@case(
    {"ranks": "ended", "by": "SIGTERM's default"},
    torch=Fault(
        "seen on 2.13.0: a forked rank inherits the launcher's handler, so SIGTERM is an exception in its code",
        {"by": "an exception"},
    ),
)
def forked_ranks_do_not_inherit_the_launchers_handlers(api: Api, stage: Stage) -> Facts:
    """SIGTERM to a forked rank ends it, as it would end a spawned one."""
    context = stage.functions(ranks.touch_and_stay, [(str(stage.path("pid")),)])
    pid = stage.pid("pid")
    os.kill(pid, signal.SIGTERM)
    result = context.wait(period=0.1)
    by = "SIGTERM's default" if result.failures[0].exitcode == -signal.SIGTERM else "an exception"
    return {"ranks": "running" if is_alive(pid) else "ended", "by": by}


@case({"message": "why", "sigval": "SIGINT", "is an exception": True})
def a_signal_exception_carries_its_signal(api: Api, stage: Stage) -> Facts:
    """``SignalException(msg, sigval)`` keeps both."""
    error = api.SignalException("why", signal.SIGINT)
    return {"message": str(error), "sigval": error.sigval.name, "is an exception": isinstance(error, BaseException)}
