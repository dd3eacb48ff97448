"""The console gets whole lines, whatever it is; unaccepted output is counted and blocks no caller."""

from __future__ import annotations

import functools
import io
import os
import stat
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.logs import ConsoleSink, FilteredFile, LastLines, Lines, destinations, tail_of
from derail.logs.destinations import QUEUE_BYTES
from derail.logs.pipes import unread
from program_files import program_text

DEADLINE = 60.0


class Pipe:
    """A pipe with a text stream on its write end, like a piped ``sys.stdout``."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream = os.fdopen(writing, "w", encoding="utf-8")

    def read_to_end(self) -> bytes:
        """Close the writing end and read all that was written."""
        self.stream.close()
        with os.fdopen(self.reading, "rb") as file:
            self.reading = -1
            return file.read()

    def close(self) -> None:
        """Close both ends."""
        try:
            self.stream.close()
        except BrokenPipeError:
            pass
        if self.reading >= 0:
            os.close(self.reading)


@pytest.fixture
def pipe():
    """Return a pipe that only the test reads."""
    pipe = Pipe()
    yield pipe
    pipe.close()


def _consoles() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "console" in thread.name]


def _sink(stream, **options) -> ConsoleSink[int]:
    """Return a sink that waits long for a console, unless the test sets a limit."""
    sink: ConsoleSink[int] = ConsoleSink(stream, prefix=lambda key: f"[t{key}]:", **options)
    sink.close = functools.partial(sink.close, idle=DEADLINE, limit=DEADLINE)
    return sink


def test_lines_go_to_a_file_with_their_prefix(tmp_path: Path) -> None:
    """A regular file is written at once, in the caller's thread."""
    path = tmp_path / "console"
    with path.open("w", encoding="utf-8") as file:
        sink = _sink(file)
        threads = threading.active_count()
        sink.take(0, Lines(b"one\ntwo\n"))
        sink.take(1, Lines(b"\xff bad\n"))
        assert threading.active_count() == threads
        assert path.read_bytes() == b"[t0]:one\n[t0]:two\n[t1]:\xff bad\n"
        assert sink.close() == 0


def test_earlier_output_of_the_host_comes_first(tmp_path: Path, pipe: Pipe) -> None:
    """Text that the host has printed, but not flushed, precedes the lines of its job."""
    path = tmp_path / "console"
    with path.open("w", encoding="utf-8") as file:
        for stream in (file, pipe.stream):
            stream.write("host\n")
            sink = _sink(stream)
            sink.start()
            sink.take(0, Lines(b"rank\n"))
            assert sink.close() == 0
            stream.write("host again\n")
    expected = b"host\n[t0]:rank\nhost again\n"
    assert (path.read_bytes(), pipe.read_to_end()) == (expected, expected)


def test_lines_go_to_a_pipe(pipe: Pipe, wait_until) -> None:
    """A pipe is written by a thread, which ends with the sink."""
    sink = _sink(pipe.stream)
    sink.take(0, Lines(b"one\n"))
    sink.take(1, Lines(b"two\n"))
    assert sink.close() == 0
    wait_until(lambda: not _consoles())
    assert pipe.read_to_end() == b"[t0]:one\n[t1]:two\n"


def test_lines_go_to_a_terminal() -> None:
    """A terminal gets the same lines; it is the one that adds carriage returns."""
    leader, follower = os.openpty()
    with os.fdopen(leader, "rb", buffering=0) as screen, os.fdopen(follower, "w", encoding="utf-8") as stream:
        sink = _sink(stream)
        sink.take(0, Lines("€ \r 1%\r100%\nend\n".encode()))
        assert sink.close() == 0
        assert screen.read(1000) == "[t0]:€ \r 1%\r100%\r\n[t0]:end\r\n".encode()


@pytest.mark.parametrize("kind", [io.StringIO, lambda: io.TextIOWrapper(io.BytesIO(), encoding="utf-8")])
def test_lines_go_to_a_stream_in_memory(kind) -> None:
    """A replacement of ``sys.stdout`` by a test gets text, with bad bytes replaced."""
    stream = kind()
    sink = _sink(stream)
    sink.take(0, Lines(b"one \xff\n"))
    stream.seek(0)
    assert (stream.read(), sink.close()) == ("[t0]:one \ufffd\n", 0)


@pytest.mark.parametrize("capture", ["capsys", "capfd"])
def test_lines_go_to_the_capture_of_pytest(request: pytest.FixtureRequest, capture: str) -> None:
    """Lines for ``sys.stdout`` are captured, in order with what the test prints."""
    captured = request.getfixturevalue(capture)
    print("before")
    sink = _sink(sys.stdout)
    sink.start()
    sink.take(0, Lines(b"rank\n"))
    assert sink.close() == 0
    print("after")
    assert captured.readouterr().out == "before\n[t0]:rank\nafter\n"


def test_no_console_is_no_trouble() -> None:
    """Without a stream lines are dropped, and none counts as missed."""
    sink = _sink(None)
    sink.start()
    sink.take(0, Lines(b"line\n"))
    assert (sink.ready(0), sink.full, sink.close()) == (True, False, 0)


def test_a_blocked_pipe_blocks_no_caller(pipe: Pipe, wait_until) -> None:
    """With a pipe without a reader, ``take`` returns, ``ready`` is False, and ``close`` gives up soon. It returns the
    missed bytes, and leaves no thread."""
    sink = _sink(pipe.stream)
    blocks = 0
    while sink.ready(0) and blocks < 1000:
        sink.take(0, Lines(b"x" * 99 + b"\n" + b"y" * 9_999 + b"\n"))
        blocks += 1
    missed = sink.close(idle=0.2, limit=2.0)
    assert 0 < blocks < 1000
    wait_until(lambda: not _consoles())
    taken = pipe.read_to_end()
    assert len(taken) + missed == blocks * len(b"[t0]:" * 2 + b"\n" * 2 + b"x" * 99 + b"y" * 9_999)
    assert taken.endswith(b"\n")


@pytest.mark.parametrize("size", [3_000, 60_000, 200_000])
def test_a_blocked_pipe_does_not_delay_the_exit_of_the_host(run_python, size: int) -> None:
    """However long the unread line is, the host exits normally, and no thread holds its buffer."""
    source = program_text("logs/blocked_console")
    done = run_python(source, str(size), env={"PYTHONUNBUFFERED": ""}, check=False)
    assert (done.stderr, done.returncode) == ("True 1\n", 7)


def test_a_blocked_terminal_blocks_no_caller() -> None:
    """A terminal without a reader behaves like a pipe without one."""
    leader, follower = os.openpty()
    with os.fdopen(leader, "rb", buffering=0) as screen, os.fdopen(follower, "w", encoding="utf-8") as stream:
        sink = _sink(stream)
        blocks = 0
        while sink.ready(0) and blocks < 1000:
            sink.take(0, Lines(b"x" * 9_999 + b"\n"))
            blocks += 1
        missed = sink.close(idle=0.2, limit=2.0)
        assert (0 < blocks < 1000, missed > 0) == (True, True)
        screen.read(1)  # and it is not broken by that
        termios.tcflush(follower, termios.TCIOFLUSH)


def test_a_console_that_is_read_again_gets_everything(pipe: Pipe) -> None:
    """When a full console accepts lines again, waiting callers are notified, and no line is lost or doubled."""
    room = threading.Event()
    sink = _sink(pipe.stream, on_room=room.set)
    got: list[bytes] = []
    lines = [b"%06d" % number + b"x" * 90 for number in range(40_000)]
    sent = 0
    while sink.ready(0):
        sink.take(0, Lines(b"\n".join(lines[sent : sent + 1000]) + b"\n"))
        sent += 1000
    assert not room.is_set()
    reader = threading.Thread(target=lambda: got.append(Path(f"/dev/fd/{pipe.reading}").read_bytes()))
    reader.start()
    while sent < len(lines):
        assert room.wait(DEADLINE)
        room.clear()
        while sink.ready(0) and sent < len(lines):
            sink.take(0, Lines(b"\n".join(lines[sent : sent + 1000]) + b"\n"))
            sent += 1000
    assert sink.close(idle=DEADLINE, limit=DEADLINE) == 0
    pipe.stream.close()
    reader.join(DEADLINE)
    assert got[0].split(b"\n")[:-1] == [b"[t0]:" + line for line in lines]


def test_a_console_is_not_given_up_while_this_process_is_stalled(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only time in which the console could have accepted output counts: it accepts all, and nothing is missed."""

    class StandsStill:
        def __init__(self) -> None:
            self.lost = 0.0

        def now(self) -> float:
            self.lost += 90.0
            return time.monotonic() + self.lost

    sink = _sink(pipe.stream)
    for _ in range(100):
        sink.take(0, Lines(b"x" * 9_999 + b"\n"))
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(Path(f"/dev/fd/{pipe.reading}").read_bytes()))
    reader.start()
    monkeypatch.setattr(destinations, "SYSTEM_CLOCK", StandsStill())
    assert sink.close(idle=5.0, limit=300.0) == 0
    pipe.stream.close()
    reader.join(DEADLINE)
    assert got[0].count(b"\n") == 100


def test_a_queue_is_bounded(pipe: Pipe) -> None:
    """A sink whose ``ready`` is ignored holds little more than its queue."""
    sink = _sink(pipe.stream)
    size = 0
    while sink.ready(0):
        sink.take(0, Lines(b"x" * 999 + b"\n"))
        size += 1000
    assert size < 2 * QUEUE_BYTES
    sink.close(idle=0.1, limit=0.1)


@pytest.mark.parametrize("device", ["/dev/full", "full disk"])
def test_a_full_console_is_counted_and_logged_once(device: str, caplog: pytest.LogCaptureFixture) -> None:
    """Output that a full console did not accept is counted and logged once; none stays in the host's own buffer."""
    with open("/dev/full", "w", encoding="utf-8") as stream:
        sink = _sink(stream)
        for _ in range(3):
            sink.take(0, Lines(b"line\n"))
        assert sink.close() == 3 * len(b"[t0]:line\n")
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text


def test_a_closed_pipe_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """When the reader of the pipe is gone, as with ``| head``, the job continues and missed output is counted."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        sink = _sink(stream)
        for _ in range(3):
            sink.take(0, Lines(b"line\n"))
        assert sink.close() == 3 * len(b"[t0]:line\n")
    assert len(caplog.records) == 1


def test_a_closed_stream_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A stream that was closed before or during the job accepts nothing, and raises nowhere."""
    stream = (tmp_path / "console").open("w", encoding="utf-8")
    early = _sink(stream)
    early.take(0, Lines(b"line\n"))
    stream.close()
    late = _sink(stream)
    for sink in (early, late):
        sink.take(0, Lines(b"line\n"))
    assert [early.close(), late.close()] == [10, 10]
    assert (tmp_path / "console").read_bytes() == b"[t0]:line\n"
    assert len(caplog.records) == 2


def test_a_stream_that_raises_is_counted() -> None:
    """No exception of an object's ``write`` reaches the job."""

    class Hostile(io.TextIOBase):
        def write(self, text: str) -> int:
            raise RuntimeError(text)

        def fileno(self) -> int:
            raise KeyError("fileno")

    sink = _sink(Hostile())
    sink.take(0, Lines(b"line\n"))
    assert sink.close() == 10


def test_a_stream_that_never_returns_blocks_no_caller() -> None:
    """An object with a ``write`` that blocks for ever is left to a named daemon thread."""
    inside, release = threading.Event(), threading.Event()

    class Stuck:
        def write(self, text: str) -> int:
            inside.set()
            release.wait(2 * DEADLINE)
            return len(text)

        def flush(self) -> None:
            pass

    sink = _sink(Stuck())
    sink.take(0, Lines(b"line\n"))
    assert inside.wait(DEADLINE)
    assert sink.close(idle=0.1, limit=0.1) == 10
    (left,) = [thread for thread in threading.enumerate() if thread.name == "derail-console"]
    assert left.daemon
    release.set()
    left.join(DEADLINE)


def test_a_close_without_time_only_checks(pipe: Pipe) -> None:
    """``limit=0`` never waits."""
    sink = _sink(pipe.stream)
    while sink.ready(0):
        sink.take(0, Lines(b"x" * 999 + b"\n"))
    missed = sink.close(limit=0)
    assert missed > 0
    assert sink.close() == missed


def test_a_job_that_gives_up_makes_room_for_the_other_one(pipe: Pipe) -> None:
    """Two jobs share a console without a reader: the leftover output of one does not delay the other."""
    room = threading.Event()
    first, second = _sink(pipe.stream), _sink(pipe.stream, on_room=room.set)
    second.start()
    while first.ready(0):
        first.take(0, Lines(b"x" * 9_999 + b"\n"))
    before = second.ready(0)
    first.close(idle=0.1)
    assert (before, room.is_set(), second.ready(0), second.close(idle=0.1)) == (False, True, True, 0)


def test_a_closed_stream_does_not_write_to_the_file_that_has_its_number_now(tmp_path: Path) -> None:
    """A descriptor number does not identify the stream: after a close it may be reused."""
    stream = (tmp_path / "console").open("w", encoding="utf-8")
    sink = _sink(stream)
    sink.take(0, Lines(b"console\n"))
    number = stream.fileno()
    stream.close()
    with (tmp_path / "other").open("w", encoding="utf-8") as other:
        assert other.fileno() == number
        sink.take(0, Lines(b"console\n"))
    assert ((tmp_path / "other").read_bytes(), sink.close()) == (b"", 13)


def test_two_streams_to_one_pipe_share_a_writer(pipe: Pipe) -> None:
    """Two streams on the same pipe, of one job or of two, share one thread."""
    with os.fdopen(os.dup(pipe.stream.fileno()), "w", encoding="utf-8") as other:
        sinks = [_sink(stream) for stream in (pipe.stream, other, pipe.stream)]
        for sink in sinks:
            sink.take(0, Lines(b"line\n"))
        assert len(_consoles()) <= 1
        assert [sink.close() for sink in sinks] == [0, 0, 0]
    assert pipe.read_to_end() == b"[t0]:line\n" * 3


def test_a_line_in_pieces_is_not_torn_by_others(pipe: Pipe) -> None:
    """While a long line is incomplete, other streams are not ready; one that ignores that ends the line."""
    sink, other = _sink(pipe.stream), _sink(pipe.stream)
    other.start()
    sink.take(0, Lines(b"be", more=True))
    assert [sink.ready(0), sink.ready(1), other.ready(0)] == [True, False, False]
    sink.take(0, Lines(b"gin\n", continues=True))
    assert [sink.ready(1), other.ready(0)] == [True, True]
    sink.take(0, Lines(b"cut", more=True))
    sink.take(1, Lines(b"rude\n"))
    assert (sink.close(), other.close()) == (0, 0)
    assert pipe.read_to_end() == b"[t0]:begin\n[t0]:cut\n[t1]:rude\n"


def test_a_sink_that_ends_in_the_middle_of_a_line_ends_it(tmp_path: Path) -> None:
    """The next writer begins on a new line."""
    path = tmp_path / "console"
    with path.open("w", encoding="utf-8") as file:
        first, second = _sink(file), _sink(file)
        second.start()
        first.take(0, Lines(b"half", more=True))
        first.close()
        assert second.ready(1)
        second.take(1, Lines(b"whole\n"))
        second.close()
    assert path.read_bytes() == b"[t0]:half\n[t1]:whole\n"


def test_a_line_that_was_given_up_in_the_middle_is_ended(pipe: Pipe, wait_until) -> None:
    """After a console was given up in the middle of a long line, later lines begin on a new line."""
    first, second = _sink(pipe.stream), _sink(pipe.stream)
    second.start()
    first.take(0, Lines(b"x" * 200_000 + b"\n"))
    wait_until(lambda: unread(pipe.reading), what="some of it is written")
    assert first.close(idle=0.2) > 0
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(Path(f"/dev/fd/{pipe.reading}").read_bytes()))
    reader.start()
    second.take(1, Lines(b"whole\n"))
    assert second.close(idle=DEADLINE, limit=DEADLINE) == 0
    pipe.stream.close()
    reader.join(DEADLINE)
    assert got[0].endswith(b"x\n[t1]:whole\n")


def test_a_forked_child_has_its_own_writer(pipe: Pipe, wait_until) -> None:
    """A child that was forked in the middle of a job can show its own lines."""
    sink = _sink(pipe.stream)
    sink.take(0, Lines(b"parent\n"))
    wait_until(lambda: not sink._destination._queue, what="no thread holds the buffer of the stream")
    child = os.fork()
    if child == 0:
        own = _sink(pipe.stream)
        own.take(1, Lines(b"child\n"))
        os._exit(own.close())
    _, status = os.waitpid(child, 0)  # noqa: TID251
    assert (os.waitstatus_to_exitcode(status), sink.close()) == (0, 0)
    assert sorted(pipe.read_to_end().splitlines()) == [b"[t0]:parent", b"[t1]:child"]


def test_a_pipe_that_does_not_block_gets_whole_lines(pipe: Pipe) -> None:
    """A host may have made its stdout non-blocking: everything arrives anyway."""
    os.set_blocking(pipe.stream.fileno(), False)
    sink = _sink(pipe.stream)
    lines = [b"%06d" % number + b"x" * (number % 300) * 1000 for number in range(400)]
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(Path(f"/dev/fd/{pipe.reading}").read_bytes()))
    for line in lines:
        sink.take(0, Lines(line + b"\n"))
    reader.start()
    assert sink.close(idle=DEADLINE, limit=DEADLINE) == 0
    pipe.stream.close()
    reader.join(DEADLINE)
    assert got[0].split(b"\n")[:-1] == [b"[t0]:" + line for line in lines]


def test_the_filtered_file_has_the_lines_that_match(tmp_path: Path) -> None:
    """Lines of all ranks that contain any of the strings, with their prefix."""
    path = tmp_path / "filtered"
    filtered: FilteredFile[int] = FilteredFile(path, ["loss", "€"], prefix=lambda key: f"[t{key}]:")
    filtered.take(0, Lines(b"nothing here\n"))
    assert not path.exists()
    filtered.take(0, Lines("loss 1\nother\n3 €\n".encode()))
    filtered.take(1, Lines(b"no\nloss 2"))
    filtered.take(0, Lines(b"a loss in a lo", more=True))
    filtered.take(0, Lines(b"ng line\nanother\n", continues=True))
    filtered.take(0, Lines(b"a lo", more=True))
    filtered.take(0, Lines(b"ng line without\nloss\n", continues=True))
    filtered.close()
    filtered.close()
    expected = "[t0]:loss 1\n[t0]:3 €\n[t1]:loss 2\n[t0]:a loss in a long line\n[t0]:loss\n"
    assert path.read_text(encoding="utf-8") == expected


def test_a_filtered_file_is_read_by_this_user_only(tmp_path: Path) -> None:
    """Whatever the umask allows."""
    before = os.umask(0)
    try:
        filtered: FilteredFile[int] = FilteredFile(tmp_path / "filtered", [""])
        filtered.take(0, Lines(b"now\n"))
        filtered.close()
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "filtered").stat().st_mode) == 0o600


def test_a_filtered_file_is_added_to(tmp_path: Path) -> None:
    """No filtered line of an earlier attempt is lost."""
    path = tmp_path / "filtered"
    path.write_bytes(b"earlier\n")
    filtered: FilteredFile[int] = FilteredFile(path, [""])
    filtered.take(0, Lines(b"now\n"))
    filtered.close()
    assert path.read_bytes() == b"earlier\nnow\n"


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null/filtered_stdout.log"])
def test_a_filtered_file_that_cannot_be_written_is_logged_once(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """A problem with it ends neither the job nor the console."""
    filtered: FilteredFile[int] = FilteredFile(path, ["x"])
    for _ in range(3):
        filtered.take(0, Lines(b"x\n"))
    filtered.close()
    assert [path in record.getMessage() for record in caplog.records] == [True]


_LINES = st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=30)


@given(_LINES, st.integers(1, 8))
def test_the_last_lines_are_kept(lines: list[bytes], count: int) -> None:
    """Exactly the last lines of a stream are kept, in whatever blocks they arrive."""
    keeper: LastLines[str] = LastLines(count)
    for line in lines:
        keeper.take("a", Lines(line + b"\n"))
    keeper.take("b", Lines(b"\n".join(lines) + b"\n"))
    assert [list(keeper._kept[key]) for key in "ab"] == [lines[-count:]] * 2


def test_the_last_lines_are_bounded_in_bytes() -> None:
    """A line without an end does not grow for ever, either; its end is kept."""
    keeper: LastLines[int] = LastLines(5, max_bytes=100)
    keeper.take(0, Lines(b"first\n" + b"a" * 60, more=True))
    for _ in range(50):
        keeper.take(0, Lines(b"b" * 60, continues=True, more=True))
    keeper.take(0, Lines(b" end\n", continues=True))
    assert keeper.text(0) == "b" * 96 + " end"
    assert keeper.text(1) == ""


def test_the_tail_of_a_file_is_its_last_lines(tmp_path: Path) -> None:
    """The last lines, with bad bytes replaced and progress bars at their last redraw."""
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(1000)) + b"\r 1%\r100%\n\xff bad\nno end")
    assert tail_of(path, lines=4) == "999\n100%\n\ufffd bad\nno end"


def test_the_tail_of_a_huge_line_is_its_end(tmp_path: Path) -> None:
    """At most the given number of bytes is read; an omission in front is marked, and no character is split."""
    path = tmp_path / "log"
    path.write_text("first\n" + "€" * 1000, encoding="utf-8")
    assert tail_of(path, max_bytes=10) == "...€€€"


@given(st.binary(max_size=200), st.integers(1, 5), st.integers(1, 50))
def test_a_tail_never_raises(tmp_path_factory: pytest.TempPathFactory, data: bytes, lines: int, max_bytes: int) -> None:
    """Any bytes give some text with at most the requested number of lines."""
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    assert tail_of(path, lines=lines, max_bytes=max_bytes).count("\n") < lines


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "device", "NUL"])
def test_the_tail_of_anything_else_is_empty(tmp_path: Path, kind: str) -> None:
    """A path that is no regular file has no tail, and a FIFO blocks no caller."""
    path = tmp_path / "log"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    strange = {"device": "/dev/zero", "NUL": "a\0b"}
    assert tail_of(strange.get(kind, path)) == ""
