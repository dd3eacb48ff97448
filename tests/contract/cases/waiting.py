"""When ``wait`` returns, and what it says the second time."""

# ruff: noqa: TID251 - error files carry the wall clock; waits are stolen and clocks are stepped on purpose

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from contract import ranks
from contract.registry import Facts, Fault, case
from contract.stage import is_alive, took_less_than, until

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage


@case({"result": None, "still running": True})
def wait_with_zero_looks_and_returns_none_while_ranks_run(api: Api, stage: Stage) -> Facts:
    """``wait(0)`` asks once, and disturbs nobody."""
    context = stage.programs(["exec sleep 600"] * 2)
    facts = {"result": context.wait(0), "still running": all(map(is_alive, context.pids().values()))}
    context.close()
    return facts


@case({"result": None, "still running": True})
def wait_returns_none_when_its_time_is_over(api: Api, stage: Stage) -> Facts:
    """After ``timeout`` seconds the answer is None, and the ranks run on."""
    context = stage.functions(ranks.sleep, [(600,)] * 2)
    facts = {"result": context.wait(0.2, 0.05), "still running": all(map(is_alive, context.pids().values()))}
    context.close()
    return facts


@case({"values": [1, 2]})
def a_negative_timeout_waits_until_the_end(api: Api, stage: Stage) -> Facts:
    """-1, the default, has no end but that of the job."""
    result = stage.functions(ranks.finish_after, [(0.3, 1), (0.1, 2)]).wait(timeout=-1, period=0.05)
    return {"values": [result.return_values[0], result.return_values[1]]}


@case(
    {"result": None, "in time": True},
    torch=Fault(
        "seen on 2.13.0: wait() sleeps a whole period, however short its timeout (wait(0.1) takes 1 s by default)",
        {"result": None, "in time": False},
    ),
)
def a_timeout_is_kept_whatever_the_period(api: Api, stage: Stage) -> Facts:
    """``wait(0.1)`` returns after 0.1 seconds, not at the end of a period."""
    context = stage.programs(["exec sleep 600"])
    period, soon = _period(api)
    start = time.monotonic()
    result = context.wait(timeout=0.1, period=period)
    facts = {"result": result, "in time": time.monotonic() - start < soon}
    context.close()
    return facts


@case(
    {"in time": True, "exit code": 3},
    torch=Fault(
        "pytorch#68553, seen on 2.13.0: an exit is seen at the end of the polling period only",
        {"in time": False, "exit code": 3},
    ),
)
def an_exit_wakes_the_launcher_whatever_the_period(api: Api, stage: Stage) -> Facts:
    """A failure is known when it happens; ``period`` does not delay it."""
    gate = stage.path("gate")
    context = stage.programs([f"while ! [ -e {gate} ]; do sleep 0.01; done; exit 3"])
    look = getattr(context, "_poll", None)  # of torch's: the rank ends after its first look, when it sleeps
    if look is not None:
        context._poll = lambda: (look(), gate.touch())[0]
    else:
        gate.touch()
    period, soon = _period(api)
    start = time.monotonic()
    result = context.wait(timeout=100, period=period)
    return {"in time": time.monotonic() - start < soon, "exit code": result.failures[0].exitcode}


def _period(api: Api) -> tuple[int, float]:
    """A period of polling, and what is much shorter: as torch is known to sleep it, not longer than need be."""
    return (8, 5.0) if api.implementation == "torch" else (100, 60.0)


@case(
    {"result": "complete"},
    torch=Fault(
        "seen on 2.13.0: wait() counts its timeout on the wall clock, so a step of the clock ends it",
        {"finished": True, "result": None},
    ),
)
def a_step_of_the_wall_clock_does_not_end_a_wait(api: Api, stage: Stage) -> Facts:
    """Timeouts are counted on the monotonic clock."""
    context = stage.programs(["sleep 0.5"])
    real, steps = time.time, iter(range(10**9))
    time.time = lambda: real() + 1000 * next(steps)
    try:
        result = context.wait(timeout=60, period=0.05)
    finally:
        time.time = real
    context.close()
    return {"result": None if result is None else "complete"}


@case({"equal": True, "values": [1, 2]})
def a_second_wait_gives_an_equal_result(api: Api, stage: Stage) -> Facts:
    """A finished job can be asked again."""
    context = stage.functions(ranks.finish_after, [(0, 1), (0, 2)])
    first, second = context.wait(), context.wait()
    return {"equal": first == second, "values": [second.return_values[0], second.return_values[1]]}


@case(
    {"same object": [True, True]},
    torch=Fault(
        "seen on 2.13.0: each wait() builds a new result, whose maps are those of the context and may still change",
        {"finished": True, "same object": [False, False]},
    ),
)
def the_result_is_published_once(api: Api, stage: Stage) -> Facts:
    """A finished job gives the same object for ever after."""
    context = stage.programs(["true", "exit 1"])
    first = context.wait()
    second, third = context.wait(0), context.wait(1)
    return {"same object": [first is second, first is third]}


@case(
    {"first": [1], "second": [1]},
    torch=Fault(
        "seen on 2.13.0: a second wait() on a failed function job blames a rank that the launcher itself stopped",
        {"finished": True, "first": [1], "second": [0]},
    ),
)
def a_second_wait_blames_the_same_rank(api: Api, stage: Stage) -> Facts:
    """The story of a job does not change when it is told again."""
    context = stage.functions(ranks.fail_if, [(False, ""), (True, "guilty")])
    first, second = context.wait(), context.wait()
    return {"first": sorted(first.failures), "second": sorted(second.failures)}


@case(
    {"in time": True, "answers": "none or the end", "failures": [0]},
    torch=Fault(
        "pytorch#136312, seen on 2.13.0: wait(0) itself tears the other ranks down, and blocks for up to 30 s in it",
        {"finished": False},
        deadline=10,
    ),
)
def wait_with_zero_never_blocks(api: Api, stage: Stage) -> Facts:
    """A look takes no time, also while a stubborn rank is being stopped because of another's failure."""
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = "600"
    stubborn = f"trap '' TERM; echo $$ > {stage.dir}/pid; while :; do sleep 0.1; done"
    context = stage.programs([f"while ! [ -s {stage.dir}/pid ]; do sleep 0.01; done; exit 5", stubborn])
    pids = context.pids()
    until(lambda: not is_alive(pids[0]))
    looks = []
    in_time = took_less_than(60, lambda: looks.append(context.wait(0)))
    context.close(signal.SIGTERM, 0)
    result = context.wait()
    answers = "none or the end" if looks[0] is None or looks[0] is result else "something else"
    return {"in time": in_time, "answers": answers, "failures": sorted(result.failures)}


@case(
    {"in time": True, "failures": [0]},
    torch=Fault(
        "pytorch#119856, seen on 2.13.0: after a peer's crash the grace is always 30 s, "
        "whatever TORCH_ELASTIC_SHUTDOWN_TIMEOUT says",
        {"finished": False},
        deadline=12,
    ),
)
def the_grace_is_configured_in_one_place(api: Api, stage: Stage) -> Facts:
    """TORCH_ELASTIC_SHUTDOWN_TIMEOUT counts also when ranks are stopped because another one crashed."""
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = "1"
    stubborn = f"trap '' TERM; echo $$ > {stage.dir}/pid; while :; do sleep 0.1; done"
    context = stage.programs([f"while ! [ -s {stage.dir}/pid ]; do sleep 0.01; done; exit 5", stubborn])
    results = []
    in_time = took_less_than(25, lambda: results.append(context.wait()))
    return {"in time": in_time, "failures": [r for r in sorted(results[0].failures) if r == 0]}


@case({"same": True})
def wait_may_be_called_from_another_thread(api: Api, stage: Stage) -> Facts:
    """The thread that waits need not be the one that started."""
    context = stage.programs(["exit 3"])
    results = []
    thread = threading.Thread(target=lambda: results.append(context.wait()))
    thread.start()
    thread.join()
    return {"same": results[0].failures[0].exitcode == 3}


@case(
    {"failures": [], "failed": True, "values": {}},
    torch=Fault(
        "pytorch#160908, seen on 2.13.0: ranks that close() ended are in failures, with nothing to tell them by",
        {"finished": True, "failures": [[0, -15], [1, -15]], "failed": True},
    ),
)
def a_closed_job_did_not_fail_by_itself(api: Api, stage: Stage) -> Facts:
    """``wait`` after ``close`` says that the job is not complete, but blames no rank."""
    context = stage.programs(["exec sleep 600"] * 2)
    context.close(signal.SIGTERM, 60)
    result = context.wait(60)
    return {
        "failures": sorted([rank, failure.exitcode] for rank, failure in result.failures.items()),
        "failed": result.is_failed(),
        "values": result.return_values,
    }
