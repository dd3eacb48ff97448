"""TailLog and tail_logfile: torch's names and lines, one thread, and a guaranteed end."""

from __future__ import annotations

import inspect
import io
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from derail.logs import TailLog, tail_logfile

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE = 60.0
BOUND = 50.0
"""Seconds that no stop may take: after sixty it would have given up reading."""


class Console(io.StringIO):
    """A console in memory that signals each write."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()

    def write(self, text: str) -> int:
        """Write, and signal it."""
        with self.changed:
            written = super().write(text)
            self.changed.notify_all()
            return written

    def wait_for(self, text: str) -> None:
        """Wait until this text was written."""
        with self.changed:
            assert self.changed.wait_for(lambda: text in self.getvalue(), DEADLINE), self.getvalue()


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _stop_seconds(tail: TailLog) -> float:
    begin = time.monotonic()
    tail.stop()
    assert tail.stopped()
    return time.monotonic() - begin


def test_lines_are_shown_while_they_come(tmp_path: Path) -> None:
    """Files may appear late, and each line is shown with the prefix of its file before the tail is stopped."""
    paths = {rank: tmp_path / str(rank) for rank in range(3)}
    console = Console()
    tail = TailLog("trainer", {rank: str(path) for rank, path in paths.items()}, console, interval_sec=0.01)
    assert tail.start() is tail
    assert not tail.stopped()
    for rank, path in paths.items():
        _append(path, f"line of {rank}\n")
        console.wait_for(f"[trainer{rank}]:line of {rank}\n")
    _append(paths[1], "half a li")
    _append(paths[1], "ne\nno end")
    tail.stop()
    shown = sorted(console.getvalue().splitlines())
    assert shown == [
        "[trainer0]:line of 0",
        "[trainer1]:half a line",
        "[trainer1]:line of 1",
        "[trainer1]:no end",
        "[trainer2]:line of 2",
    ]


def test_one_thread_serves_all_files(tmp_path: Path) -> None:
    """The number of files does not matter for the number of threads."""
    before = threading.active_count()
    tail = TailLog("t", {rank: str(tmp_path / str(rank)) for rank in range(64)}, io.StringIO()).start()
    running = threading.active_count() - before
    tail.stop()
    assert (running, threading.active_count() - before) == (1, 0)


def test_what_is_in_the_file_already_is_shown(tmp_path: Path) -> None:
    """A tail begins at the beginning, as torch's does, and a rank may have a separate prefix."""
    for rank in range(2):
        _append(tmp_path / str(rank), f"early {rank}\n")
    console = io.StringIO()
    files = {rank: str(tmp_path / str(rank)) for rank in range(2)}
    TailLog("t", files, console, log_line_prefixes={1: "[one]"}).start().stop()
    assert sorted(console.getvalue().splitlines()) == ["[one]early 1", "[t0]:early 0"]


def test_a_filter_gets_lines_as_in_torch(tmp_path: Path) -> None:
    """The filter gets each line as text, with its line end, and decides whether it is shown."""
    path = tmp_path / "log"
    path.write_bytes(b"loss 1\nother \xff\nloss 2\nlast")
    seen: list[str] = []

    def is_wanted(line: str) -> bool:
        seen.append(line)
        return "loss" in line

    console = io.StringIO()
    TailLog("t", {0: str(path)}, console, log_line_filter=is_wanted).start().stop()
    assert console.getvalue() == "[t0]:loss 1\n[t0]:loss 2\n"
    assert seen == ["loss 1\n", "other \ufffd\n", "loss 2\n", "last\n"]


def test_a_filter_that_raises_does_not_stop_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A broken filter is logged, and the tail can still be stopped."""
    path = tmp_path / "log"
    _append(path, "line\n")

    def broken(_: str) -> bool:
        raise RuntimeError("broken filter")

    tail = TailLog("t", {0: str(path)}, io.StringIO(), log_line_filter=broken).start()
    assert _stop_seconds(tail) < BOUND
    assert "broken filter" in caplog.text


def test_one_file_can_be_followed_in_the_callers_thread(tmp_path: Path) -> None:
    """``tail_logfile`` returns when the writer has ended and its last output is written; no filter means all lines."""
    path, console, finished = tmp_path / "log", Console(), threading.Event()
    thread = threading.Thread(target=tail_logfile, args=("> ", str(path), console, finished, 0.01))
    thread.start()
    _append(path, "one\n")
    console.wait_for("> one\n")
    _append(path, "two")
    finished.set()
    thread.join(DEADLINE)
    assert console.getvalue() == "> one\n> two\n"


def test_a_file_that_never_existed_is_not_awaited(tmp_path: Path) -> None:
    """The end does not wait for a file that no rank has created."""
    finished = threading.Event()
    finished.set()
    tail_logfile("> ", str(tmp_path / "never"), io.StringIO(), finished, 0.01)
    tail = TailLog("t", {0: str(tmp_path / "never")}, io.StringIO()).start()
    assert _stop_seconds(tail) < BOUND


def test_nothing_to_tail_starts_nothing() -> None:
    """Without files, or without a console, there is no thread."""
    before = threading.active_count()
    tails = [TailLog("t", {}, io.StringIO()).start(), TailLog("t", {0: "log"}, None).start()]  # type: ignore[arg-type]
    assert threading.active_count() == before
    for tail in tails:
        tail.stop()
    assert [tail.stopped() for tail in tails] == [True, True]


def test_a_fifo_instead_of_a_log_does_not_delay_the_end(tmp_path: Path) -> None:
    """A FIFO without a writer is not awaited."""
    path = tmp_path / "log"
    os.mkfifo(path)
    assert _stop_seconds(TailLog("t", {0: str(path)}, io.StringIO()).start()) < BOUND


def test_a_flooding_orphan_does_not_delay_the_end(tmp_path: Path) -> None:
    """A writer that continues as fast as it can is read up to its position at the end, and no further."""
    path = tmp_path / "log"
    source = "import sys\nwhile True: sys.stdout.write('flood\\n' * 10000)"
    console = Console()
    with path.open("ab") as out:
        orphan = subprocess.Popen([sys.executable, "-c", source], stdout=out)
    try:
        tail = TailLog("t", {0: str(path)}, console).start()
        console.wait_for("[t0]:flood\n")
        assert _stop_seconds(tail) < BOUND
        assert orphan.poll() is None
    finally:
        orphan.kill()
        orphan.wait(DEADLINE)


def test_a_blocked_console_does_not_delay_the_end(tmp_path: Path) -> None:
    """A pipe without a reader is given up."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * 99 + b"\n")
    _append(path, ("y" * 99 + "\n") * 50_000)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w", encoding="utf-8") as stream:
        tail = TailLog("t", {0: str(path)}, stream).start()
        assert _stop_seconds(tail) < BOUND
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("derail")] == []


@pytest.mark.torch
@pytest.mark.parametrize("name", ["TailLog", "tail_logfile"])
def test_signatures_are_those_of_torch(name: str) -> None:
    """Names, order and defaults of the parameters are the same."""
    theirs = pytest.importorskip("torch.distributed.elastic.multiprocessing.tail_log")
    ours = {"TailLog": TailLog, "tail_logfile": tail_logfile}[name]

    def shape(function: object) -> list[tuple[str, object, object]]:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
        return [(p.name, p.kind, callable(p.default) or p.default) for p in parameters]

    assert shape(ours) == shape(getattr(theirs, name))
