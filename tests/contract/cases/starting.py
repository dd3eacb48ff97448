"""What is started, with which arguments and environment, and what a failing start leaves."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from contract import ranks
from contract.registry import Facts, Fault, add, case
from contract.stage import is_alive, until

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage


@case({"type": "SubprocessContext", "is a PContext": True, "values": {"0": None, "1": None}, "failures": []})
def programs_run_and_have_no_values(api: Api, stage: Stage) -> Facts:
    """A program entrypoint gives a SubprocessContext, and None for each rank."""
    context = stage.programs(["true", "true"])
    result = context.wait()
    return {
        "type": type(context).__name__,
        "is a PContext": isinstance(context, api.PContext),
        "values": {str(rank): value for rank, value in result.return_values.items()},
        "failures": sorted(result.failures),
    }


@case({"type": "MultiprocessContext", "is a PContext": True, "values": {"0": 3, "1": 7}, "failed": False})
def functions_run_and_return_by_local_rank(api: Api, stage: Stage) -> Facts:
    """A function entrypoint gives a MultiprocessContext, and each rank's value under its local rank."""
    context = stage.functions(ranks.add, [(1, 2), (3, 4)])
    result = context.wait()
    return {
        "type": type(context).__name__,
        "is a PContext": isinstance(context, api.PContext),
        "values": {str(rank): value for rank, value in result.return_values.items()},
        "failed": result.is_failed(),
    }


def _start_method(method: str) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        result = stage.functions(ranks.add, [(1, 2), (3, 4)], start_method=method).wait()
        return {"values": [result.return_values[0], result.return_values[1]]}

    add(f"start_method_{method}", run, expect={"values": [3, 7]}, doc=f"Ranks can be made by {method}.")


for _method in ("spawn", "fork", "forkserver"):
    _start_method(_method)


@case({"0": "a b|c", "1": "d|"})
def programs_get_their_own_arguments(api: Api, stage: Stage) -> Facts:
    """Each rank has its own arguments, passed as they are, without a shell."""
    script = f'import sys; open(f"{stage.dir}/{{sys.argv[1]}}.args", "w").write("|".join(sys.argv[2:]) + "\\n")'
    context = api.start_processes(
        "job",
        sys.executable,
        {0: ("-c", script, "0", "a b", "c"), 1: ("-c", script, "1", "d", "")},
        {0: {}, 1: {}},
        api.DefaultLogsSpecs(log_dir=stage.logs),
    )
    context.wait()
    return {"0": stage.text("0.args"), "1": stage.text("1.args")}


@case({"written": "1|2.5|[1, 2, 3]|None"})
def arguments_of_programs_become_strings(api: Api, stage: Stage) -> Facts:
    """Arguments that are no strings are passed as ``str`` writes them."""
    script = f'import sys; open("{stage.dir}/args", "w").write("|".join(sys.argv[1:]) + "\\n")'
    context = api.start_processes(
        name="job",
        entrypoint=sys.executable,
        args={0: ("-c", script, 1, 2.5, [1, 2, 3], None)},
        envs={0: {}},
        logs_specs=api.DefaultLogsSpecs(log_dir=stage.logs),
    )
    context.wait()
    return {"written": stage.text("args")}


@case({"written": ["inherited rank0", "inherited rank1"]})
def programs_inherit_the_environment_and_get_their_own(api: Api, stage: Stage) -> Facts:
    """The launcher's environment is inherited, each rank's own entries come on top."""
    os.environ["CONTRACT_A"] = "inherited"
    os.environ["CONTRACT_B"] = "overridden"
    script = f'echo "$CONTRACT_A $CONTRACT_B" > {stage.dir}/$CONTRACT_B.env'
    stage.programs([script] * 2, envs={0: {"CONTRACT_B": "rank0"}, 1: {"CONTRACT_B": "rank1"}}).wait()
    return {"written": [stage.text("rank0.env"), stage.text("rank1.env")]}


@case({"values": ["inherited", "inherited"], "own": ["0", "1"]})
def functions_inherit_the_environment_and_get_their_own(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""
    os.environ["CONTRACT_A"] = "inherited"
    inherited = stage.functions(ranks.give_environment, [("CONTRACT_A",)] * 2).wait().return_values
    own = (
        stage.functions(ranks.give_environment, [("LOCAL_RANK",)] * 2, envs={r: {"LOCAL_RANK": str(r)} for r in (0, 1)})
        .wait()
        .return_values
    )
    return {"values": [inherited[0], inherited[1]], "own": [own[0], own[1]]}


@case(
    {"at import": ["0", "1"]},
    torch=Fault(
        "seen on 2.13.0: a function rank gets its environment only after its modules were imported",
        {"finished": True, "at import": [None, None]},
    ),
)
def environment_is_there_when_modules_are_imported(api: Api, stage: Stage) -> Facts:
    """What a rank's modules read from the environment when they are imported is the rank's own environment."""
    os.environ.pop("CONTRACT_RANK", None)
    values = (
        stage.functions(
            ranks.give_environment_at_import,
            [(None,)] * 2,
            envs={r: {"CONTRACT_RANK": str(r)} for r in (0, 1)},
            start_method="spawn",
        )
        .wait()
        .return_values
    )
    return {"at import": [values[0], values[1]]}


@case(
    {"unpickled in": {"0": "rank 0 only", "1": "rank 1 only"}},
    torch=Fault(
        "seen on 2.13.0: every rank is sent the arguments of all ranks",
        {"finished": True, "unpickled in": {"0": "2 processes", "1": "2 processes"}},
    ),
)
def each_rank_is_sent_its_own_arguments_only(api: Api, stage: Stage) -> Facts:
    """A rank never sees another rank's arguments."""
    arguments = [(ranks.TellsWhenUnpickled(str(stage.dir), rank),) for rank in (0, 1)]
    context = stage.functions(ranks.give_pid, arguments, start_method="spawn")
    pids = context.wait().return_values
    seen = {}
    for rank in (0, 1):
        where = stage.text(f"unpickled.{rank}").split()
        seen[str(rank)] = f"rank {rank} only" if where == [str(pids[rank])] else f"{len(set(where))} processes"
    return {"unpickled in": seen}


@case(
    {"args": "unchanged", "envs": "unchanged"},
    torch=Fault(
        "seen on 2.13.0: the caller's environment maps get TORCHELASTIC_ERROR_FILE written into them",
        {"finished": True, "args": "unchanged", "envs": "changed"},
    ),
)
def the_callers_maps_are_not_edited(api: Api, stage: Stage) -> Facts:
    """What the caller passed is the same afterwards."""
    args, envs = {0: ("-c", "true")}, {0: {"A": "1"}}
    api.start_processes("job", "/bin/sh", args, envs, api.DefaultLogsSpecs(log_dir=stage.logs)).wait()
    return {
        "args": "unchanged" if args == {0: ("-c", "true")} else "changed",
        "envs": "unchanged" if envs == {0: {"A": "1"}} else "changed",
    }


def _refused(name: str, args: dict[int, tuple[str, ...]], envs: dict[int, dict[str, str]]) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        try:
            api.start_processes("job", "/bin/sh", args, envs, api.DefaultLogsSpecs(log_dir=stage.logs))
        except RuntimeError as error:
            return {
                "raised": "RuntimeError",
                "names the map": ("args" if set(args) != {0, 1} else "envs") in str(error),
            }
        return {"raised": None}

    add(
        name,
        run,
        expect={"raised": "RuntimeError", "names the map": True},
        doc="Ranks must be 0 to n - 1 in both maps.",
    )


_refused("envs_must_have_the_ranks_of_args", {0: ("-c", "true"), 1: ("-c", "true")}, {0: {}})
_refused("envs_must_not_have_more_ranks_than_args", {0: ("-c", "true"), 1: ("-c", "true")}, {0: {}, 1: {}, 2: {}})
_refused("ranks_must_begin_at_zero", {1: ("-c", "true"), 2: ("-c", "true")}, {1: {}, 2: {}})


@case({"raised": "FileNotFoundError", "names the program": True})
def a_program_that_does_not_exist_fails_the_start(api: Api, stage: Stage) -> Facts:
    """Starting what is not there raises FileNotFoundError from ``start_processes``."""
    try:
        api.start_processes("job", "/no/such/program", {0: ()}, {0: {}}, api.DefaultLogsSpecs(log_dir=stage.logs))
    except FileNotFoundError as error:
        return {"raised": "FileNotFoundError", "names the program": "/no/such/program" in str(error)}
    return {"raised": None}


@case({"raised": "PermissionError"})
def a_program_that_may_not_be_executed_fails_the_start(api: Api, stage: Stage) -> Facts:
    """Starting a file without the permission to execute it raises PermissionError."""
    stage.path("plain").write_text("#!/bin/sh\n")
    try:
        api.start_processes("job", str(stage.path("plain")), {0: ()}, {0: {}}, api.DefaultLogsSpecs(log_dir=stage.logs))
    except PermissionError:
        return {"raised": "PermissionError"}
    return {"raised": None}


@case({"raised": "ValueError"})
def a_context_cannot_be_started_twice(api: Api, stage: Stage) -> Facts:
    """``start`` on a started context raises ValueError, and the ranks go on."""
    context = stage.programs(["sleep 600"])
    try:
        context.start()
    except ValueError:
        return {"raised": "ValueError"}
    finally:
        context.close()
    return {"raised": None}


@case(
    {"raised": True, "ranks before it": "ended"},
    torch=Fault(
        "seen on 2.13.0: when rank 2 cannot be started, ranks 0 and 1 go on running",
        {"raised": True, "ranks before it": "left running"},
    ),
)
def a_start_that_fails_at_one_rank_leaves_none(api: Api, stage: Stage) -> Facts:
    """If rank 2 cannot be started, ranks 0 and 1 are ended before the error is raised."""
    stay = f"echo $$ > {stage.dir}/pid.$0; exec sleep 600"
    args = {0: ("-c", stay, "0"), 1: ("-c", stay, "1"), 2: ("-c", "a NUL cannot be passed: \0")}
    before = _children()
    raised = False
    try:
        api.start_processes("job", "/bin/sh", args, {r: {} for r in args}, api.DefaultLogsSpecs(log_dir=stage.logs))
    except (ValueError, OSError):
        raised = True
    left = [pid for pid in _children() - before if is_alive(pid)]
    return {"raised": raised, "ranks before it": "left running" if left else "ended"}


@case(
    {"raised": "OSError", "ranks before it": "ended"},
    torch=Fault(
        "seen on 2.13.0: when descriptors run out during the start, the ranks that were started go on running",
        {"raised": "OSError", "ranks before it": "left running"},
    ),
)
def a_start_without_descriptors_leaves_none(api: Api, stage: Stage) -> Facts:
    """EMFILE while ranks are started is raised, and leaves no rank."""
    before = _children()
    raised = None
    open_now = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    specs = api.DefaultLogsSpecs(log_dir=stage.logs, redirects=api.Std.ALL)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 24, hard))
    try:
        stage.programs(["exec sleep 600"] * 64, logs_specs=specs)
    except OSError:
        raised = "OSError"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    left = [pid for pid in _children() - before if is_alive(pid)]
    return {"raised": raised, "ranks before it": "left running" if left else "ended"}


@case(
    {"ranks": "ended", "launcher": "ended"},
    torch=Fault(
        "seen on 2.13.0: SIGTERM while ranks are being started leaves those that were started",
        {"launcher": "ended", "ranks": "left running"},
    ),
)
def sigterm_while_ranks_are_started_leaves_none(api: Api, stage: Stage) -> Facts:
    """A launcher that gets SIGTERM half way through its start ends with no rank left."""
    popen: Any = subprocess.Popen
    execute, started = popen._execute_child, itertools.count(1)

    def execute_and_wait(*args: Any, **options: Any) -> None:
        if next(started) == 20:  # half way, and no further before the signal was sent
            until(stage.path("told").exists)
        execute(*args, **options)

    def launch() -> None:
        popen._execute_child = execute_and_wait
        try:
            stage.programs([f"echo $$ > {stage.dir}/pid.$$; exec sleep 600"] * 40).close()
        except api.SignalException:
            pass

    launcher = stage.launcher(launch)
    until(lambda: len(list(stage.dir.glob("pid.*"))) >= 5)
    os.kill(launcher, signal.SIGTERM)
    stage.path("told").write_text("")
    ended = stage.exit_of(launcher) is not None
    pids = [int(path.suffix[1:]) for path in stage.dir.glob("pid.*")]
    left = not stage.soon(lambda: not any(map(is_alive, pids)))
    return {"launcher": "ended" if ended else "alive", "ranks": "left running" if left else "ended"}


@case({"values": {"0": 3, "1": 7}})
def a_job_can_be_started_and_waited_for_in_a_thread(api: Api, stage: Stage) -> Facts:
    """Nothing needs the main thread."""
    values: dict[str, object] = {}

    def job() -> None:
        result = stage.functions(ranks.add, [(1, 2), (3, 4)]).wait()
        values.update({str(rank): value for rank, value in result.return_values.items()})

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    return {"values": values}


@case(
    {"values": {"0": "a", "1": "b"}},
    torch=Fault(
        "pytorch#135088, seen on 2.13.0: function ranks are interrupted when the thread that started them ends",
        {"result": "none in time"},
    ),
)
def ranks_outlive_the_thread_that_started_them(api: Api, stage: Stage) -> Facts:
    """The end of the thread that called ``start_processes`` harms no rank."""
    contexts, gate = [], stage.path("gate")

    def start() -> None:
        contexts.append(
            stage.functions(
                ranks.finish_when, [(str(stage.path(f"pid.{n}")), str(gate), value) for n, value in enumerate("ab")]
            )
        )
        for rank in (0, 1):
            stage.pid(f"pid.{rank}")

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    until(lambda: not os.path.exists(f"/proc/self/task/{thread.native_id}"))  # to the kernel, too
    gate.write_text("")
    result = contexts[0].wait(timeout=stage.patience, period=0.1)
    contexts[0].close()
    if result is None:
        return {"result": "none in time"}
    return {"values": {str(rank): value for rank, value in result.return_values.items()}}


@case({"pids are those of the ranks": True, "alive": True})
def pids_maps_local_ranks_to_processes(api: Api, stage: Stage) -> Facts:
    """``pids`` gives the process of each local rank while they run."""
    context = stage.programs([f"echo $$ > {stage.dir}/pid.{rank}; exec sleep 600" for rank in (0, 1)])
    written = {rank: stage.pid(f"pid.{rank}") for rank in (0, 1)}
    pids = context.pids()
    facts = {"pids are those of the ranks": pids == written, "alive": all(map(is_alive, pids.values()))}
    context.close()
    return facts


@case({"pids are those of the ranks": True})
def pids_of_functions_are_those_of_the_ranks(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""
    context = stage.functions(ranks.touch_and_stay, [(str(stage.path(f"pid.{rank}")),) for rank in (0, 1)])
    written = {rank: stage.pid(f"pid.{rank}") for rank in (0, 1)}
    facts = {"pids are those of the ranks": context.pids() == written}
    context.close()
    return facts


@case({"leads its session": True})
def a_program_leads_its_own_session(api: Api, stage: Stage) -> Facts:
    """A signal of the terminal does not reach ranks behind the launcher's back."""
    context = stage.programs([f"echo $$ > {stage.dir}/pid; exec sleep 600"])
    pid = stage.pid("pid")
    facts = {"leads its session": os.getsid(pid) == pid}
    context.close()
    return facts


@case(
    {"lead their sessions": [True, True]},
    torch=Fault(
        "seen on 2.13.0: function ranks share the launcher's session and process group",
        {"finished": True, "lead their sessions": [False, False]},
    ),
)
def a_function_leads_its_own_session(api: Api, stage: Stage) -> Facts:
    """A rank's kind does not change its fate: functions have their own session, too."""
    values = stage.functions(ranks.session_is_own, [(None,)] * 2).wait().return_values
    return {"lead their sessions": [values[0], values[1]]}


@case({"cwd": "that of the launcher"})
def programs_run_in_the_launchers_directory(api: Api, stage: Stage) -> Facts:
    """Ranks start in the working directory of the launcher."""
    os.chdir(stage.dir)
    stage.programs([f"pwd -P > {stage.dir}/cwd"]).wait()
    same = stage.text("cwd") == os.path.realpath(stage.dir)
    return {"cwd": "that of the launcher" if same else stage.text("cwd")}


def _children() -> set[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return {int(pid) for pid in file.read().split()}
