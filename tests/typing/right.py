"""Uses of the public names that type checkers must accept; this file is checked by mypy and pyright, never run."""

# pyright: strict

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping  # noqa: TC003
from contextlib import AbstractContextManager  # noqa: TC003
from pathlib import Path
from typing import Any, assert_type

from hypothesis import given

import derail
import derail.torch
from derail import conformance, faults, start_processes, when
from derail.agents.agent import Agent
from derail.agents.custom import CommandAgent, Declaration, Report, read_declaration
from derail.agents.registry import agent, agents
from derail.errors import ChildFailedError, ErrorHandler, record
from derail.faults import Fault, Plan, Target, fail_point
from derail.logs import LogsDest, redirect_stderr
from derail.spawn import SubprocessHandler, get_subprocess_handler
from derail.when import AllOf, Hit, Line, Trigger, line, own_exit
from pytest_derail import (
    Derail,
    Job,
    JobResult,
    Pool,
    RanksFailed,
    assert_error_file,
    assert_exit_code,
    assert_exits,
    assert_failed,
    assert_failures,
    assert_injected,
    assert_leftovers,
    assert_log_tail,
    assert_message,
    assert_no_leftovers,
    assert_not_injected,
    assert_only_failed,
    assert_restarts,
    assert_resumed_at,
    assert_root_cause,
    assert_signals_sent,
    assert_stopped,
    assert_succeeded,
    assert_teardown_seconds,
    assert_timed_out,
    strategies,
)
from pytest_derail.faker import faker

# ---- faults and triggers


def break_ranks() -> Plan:
    """Faults by position and by name, on one rank, some, or those that the seed chooses."""
    kill = faults.signal("SIGKILL", rank=2, when=when.line("step 3"))
    assert_type(kill, Fault)
    term = faults.signal(signal=signal.SIGTERM, group=True, every=1, rank=[0, 1], times=2, for_=0.5, id="term")
    hang = faults.hang(rank="all but one", for_=3, ignore=("SIGTERM", 2))
    left = faults.exit(7, "_exit", rank=(0, 2), when=when.after(1))
    said = faults.exit("the disk is full", how="exit", rank="minority")
    storm = faults.signal_storm(["SIGTERM", "SIGINT"], count=50, rank="the agent")
    tuples = faults.block_signal((15, "SIGINT"), rank=0)
    limit = faults.limit("NOFILE", "unlimited", hard=False, rank=0)
    call = faults.syscall_errno("write", "ENOSPC", calls="2..8+2", fd=None, rank=0)
    file = faults.error_file("truncated", rank=1, when=own_exit())
    plan = faults.plan([kill, term, hang, left, said, storm, tuples, limit, call, file], seed=7, keep_alive=1)
    return assert_type(plan, Plan)


def break_any(targets: list[Target], moment: Trigger) -> list[Fault]:
    """Targets and triggers have types for annotations."""
    builders: Mapping[str, Callable[..., Fault]] = {"stop": faults.stop, "cont": faults.cont}
    assert builders
    return [faults.stop(rank=target, when=moment) for target in targets]


def triggers(hit: Hit) -> Trigger:
    """Each builder returns its own type."""
    at_line = assert_type(line("step 3", stream="stderr", hit=hit, rank=1), Line)
    both = assert_type(when.all_of(at_line, when.exit_of(1)), AllOf)
    either = when.any_of(when.start(), when.point("saved", hit="3.."), when.call("json:dumps", at="exit"))
    later = when.then(when.phase("running"), when.restart(1), when.import_of("torch"))
    chance = when.probability(0.5, when.signal_received(15), first=1)
    return when.any_of(both, either, later, chance, when.barrier("met", ranks=[0, 1]), own_exit())


def look(fault: Fault) -> str:
    """What a fault holds."""
    target: Target = fault.target
    assert target
    assert_type(fault.times, int)
    fail_point("looked")
    return f"{fault.name} {fault.when} {fault.param('signal')}"


# ---- the launcher


def train(steps: int, name: str) -> float:
    """A rank."""
    return steps / len(name)


def start() -> derail.PContext:
    """Torch's call, and derail's additions."""
    context = start_processes(
        "train",
        train,
        {0: (1, "x"), 1: (2, "y")},
        {0: {}, 1: {"OMP_NUM_THREADS": "1"}},
        derail.DefaultLogsSpecs(redirects=derail.Std.ALL, tee={0: derail.Std.OUT}),
        start_method="spawn",
        teardown=derail.Teardown(grace=2.0, sweep="all"),
    )
    return assert_type(context, derail.PContext)


def judge(context: derail.PContext) -> int:
    """What a result holds."""
    assert_type(context.pids(), dict[int, int])
    result = context.wait(timeout=10, period=0.1)
    assert_type(result, derail.RunProcsResult | None)
    if result is None:
        context.close(signal.SIGTERM, 5)
        return 1
    assert_type(result.return_values, dict[int, Any])
    assert_type(result.failures, dict[int, derail.ProcessFailure])
    assert_type(result.stopped, tuple[int, ...])
    assert_type(result.root_cause, int | None)
    assert_type(result.is_failed(), bool)
    assert_type(result.ranks[0].status, derail.ExitStatus | None)
    assert_type(result.ranks[0].cause, derail.Cause)
    assert_type(result.outcome.succeeded, bool)
    return assert_type(result.exit_code, int)


# ---- tests


def test_job(derail: Derail, tmp_path: Path) -> None:
    """The fixture starts jobs of programs and functions, and hands out the packages that it hides."""
    kill = derail.faults.signal("SIGKILL", rank=1, when=derail.when.line("step 3"))
    plan = assert_type(derail.plan(kill, seed=7), Plan)
    job = derail.start("train.py", ranks=4, args=[1], env={"A": "b"}, plan=plan, timeout=9, grace=0.5, cwd=tmp_path)
    assert_type(job, Job)
    assert_type(job.pids(), dict[int, int])
    assert job.expect_failure(1).poll() is None
    job.stop("enough", grace=1)
    result = job.wait(5)
    assert_failed(result, 1, signal="SIGKILL", root_cause=1)
    assert_only_failed(result, [1])
    assert_log_tail(result, 0, "stderr", like="*saved*")
    assert_signals_sent(result, 0, ["SIGTERM", 9])
    assert_injected(result, kill)
    assert_exit_code(result, 137)
    assert_root_cause(result, None)
    assert_teardown_seconds(result, at_most=0.5)
    assert_exits(result, {0: "SIGTERM", 1: 7})
    assert_type(result, JobResult)
    assert_type(derail.run(print), JobResult)
    with derail.pool(2, timeout=9, start_method="spawn", faults=[kill]) as pool:
        assert_type(pool, Pool)
        assert_type(pool.map(str, [1, 2], timeout=1), list[str])
        assert_type(pool.starmap(print, [(3, 2)]), list[None])
        pool.close()
    assert_type(derail.run(print, expect_failure=[1, 2]), JobResult)
    assert_type(result.root_cause, int | None)
    assert_type(result.stopped, tuple[int, ...])
    assert_type(result.exit_code, int | None)
    assert_type(result.timed_out, bool)
    assert_type(result.ranks[0].succeeded, bool)


def judge_more(result: JobResult | derail.RunProcsResult, fault: Fault) -> None:
    """Assertions take the result of a test's job, or of ``start_processes``."""
    assert_stopped(result, [0, 2])
    assert_failures(result, 1)
    assert_message(result, "*saved*")
    assert_error_file(result, 1, "good", message="boom")
    assert_timed_out(result)
    assert_no_leftovers(result)
    assert_leftovers(result, ["sleep *"])
    assert_not_injected(result, fault)
    assert_resumed_at(result, 3)


def test_more(derail: Derail) -> None:
    """A function, a command line, an agent; holds, barriers and ports."""
    held = derail.hold("saved", ranks=[0], hit="2..")
    met = derail.barrier(when.point("met"), ranks=0)
    assert held is not met
    derail.release("saved")
    assert_succeeded(derail.run(train, args=(1, "x"), start_method="warm"))
    assert_failed(derail.run(["sh", "-c", "exit 3"], ranks=1), 0, exit_code=3, exception=ValueError)
    assert_restarts(derail.agent("torchrun", Path("train.py"), nodes=2, restarts=1), 1)
    derail.allow_left("process", "file")
    assert issubclass(RanksFailed, Exception)
    assert derail.free_port() > 0
    assert derail.workdir.exists()


def blame(error: ChildFailedError) -> derail.ProcessFailure:
    """The first failure, with its rank."""
    rank, failure = error.get_first_failure()
    assert_type(rank, int)
    assert_type(failure.signal_name(), str)
    assert_type(error.format_msg(), str)
    return assert_type(failure, derail.ProcessFailure)


def choose(text: str) -> dict[int, derail.Std]:
    """Streams by rank."""
    return assert_type(derail.to_map(derail.Std.from_str(text), 4), dict[int, derail.Std])


def redirected() -> AbstractContextManager[None]:
    """A stream of this process, to a file."""
    redirect_stderr("err.log")
    return derail.redirect_stdout("out.log")


def handle(handler: ErrorHandler, destination: LogsDest) -> SubprocessHandler:
    """What torch keeps in its submodules."""
    handler.initialize()
    assert_type(destination.error_files, dict[int, str])
    return get_subprocess_handler("true", (), {}, "out.log", "err.log", 0)


@record
def main(argument: str) -> int:
    """``record`` keeps the signature."""
    return len(argument)


recorded: int | None = main("x")


def exchange() -> None:
    """A collective of a library of its own."""
    with derail.record_collective("halo", group="x", ranks=(0, 1), shapes="float32[8]") as recording:
        assert_type(recording, derail.record_collective)


# ---- agents, conformance, tests


def judged(path: Path) -> Agent:
    """Agents by name, and one of your own."""
    assert_type(agent("native"), Agent)
    assert "native" in agents()
    declared = read_declaration(path)
    assert_type(declared, Declaration)
    return CommandAgent("ours {script}", Declaration(report=Report(file="{log_dir}/summary")))


def driven(scripted: conformance.ScriptedRanks) -> conformance.Driven:
    """A launcher that a rehearsal can drive."""
    launcher = conformance.StartProcesses(start_processes)
    launcher.start(scripted)
    return launcher


def installed() -> Callable[[], None]:
    """Our launcher under torch's agent."""
    return derail.torch.install(teardown=derail.Teardown.from_env())


class OurLauncher(strategies.AgentMachine):
    """A launcher under random histories."""

    @classmethod
    def agent(cls) -> conformance.Driven:
        """The launcher."""
        return conformance.DerailLauncher(start_method="spawn")


@given(
    plan=strategies.fault_plans(ranks=4, min_size=1, max_size=2, families=["signals"]),
    stream=strategies.log_streams(max_size=3),
    data=strategies.error_files(["valid", "hostile"]),
    status=strategies.exit_statuses(lost=False),
)
def drawn(plan: Plan, stream: strategies.LogStream, data: bytes, status: derail.ExitStatus) -> None:
    """Values drawn by Hypothesis have their types."""
    assert faker(plan, rank=1)
    assert plan.faults
    assert stream.lines == [data]
    assert status.code == 0
