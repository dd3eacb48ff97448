"""Lines appended to files reach the readers whole and once, whatever happens to the files in between."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derail.logs import follow, tail
from derail.logs.lines import Lines
from derail.logs.tail import CHUNK, WATCHED_INTERVAL, Tail
from derail.platform.inotify import Notifier
from program_files import program_text
from pytest_derail.strategies import log_streams


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(data)


def _read_all(tail: Tail[int]) -> None:
    for _ in range(10_000):
        if not tail.poll():
            return
    pytest.fail("it reads on and on")


def test_lines_are_whole_whatever_the_writes_were(tmp_path, notify, recorder) -> None:
    """A line written in parts, split characters, redrawn bars: one line each; bad bytes and NUL stay."""
    path = tmp_path / "log"
    parts = [b"hel", b"lo\nwor", b"ld\n\xe2", b"\x82", b"\xac\r 1%\r 2%", b"\r100%\n\0\xff\x1b[31m", b"red\n\n"]
    with Tail({0: path}, notify=notify) as tail:
        tail.add(recorder.take)
        for part in parts:
            _append(path, part)
            tail.poll()
        assert recorder.lines == {0: [b"hello", b"world", b"\xe2\x82\xac\r 1%\r 2%\r100%", b"\0\xff\x1b[31mred", b""]}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(data=st.data())
def test_any_writes_and_any_looks_give_the_file(tmp_path, notify, data) -> None:
    """Whatever is written and whenever it is read: the reader gets the content of the file."""
    number = len(os.listdir(tmp_path))
    path = tmp_path / f"log{number}"
    got: list[bytes] = []
    with Tail({0: path}, notify=notify) as tail:
        tail.add(lambda _, lines: got.append(lines.data))
        for part in data.draw(log_streams(max_size=20)).writes:
            _append(path, part)
            if data.draw(st.booleans()):
                tail.poll(data.draw(st.integers(1, 30)))
        tail.finish(0)
        _read_all(tail)
    assert b"".join(got) == (path.read_bytes() if path.exists() else b"")


def test_a_file_may_appear_late(tmp_path, notify, recorder) -> None:
    """Neither the file nor its directory need exist before the writer creates them."""
    path = tmp_path / "deep" / "log"
    with Tail({0: path}, notify=notify) as tail:
        tail.add(recorder.take)
        tail.poll()
        path.parent.mkdir()
        tail.poll()
        _append(path, b"first\n")
        tail.poll()
        assert recorder.lines == {0: [b"first"]}


@pytest.mark.parametrize(("existing", "expected"), [("skip", [b"new"]), ("read", [b"old", b"new"])])
def test_output_of_an_earlier_attempt_is_skipped_or_read(tmp_path, notify, recorder, existing, expected) -> None:
    """The caller chooses whether reading begins at the end or at the beginning of an existing file."""
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    with Tail({0: path}, notify=notify, existing=existing) as tail:
        tail.add(recorder.take)
        _append(path, b"new\n")
        tail.poll()
        assert recorder.lines == {0: expected}


@pytest.mark.parametrize("again", [b"2\n", b"a line that is longer than all that was there\n" * 3])
def test_copytruncate_loses_nothing_that_is_written_later(tmp_path, notify, recorder, again) -> None:
    """A log that was cut is read from its beginning, even if it is longer than before when that is noticed."""
    path = tmp_path / "log"
    with Tail({0: path}, notify=notify) as tail, path.open("ab", buffering=0) as writer:
        tail.add(recorder.take)
        writer.write(b"line 1\nhalf")
        tail.poll()
        os.truncate(path, 0)
        writer.write(b" and half\n" + again)
        tail.poll()
        _read_all(tail)
        assert recorder.lines == {0: [b"line 1", b"half and half", *again.splitlines()]}


@pytest.mark.parametrize("is_seen_empty", [True, False])
def test_the_hole_of_a_writer_that_does_not_append_is_not_shown(tmp_path, notify, recorder, is_seen_empty) -> None:
    """A cut log with a writer that continues at its old offset begins with NULs; they are no output."""
    path = tmp_path / "log"
    with Tail({0: path}, notify=notify) as tail, path.open("wb", buffering=0) as writer:
        tail.add(recorder.take)
        writer.write(b"x" * 10_000 + b"\n")
        tail.poll()
        os.truncate(path, 0)
        if is_seen_empty:
            tail.poll()
        writer.write(b"after\n")
        _read_all(tail)
        assert [line[-10:] for line in recorder.lines[0]] == [b"x" * 10, b"after"]


def test_a_replaced_file_is_read_to_its_end_and_then_the_new_one(tmp_path, notify, recorder) -> None:
    """Log rotation by rename loses nothing, before or after it."""
    path = tmp_path / "log"
    with Tail({0: path}, notify=notify) as tail, path.open("ab", buffering=0) as writer:
        tail.add(recorder.take)
        writer.write(b"old 1\n")
        tail.poll()
        writer.write(b"old 2\n")
        path.rename(tmp_path / "log.1")
        _append(path, b"new 1\n")
        tail.poll()
        writer.write(b"old 3\n")  # a rank does not reopen its stdout
        _append(path, b"new 2\n")
        tail.poll()
        assert sorted(recorder.lines[0]) == [b"new 1", b"new 2", b"old 1", b"old 2", b"old 3"]
        assert recorder.lines[0][:3] == [b"old 1", b"old 2", b"new 1"]


def test_a_file_that_is_replaced_all_the_time_holds_few_descriptors(tmp_path, notify, recorder) -> None:
    """Each replacement is read, and old files are closed."""
    path = tmp_path / "log"
    with Tail({0: path}, notify=notify) as tail:
        tail.add(recorder.take)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(50):
            new = tmp_path / "new"
            new.write_bytes(b"%d\n" % number)
            new.replace(path)
            _read_all(tail)
        assert recorder.lines[0] == [b"%d" % number for number in range(50)]
        assert len(os.listdir("/proc/self/fd")) - before <= follow._SOURCES + 1


def test_a_removed_file_is_still_read(tmp_path, notify, recorder) -> None:
    """Output to a deleted file is read."""
    path = tmp_path / "log"
    with Tail({0: path}, notify=notify) as tail, path.open("ab", buffering=0) as writer:
        tail.add(recorder.take)
        writer.write(b"before\n")
        tail.poll()
        path.unlink()
        writer.write(b"after\n")
        tail.poll()
        assert recorder.lines == {0: [b"before", b"after"]}


def test_a_fifo_is_left_alone_until_it_is_a_file(tmp_path, notify, recorder, caplog) -> None:
    """A FIFO instead of a log blocks no reader and wakes no writer; it is logged once."""
    path = tmp_path / "log"
    os.mkfifo(path)
    with Tail({0: path}, notify=notify) as tail:
        tail.add(recorder.take)
        for _ in range(3):
            tail.poll()
        with pytest.raises(OSError, match="No such device") as refused:
            os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        assert refused.value.errno == errno.ENXIO
        path.unlink()
        _append(path, b"now\n")
        tail.poll()
        assert recorder.lines == {0: [b"now"]}
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "it is not a regular file; it is read once it is one"
    ]


def test_a_file_that_becomes_a_fifo_blocks_no_reader(tmp_path, notify, recorder) -> None:
    """A log that is replaced by a FIFO in the middle of the job is read up to the replacement."""
    path = tmp_path / "log"
    with Tail({0: path}, notify=notify) as tail:
        tail.add(recorder.take)
        _append(path, b"file\n")
        tail.poll()
        path.rename(tmp_path / "old")
        os.mkfifo(path)
        tail.poll()
        assert (tail.finish(0), recorder.lines) == (True, {0: [b"file"]})


def test_a_path_that_cannot_be_opened_is_logged_once(tmp_path, notify, recorder, caplog) -> None:
    """An unreadable log, here a loop of links, is named with the reason; the others are read."""
    loop, path = tmp_path / "loop", tmp_path / "log"
    loop.symlink_to(loop)
    with Tail({0: loop, 1: path}, notify=notify) as tail:
        tail.add(recorder.take)
        for number in range(3):
            _append(path, b"%d\n" % number)
            tail.poll()
        assert (tail.finish(0), recorder.lines) == (True, {1: [b"0", b"1", b"2"]})
    assert [record.getMessage() for record in caplog.records] == [
        f"log file {loop}: Too many levels of symbolic links; it is read once that is possible"
    ]


def test_the_null_device_is_nothing_to_read(notify, recorder, caplog) -> None:
    """Specs use the null device for a tee without logs: that is no problem."""
    with Tail({0: os.devnull}, notify=notify) as tail:
        tail.add(recorder.take)
        tail.poll()
        assert (tail.finish(0), tail.done, recorder.lines, caplog.records) == (True, True, {}, [])


def test_the_end_of_a_writer_completes_its_last_line(tmp_path, notify, recorder) -> None:
    """A line without a line end is held back until the writer has ended, and then passed on."""
    path = tmp_path / "log"
    with Tail({0: path}, notify=notify) as tail:
        tail.add(recorder.take)
        _append(path, b"whole\nTraceb")
        tail.poll()
        held_back = dict(recorder.lines)
        assert (held_back, tail.finished(0)) == ({0: [b"whole"]}, False)
        _append(path, b"ack")
        assert (tail.finish(0), tail.done) == (True, True)
        assert recorder.blocks[-1] == (0, Lines(b"Traceback"))


def test_the_last_output_before_sigkill_is_read(tmp_path, notify, recorder) -> None:
    """A process that is killed right after a write without a line end loses none of it."""
    path = tmp_path / "log"
    source = "import os, signal; os.write(1, b'one\\nlast words'); os.kill(os.getpid(), signal.SIGKILL)"
    with Tail({0: path}, notify=notify) as tail:
        tail.add(recorder.take)
        with path.open("ab") as out:
            assert subprocess.run([sys.executable, "-c", source], stdout=out, check=False).returncode == -signal.SIGKILL
        tail.finish(0)
    assert recorder.lines == {0: [b"one", b"last words"]}


def test_an_orphan_that_keeps_writing_is_not_awaited(tmp_path, notify, recorder) -> None:
    """Reading ends at the size of the file when its writer's exit was noticed."""
    path = tmp_path / "log"
    with Tail({0: path}, notify=notify) as tail, path.open("ab", buffering=0) as orphan:

        def take(key: int, lines: Lines) -> None:
            recorder.take(key, lines)
            orphan.write(b"flood\n" * 1000)

        feed = tail.add(take)
        orphan.write(b"last\n")
        tail.finish(0)
        _read_all(tail)
        assert (tail.done, recorder.lines, tail.behind(feed)) == (True, {0: [b"last"]}, 0)


def test_a_flood_leaves_the_others_their_turn(tmp_path, notify, recorder) -> None:
    """One poll reads no more than its budget, and at most a chunk of a file before the next one is read."""
    flood, quiet = tmp_path / "flood", tmp_path / "quiet"
    with Tail({0: flood, 1: quiet}, notify=notify) as tail:
        tail.add(recorder.take)
        _append(flood, b"x" * 99 + b"\n")
        os.truncate(flood, 0)
        with flood.open("ab") as file:
            file.write((b"y" * 99 + b"\n") * 100_000)
        _append(quiet, b"me too\n")
        assert tail.poll(budget=2 * CHUNK) is True
        assert recorder.lines[1] == [b"me too"]
        assert len(recorder.lines[0]) * 100 <= 3 * CHUNK
        _read_all(tail)
        assert len(recorder.lines[0]) == 100_000


def test_a_full_reader_delays_no_other_reader(tmp_path, notify, recorder) -> None:
    """Lines that one reader does not accept stay in the file for it; another one gets all at once."""
    path = tmp_path / "log"
    is_ready = False
    slow: list[bytes] = []
    with Tail({0: path}, notify=notify) as tail:
        tail.add(recorder.take)
        feed = tail.add(lambda _, lines: slow.extend(lines.split()), ready=lambda _: is_ready)
        _append(path, b"1\n2\n")
        more = tail.poll()
        assert (more, slow, recorder.lines, tail.behind(feed)) == (False, [], {0: [b"1", b"2"]}, 4)
        assert tail.interval <= 0.1
        assert (tail.finish(0), tail.done) == (False, False)
        is_ready = True
        tail.poll()
        assert (slow, recorder.lines, tail.behind(feed), tail.done) == ([b"1", b"2"], {0: [b"1", b"2"]}, 0, True)


def test_a_reader_that_gets_full_by_the_last_block_is_notified_of_the_end(tmp_path, notify, recorder) -> None:
    """A reader that is full at the end is not forgotten: it gets the end when it is ready again."""
    path = tmp_path / "log"
    with Tail({0: path}, notify=notify) as tail:
        tail.add(recorder.take, ready=lambda _: is_ready or not recorder.blocks)
        is_ready = False
        _append(path, b"last\n")
        tail.poll()
        assert (tail.finish(0), tail.poll(), tail.held_up) == (False, False, True)
        is_ready = True
        tail.poll()
        assert (tail.done, tail.held_up, recorder.lines) == (True, False, {0: [b"last"]})


def test_a_reader_that_raises_gets_no_more(tmp_path, notify, recorder, caplog) -> None:
    """A broken reader is logged once and left out; the others continue, and the end does not wait for it."""
    path = tmp_path / "log"
    calls = []

    def broken(key: int, lines: Lines) -> None:
        calls.append(key)
        raise RuntimeError("broken reader")

    with Tail({0: path}, notify=notify) as tail:
        tail.add(broken)
        tail.add(recorder.take)
        for number in range(3):
            _append(path, b"%d\n" % number)
            tail.poll()
        assert (calls, recorder.lines, tail.finish(0)) == ([0], {0: [b"0", b"1", b"2"]}, True)
    assert len(caplog.records) == 1


def test_a_reader_gets_only_the_files_that_it_asked_for(tmp_path, notify, recorder) -> None:
    """A reader may be registered for some files only."""
    paths = {rank: tmp_path / str(rank) for rank in range(3)}
    with Tail(paths, notify=notify) as tail:
        tail.add(recorder.take, keys=[0, 2])
        for rank, path in paths.items():
            _append(path, b"%d\n" % rank)
        tail.poll()
        assert recorder.lines == {0: [b"0"], 2: [b"2"]}
        assert [tail.finish(rank) for rank in paths] == [True, True, True]


def test_a_very_long_line_is_passed_on_at_its_end(tmp_path, notify, recorder, monkeypatch) -> None:
    """No part of a line beyond the limit is passed on before its end is in the file; then it is passed on in pieces."""
    path = tmp_path / "log"
    monkeypatch.setattr(tail, "CHUNK", 1000)
    monkeypatch.setattr(follow.LineAssembler.__init__, "__kwdefaults__", {"limit": 3000})
    with Tail({0: path}, notify=notify) as tail_:
        tail_.add(recorder.take)
        _append(path, b"short\n" + b"x" * 10_000)
        _read_all(tail_)
        before = list(recorder.blocks)
        _append(path, b"y" * 10_000 + b"\nnext\n")
        _read_all(tail_)
    assert [block.data for _, block in before] == [b"short\n"]
    assert recorder.lines == {0: [b"short", b"x" * 10_000 + b"y" * 10_000, b"next"]}
    assert max(len(block.data) for _, block in recorder.blocks) <= 4000


def test_a_very_long_line_without_an_end_is_given_when_the_writer_has_ended(
    tmp_path, notify, recorder, monkeypatch
) -> None:
    """The last line is complete, however long it is."""
    path = tmp_path / "log"
    monkeypatch.setattr(follow.LineAssembler.__init__, "__kwdefaults__", {"limit": 3000})
    monkeypatch.setattr(tail, "CHUNK", 1000)
    with Tail({0: path}, notify=notify) as tail_:
        tail_.add(recorder.take)
        _append(path, b"x" * 10_000)
        _read_all(tail_)
        before = list(recorder.blocks)
        tail_.finish(0)
        _read_all(tail_)
        assert (before, recorder.lines, tail_.done) == ([], {0: [b"x" * 10_000]}, True)


def test_a_very_long_line_that_is_cut_away_does_not_stop_the_next_ones(tmp_path, notify, recorder, monkeypatch) -> None:
    """When the file is cut in the middle of a long scanned line, reading restarts."""
    path = tmp_path / "log"
    monkeypatch.setattr(follow.LineAssembler.__init__, "__kwdefaults__", {"limit": 3000})
    monkeypatch.setattr(tail, "CHUNK", 1000)
    with Tail({0: path}, notify=notify) as tail_:
        tail_.add(recorder.take)
        _append(path, b"x" * 10_000)
        _read_all(tail_)
        os.truncate(path, 0)
        _append(path, b"\nnext\n")
        _read_all(tail_)
        assert recorder.lines[0][1:] == [b"next"]


@pytest.mark.slow
def test_a_line_of_100_mib_does_not_cost_its_size(tmp_path, notify, run_python) -> None:
    """Memory does not grow with the length of a line, and none of its bytes is lost."""
    source = program_text("logs/endless_line")
    size, grown_mib = map(int, run_python(source, str(tmp_path / "log"), str(notify)).stdout.split())
    assert size == 1600 * 65536 + 1
    assert grown_mib < 40


def _is_readable(fd: int | None) -> bool:
    assert fd is not None
    return bool(select.select([fd], [], [], 0)[0])


def test_the_descriptor_is_readable_after_changes(tmp_path, recorder) -> None:
    """It is readable after a write and after a file has appeared; otherwise it is quiet, and checks are rare."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    with Tail({0: old, 1: new}) as tail:
        tail.add(recorder.take)
        tail.poll()
        seen = [_is_readable(tail.fd)]
        _append(old, b"1\n")
        seen.append(_is_readable(tail.fd))
        tail.poll()
        seen.append(_is_readable(tail.fd))
        _append(new, b"1\n")
        seen.append(_is_readable(tail.fd))
        tail.poll()
        seen.append(_is_readable(tail.fd))
        assert (seen, tail.interval) == ([False, True, False, True, False], WATCHED_INTERVAL)


def test_a_quiet_poll_looks_at_no_file(tmp_path, monkeypatch) -> None:
    """Between the safety checks, unchanged files are not queried."""
    paths = {rank: tmp_path / str(rank) for rank in range(64)}
    for path in paths.values():
        path.touch()
    with Tail(paths) as tail:
        tail.add(lambda *_: None)
        tail.poll()
        looks: list[object] = []
        monkeypatch.setattr(follow.Followed, "look", lambda *a, **k: looks.append(a))
        monkeypatch.setattr(follow.Followed, "read", lambda *a, **k: looks.append(a) or [])
        monkeypatch.setattr(Tail, "_look_at_all", looks.append)
        tail.poll()
        monkeypatch.undo()
        assert looks == []


def test_lost_notifications_cause_a_check_of_all_files(tmp_path, recorder) -> None:
    """Nothing is missed when the queue of notifications overflows."""
    paths = {rank: tmp_path / str(rank) for rank in range(3)}
    for path in paths.values():
        path.touch()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    with Tail(paths) as tail, paths[0].open("ab", buffering=0) as one, paths[1].open("ab", buffering=0) as two:
        tail.add(recorder.take)
        tail.poll()
        for _ in range(limit // 2 + 100):
            one.write(b"a")
            two.write(b"b")
        _append(paths[2], b"the notice of this was lost\n")
        _read_all(tail)
    assert recorder.lines == {2: [b"the notice of this was lost"]}


@pytest.mark.parametrize("what", ["instance", "watch"])
def test_it_works_where_the_system_refuses_to_notify(tmp_path, recorder, monkeypatch, what) -> None:
    """Without a free inotify instance, or without free watches, files are checked more often instead."""
    if what == "instance":
        monkeypatch.setattr(Notifier, "open", lambda: None)
    else:
        monkeypatch.setattr(Notifier, "_add", lambda *_: None)
    path = tmp_path / "log"
    with Tail({0: path}) as tail:
        tail.add(recorder.take)
        tail.poll()
        _append(path, b"line\n")
        tail.poll()
        assert (recorder.lines, tail.interval <= 0.1) == ({0: [b"line"]}, True)


def test_a_tail_can_be_closed_twice(tmp_path, notify) -> None:
    """Closing releases all descriptors, and closing again does nothing."""
    path = tmp_path / "log"
    path.touch()
    tail = Tail({0: path}, notify=notify).open()
    tail.add(lambda *_: None)
    tail.poll()
    held = tail.descriptors
    tail.close()
    tail.close()
    assert (tail.fd, tail.descriptors, len(held)) == (None, (), 2 if notify else 1)
    for fd in held:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
