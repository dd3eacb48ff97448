"""Uses of the public names that type checkers must refuse: each line marked ``# wrong``, and no other. Never run."""

from __future__ import annotations

import derail
import derail.torch
from derail import conformance, faults, when
from derail import start_process  # wrong
from derail.agents.agent import Agnt  # wrong
from derail.agents.custom import Declaration
from derail.agents.custom import Reprot  # wrong
from derail.agents.registry import agent
from derail.agents.registry import agnets  # wrong
from derail.conformance import StartProces  # wrong
from derail.errors import ChildFailedError, record
from derail.errors import ChildFailedErr  # wrong
from derail.faults import Fault, Plan, fail_point
from derail.faults import signal_strom  # wrong
from derail.logs import TailLogs  # wrong
from derail.spawn import get_subprocess_handlr  # wrong
from derail.torch import instal  # wrong
from derail.when import Trigger, line
from derail.when import Lines  # wrong
from pytest_derail import assert_fialed  # wrong
from pytest_derail import assert_collateral  # wrong
from pytest_derail import assert_left  # wrong
from pytest_derail import Derail, Job
from pytest_derail import (
    assert_exits,
    assert_failed,
    assert_log_tail,
    assert_signals_sent,
    assert_stopped,
    assert_succeeded,
    assert_teardown_seconds,
)
from pytest_derail import strategies
from pytest_derail.strategies import fault_plan  # wrong


def misspelt_faults() -> None:
    """Names of faults, their arguments and their choices."""
    faults.sginal("SIGKILL", rank=2)  # wrong
    faults.Signal("SIGKILL", rank=2)  # wrong
    derail.faults.hagn(rank=0)  # wrong
    faults.signal("SIGKILL", rnk=2)  # wrong
    faults.signal("SIGKILL", rank=2, whn=when.start())  # wrong
    faults.signal(sig="SIGKILL", rank=2)  # wrong
    faults.hang(rank=0, secnds=2)  # wrong
    faults.hang(rank=0, **{"for": 2})  # wrong
    faults.limit("NOFILES", 16, rank=0)  # wrong
    faults.exit(7, how="_Exit", rank=0)  # wrong
    faults.error_file("truncatd", rank=0)  # wrong
    faults.partial_line("x", stream="stdin", rank=0)  # wrong


def wrong_faults() -> None:
    """Arguments that are missing, too many, of a wrong type, or not for this fault."""
    faults.signal(rank=2)  # wrong
    faults.signal("SIGKILL")  # wrong
    faults.signal("SIGKILL", False, 0.1, 2)  # wrong
    faults.signal(9.0, rank=2)  # wrong
    faults.signal(["SIGKILL"], rank=2)  # wrong
    faults.signal("SIGKILL", group="yes", rank=2)  # wrong
    faults.signal("SIGKILL", every="0.1", rank=2)  # wrong
    faults.signal_storm("SIGTERM", rank=2)  # wrong
    faults.signal_storm(["SIGTERM"], count=2.5, rank=2)  # wrong
    faults.exit(None, rank=2)  # wrong
    faults.exec("sleep 60", rank=2)  # wrong
    faults.syscall_errno("write", 28, rank=2)  # wrong
    faults.full_disk("/tmp", size=[1], rank=2)  # wrong
    faults.exit(1, rank=2, times=2)  # wrong
    faults.exit(1, rank=2, for_=2)  # wrong
    faults.stop(rank=2, times=2)  # wrong
    faults.stop(rank=2, for_="5 s")  # wrong
    faults.stop(rank=2, id=7)  # wrong
    text: str = faults.stop(rank=2)  # wrong
    fail_point(3)  # wrong
    assert text


def wrong_targets(word: str) -> None:
    """Words that name no rank."""
    faults.stop(rank="al")  # wrong
    faults.stop(rank="some")  # wrong
    faults.stop(rank="agent")  # wrong
    faults.stop(rank="2")  # wrong
    faults.stop(rank=word)  # wrong
    faults.stop(rank=None)  # wrong
    faults.stop(rank=1.0)  # wrong
    faults.stop(rank=["all"])  # wrong
    faults.stop(rank={0, 1})  # wrong


def misspelt_triggers() -> None:
    """Names of triggers, their arguments and their choices."""
    when.lines("step 3")  # wrong
    when.exit()  # wrong
    when.exited(1)  # wrong
    derail.when.strat()  # wrong
    when.line("step 3", strem="stdout")  # wrong
    when.line("step 3", stream="stdin")  # wrong
    when.call("json:dumps", at="leave")  # wrong
    when.barrier("met", rank=[0, 1])  # wrong
    when.probability(0.5, frist=2)  # wrong


def wrong_triggers(fault: Fault) -> None:
    """Values that are no triggers, or not of the type that a trigger takes."""
    faults.stop(rank=2, when="start")  # wrong
    faults.stop(rank=2, when=when.start)  # wrong
    faults.stop(rank=2, when={"line": "step 3"})  # wrong
    faults.stop(rank=2, when=None)  # wrong
    when.line(3)  # wrong
    when.line(b"step 3")  # wrong
    when.line("step 3", hit=2.5)  # wrong
    when.line("step 3", rank="0")  # wrong
    when.after("0.2")  # wrong
    when.own_exit(1)  # wrong
    when.exit_of()  # wrong
    when.exit_of("0")  # wrong
    when.all_of("step 3", "step 4")  # wrong
    when.any_of([when.start(), when.after(1)])  # wrong
    when.then(when.start(), fault)  # wrong
    when.barrier(3)  # wrong
    when.probability("0.5")  # wrong
    trigger: Trigger = "start"  # wrong
    at_line: when.Point = line("step 3")  # wrong
    assert trigger
    assert at_line


def wrong_plans(fault: Fault, plan: Plan) -> None:
    """What plans are made of, and what they and faults hold."""
    faults.plan(fault)  # wrong
    faults.plan(["signal"])  # wrong
    faults.plan([fault], sed=7)  # wrong
    faults.plan([fault], seed="7")  # wrong
    faults.plan([fault], keep_alive="one")  # wrong
    plan.fault  # wrong
    plan.hash()  # wrong
    fault.rank  # wrong
    fault.parms  # wrong
    fault.for_ + 1  # wrong
    plan.seed = 3  # wrong


def wrong_starts() -> None:
    """Torch's call: names, arguments, keywords and types."""
    specs = derail.DefaultLogsSpecs()
    derail.start_process  # wrong
    derail.start_processes("x", "true", {0: ()}, {0: {}})  # wrong
    derail.start_processes("x", "true", [()], {0: {}}, specs)  # wrong
    derail.start_processes("x", "true", {0: ()}, {0: {"A": 1}}, specs)  # wrong
    derail.start_processes("x", "true", {0: ()}, {0: {}}, specs, start_metod="fork")  # wrong
    derail.start_processes("x", "true", {0: ()}, {0: {}}, specs, cwd=3)  # wrong
    derail.start_processes("x", 3, {0: ()}, {0: {}}, specs)  # wrong
    derail.DefaultLogsSpecs(redirect=derail.Std.ALL)  # wrong
    derail.DefaultLogsSpecs(tee="1:3")  # wrong
    derail.Std.BOTH  # wrong
    derail.Teardown(sweep="some")  # wrong
    derail.Teardown(grce=3)  # wrong
    derail.to_map("ALL", 4)  # wrong
    derail.torch.instal()  # wrong
    derail.torch.install(teardwon=None)  # wrong


def wrong_results(context: derail.PContext, error: ChildFailedError) -> None:
    """What a context, a result and a failure hold."""
    context.wiat()  # wrong
    context.wait(timeot=3)  # wrong
    context.wait("3")  # wrong
    context.close("SIGTERM")  # wrong
    context.pids + 1  # wrong
    result = context.wait()
    result.failures  # wrong
    assert result is not None
    result.failure  # wrong
    result.rootcause  # wrong
    result.stopped["0"]  # wrong
    result.ranks[0].statsu  # wrong
    result.failures[0].exit_code  # wrong
    result.is_faild()  # wrong
    error.first_failure  # wrong
    rank: str = error.get_first_failure()[0]  # wrong
    assert rank


def wrong_jobs(derail: Derail, job: Job) -> None:
    """What a test may call, and what it may not."""
    derail.strat("train.py")  # wrong
    derail.start()  # wrong
    derail.start(3)  # wrong
    derail.start("train.py", rank=4)  # wrong
    derail.start("train.py", ranks="4")  # wrong
    derail.start("train.py", arg=[1])  # wrong
    derail.start("train.py", env={"A": 1})  # wrong
    derail.start("train.py", start_method="spwan")  # wrong
    derail.start("train.py", faults=["signal"])  # wrong
    derail.start("train.py", timeout="9")  # wrong
    derail.run("train.py", rnaks=4)  # wrong
    derail.run("train.py", plan=[])  # wrong
    derail.run("train.py", start_metod="warm")  # wrong
    derail.pool()  # wrong
    derail.pool(2, args=(1,))  # wrong
    derail.pool(2).map(len, [1])  # wrong
    derail.pool(2).map(str, [1], timout=1)  # wrong
    derail.pool(2).starmap(str, [1])  # wrong
    derail.pool(2).imap(str, [1])  # wrong
    derail.run("train.py", 4)  # wrong
    derail.run("train.py", expect_failure=["1"])  # wrong
    derail.agent("torchrun", "train.py", restart=1)  # wrong
    derail.agent(3)  # wrong
    derail.hold("saved", rank=0)  # wrong
    derail.hold("saved", hit=2.5)  # wrong
    derail.realease("saved")  # wrong
    derail.barrier("met", hit=2)  # wrong
    derail.plan("signal")  # wrong
    derail.faults.sginal("SIGKILL", rank=2)  # wrong
    derail.faults.signal("SIGKILL", rnk=2)  # wrong
    derail.faults.signal("SIGKILL", rank="al")  # wrong
    derail.when.exit()  # wrong
    derail.when.line("step 3", strem="stdout")  # wrong
    derail.allow_left("proces")  # wrong
    derail.free_prot()  # wrong
    derail.start_processes()  # wrong
    job.wiat()  # wrong
    job.wait(timout=3)  # wrong
    job.wait("3")  # wrong
    job.pid()  # wrong
    job.log("0")  # wrong
    job.expect_failure("0")  # wrong
    result = job.wait()
    result.outcome  # wrong
    result.root_casue  # wrong
    result.exitcode  # wrong
    result.ranks[0].exit_code  # wrong
    assert_failed(result)  # wrong
    assert_failed(result, "0")  # wrong
    assert_failed(result, 0, signl="SIGKILL")  # wrong
    assert_failed(result, 0, exit_code="7")  # wrong
    assert_failed(job, 0)  # wrong
    assert_succeeded(result, 0)  # wrong
    assert_log_tail(result, 0, "*saved*")  # wrong
    assert_log_tail(result, 0, "stdin", like="*")  # wrong
    assert_signals_sent(result, 0, [None])  # wrong
    assert_teardown_seconds(result, 5)  # wrong
    assert_exits(result, {0: 1.5})  # wrong
    assert_stopped(result, "0")  # wrong
    result.log_tials  # wrong


@record
def main(argument: str) -> int:
    """``record`` keeps the signature."""
    return len(argument)


def wrong_others(scripted: conformance.ScriptedRanks) -> None:
    """Recorded functions, agents, launchers, strategies."""
    main(3)  # wrong
    main("x", strict=True)  # wrong
    derail.record_collective("halo", ranks=[0])  # wrong
    agent(3)  # wrong
    agent("native").versoin()  # wrong
    Declaration(promise=())  # wrong
    conformance.StartProces  # wrong
    conformance.DerailLauncher(start_method=3)  # wrong
    conformance.Rehearsal(scripted, ranks=2)  # wrong
    conformance.Promises(zeros=True)  # wrong
    strategies.fault_plans(ranks=4, most=2)  # wrong
    strategies.fault_plans(ranks=4, min_sise=2)  # wrong
    strategies.fault_plans(ranks="4")  # wrong
    strategies.fault_plans()  # wrong
    strategies.error_files(["near_valid"])  # wrong
    strategies.log_streams(most=3)  # wrong
