"""Streams are redirected by descriptor, with all output to them, and restored."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from typing import TYPE_CHECKING

import pytest

from derail.logs import get_std_cm, redirect, redirect_stderr, redirect_stdout
from program_files import program_text

if TYPE_CHECKING:
    from pathlib import Path

BOTH_WORLDS = program_text("logs/both_worlds")


def test_python_c_and_children_are_redirected(run_python, tmp_path: Path) -> None:
    """All output between the two ends of the block is in the file, buffered or not, and all other output is not."""
    out, err = tmp_path / "out", tmp_path / "err"
    done = run_python(BOTH_WORLDS, str(out), str(err), env={"PYTHONUNBUFFERED": ""})
    assert done.stdout.splitlines() == [
        f"{who} {when}" for when in ("before", "after") for who in ("python", "c", "child")
    ]
    assert done.stderr.splitlines() == ["python err before", "python err after"]
    inside = ["python inside", "c inside", "child inside", "unflushed", "c unflushed"]
    assert sorted(out.read_text(encoding="utf-8").splitlines()) == sorted(inside)
    assert err.read_text(encoding="utf-8") == "python err inside\n"


def test_a_new_file_is_read_by_this_user_only(tmp_path: Path) -> None:
    """Whatever the umask allows; an existing file keeps its mode."""
    (tmp_path / "there").touch(mode=0o644)
    before = os.umask(0)
    try:
        for name in ("new", "there"):
            with redirect_stdout(str(tmp_path / name)):
                pass
    finally:
        os.umask(before)

    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "there")]
    assert modes == [0o600, 0o644]


def test_a_file_is_overwritten(tmp_path: Path) -> None:
    """What was in the file before is gone, as torch documents it."""
    path = tmp_path / "out"
    path.write_text("old, and longer than the new one\n", encoding="utf-8")
    with redirect_stdout(str(path)):
        os.write(1, b"new\n")
    assert path.read_text(encoding="utf-8") == "new\n"


def test_it_needs_no_descriptor_behind_sys_stdout(tmp_path: Path) -> None:
    """With ``sys.stdout`` in memory, as under ``--capture=sys``, descriptor 1 is redirected as well."""
    path = tmp_path / "out"
    with contextlib.redirect_stdout(io.StringIO()) as memory, redirect_stdout(str(path)):
        print("python")
        os.write(1, b"descriptor\n")
    assert (path.read_text(encoding="utf-8"), memory.getvalue()) == ("descriptor\n", "python\n")


def test_a_missing_stream_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sys.stdout`` may be None, as in a daemon."""
    path = tmp_path / "out"
    monkeypatch.setattr("sys.stdout", None)
    with redirect_stdout(str(path)):
        os.write(1, b"descriptor\n")
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == "descriptor\n"


@pytest.mark.parametrize("misdeed", ["exception", "close", "replace"])
def test_streams_come_back_whatever_the_body_does(run_python, tmp_path: Path, misdeed: str) -> None:
    """An exception, a closed descriptor or a closed and replaced ``sys.stdout`` do not prevent the restoration."""
    source = program_text("logs/breaks_redirection")
    assert run_python(source, str(tmp_path / "out"), misdeed).stdout == "back\n"


def test_a_closed_stream_is_closed_again(run_python, tmp_path: Path) -> None:
    """Where descriptor 1 was closed before, it is closed afterwards."""
    source = program_text("logs/closed_stdout")
    done = run_python(source, str(tmp_path / "out"))
    assert (done.stderr, (tmp_path / "out").read_bytes()) == ("Bad file descriptor\n", b"inside\n")


def test_redirections_can_be_nested(tmp_path: Path) -> None:
    """The inner one restores the setting of the outer one."""
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    with redirect_stderr(str(outer)):
        os.write(2, b"1\n")
        with redirect_stderr(str(inner)):
            os.write(2, b"2\n")
        os.write(2, b"3\n")
    assert (outer.read_bytes(), inner.read_bytes()) == (b"1\n3\n", b"2\n")


def test_two_that_share_a_file_overwrite_nothing(tmp_path: Path) -> None:
    """Output of both streams in one file is in sequence."""
    path = tmp_path / "both"
    with redirect_stdout(str(path)), redirect_stderr(str(path)):
        for fd, text in ((1, b"out 1\n"), (2, b"err\n"), (1, b"out 2\n")):
            os.write(fd, text)
    assert path.read_bytes() == b"out 1\nerr\nout 2\n"


def test_an_unknown_stream_is_refused(tmp_path: Path) -> None:
    """Only stdout and stderr can be redirected, and no file is made for another one."""
    with pytest.raises(ValueError, match="unknown standard stream <stdin>"), redirect("stdin", str(tmp_path / "x")):
        pass
    assert os.listdir(tmp_path) == []


def test_a_missing_directory_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """If the file cannot be made, the stream is unchanged."""
    with pytest.raises(FileNotFoundError), redirect_stdout(str(tmp_path / "no" / "out")):
        pass
    os.write(1, b"still here\n")
    assert capfd.readouterr().out == "still here\n"


def test_no_file_means_no_redirection(tmp_path: Path) -> None:
    """An empty path stands for the stream of the launcher."""
    path = tmp_path / "out"
    with get_std_cm("", redirect_stdout):
        pass
    with get_std_cm(str(path), redirect_stdout):
        os.write(1, b"inside\n")
    assert path.read_bytes() == b"inside\n"


def test_an_import_prints_nothing(run_python) -> None:
    """Importing the module prints no note and loads no C library."""
    done = run_python("import sys, derail.logs.redirect; print('ctypes' in sys.modules)")
    assert (done.stdout, done.stderr) == ("False\n", "")
