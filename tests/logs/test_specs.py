"""Log files have torch's names; directories are created late, and their content is kept."""

from __future__ import annotations

import dataclasses
import gc
import os
import stat
import tempfile
from pathlib import Path

import pytest

from derail.logs import DefaultLogsSpecs, LogsDest, LogsSpecs
from derail.model.std import Std
from program_files import program_text


def _envs(count: int, *, run_id: str = "run", restart: int = 0) -> dict[int, dict[str, str]]:
    return {rank: {"TORCHELASTIC_RUN_ID": run_id, "TORCHELASTIC_RESTART_COUNT": str(restart)} for rank in range(count)}


def test_files_lie_by_run_attempt_and_rank(tmp_path: Path) -> None:
    """Each redirected stream of each rank has its own file; the others go to the console."""
    envs = _envs(2, restart=3)
    dest = DefaultLogsSpecs(str(tmp_path), redirects={0: Std.OUT, 1: Std.ERR}, tee={0: Std.ERR}).reify(envs)
    (run,) = os.listdir(tmp_path)
    attempt = tmp_path / run / "attempt_3"
    assert run.startswith("run_")
    assert dest == LogsDest(
        stdouts={0: str(attempt / "0/stdout.log"), 1: ""},
        stderrs={0: str(attempt / "0/stderr.log"), 1: str(attempt / "1/stderr.log")},
        tee_stdouts={},
        tee_stderrs={0: str(attempt / "0/stderr.log")},
        error_files={0: str(attempt / "0/error.json"), 1: str(attempt / "1/error.json")},
        filtered_stdout=str(attempt / "filtered_stdout.log"),
        filtered_stderr=str(attempt / "filtered_stderr.log"),
    )
    assert {rank: env["TORCHELASTIC_ERROR_FILE"] for rank, env in envs.items()} == dest.error_files
    assert sorted(str(path.relative_to(attempt)) for path in attempt.rglob("*")) == ["0", "1"]


def test_directories_that_are_made_are_entered_by_this_user_only(tmp_path: Path) -> None:
    """Whatever the umask allows; an existing directory keeps its mode."""
    (tmp_path / "there").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        made = DefaultLogsSpecs(str(tmp_path / "there" / "a" / "b")).reify({0: {}})
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in Path(made.stdouts[0] or made.error_files[0]).parents
    }

    assert (modes["there"], modes["a"], modes["b"]) == (0o755, 0o700, 0o700)


def test_the_constructor_touches_nothing(tmp_path: Path) -> None:
    """A missing directory is created when it is needed, not before."""
    specs = DefaultLogsSpecs(str(tmp_path / "a" / "b"))
    assert os.listdir(tmp_path) == []
    assert specs.root_log_dir == str(tmp_path / "a" / "b")
    assert os.path.isdir(specs.root_log_dir)


def test_a_file_is_refused_at_once(tmp_path: Path) -> None:
    """The error names a log directory that is a file."""
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(NotADirectoryError, match=r"log_dir: .*file is a file"):
        DefaultLogsSpecs(str(path))


def test_the_temporary_directory_goes_with_its_specs() -> None:
    """Without a log directory there is a temporary one, created late and removed with the specs."""
    before = set(os.listdir(tempfile.gettempdir()))
    specs = DefaultLogsSpecs(redirects=Std.ALL)
    untouched = set(os.listdir(tempfile.gettempdir()))
    dest = specs.reify(_envs(1))
    Path(dest.stdouts[0]).write_text("hello\n", encoding="utf-8")
    root = specs.root_log_dir
    assert (untouched, dest.stdouts[0].startswith(root), os.path.exists(dest.stdouts[0])) == (before, True, True)
    del specs
    gc.collect()
    assert set(os.listdir(tempfile.gettempdir())) == before


def test_the_temporary_directory_goes_with_the_interpreter(run_python, tmp_path: Path) -> None:
    """Nothing is left in the temporary directory of a program that simply ends, and a forked child removes nothing."""
    source = program_text("logs/forked_specs")
    done = run_python(source, env={"TMPDIR": str(tmp_path)})
    root, still_there = done.stdout.split()
    assert (os.path.dirname(root), still_there, os.listdir(tmp_path)) == (str(tmp_path), "True", [])


def test_the_same_attempt_keeps_its_directory_and_its_files(tmp_path: Path) -> None:
    """A second call for an attempt deletes nothing: a running job may be writing there."""
    specs = DefaultLogsSpecs(str(tmp_path), redirects=Std.ALL)
    first = specs.reify(_envs(2))
    Path(first.stdouts[1]).write_text("evidence\n", encoding="utf-8")
    second = specs.reify(_envs(2))
    assert second == first
    assert Path(second.stdouts[1]).read_text(encoding="utf-8") == "evidence\n"


def test_each_attempt_has_its_directory(tmp_path: Path) -> None:
    """Attempts of one run are in sibling directories."""
    specs = DefaultLogsSpecs(str(tmp_path), redirects=Std.OUT)
    paths = [specs.reify(_envs(1, restart=restart)).stdouts[0] for restart in (0, 1)]
    assert [path.split(os.sep)[-3] for path in paths] == ["attempt_0", "attempt_1"]
    assert len(os.listdir(tmp_path)) == 1


def test_two_runs_never_share_a_directory(tmp_path: Path) -> None:
    """Two specs with the same directory and run id write to different files."""
    paths = {DefaultLogsSpecs(str(tmp_path), redirects=Std.OUT).reify(_envs(1)).stdouts[0] for _ in range(2)}
    assert len(paths) == 2


def test_a_run_id_is_no_path(tmp_path: Path) -> None:
    """A run id with slashes, or of any length, stays inside the log directory."""
    path = DefaultLogsSpecs(str(tmp_path), redirects=Std.OUT).reify(_envs(1, run_id="../up/" + "x" * 500)).stdouts[0]
    assert Path(path).is_relative_to(tmp_path)
    assert len(Path(path).relative_to(tmp_path).parts) == 4


def test_the_null_device_keeps_no_logs() -> None:
    """``log_dir=os.devnull`` makes nothing; everything goes to the console, and there are no error files."""
    envs = _envs(2)
    specs = DefaultLogsSpecs(os.devnull, redirects=Std.ALL, tee=Std.ALL)
    assert specs.reify(envs) == LogsDest(
        stdouts={0: "", 1: ""},
        stderrs={0: "", 1: ""},
        tee_stdouts={0: os.devnull, 1: os.devnull},
        tee_stderrs={0: os.devnull, 1: os.devnull},
        error_files={0: os.devnull, 1: os.devnull},
        filtered_stdout="/dev/null/filtered_stdout.log",
        filtered_stderr="/dev/null/filtered_stderr.log",
    )
    assert [env["TORCHELASTIC_ERROR_FILE"] for env in envs.values()] == ["", ""]
    assert specs.root_log_dir == os.devnull


def test_only_filtered_ranks_are_shown(tmp_path: Path) -> None:
    """Ranks outside the filter write to their files; streams without a file are dropped."""
    dest = DefaultLogsSpecs(
        str(tmp_path), redirects=Std.OUT, tee={0: Std.OUT, 1: Std.OUT}, local_ranks_filter={1}
    ).reify(_envs(2))
    assert list(dest.tee_stdouts) == [1]
    assert dest.stderrs == {0: os.devnull, 1: ""}
    assert [os.path.basename(path) for path in dest.stdouts.values()] == ["stdout.log", "stdout.log"]


def test_unknown_ranks_are_refused_by_name(tmp_path: Path) -> None:
    """Streams for a rank that the job does not have are an error with its number, and nothing is created."""
    with pytest.raises(ValueError, match=r"local rank\(s\) \[7\]"):
        DefaultLogsSpecs(str(tmp_path), redirects={7: Std.OUT}).reify(_envs(2))
    with pytest.raises(ValueError, match=r"local rank\(s\) \[2\]"):
        DefaultLogsSpecs(str(tmp_path), tee={2: Std.OUT}).reify(_envs(2))
    assert os.listdir(tmp_path) == []


def test_missing_ranks_are_refused(tmp_path: Path) -> None:
    """There must be environments for ranks 0 to n - 1."""
    with pytest.raises(ValueError, match=r"local ranks \[0, 2\]; they must be 0 to 1"):
        DefaultLogsSpecs(str(tmp_path)).reify({0: {}, 2: {}})


def test_no_ranks_make_no_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without environments there are no logs, and a warning."""
    dest = DefaultLogsSpecs(str(tmp_path)).reify({})
    assert (dest.stdouts, dest.error_files) == ({}, {})
    assert "there are no ranks" in caplog.text


def test_specs_compare_by_their_arguments(tmp_path: Path) -> None:
    """Equal arguments make equal specs; a temporary directory is never shared."""
    here = DefaultLogsSpecs(str(tmp_path), redirects=Std.OUT)
    assert here == DefaultLogsSpecs(str(tmp_path), redirects=Std.OUT)
    assert here != DefaultLogsSpecs(str(tmp_path), redirects=Std.ERR)
    assert DefaultLogsSpecs() != DefaultLogsSpecs()
    assert here != "here"


def test_specs_show_their_arguments(tmp_path: Path) -> None:
    """The representation has torch's form."""
    specs = DefaultLogsSpecs(str(tmp_path), redirects=Std.OUT, local_ranks_filter={0})
    assert repr(specs) == f"DefaultLogsSpecs(root_log_dir={tmp_path}, redirects=1, tee=0, local_ranks_filter={{0}})"


def test_other_specs_can_be_derived() -> None:
    """A subclass has its arguments where torch's subclasses expect them."""

    class Mine(LogsSpecs):
        def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
            return LogsDest(stdouts=dict.fromkeys(envs, f"{self._root_log_dir}/all"))

        @property
        def root_log_dir(self) -> str:
            return str(self._root_log_dir)

    specs = Mine("/logs", Std.OUT, Std.ERR, {1})
    assert specs.reify({0: {}}).stdouts == {0: "/logs/all"}
    assert (specs._redirects, specs._tee, specs._local_ranks_filter) == (Std.OUT, Std.ERR, {1})
    with pytest.raises(TypeError):
        LogsSpecs()  # type: ignore[abstract]


@pytest.mark.torch
@pytest.mark.parametrize("streams", [Std.NONE, Std.OUT, Std.ERR, Std.ALL, {0: Std.OUT, 1: Std.ERR}])
@pytest.mark.parametrize("ranks_filter", [None, set(), {1}])
@pytest.mark.parametrize("is_null", [False, True])
def test_the_names_are_those_of_torch(tmp_path: Path, streams, ranks_filter, is_null: bool) -> None:
    """The same arguments give the same files, except for the random part of the directory."""
    theirs = pytest.importorskip("torch.distributed.elastic.multiprocessing")

    def relative(value: object) -> object:
        if isinstance(value, dict):
            return {rank: relative(path) for rank, path in value.items()}
        parts = str(value).removeprefix(str(tmp_path)).split(os.sep)
        return os.sep.join(part.split("_")[0] if part.startswith("run_") else part for part in parts)

    named = []
    for specs in (DefaultLogsSpecs, theirs.DefaultLogsSpecs):
        for redirects, tee in ((streams, Std.NONE), (Std.NONE, streams)):
            std = theirs.Std if specs is theirs.DefaultLogsSpecs else Std
            arguments = [
                {rank: std(int(each)) for rank, each in value.items()} if isinstance(value, dict) else std(int(value))
                for value in (redirects, tee)
            ]
            envs = _envs(3, restart=2)
            dest = specs(os.devnull if is_null else str(tmp_path), *arguments, ranks_filter).reify(envs)
            files = {name: relative(value) for name, value in dataclasses.asdict(dest).items()}
            named.append((files, {rank: relative(env["TORCHELASTIC_ERROR_FILE"]) for rank, env in envs.items()}))
    assert named[:2] == named[2:]
