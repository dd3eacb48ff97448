"""What a failure says: exit code, signal, message, traceback, and the text for people."""

# ruff: noqa: TID251 - error files carry the wall clock; waits are stolen and clocks are stepped on purpose

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

from contract import ranks
from contract.registry import Facts, Fault, add, case
from contract.stage import is_alive, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from contract.implementations import Api
    from contract.stage import Stage


@case({"failures": {"1": 3}, "error file": "<N/A>", "local rank": 1, "pid is the rank's": True, "failed": True})
def a_program_that_exits_non_zero_fails_with_its_code(api: Api, stage: Stage) -> Facts:
    """A failure has local rank, pid and exit code; without an error file that is ``<N/A>``."""
    context = stage.programs(["true", "exit 3"])
    pid = context.pids()[1]
    result = context.wait()
    failure = result.failures[1]
    return {
        "failures": {str(rank): one.exitcode for rank, one in result.failures.items()},
        "error file": failure.error_file,
        "local rank": failure.local_rank,
        "pid is the rank's": failure.pid == pid,
        "failed": result.is_failed(),
    }


@case({"exit code": -9, "signal": "SIGKILL", "message names it": True})
def a_program_that_dies_of_a_signal_fails_with_minus_its_number(api: Api, stage: Stage) -> Facts:
    """SIGKILL is exit code -9, and the message names the signal and the pid."""
    result = stage.programs(["kill -KILL $$"]).wait()
    failure = result.failures[0]
    text = f"Signal 9 (SIGKILL) received by PID {failure.pid}"
    return {
        "exit code": failure.exitcode,
        "signal": failure.signal_name(),
        "message names it": text in str(failure.message),
    }


@case({"exit code": -11, "signal": "SIGSEGV"})
def a_function_that_dies_of_a_signal_fails_with_minus_its_number(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""
    failure = stage.functions(ranks.kill_self, [(signal.SIGSEGV,)]).wait().failures[0]
    return {"exit code": failure.exitcode, "signal": failure.signal_name()}


@case(
    {"exit code": -37, "named": True},
    torch=Fault(
        "seen on 2.13.0: a real-time signal between the two ends of its range has no name",
        {"exit code": -37, "named": False},
    ),
)
def real_time_signals_have_names(api: Api, stage: Stage) -> Facts:
    """Death by signal 37 is reported as ``SIGRTMIN+3``."""
    failure = stage.programs(["kill -37 $$"]).wait().failures[0]
    return {"exit code": failure.exitcode, "named": failure.signal_name() == "SIGRTMIN+3"}


@case({"exit code": 1, "message": "ValueError: broken", "traceback": True, "error file": "error.json"})
def a_functions_exception_is_in_its_failure(api: Api, stage: Stage) -> Facts:
    """Functions are recorded without a decorator: message, traceback and error file are there."""
    failure = stage.functions(ranks.raise_value_error, [("broken",)]).wait().failures[0]
    return {
        "exit code": failure.exitcode,
        "message": failure.message["message"],
        "traceback": "raise ValueError(text)\nValueError: broken" in failure.message["extraInfo"]["py_callstack"],
        "error file": os.path.basename(failure.error_file),
    }


@case({"exit code": 1, "message": "RuntimeError: from a program"})
def a_recorded_programs_exception_is_in_its_failure(api: Api, stage: Stage) -> Facts:
    """A program that uses ``record`` has an error file, too."""
    home = api.record.__module__
    script = f"from {home} import record\n@record\ndef main():\n    raise RuntimeError('from a program')\nmain()"
    failure = stage.pythons([script]).wait().failures[0]
    return {"exit code": failure.exitcode, "message": failure.message["message"]}


@case({"other rank": "ended"})
def a_failure_ends_the_other_programs(api: Api, stage: Stage) -> Facts:
    """All or nothing: when one rank fails, the others are ended before ``wait`` returns."""
    context = stage.programs(["exit 3", "exec sleep 600"])
    pids = context.pids()
    context.wait()
    return {"other rank": "running" if is_alive(pids[1]) else "ended"}


@case({"other rank": "ended", "failures": [0]})
def a_failure_ends_the_other_functions(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""
    context = stage.functions(ranks.fail_if, [(True, "x"), (False, "")])
    pids = context.pids()
    result = context.wait()
    return {"other rank": "running" if is_alive(pids[1]) else "ended", "failures": sorted(result.failures)}


@case({"failures": [1]})
def a_rank_that_succeeded_before_a_failure_is_no_failure(api: Api, stage: Stage) -> Facts:
    """Only the rank that failed is in ``failures``."""
    context = stage.programs(
        [f"echo > {stage.dir}/done", f"while ! [ -e {stage.dir}/done ]; do sleep 0.01; done; exit 4"]
    )
    result = context.wait()
    return {"failures": sorted(result.failures)}


@case(
    {"values": {"0": None}, "failures": [1]},
    torch=Fault(
        "seen on 2.13.0: the result of a failed job has no values, also of ranks that had succeeded",
        {"finished": True, "values": {}, "failures": [1]},
    ),
)
def ranks_that_had_succeeded_keep_their_values(api: Api, stage: Stage) -> Facts:
    """``return_values`` has the ranks that succeeded, also when another one failed later."""
    context = stage.programs(["true", f"while ! [ -e {stage.dir}/go ]; do sleep 0.01; done; exit 4"])
    pids = context.pids()
    until(lambda: not is_alive(pids[0]))
    context.wait(0)
    stage.path("go").write_text("")
    result = context.wait(period=0.1)
    return {
        "values": {str(rank): value for rank, value in result.return_values.items()},
        "failures": sorted(result.failures),
    }


@case({"errorTraits": {"category": "system_terminated_error", "retryability": "False"}})
def an_exit_without_an_error_file_has_error_traits(api: Api, stage: Stage) -> Facts:
    """Callers that decide on retries by ``errorTraits`` find them."""
    failure = stage.programs(["exit 3"]).wait().failures[0]
    return {"errorTraits": failure.error_file_data.get("errorTraits")}


@case(
    {"of the signalled rank": "none"},
    torch=Fault(
        "pytorch#165688, seen on 2.13.0: failures without a file share one dict, so one gains the traits of another",
        {"of the signalled rank": "those of another rank"},
    ),
)
def failures_do_not_share_their_error_data(api: Api, stage: Stage) -> Facts:
    """A failure by signal does not gain the ``errorTraits`` of a later failure by exit code."""
    signalled = stage.programs(["kill -SEGV $$"]).wait().failures[0]
    stage.programs(["exit 3"]).wait()
    shared = "errorTraits" in signalled.error_file_data
    return {"of the signalled rank": "those of another rank" if shared else "none"}


@case(
    {"reason": "in the text"},
    torch=Fault(
        "pytorch#65041, #66182, seen on 2.13.0: a program without @record fails with an advice instead of a reason",
        {"finished": True, "reason": "missing"},
    ),
)
def a_program_without_record_still_has_a_reason(api: Api, stage: Stage) -> Facts:
    """The tail of its redirected stderr is in the text of the failure."""
    result = stage.pythons(["1 / 0"], redirects=api.Std.ALL).wait()
    text = str(api.ChildFailedError("job", result.failures))
    return {"reason": "in the text" if "ZeroDivisionError: division by zero" in text else "missing"}


def _reasons(name: str, what: object, needle: str) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        entry = ranks.raise_hostile if what is ranks.Hostile else ranks.exit_with
        result = stage.functions(entry, [(what,)], redirects=api.Std.ERR).wait()
        text = str(api.ChildFailedError("job", result.failures))
        return {"exit code": result.failures[0].exitcode, "reason": "in the text" if needle in text else "missing"}

    add(
        name,
        run,
        expect={"exit code": 1, "reason": "in the text"},
        torch=Fault(
            "pytorch#165925, seen on 2.13.0: how the rank left is in no error file and no message",
            {"exit code": 1, "reason": "missing"},
        ),
        doc="However a function leaves, the text of its failure says how.",
    )


_reasons("the_text_of_sys_exit_is_the_reason", "out of cheese", "out of cheese")
_reasons("an_exception_that_cannot_be_printed_is_still_named", ranks.Hostile, "Hostile")


def _failure(api: Api, rank: int = 0, code: int = 1, file: str = "<N/A>") -> Any:
    return api.ProcessFailure(rank, 4000 + rank, code, file)


@case(
    {
        "title": True,
        "root cause": True,
        "rank": True,
        "exit code": True,
        "host": True,
        "error file": True,
        "no others": True,
        "is its str": True,
    }
)
def the_text_of_a_child_failed_error_tells_all(api: Api, stage: Stage) -> Facts:
    """``format_msg`` has name, time, host, ranks, exit code, pid, signal and error file of the root cause."""
    error = api.ChildFailedError("trainer", {12: _failure(api, 3, -9)})
    text = error.format_msg()
    return {
        "title": "\ntrainer FAILED\n" in text,
        "root cause": "Root Cause (first observed failure):" in text,
        "rank": "rank      : 12 (local_rank: 3)" in text,
        "exit code": "exitcode  : -9 (pid: 4003)" in text and "SIGKILL" in text,
        "host": re.search(r"host      : \S+", text) is not None,
        "error file": "error_file: <N/A>" in text,
        "no others": "<NO_OTHER_FAILURES>" in text,
        "is its str": str(error) == text,
    }


@case({"borders": ["*", "~"], "others": True})
def the_borders_of_the_text_can_be_chosen(api: Api, stage: Stage) -> Facts:
    """``format_msg`` takes the characters of its lines; other failures stand above the root cause."""
    error = api.ChildFailedError("trainer", {0: _failure(api, 0, 3), 1: _failure(api, 1, 4)})
    text = error.format_msg("*", "~")
    ruled = sorted({line[0] for line in text.splitlines() if re.fullmatch(r"(.)\1{9,}", line)})
    others, _, root = text.partition("Root Cause")
    return {"borders": ruled, "others": "local_rank: 1" in others and "local_rank: 0" in root}


@case({"raised": "AssertionError"})
def a_child_failed_error_needs_a_failure(api: Api, stage: Stage) -> Facts:
    """An error about no failure is refused."""
    try:
        api.ChildFailedError("job", {})
    except AssertionError:
        return {"raised": "AssertionError"}
    return {"raised": None}


@case({"first": 7, "name": "job", "failures": [5, 7]})
def the_first_failure_is_given_with_its_global_rank(api: Api, stage: Stage) -> Facts:
    """``get_first_failure`` returns the key of the map and the failure."""
    early, late = stage.path("early.json"), stage.path("late.json")
    for file, at in ((early, 1_700_000_000), (late, 1_700_000_100)):
        file.write_text(json.dumps({"message": {"message": "m", "extraInfo": {"timestamp": str(at)}}}))
    failures = {5: _failure(api, 0, 1, str(late)), 7: _failure(api, 1, 1, str(early))}
    error = api.ChildFailedError("job", failures)
    rank, failure = error.get_first_failure()
    return {"first": rank if failure is failures[7] else None, "name": error.name, "failures": sorted(error.failures)}


@case({"iso": True, "now": True})
def a_failure_has_a_time_to_read(api: Api, stage: Stage) -> Facts:
    """``timestamp_isoformat`` gives local time as DATE_TIME; without an error file it is about now."""
    failure = _failure(api)
    pattern = r"\d{4}-\d{2}-\d{2}_\d{2}:\d{2}:\d{2}"
    return {
        "iso": re.fullmatch(pattern, failure.timestamp_isoformat()) is not None,
        "now": abs(failure.timestamp - time.time()) < 60,
    }


@case({"names": ["SIGTERM", "<N/A>", "<N/A>"]})
def signal_names_are_given_for_signals_only(api: Api, stage: Stage) -> Facts:
    """``signal_name`` of an ordinary exit is ``<N/A>``."""
    return {"names": [_failure(api, 0, code).signal_name() for code in (-15, 1, 0)]}


def _fail_together(stage: Stage, start: Callable[[Path], Any]) -> Facts:
    """Let two ranks fail while the launcher is stopped, so that it notices both at once when it goes on."""
    gate, told = stage.path("gate"), stage.path("told")

    def launch() -> None:
        context = start(gate)
        stage.path("pids").write_text(" ".join(str(pid) for pid in context.pids().values()) + "\n")
        result = context.wait(period=0.1)
        half = stage.path("told.half")
        half.write_text(json.dumps({str(rank): one.exitcode for rank, one in sorted(result.failures.items())}))
        half.rename(told)

    launcher = stage.launcher(launch)
    pids = [int(pid) for pid in stage.text("pids").split()]
    os.kill(launcher, signal.SIGSTOP)
    os.waitid(os.P_PID, launcher, os.WSTOPPED | os.WNOWAIT)
    gate.write_text("")
    until(lambda: not any(map(is_alive, pids)))
    os.kill(launcher, signal.SIGCONT)
    stage.exit_of(launcher)
    return {"failures": json.loads(told.read_text()) if told.exists() else None}


@case({"failures": {"0": 3, "1": 4}})
def programs_that_fail_together_are_all_reported(api: Api, stage: Stage) -> Facts:
    """Two ranks that failed by themselves are two failures."""
    return _fail_together(
        stage,
        lambda gate: stage.programs([f"while ! [ -e {gate} ]; do sleep 0.01; done; exit {code}" for code in (3, 4)]),
    )


@case(
    {"failures": {"0": 3, "1": 4}},
    torch=Fault(
        "seen on 2.13.0: of several functions that failed, one only is reported",
        {"finished": True, "failures": {"0": 3}},
    ),
)
def functions_that_fail_together_are_all_reported(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""
    return _fail_together(
        stage, lambda gate: stage.functions(ranks.wait_and_exit, [(str(gate), code, 0.0) for code in (3, 4)])
    )


@case(
    {"failures": [1], "failed": True},
    torch=Fault(
        "pytorch#160908, seen on 2.13.0: ranks that the launcher stopped are in failures, with nothing to tell them by",
        {"finished": True, "failures": [0, 1, 2], "failed": True},
    ),
)
def ranks_that_were_stopped_are_no_failures(api: Api, stage: Stage) -> Facts:
    """``failures`` has the rank that failed by itself, not those that were ended because of it."""
    result = stage.programs(["exec sleep 600", "exit 3", "exec sleep 600"]).wait()
    return {"failures": sorted(result.failures), "failed": result.is_failed()}


def _sigchld(name: str, functions: bool, fault: Fault) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            if functions:
                gate = stage.path("gate")
                gate.write_text("")
                context = stage.functions(ranks.wait_and_exit, [(str(gate), 7, 0.3)])
            else:
                context = stage.programs(["sleep 0.3; exit 7"])
            result = context.wait(period=0.1)
        except TypeError:
            return {"a made-up success": False, "raised": "TypeError"}
        return {"a made-up success": not result.is_failed(), "failures": sorted(result.failures)}

    doc = "With SIGCHLD ignored the kernel throws exit codes away; that is never taken for success."
    add(name, run, expect={"a made-up success": False, "failures": [0]}, torch=fault, doc=doc)


_sigchld(
    "an_ignored_sigchld_makes_no_success_of_a_programs_crash",
    functions=False,
    fault=Fault(
        "seen on 2.13.0: with SIGCHLD ignored, exit code 7 is reported as success", {"a made-up success": True}
    ),
)
_sigchld(
    "an_ignored_sigchld_makes_no_success_of_a_functions_crash",
    functions=True,
    fault=Fault("seen on 2.13.0: with SIGCHLD ignored, wait() raises TypeError", {"raised": "TypeError"}),
)


@case(
    {"a made-up success": False, "failures": [0]},
    torch=Fault(
        "seen on 2.13.0: when somebody else reaped the rank, its exit code 7 is reported as success",
        {"a made-up success": True},
    ),
)
def a_stolen_wait_makes_no_success_of_a_crash(api: Api, stage: Stage) -> Facts:
    """If somebody else in the process reaped the rank, its status is lost; that is a failure."""
    gate = stage.path("gate")
    context = stage.programs([f"while ! [ -e {gate} ]; do sleep 0.01; done; exit 7"])
    pid = context.pids()[0]
    gate.write_text("")
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass
    result = context.wait(60, 0.1)
    context.close()
    return {"a made-up success": not result.is_failed(), "failures": sorted(result.failures)}
