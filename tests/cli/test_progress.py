"""The display of a running job: as lines, as a table, and on a real terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from derail.cli.progress import SHOWN_RANKS, Board, Progress
from derail.model.clock import FakeClock
from derail.model.events import Exited, Finished, PhaseChanged, SignalSent, Started, StopRequested
from derail.model.exit import ExitStatus
from derail.model.outcome import JobOutcome

if TYPE_CHECKING:
    from derail.model.events import Event

KILLED: list[Event] = [
    Started(0, 100, 10.0),
    Started(1, 101, 10.1),
    PhaseChanged("running", 10.2),
    Exited(1, 101, ExitStatus(signal=9), 11.0),
    PhaseChanged("stopping", 11.0),
    SignalSent(0, 15, 11.0),
    Exited(0, 100, ExitStatus(signal=15), 11.5),
    Finished(JobOutcome(ranks={}, root_cause=1, started_at=10.0, ended_at=11.5), 11.5),
]


def told(events: list[Event], ranks: int = 2) -> list[str]:
    """Return the lines that the display writes for these events."""
    board = Board(ranks)
    return [line for event in events if (line := board.update(event))]


def test_a_failure_is_told_in_lines() -> None:
    """Each end and the reaction to it; ranks that derail has ended are marked as such."""
    assert told(KILLED) == [
        "rank 1: SIGKILL (9)",
        "stopping rank 0",
        "rank 0: SIGTERM (15), after SIGTERM from us",
    ]


def test_a_job_that_goes_well_is_not_worth_a_line() -> None:
    """A successful job writes no lines."""
    well = [*KILLED[:3], *(Exited(rank, 100 + rank, ExitStatus(code=0), 11.0) for rank in (0, 1))]
    assert told(well) == []


def test_a_request_to_stop_is_told_with_its_reason() -> None:
    """The line has the reason."""
    assert told([*KILLED[:3], StopRequested("SIGTERM", 15, 30.0, 11.0)]) == ["stopping: SIGTERM"]


def test_the_table_has_a_row_for_each_rank() -> None:
    """Rank, pid, seconds, state."""
    board = Board(2)
    for event in KILLED[:6]:
        board.update(event)
    assert board.title(now=12.0) == "stopping · 1 of 2 ranks alive · 2 s"
    assert board.rows(now=12.0) == [
        ("0", "100", "2.0 s", "was sent SIGTERM"),
        ("1", "101", "0.9 s", "SIGKILL (9)"),
    ]


def test_of_many_ranks_only_the_notable_get_a_row() -> None:
    """The other ranks are counted in the last row."""
    board = Board(1000)
    for rank in range(1000):
        board.update(Started(rank, 5000 + rank, 10.0))
    board.update(Exited(700, 5700, ExitStatus(code=3), 11.0))
    rows = board.rows(now=12.0)
    assert rows == [("700", "5700", "1.0 s", "exit 3"), ("", "", "", "and 999 ranks more, running or done")]
    assert len(rows) <= SHOWN_RANKS


def test_news_of_faults_are_told_once() -> None:
    """Only the outcome of a fault is shown, not its plan."""
    board = Board(1, faults=["kill"])
    assert [board.fault_news(states) for states in (["kill"], ["kill: injected"], ["kill: injected"], [])] == [
        [],
        ["kill: injected"],
        [],
        [],
    ]


def test_lines_are_written_with_the_time_since_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The display's own thread writes them, all before it ends."""
    monkeypatch.setattr("derail.cli.progress.FAREWELL_SECONDS", 100.0)
    stream = io.StringIO()
    with Progress(Board(2), stream, live=False) as progress:
        for event in KILLED:
            progress.observe(event)
    assert stream.getvalue().splitlines()[0] == "derail:   1.00 s  rank 1: SIGKILL (9)"
    assert len(stream.getvalue().splitlines()) == 3


@pytest.mark.parametrize("pid", [1, 8494, 84940, 4194304])
def test_the_line_above_the_table_is_never_broken(pid: int) -> None:
    """It is not wrapped at any width of the table, which is narrow with short pids."""
    clock, board, stream = FakeClock(), Board(2), io.StringIO()
    for event in (Started(0, pid, clock.now()), Started(1, pid, clock.now()), PhaseChanged("running", clock.now())):
        board.update(event)
    Console(file=stream, width=100).print(Progress(board, stream, live=True, clock=clock)._table())
    assert stream.getvalue().splitlines()[0] == "running · 2 of 2 ranks alive · 0 s"


def test_a_terminal_that_takes_nothing_does_not_hold_the_job_up() -> None:
    """On a terminal stopped by Ctrl-S, observing returns at once and closing has a time limit."""
    blocked = threading.Event()

    class Stopped(io.StringIO):
        def write(self, text: str) -> int:
            blocked.wait()
            return len(text)

    progress = Progress(Board(2), Stopped(), live=False)
    with progress:
        for _ in range(1000):
            for event in KILLED:
                progress.observe(event)
    blocked.set()
    assert progress._thread is not None
    progress._thread.join()


def test_a_console_that_is_gone_ends_the_display_only() -> None:
    """The job does not notice."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with Progress(Board(2), Gone(), live=False) as progress:
        for event in KILLED:
            progress.observe(event)


def on_terminal(*words: object, wanted: str, then: Path, **env: str) -> tuple[int, str, str]:
    """Run derail with its stderr on a terminal: exit code, stdout, and what the terminal got. When that shows what is
    wanted the ranks, which wait for it, find a file."""
    master, slave = pty.openpty()
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: the last one has closed the terminal
                return
            if not data:
                return
            shown.extend(data)
            if wanted.encode() in shown:
                then.touch()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("derail")), *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=slave,
            text=True,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", **env},
        )
        os.close(slave)
        stdout, _ = process.communicate(timeout=100)
    finally:
        reader.join(100)
        os.close(master)
    return process.returncode, stdout, shown.decode(errors="replace")


SCENARIO = """
title = "a rank is killed"
ranks = 4
worker = "worker.py"
args = ["{shown}"]

[[faults]]
fault = "signal"
signal = "SIGKILL"
rank = 2
when = {{ line = "step 3" }}

[expect]
succeeded = false
root_cause = 2
"""
WORKER = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
print("step 3")
time.sleep(600)
"""


def test_a_scenario_shows_a_table_on_a_terminal_and_a_clean_verdict_on_stdout(tmp_path: Path) -> None:
    """The table is redrawn in place and erased at the end; stdout has no control characters."""
    (tmp_path / "worker.py").write_text(WORKER)
    scenario, seen = tmp_path / "scenario.toml", tmp_path / "seen"
    scenario.write_text(SCENARIO.format(shown=seen))
    code, stdout, shown = on_terminal("run", scenario, wanted="running · 4 of 4 ranks alive", then=seen)
    assert code == 0, stdout
    assert re.search(r"running · 4 of 4 ranks alive", shown)
    assert "\x1b[" in shown
    assert stdout.startswith("PASS")
    assert "\x1b" not in stdout


@pytest.mark.parametrize(("redirects", "table"), [(0, False), (3, True)])
def test_a_job_whose_output_is_shown_gets_no_table(tmp_path: Path, redirects: int, table: bool) -> None:
    """A table would break the lines of ranks; it is shown only if their output goes to files alone."""
    seen = tmp_path / "seen"
    waits = f"while ! test -e {seen}; do sleep 0.05; done" if table else "sleep 0.5"
    words = (
        "launch",
        "-n",
        2,
        "-r",
        redirects,
        "--output-dir",
        tmp_path / "logs",
        "--",
        "sh",
        "-c",
        f"echo out; echo err >&2; {waits}",
    )
    code, stdout, shown = on_terminal(*words, wanted="ranks alive", then=seen)
    assert code == 0
    assert ("ranks alive" in shown) == table
    lines = [] if table else ["[rank0]:err", "[rank1]:err"]
    assert [line for line in sorted(shown.splitlines()) if "err" in line] == lines
    assert sorted(stdout.splitlines()) == ([] if table else ["[rank0]:out", "[rank1]:out"])


COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize(
    ("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)]
)
def test_a_failure_is_told_in_colours_on_a_terminal(tmp_path: Path, env: dict[str, str], coloured: bool) -> None:
    """Unless the terminal has none or the user disables them; the text is the same."""
    words = ("launch", "-n", 2, "--output-dir", tmp_path / "logs", "--", "sh", "-c", "exit 7")
    code, _, shown = on_terminal(*words, wanted="", then=tmp_path / "seen", **env)

    assert code == 7
    assert bool(COLOUR.search(shown)) == coloured
    assert "Root Cause (first observed failure):" in COLOUR.sub("", shown)


@pytest.mark.parametrize("no_colour", ["", "1"])
def test_a_live_table_has_no_style_where_no_colour_is_wanted(tmp_path: Path, no_colour: str) -> None:
    """It is still drawn."""
    seen = tmp_path / "seen"
    waits = f"while ! test -e {seen}; do sleep 0.05; done"
    words = ("launch", "-n", 2, "-r", 3, "--output-dir", tmp_path / "logs", "--", "sh", "-c", waits)
    code, _, shown = on_terminal(*words, wanted="ranks alive", then=seen, NO_COLOR=no_colour)

    assert code == 0
    assert bool(COLOUR.search(shown)) == (not no_colour)


@pytest.mark.parametrize(("text", "code"), [("PASS  crash/x", "32"), ("FAIL  crash/x", "31"), ("  + exit 7", "32")])
def test_a_verdict_has_its_colour_on_a_terminal_only(monkeypatch, text: str, code: str) -> None:
    """PASS is green, FAIL is red; a pipe gets plain text."""
    from derail.cli.display import painted

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)

    assert painted(text, stream=io.StringIO()) == text
    assert COLOUR.sub("", painted(text, stream=terminal)) == text
    assert f"{code}m" in painted(text, stream=terminal)
