"""Files with mistakes: the message has file, path in the file and nearest name, and nothing is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Derail

SCENARIO = """
title = "A rank is killed"
ranks = 2
worker = "leaves_a_mark.py"
timeout = 20

[[faults]]
fault = "signal"
signal = "SIGKILL"
rank = 1
when = {{ line = "step 3" }}

[expect]
succeeded = false
"""
MARK = "import pathlib; pathlib.Path(__file__).with_name('started').touch()\n"
MISTAKES = {
    "a misspelt key": ("timeout = 20", "timeuot = 20", "timeuot: unknown key 'timeuot'; did you mean 'timeout'?"),
    "an unknown fault": (
        'fault = "signal"',
        'fault = "sginal"',
        "faults[0].fault: unknown fault 'sginal'; did you mean 'signal'?",
    ),
    "an impossible rank": (
        "rank = 1",
        "rank = 7",
        "faults[0].rank: there is no rank 7; the job has ranks 0 to 1",
    ),
    "a missing worker": (
        "leaves_a_mark.py",
        "leave_a_mark.py",
        "worker: there is no file {folder}/leave_a_mark.py (did you mean 'leaves_a_mark.py'?); paths are relative",
    ),
}


@pytest.fixture
def write(tmp_path: Path):
    """Write a scenario, and a worker that creates a file when it is started."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "leaves_a_mark.py").write_text(MARK)

    def scenario(*changes: tuple[str, str]) -> Path:
        text = SCENARIO.replace("{{", "{").replace("}}", "}")
        for old, new in changes:
            assert text.count(old) == 1
            text = text.replace(old, new)
        path = folder / "story.toml"
        path.write_text(text)
        return path

    return scenario


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_place_and_the_nearest_name(derail_command: Derail, write, mistake: str) -> None:
    """``derail run`` exits with 2 and starts nothing."""
    old, new, told = MISTAKES[mistake]
    path = write((old, new))
    done = derail_command("run", path)

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"{path}: {told.format(folder=path.parent)}" in line
    assert not (path.parent / "started").exists()


def test_all_mistakes_of_a_file_are_told_at_once(derail_command: Derail, write) -> None:
    """Each in a line."""
    path = write(*((old, new) for old, new, _ in MISTAKES.values()))
    done = derail_command("run", path)

    assert done.returncode == 2
    assert sorted(line.split("toml: ")[1].split(":")[0] for line in done.stderr.splitlines()) == [
        "faults[0].fault",
        "timeuot",
        "worker",
    ]
    assert not (path.parent / "started").exists()


def test_a_name_that_is_none_is_told_with_the_nearest_one(derail_command: Derail) -> None:
    """The nearest name is one of the scenarios that come with derail."""
    done = derail_command("run", "crash/killd_at_step_3")

    assert done.returncode == 2
    assert "unknown scenario 'crash/killd_at_step_3'; did you mean 'crash/killed_at_step_3'?" in done.stderr


def test_the_file_without_mistakes_is_run(derail_command: Derail, write) -> None:
    """Control of the tests above: the correct file starts its worker."""
    path = write()
    derail_command("run", path)

    assert (path.parent / "started").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("launch", "trian.py"), "there is no script {folder}/trian.py (did you mean 'train.py'?)"),
        (("launch", "train"), "there is no program 'train' (did you mean 'train.py'?)"),
        (("run", "stroy.toml"), "there is no file stroy.toml (did you mean 'story.toml'?)"),
        (("run", "."), ". is a folder; 'derail verify-agent native --scenario .' runs all in it"),
        (
            ("launch", "--fault", "exit=7 lien=x", "train.py"),
            "unknown parameter of 'exit' 'lien'; did you mean 'line'?",
        ),
        (("launch", "--fault", "exti=7", "train.py"), "unknown fault 'exti'; did you mean 'exit'?"),
    ],
)
def test_what_is_not_there_is_told_with_what_may_be_meant(
    derail_command: Derail, tmp_path: Path, monkeypatch, words: tuple[str, ...], problem: str
) -> None:
    """Files, folders and words of a fault; the message is one line, and nothing is started."""
    monkeypatch.chdir(tmp_path)
    for name in ("train.py", "story.toml"):
        (tmp_path / name).write_text(MARK)
    done = derail_command(*words)

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert problem.format(folder=tmp_path) in line
    assert not (tmp_path / "started").exists()
