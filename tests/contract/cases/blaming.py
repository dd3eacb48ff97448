"""Which rank is the root cause: the first to fail by itself, in the order in which the exits happened."""

# ruff: noqa: TID251 - error files carry the wall clock; waits are stolen and clocks are stepped on purpose

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from contract import ranks
from contract.registry import Facts, Fault, case
from contract.stage import is_alive, until

if TYPE_CHECKING:
    from pathlib import Path

    from contract.implementations import Api
    from contract.stage import Stage


def _record(at: float, message: str) -> str:
    return json.dumps(
        {"message": {"message": message, "extraInfo": {"py_callstack": message, "timestamp": str(int(at))}}}
    )


def _after(gate: Path, then: str) -> str:
    return f"while ! [ -e {gate} ]; do sleep 0.01; done; {then}"


def _after_its_end(gate: Path, then: str) -> str:
    """Once the process is dead whose number is in a file, be it a zombie."""
    dead = "while grep -qs '^State:[[:space:]]*[A-WYa-w]' /proc/$pid/status; do sleep 0.01; done"
    return f"while ! [ -s {gate} ]; do sleep 0.01; done; read pid < {gate}; {dead}; {then}"


def _blame(api: Api, context: Any, *, dead: tuple[int, ...]) -> Facts:
    pids = context.pids()
    until(lambda: not any(is_alive(pids[rank]) for rank in dead))
    result = context.wait()
    rank, failure = api.ChildFailedError("job", result.failures).get_first_failure()
    return {"root cause": rank, "exit code": failure.exitcode}


@case({"root cause": 1, "exit code": 3})
def the_only_rank_that_failed_is_blamed(api: Api, stage: Stage) -> Facts:
    """With one failure there is no choice, also when other ranks had to be stopped."""
    context = stage.programs(["exec sleep 600", "sleep 0.2; exit 3"])
    return _blame(api, context, dead=(1,))


@case(
    {"root cause": 1, "exit code": 3},
    torch=Fault(
        "seen on 2.13.0: of two failures within one polling period the lower rank is blamed, whichever came first",
        {"root cause": 0, "exit code": 4},
    ),
)
def the_first_exit_is_blamed_whatever_the_rank(api: Api, stage: Stage) -> Facts:
    """Rank 1 fails, then rank 0; both are known only afterwards; rank 1 is to blame."""
    first = stage.path("first")
    context = stage.programs([_after_its_end(first, "exit 4"), f"echo $$ > {first}; exit 3"])
    return _blame(api, context, dead=(0, 1))


@case(
    {"root cause": 1, "exit code": -9},
    torch=Fault(
        "seen on 2.13.0: a victim that writes an error file is blamed for the rank that was killed before it",
        {"root cause": 0, "exit code": 1},
    ),
)
def a_victim_with_an_error_file_is_not_blamed_for_a_killed_rank(api: Api, stage: Stage) -> Facts:
    """Rank 1 is killed and leaves no file; rank 0 then fails with a file; rank 1 is to blame."""
    first = stage.path("first")
    stage.path("record").write_text(_record(time.time() - 1, "ConnectionError: peer is gone"))
    victim = _after_its_end(first, f"cp {stage.dir}/record $TORCHELASTIC_ERROR_FILE; exit 1")
    context = stage.programs([victim, f"echo $$ > {first}; kill -KILL $$"])
    return _blame(api, context, dead=(0, 1))


@case(
    {"root cause": 1, "exit code": 3},
    torch=Fault(
        "seen on 2.13.0: the timestamp in a rank's file decides who is blamed, however wrong that rank's clock is",
        {"root cause": 0, "exit code": 4},
    ),
)
def a_wrong_clock_does_not_change_who_is_blamed(api: Api, stage: Stage) -> Facts:
    """Rank 1 fails first, but its clock is ahead; the order of the exits decides."""
    first = stage.path("first")
    stage.path("ahead").write_text(_record(time.time() + 1000, "the cause"))
    stage.path("behind").write_text(_record(time.time() - 1000, "the victim"))
    context = stage.programs(
        [
            _after_its_end(first, f"cp {stage.dir}/behind $TORCHELASTIC_ERROR_FILE; exit 4"),
            f"cp {stage.dir}/ahead $TORCHELASTIC_ERROR_FILE; echo $$ > {first}; exit 3",
        ]
    )
    return _blame(api, context, dead=(0, 1))


@case(
    {"root cause": 1, "exit code": 3},
    torch=Fault(
        "seen on 2.13.0: an error file without a timestamp counts as written in 1970, and is blamed",
        {"root cause": 0, "exit code": 4},
    ),
)
def a_file_without_a_timestamp_is_not_blamed_for_that(api: Api, stage: Stage) -> Facts:
    """A missing timestamp is not the earliest one."""
    first = stage.path("first")
    stage.path("plain").write_text(json.dumps({"message": "no time given"}))
    context = stage.programs(
        [
            _after_its_end(first, f"cp {stage.dir}/plain $TORCHELASTIC_ERROR_FILE; exit 4"),
            f"echo $$ > {first}; exit 3",
        ]
    )
    return _blame(api, context, dead=(0, 1))


@case(
    {"root cause": 1, "exit code": 3},
    torch=Fault(
        "seen on 2.13.0: of two functions that failed within one polling period, whichever is looked at first is the "
        "only one in the result",
        {"root cause": 0, "exit code": 4},
    ),
)
def the_first_function_to_exit_is_blamed(api: Api, stage: Stage) -> Facts:
    """The order of the exits decides for functions, too."""
    gate, first = stage.path("gate"), stage.path("first")
    context = stage.functions(ranks.exit_in_order, [(str(first), "", 4), (str(first), str(gate), 3)])
    gate.write_text("")
    return _blame(api, context, dead=(0, 1))


@case({"root cause": 1, "exit code": 3})
def a_rank_that_fails_while_it_is_stopped_is_not_blamed(api: Api, stage: Stage) -> Facts:
    """Rank 0 exits with 4 because SIGTERM was sent to it; rank 1 is to blame."""
    ready = stage.path("ready")
    context = stage.programs(
        [
            f"trap 'sleep 0.1; exit 4' TERM; echo > {ready}; while :; do sleep 0.02; done",
            _after(ready, "exit 3"),
        ]
    )
    return _blame(api, context, dead=(1,))
