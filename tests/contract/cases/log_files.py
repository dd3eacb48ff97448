"""Where the logs of each rank lie, and what is in them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract import ranks
from contract.registry import Facts, Fault, case

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage

SPEAK = "echo out; echo err >&2"


def _read(path: str) -> str:
    return Path(path).read_text() if path else ""


@case({"stdouts": ["out\n", "out\n"], "stderrs": ["err\n", "err\n"], "console": ["", ""]})
def redirected_programs_write_to_their_files(api: Api, stage: Stage) -> Facts:
    """With ``redirects`` the streams are in files, named in the result, and not on the console."""
    result = stage.programs([SPEAK] * 2, redirects=api.Std.ALL).wait()
    return {
        "stdouts": [_read(result.stdouts[rank]) for rank in (0, 1)],
        "stderrs": [_read(result.stderrs[rank]) for rank in (0, 1)],
        "console": [stage.console("stdout"), stage.console("stderr")],
    }


@case({"stdouts": ["r0 out\n", "r1 out\n"], "stderrs": ["r0 err\n", "r1 err\n"], "console": ["", ""]})
def redirected_functions_write_to_their_files(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""
    result = stage.functions(ranks.print_to_both, [("r0",), ("r1",)], redirects=api.Std.ALL).wait()
    return {
        "stdouts": [_read(result.stdouts[rank]) for rank in (0, 1)],
        "stderrs": [_read(result.stderrs[rank]) for rank in (0, 1)],
        "console": [stage.console("stdout"), stage.console("stderr")],
    }


@case({"stdout": "from C\n"})
def redirects_catch_what_c_prints(api: Api, stage: Stage) -> Facts:
    """The descriptors are redirected, so output of C libraries is in the file, too."""
    result = stage.functions(ranks.printed_by_c, [("from C",)], redirects=api.Std.OUT).wait()
    return {"stdout": _read(result.stdouts[0])}


@case({"stdouts": ["", ""], "console": ["out\nout\n", "err\nerr\n"]})
def without_redirects_programs_share_the_console(api: Api, stage: Stage) -> Facts:
    """The paths in the result are empty, and the output is on the launcher's own streams."""
    result = stage.programs([SPEAK] * 2).wait()
    return {
        "stdouts": [result.stdouts[rank] for rank in (0, 1)],
        "console": [stage.console("stdout"), stage.console("stderr")],
    }


@case({"files": [["out\n", ""], ["", "err\n"], ["", ""]], "console": ["out\nout\n", "err\nerr\n"]})
def redirects_can_differ_by_rank(api: Api, stage: Stage) -> Facts:
    """A map chooses streams for each rank; ranks that it leaves out keep the console."""
    result = stage.programs([SPEAK] * 3, redirects={0: api.Std.OUT, 1: api.Std.ERR}).wait()
    return {
        "files": [[_read(result.stdouts[rank]), _read(result.stderrs[rank])] for rank in range(3)],
        "console": [stage.console("stdout"), stage.console("stderr")],
    }


@case(
    {
        "layout": ["0/stderr.log", "0/stdout.log", "1/stderr.log", "1/stdout.log"],
        "parent": "attempt_3",
        "run": "myrun_*",
    }
)
def the_layout_is_run_attempt_rank(api: Api, stage: Stage) -> Facts:
    """Files are ``<log_dir>/<run id>_*/attempt_<n>/<rank>/std{out,err}.log``."""
    env = {"TORCHELASTIC_RUN_ID": "myrun", "TORCHELASTIC_RESTART_COUNT": "3"}
    result = stage.programs(["true"] * 2, redirects=api.Std.ALL, envs={0: dict(env), 1: dict(env)}).wait()
    attempt = Path(result.stdouts[0]).parents[1]
    found = [str(path.relative_to(attempt)) for path in attempt.rglob("*.log")]
    run = attempt.parent
    return {
        "layout": sorted(found),
        "parent": attempt.name,
        "run": "myrun_*" if run.name.startswith("myrun_") and str(run.parent) == stage.logs else str(run),
    }


def _reified(api: Api, stage: Stage, nprocs: int = 2, **options: Any) -> tuple[Any, dict[int, dict[str, str]]]:
    envs: dict[int, dict[str, str]] = {rank: {} for rank in range(nprocs)}
    return api.DefaultLogsSpecs(log_dir=stage.logs, **options).reify(envs), envs


@case({"error files": ["0/error.json", "1/error.json"], "env": True, "run": "test_run_id_*/attempt_0"})
def reify_names_error_files_and_puts_them_into_the_environments(api: Api, stage: Stage) -> Facts:
    """Custom specs that build on the default ones rely on TORCHELASTIC_ERROR_FILE being set."""
    dest, envs = _reified(api, stage)
    attempt = Path(dest.error_files[0]).parents[1]
    relative = str(attempt.relative_to(stage.logs))
    return {
        "error files": [str(Path(dest.error_files[rank]).relative_to(attempt)) for rank in (0, 1)],
        "env": [envs[rank]["TORCHELASTIC_ERROR_FILE"] for rank in (0, 1)] == [dest.error_files[0], dest.error_files[1]],
        "run": re.sub(r"test_run_id_[^/]+", "test_run_id_*", relative),
    }


@case({"stdouts": [True, False], "tee": [[0], []], "filtered": ["filtered_stdout.log", "filtered_stderr.log"]})
def tee_implies_a_file(api: Api, stage: Stage) -> Facts:
    """A tee'd stream is redirected as well; only tee'd ranks are in the tee maps."""
    dest, _ = _reified(api, stage, tee={0: api.Std.OUT})
    return {
        "stdouts": [bool(dest.stdouts[rank]) for rank in (0, 1)],
        "tee": [sorted(dest.tee_stdouts), sorted(dest.tee_stderrs)],
        "filtered": [Path(dest.filtered_stdout).name, Path(dest.filtered_stderr).name],
    }


@case({"console": ["out\n", "err\n"], "unselected": [os.devnull, os.devnull]})
def the_rank_filter_silences_the_other_ranks(api: Api, stage: Stage) -> Facts:
    """Ranks outside ``local_ranks_filter`` do not show on the console."""
    result = stage.programs([SPEAK] * 2, local_ranks_filter={0}).wait()
    return {
        "console": [stage.console("stdout"), stage.console("stderr")],
        "unselected": [result.stdouts[1], result.stderrs[1]],
    }


@case({"console": "[job0]:out\n", "file of the other": "out\n"})
def the_rank_filter_keeps_the_files_of_teed_ranks(api: Api, stage: Stage) -> Facts:
    """A tee'd rank outside the filter is written to its file only."""
    result = stage.programs([SPEAK] * 2, tee=api.Std.OUT, redirects=api.Std.ERR, local_ranks_filter={0}).wait()
    return {"console": stage.console("stdout"), "file of the other": _read(result.stdouts[1])}


@case({"values": [3], "error file": "", "root": os.devnull})
def devnull_as_log_dir_makes_no_files(api: Api, stage: Stage) -> Facts:
    """``os.devnull`` as directory: no files, and no error file."""
    specs = api.DefaultLogsSpecs(log_dir=os.devnull)
    values = stage.functions(ranks.add, [(1, 2)], logs_specs=specs).wait().return_values
    again = (
        stage.functions(ranks.give_environment, [("TORCHELASTIC_ERROR_FILE",)], logs_specs=specs).wait().return_values
    )
    return {"values": [values[0]], "error file": again[0], "root": specs.root_log_dir}


@case({"made": True, "root": True})
def the_log_dir_is_created(api: Api, stage: Stage) -> Facts:
    """A directory that does not exist is made, with its parents; ``root_log_dir`` is it."""
    directory = str(stage.path("a") / "b")
    specs = api.DefaultLogsSpecs(log_dir=directory)
    specs.reify({0: {}})
    return {"made": os.path.isdir(directory), "root": specs.root_log_dir == directory}


@case({"raised": "NotADirectoryError"})
def a_file_as_log_dir_is_refused(api: Api, stage: Stage) -> Facts:
    """A log directory that is a file raises NotADirectoryError."""
    stage.path("file").write_text("")
    try:
        api.DefaultLogsSpecs(log_dir=str(stage.path("file"))).reify({0: {}})
    except NotADirectoryError:
        return {"raised": "NotADirectoryError"}
    return {"raised": None}


@case(
    {"same directory": True, "earlier log": "kept"},
    torch=Fault(
        "seen on 2.13.0: a second start for the same attempt deletes the logs of the first, also of a running job",
        {"same directory": True, "earlier log": "deleted"},
    ),
)
def a_second_start_deletes_no_logs(api: Api, stage: Stage) -> Facts:
    """Specs that are used twice for one attempt name the same directory, and delete nothing in it."""
    specs = api.DefaultLogsSpecs(log_dir=stage.logs, redirects=api.Std.ALL)
    first = specs.reify({0: {}, 1: {}})
    Path(first.stdouts[1]).write_text("evidence")
    second = specs.reify({0: {}})
    kept = Path(first.stdouts[1]).exists()
    return {
        "same directory": first.stdouts[0] == second.stdouts[0],
        "earlier log": "kept" if kept else "deleted",
    }


@case({"different": True, "earlier log": "kept"})
def each_attempt_has_its_own_directory(api: Api, stage: Stage) -> Facts:
    """Another restart count is another directory; the earlier one stays."""
    specs = api.DefaultLogsSpecs(log_dir=stage.logs, redirects=api.Std.ALL)
    first = specs.reify({0: {"TORCHELASTIC_RESTART_COUNT": "0"}})
    Path(first.stdouts[0]).write_text("evidence")
    second = specs.reify({0: {"TORCHELASTIC_RESTART_COUNT": "1"}})
    return {
        "different": first.stdouts[0] != second.stdouts[0],
        "earlier log": "kept" if Path(first.stdouts[0]).read_text() == "evidence" else "deleted",
    }


@case({"equal": True, "different": True, "other type": True, "repr": True})
def specs_can_be_compared_and_printed(api: Api, stage: Stage) -> Facts:
    """Specs with the same settings are equal; their repr names the settings."""
    one, two, three = (
        api.DefaultLogsSpecs(log_dir=stage.logs, redirects=std, tee=api.Std.NONE, local_ranks_filter={0})
        for std in (api.Std.OUT, api.Std.OUT, api.Std.ERR)
    )
    return {
        "equal": one == two,
        "different": one != three,
        "other type": one != "specs",
        "repr": repr(one).startswith("DefaultLogsSpecs(") and stage.logs in repr(one),
    }


@case({"stdout": "out\n", "path": "custom.out", "error file": "custom.json", "root": "custom"})
def logs_specs_may_be_subclassed(api: Api, stage: Stage) -> Facts:
    """Own specs name own files."""

    class Custom(api.LogsSpecs):  # type: ignore[name-defined, misc]
        def reify(self, envs: dict[int, dict[str, str]]) -> Any:
            for env in envs.values():
                env["TORCHELASTIC_ERROR_FILE"] = str(stage.path("custom.json"))
            return api.LogsDest(
                stdouts={0: str(stage.path("custom.out"))},
                stderrs={0: ""},
                error_files={0: str(stage.path("custom.json"))},
            )

        @property
        def root_log_dir(self) -> str:
            return "custom"

    specs = Custom("x", api.Std.NONE, api.Std.NONE, None)
    write = """echo out; printf '{"message": "m", "timestamp": 1}' > $TORCHELASTIC_ERROR_FILE; exit 3"""
    result = stage.programs([write], logs_specs=specs).wait()
    return {
        "stdout": _read(result.stdouts[0]),
        "path": Path(result.stdouts[0]).name,
        "error file": Path(result.failures[0].error_file).name,
        "root": specs.root_log_dir,
    }


@case({"raised": "RuntimeError"})
def specs_must_name_the_streams_of_every_rank(api: Api, stage: Stage) -> Facts:
    """Own specs that leave out a rank fail the start."""

    class Lacking(api.LogsSpecs):  # type: ignore[name-defined, misc]
        def reify(self, envs: dict[int, dict[str, str]]) -> Any:
            return api.LogsDest(stdouts={0: ""}, stderrs={0: ""}, error_files={0: ""})

        @property
        def root_log_dir(self) -> str:
            return ""

    try:
        stage.programs(["true"] * 2, logs_specs=Lacking())
    except RuntimeError:
        return {"raised": "RuntimeError"}
    return {"raised": None}


@case({"raised": "TypeError"})
def logs_specs_is_abstract(api: Api, stage: Stage) -> Facts:
    """``LogsSpecs`` itself cannot be made."""
    try:
        api.LogsSpecs()
    except TypeError:
        return {"raised": "TypeError"}
    return {"raised": None}


@case({"empty": [{}, {}, {}, {}, {}, "", ""]})
def logs_dest_is_empty_at_first(api: Api, stage: Stage) -> Facts:
    """All maps of a LogsDest have defaults."""
    dest = api.LogsDest()
    return {
        "empty": [
            dest.stdouts,
            dest.stderrs,
            dest.tee_stdouts,
            dest.tee_stderrs,
            dest.error_files,
            dest.filtered_stdout,
            dest.filtered_stderr,
        ]
    }


@case(
    {"raised": "ValueError"},
    torch=Fault(
        "seen on 2.13.0: a redirect for a rank that the job does not have is passed over in silence",
        {"finished": True, "raised": None},
    ),
)
def redirects_for_ranks_that_do_not_exist_are_refused(api: Api, stage: Stage) -> Facts:
    """Streams for rank 5 of 2 are a mistake that is told before anything is started."""
    try:
        stage.programs(["true"] * 2, redirects={5: api.Std.ALL}).wait()
    except ValueError:
        return {"raised": "ValueError"}
    return {"raised": None}


@case({"handler": ["out\n", 0, 0], "env": "mine"})
def a_subprocess_handler_runs_one_rank(api: Api, stage: Stage) -> Facts:
    """``get_subprocess_handler`` starts one program with its environment and files; ``proc`` is its process."""
    handler = api.get_subprocess_handler(
        entrypoint="/bin/sh",
        args=("-c", f"echo out; echo $MINE > {stage.dir}/env"),
        env={"MINE": "mine"},
        stdout=str(stage.path("out")),
        stderr="",
        local_rank_id=0,
    )
    code = handler.proc.wait()
    return {"handler": [stage.path("out").read_text(), code, handler.local_rank_id], "env": stage.text("env")}


@case({"code": -15, "helper": "ended"})
def a_subprocess_handler_closes_its_group(api: Api, stage: Stage) -> Facts:
    """``close`` signals the whole group of the program."""
    handler = api.get_subprocess_handler(
        entrypoint="/bin/sh",
        args=("-c", f"sleep 600 & echo $! > {stage.dir}/helper; wait"),
        env={},
        stdout="",
        stderr="",
        local_rank_id=0,
    )
    helper = stage.pid("helper")
    handler.close()
    return {"code": handler.proc.wait(), "helper": "ended" if stage.gone(helper) else "running"}
