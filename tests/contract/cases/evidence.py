"""Evidence that a rank failed by itself: records before the stop and after it, and exits that are slow."""

# ruff: noqa: TID251 - error files carry the wall clock; a launcher of either kind is run as a command

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from contract import ranks
from contract.registry import Facts, Fault, add, case
from contract.stage import is_alive, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.implementations import Api
    from contract.stage import Stage

LONG_AGO = 1_700_000_000
IMPORTS = 200.0
"""Seconds in which two ranks have imported torch, which a spawned rank of torch does, on a busy machine too."""


def _document(message: str, *, age: float) -> str:
    stamp = str(int(time.time() - age))
    return json.dumps({"message": {"message": message, "extraInfo": {"py_callstack": message, "timestamp": stamp}}})


def _record(stage: Stage, message: str, *, age: float = 5.0) -> str:
    """Shell words that leave a complete error file; its time is ``age`` seconds before the case."""
    stage.path(message).write_text(_document(message, age=age))
    part = '"$TORCHELASTIC_ERROR_FILE.part"'
    return f'cp {stage.path(message)} {part}; mv {part} "$TORCHELASTIC_ERROR_FILE"'


def _wait_for(*files: object) -> str:
    return "; ".join(f"while ! [ -e {file} ]; do sleep 0.01; done" for file in files)


def _told(api: Api, result: Any) -> Facts:
    rank, failure = api.ChildFailedError("job", result.failures).get_first_failure()
    codes = {str(rank): one.exitcode for rank, one in sorted(result.failures.items())}
    return {"root cause": rank, "message": _message(failure), "failures": codes}


def _message(failure: Any) -> str:
    return str(failure.message["message"] if isinstance(failure.message, dict) else failure.message)


def _name(error_file: str) -> str:
    return error_file if error_file == "<N/A>" else os.path.basename(error_file)


@case({"root cause": 1, "message": "the_cause", "failures": {"0": 4, "1": -15}})
def a_program_that_recorded_first_is_blamed_however_slowly_it_exits(api: Api, stage: Stage) -> Facts:
    """Rank 1 records its error and does not exit; its victim exits and is not to blame."""
    recorded = stage.path("recorded")
    lingers = f"{_record(stage, 'the_cause')}; echo > {recorded}; exec sleep 600"
    return _told(api, stage.programs([f"{_wait_for(recorded)}; exit 4", lingers]).wait(period=0.1))


@case(
    {"root cause": 1, "message": "ValueError: the cause", "failures": [0, 1]},
    torch=Fault(
        "seen on 2.13.0: of functions one failure is reported, that of the rank that was found dead",
        {"root cause": 0, "failures": [0]},
    ),
)
def a_function_that_recorded_first_is_blamed_however_slowly_it_exits(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""
    recorded, home = str(stage.path("recorded")), api.get_error_handler.__module__
    result = stage.functions(
        ranks.record_and_linger, [(recorded, "", home, ""), ("", recorded, home, "the cause")]
    ).wait(period=0.1)
    told = _told(api, result)
    return told | {"failures": sorted(result.failures)}


@case({"failures": [0, 1, 2, 3]})
def four_programs_that_recorded_are_four_failures(api: Api, stage: Stage) -> Facts:
    """All four have recorded an error when the first of them exits; none is a victim."""
    recorded = [stage.path(f"recorded{rank}") for rank in range(4)]
    scripts = [f"{_record(stage, f'of_{rank}')}; echo > {recorded[rank]}; exec sleep 600" for rank in range(1, 4)]
    first = f"{_record(stage, 'of_0')}; {_wait_for(*recorded[1:])}; exit 1"
    return {"failures": sorted(stage.programs([first, *scripts]).wait(period=0.1).failures)}


@case(
    {"failures": [0, 1, 2, 3]},
    torch=Fault(
        "seen on 2.13.0: of several functions that raised, one only is reported", {"finished": True, "failures": [0]}
    ),
)
def four_functions_that_recorded_are_four_failures(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""
    home, recorded = api.get_error_handler.__module__, [str(stage.path(f"recorded{rank}")) for rank in range(4)]
    arguments = [("\n".join(recorded[1:]), "", home, "of 0")]
    arguments += [("", recorded[rank], home, f"of {rank}") for rank in range(1, 4)]
    return {"failures": sorted(stage.functions(ranks.record_and_linger, arguments).wait(period=0.1).failures)}


@case({"root cause": 0, "failures": {"0": 4, "1": -11}})
def a_signal_that_the_launcher_did_not_send_is_a_failure(api: Api, stage: Stage) -> Facts:
    """Rank 1 dies of SIGSEGV while it is asked to end: a failure of its own, and not the first."""
    ready = stage.path("ready")
    dies = f"trap 'kill -SEGV $$' TERM; echo > {ready}; while :; do sleep 0.02; done"
    told = _told(api, stage.programs([f"{_wait_for(ready)}; exit 4", dies]).wait(period=0.1))
    return {"root cause": told["root cause"], "failures": told["failures"]}


@case({"root cause": 1, "failures": {"1": 4}})
def a_record_that_a_finished_rank_survived_blames_nobody(api: Api, stage: Stage) -> Facts:
    """Rank 0 records an error and exits with 0; rank 1, which fails after it, is to blame."""
    done = stage.path("done")
    survives = f"{_record(stage, 'caught')}; echo $$ > {done}.half; mv {done}.half {done}"
    dead = "while grep -qs '^State:[[:space:]]*[A-WYa-w]' /proc/$pid/status; do sleep 0.01; done"
    context = stage.programs([survives, f"{_wait_for(done)}; read pid < {done}; {dead}; exit 4"])
    told = _told(api, context.wait(period=0.1))
    return {"root cause": told["root cause"], "failures": told["failures"]}


@case({"root cause": 0, "failures": {"0": 4}})
def a_record_that_a_stopped_rank_survived_blames_nobody(api: Api, stage: Stage) -> Facts:
    """Rank 1 records an error, works on, and exits with 0 when it is asked to end."""
    recorded = stage.path("recorded")
    survives = f"trap 'exit 0' TERM; {_record(stage, 'caught')}; echo > {recorded}; while :; do sleep 0.02; done"
    told = _told(api, stage.programs([f"{_wait_for(recorded)}; exit 4", survives]).wait(period=0.1))
    return {"root cause": told["root cause"], "failures": told["failures"]}


@case(
    {"exit code": -9, "error file": "<N/A>", "message": "Signal 9"},
    torch=Fault(
        "seen on 2.13.0: the record of a child is taken for that of the rank, which was killed",
        {"exit code": -9, "error file": "error.json", "message": "ValueErr"},
    ),
)
def a_record_by_a_child_is_not_the_ranks_own(api: Api, stage: Stage) -> Facts:
    """A child of the rank records an error, then the rank dies of SIGKILL: the signal is the failure."""
    home = api.get_error_handler.__module__
    failure = stage.functions(ranks.child_records_and_rank_is_killed, [(home, "of a child")]).wait().failures[0]
    return {
        "exit code": failure.exitcode,
        "error file": _name(failure.error_file),
        "message": _message(failure)[:8],
    }


@case(
    {"root cause": 0, "failures": {"0": 4}, "shown": True},
    torch=Fault(
        "seen on 2.13.0: a rank that records an error when it is asked to end is blamed for its own stop",
        {"root cause": 1, "failures": {"0": 4, "1": 1}, "shown": False},
    ),
)
def a_record_by_a_stopped_rank_is_shown_and_blames_nobody(api: Api, stage: Stage) -> Facts:
    """Rank 1 records an error because SIGTERM was sent to it; the result has its text among the stopped ranks."""
    ready = stage.path("ready")
    answers = f"trap '{_record(stage, 'asked_to_end')}; exit 1' TERM; echo > {ready}; while :; do sleep 0.02; done"
    result = stage.programs([f"{_wait_for(ready)}; exit 4", answers]).wait(period=0.1)
    told = _told(api, result)
    shown = 1 in getattr(result, "stopped", ()) and "asked_to_end" in str(result.ranks[1])
    return {"root cause": told["root cause"], "failures": told["failures"], "shown": shown}


def _order(start_method: str) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        gate, first = stage.path("gate"), stage.path("first")
        arguments = [(str(first), "", 4), (str(first), str(gate), 3)]
        context = stage.functions(ranks.exit_in_order, arguments, start_method=start_method)
        pids = context.pids()
        gate.write_text("")
        until(lambda: not any(is_alive(pid) for pid in pids.values()), within=IMPORTS)
        rank, failure = api.ChildFailedError("job", context.wait().failures).get_first_failure()
        return {"root cause": rank, "exit code": failure.exitcode}

    add(
        f"the_first_of_functions_started_by_{start_method}_is_blamed",
        run,
        expect={"root cause": 1, "exit code": 3},
        torch=Fault(
            "seen on 2.13.0: of two functions that failed within one polling period, the one that is looked at first "
            "is the only one in the result",
            {"root cause": 0, "exit code": 4},
            deadline=IMPORTS + 60.0,
            chance="on a busy machine the two ends lie in two periods",
        ),
        deadline=IMPORTS + 60.0,
        doc="The order of the exits decides, whatever starts the ranks.",
    )


for _start_method in ("spawn", "forkserver"):
    _order(_start_method)


@case({"timestamp": LONG_AGO, "exit code": 3})
def the_time_of_a_failure_is_that_of_its_error_file(api: Api, stage: Stage) -> Facts:
    """``ProcessFailure.timestamp`` is what the file says, not the time of the exit."""
    write = _record(stage, "old", age=time.time() - LONG_AGO)
    failure = stage.programs([f"{write}; exit 3"]).wait().failures[0]
    return {"timestamp": failure.timestamp, "exit code": failure.exitcode}


def _exit_code(code: int) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        failure = stage.functions(ranks.exit_with, [(code,)]).wait().failures[0]
        return {"exit code": failure.exitcode, "error file": _name(failure.error_file)}

    add(
        f"sys_exit_{code}_of_a_function_is_recorded",
        run,
        expect={"exit code": code, "error file": "error.json"},
        torch=Fault(
            "seen on 2.13.0: an integer sys.exit in a function leaves no error file",
            {"exit code": code, "error file": "<N/A>"},
        ),
        doc="The place of the call is in the error file; the exit code is that of the call.",
    )


for _code in (3, 138):
    _exit_code(_code)


def _launch(api: Api, stage: Stage, source: str, *, reply: str) -> subprocess.CompletedProcess[str]:
    script = stage.path("train.py")
    script.write_text(source)
    commands: dict[str, Sequence[str]] = {
        "derail": ("-c", "import sys; from derail.cli import main; sys.exit(main())", "launch"),
        "torch": ("-m", "torch.distributed.run", "--standalone"),
    }
    words = [sys.executable, *commands[api.implementation], "--nproc-per-node", "2", str(script)]
    env = {**os.environ, "TORCHELASTIC_ERROR_FILE": reply}
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)


@case({"failed": True, "message": "the_cause", "error code": 7})
def the_command_leaves_the_root_causes_record_to_its_caller(api: Api, stage: Stage) -> Facts:
    """With TORCHELASTIC_ERROR_FILE set, the command copies the error file of its root cause there."""
    stage.path("document").write_text(_document("the_cause", age=5.0))
    source = (
        "import os, shutil, sys, time\n"
        "if os.environ['RANK'] == '1':\n"
        f"    shutil.copy({str(stage.path('document'))!r}, os.environ['TORCHELASTIC_ERROR_FILE'])\n"
        "    sys.exit(7)\n"
        "time.sleep(600)\n"
    )
    reply = stage.path("reply.json")
    done = _launch(api, stage, source, reply=str(reply))
    message = json.loads(reply.read_text())["message"] if reply.exists() else {}
    return {
        "failed": done.returncode != 0,
        "message": message.get("message"),
        "error code": message.get("errorCode"),
    }


@case({"succeeded": True, "reply": False})
def the_command_leaves_no_record_of_a_success(api: Api, stage: Stage) -> Facts:
    """Nothing is written for the caller if all ranks succeed, and no rank writes there itself."""
    reply = stage.path("reply.json")
    done = _launch(api, stage, "print('fine')\n", reply=str(reply))
    return {"succeeded": done.returncode == 0, "reply": reply.exists()}
