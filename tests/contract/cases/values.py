"""What functions return, and how a rank can leave without returning anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from contract import ranks
from contract.registry import Facts, Fault, add, case

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage


def _leaves(style: str, name: str, fault: Fault | None, expect: Facts) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        context = stage.functions(ranks.leave, [(style,)] * 2)
        result = context.wait(timeout=stage.patience, period=0.1)
        context.close()
        if result is None:
            return {"result": "none, though the ranks are gone"}
        return {
            "failed": result.is_failed(),
            "one blamed": bool(result.failures) == result.is_failed(),
            "values": [result.return_values.get(rank, "no value") for rank in (0, 1)],
        }

    doc = f"A function that leaves by {style} without a result ends the job at once, as a failure."
    add(name, run, expect=expect, torch=fault, doc=doc)


_HANGS = {"result": "none, though the ranks are gone"}
_FAILED: Facts = {"failed": True, "one blamed": True, "values": ["no value", "no value"]}
_leaves(
    "sys.exit(0)",
    "a_function_may_leave_by_sys_exit_zero",
    None,
    {"failed": False, "one blamed": True, "values": [None, None]},
)
for _style, _name, _why in (
    ("sys.exit()", "sys_exit", "pytorch#116224, #119697 (which helps sys.exit(0) only)"),
    ("os._exit(0)", "os_exit", "pytorch#116224"),
    ("KeyboardInterrupt", "keyboard_interrupt", "pytorch#194439"),
    ("SIGINT", "sigint", "pytorch#194439"),
):
    _leaves(
        _style,
        f"a_function_that_leaves_by_{_name}_does_not_hang_the_job",
        Fault(f"{_why}, seen on 2.13.0: wait() never returns", _HANGS),
        _FAILED,
    )


@case({"sizes": [20_000_000, 20_000_000]})
def large_values_travel(api: Api, stage: Stage) -> Facts:
    """Values far larger than a pipe arrive whole."""
    result = stage.functions(ranks.return_bytes, [(20_000_000,)] * 2).wait(period=0.1)
    return {"sizes": [len(result.return_values[rank]) for rank in (0, 1)]}


@case(
    {"failed": [0], "names the reason": True},
    torch=Fault(
        "seen on 2.13.0: a result that cannot be pickled fails the rank without a reason",
        {"finished": True, "failed": [0], "names the reason": False},
    ),
)
def an_unpicklable_value_fails_with_its_reason(api: Api, stage: Stage) -> Facts:
    """The failure says that the result could not be sent, and why."""
    result = stage.functions(ranks.return_unpicklable, [(None,)]).wait()
    text = str(api.ChildFailedError("job", result.failures))
    return {"failed": sorted(result.failures), "names the reason": "pickle" in text and "lock" in text}


@case(
    {"exit code": -9},
    torch=Fault(
        "pytorch#55412, seen on 2.13.0: a rank killed while it sends its result blocks wait() for ever",
        {"finished": False},
        deadline=15,
    ),
)
def a_rank_killed_while_sending_fails_as_killed(api: Api, stage: Stage) -> Facts:
    """Half a value is no value, and holds nobody up."""
    context = stage.functions(ranks.return_bytes_and_die_sending, [(400_000_000,)])
    result = context.wait(timeout=60, period=0.01)
    context.close()
    return {"exit code": result.failures[0].exitcode if result else None}


@case({"values": [None, None], "failed": False})
def a_function_may_return_none(api: Api, stage: Stage) -> Facts:
    """None is a value like any other."""
    result = stage.functions(ranks.finish_after, [(0, None), (0.1, None)]).wait(period=0.05)
    return {"values": [result.return_values[0], result.return_values[1]], "failed": result.is_failed()}


@case({"value": "own process"})
def a_function_runs_in_another_process(api: Api, stage: Stage) -> Facts:
    """What runs a rank is a process of its own."""
    values = stage.functions(ranks.give_pid, [(None,)]).wait().return_values
    return {"value": "own process" if values[0] != os.getpid() else "the launcher"}
