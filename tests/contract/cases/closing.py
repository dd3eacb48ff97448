"""``close``: which signal, how long, how often, from where."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from contract import ranks
from contract.registry import Facts, case
from contract.stage import is_alive, took_less_than, until

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage


def _answering(stage: Stage, rank: int, name: str) -> str:
    return (
        f"trap 'echo {name} > {stage.dir}/got.{rank}; exit 0' {name}; echo $$ > {stage.dir}/pid.{rank}; "
        "while :; do sleep 0.02; done"
    )


def _stubborn(stage: Stage, rank: int) -> str:
    return f"trap '' TERM INT; echo $$ > {stage.dir}/pid.{rank}; exec sleep 600"


@case({"got": ["TERM", "TERM"], "left": "none"})
def close_asks_every_rank_with_sigterm(api: Api, stage: Stage) -> Facts:
    """Without arguments SIGTERM is sent, and the ranks have time to end."""
    context = stage.programs([_answering(stage, rank, "TERM") for rank in (0, 1)])
    for rank in (0, 1):
        stage.pid(f"pid.{rank}")
    context.close()
    return {"got": [stage.text(f"got.{rank}") for rank in (0, 1)]}


@case({"got": "INT"})
def close_takes_signal_and_timeout_by_position(api: Api, stage: Stage) -> Facts:
    """``close(sig, timeout)`` is how torch's own agent calls it."""
    context = stage.programs([_answering(stage, 0, "INT")])
    stage.pid("pid.0")
    context.close(signal.SIGINT, 60)
    return {"got": stage.text("got.0")}


@case({"got": "USR1"})
def close_takes_signal_and_timeout_by_name(api: Api, stage: Stage) -> Facts:
    """``death_sig`` and ``timeout`` are their names."""
    context = stage.programs([_answering(stage, 0, "USR1")])
    stage.pid("pid.0")
    context.close(death_sig=signal.SIGUSR1, timeout=60)
    return {"got": stage.text("got.0")}


@case({"in time": True, "ranks": "ended"})
def stubborn_programs_are_killed_after_the_timeout(api: Api, stage: Stage) -> Facts:
    """Ranks that do not obey are killed, all within one deadline."""
    context = stage.programs([_stubborn(stage, rank) for rank in range(40)])
    pids = [stage.pid(f"pid.{rank}") for rank in range(40)]
    in_time = took_less_than(60, lambda: context.close(signal.SIGTERM, 2))
    return {"in time": in_time, "ranks": "running" if any(map(is_alive, pids)) else "ended"}


@case({"in time": True, "ranks": "ended"})
def stopped_ranks_are_killed_after_the_timeout(api: Api, stage: Stage) -> Facts:
    """A rank under SIGSTOP cannot answer SIGTERM; SIGKILL ends it."""
    context = stage.functions(ranks.touch_and_stay, [(str(stage.path("pid.0")),)])
    pid = stage.pid("pid.0")
    os.kill(pid, signal.SIGSTOP)
    in_time = took_less_than(60, lambda: context.close(signal.SIGTERM, 1))
    return {"in time": in_time, "ranks": "running" if is_alive(pid) else "ended"}


@case({"ranks": "ended"})
def close_ends_functions(api: Api, stage: Stage) -> Facts:
    """Functions are ended the same way."""
    context = stage.functions(ranks.touch_and_stay, [(str(stage.path(f"pid.{rank}")),) for rank in (0, 1)])
    pids = [stage.pid(f"pid.{rank}") for rank in (0, 1)]
    context.close(signal.SIGTERM, 60)
    return {"ranks": "running" if any(map(is_alive, pids)) else "ended"}


@case({"raised": None})
def close_may_be_called_again_and_after_the_end(api: Api, stage: Stage) -> Facts:
    """``close`` on a finished or closed job does nothing."""
    done, open_ = stage.programs(["true"]), stage.programs(["exec sleep 600"])
    done.wait()
    for context in (done, open_, open_, done):
        context.close()
    return {"raised": None}


@case({"waiter": "woken", "ranks": "ended"})
def close_from_another_thread_wakes_a_waiter(api: Api, stage: Stage) -> Facts:
    """A thread in ``wait`` comes back when another thread closes the job."""
    context = stage.programs([f"echo $$ > {stage.dir}/pid.0; exec sleep 600"])
    pid = stage.pid("pid.0")
    waiter = threading.Thread(target=lambda: context.wait(period=0.1), daemon=True)
    waiter.start()
    context.close()
    waiter.join(stage.patience)
    return {"waiter": "asleep" if waiter.is_alive() else "woken", "ranks": "running" if is_alive(pid) else "ended"}


@case({"helper": "ended"})
def close_ends_the_children_of_programs(api: Api, stage: Stage) -> Facts:
    """The whole group of a rank is ended with it."""
    context = stage.programs([f"sleep 600 & echo $! > {stage.dir}/helper; wait"])
    helper = stage.pid("helper")
    context.close()
    return {"helper": "ended" if stage.gone(helper) else "running"}


@case({"ended early": True})
def close_does_not_wait_for_the_timeout_when_all_obey(api: Api, stage: Stage) -> Facts:
    """The timeout is an upper bound."""
    context = stage.programs(["exec sleep 600"] * 4)
    until(lambda: all(map(is_alive, context.pids().values())))
    return {"ended early": took_less_than(60, lambda: context.close(signal.SIGTERM, 100))}
