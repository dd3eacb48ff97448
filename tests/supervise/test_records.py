"""Watched error files: what is read of them, when, and with how much work."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack

import pytest

from derail.errors import protocol
from derail.errors.identity import READ_LIMIT
from derail.model.clock import SYSTEM_CLOCK
from derail.model.exit import ExitStatus
from derail.model.spec import Command, RankSpec
from derail.platform.inotify import NO_INOTIFY_ENV
from derail.supervise import records as module
from derail.supervise.loop import Loop
from derail.supervise.order import Ended, Order
from derail.supervise.records import CHANGES_PER_RANK, NOBODY, Found, Records


def document(message: str, size: int = 0) -> str:
    """An error file."""
    return json.dumps({"message": {"message": message, "extraInfo": {"py_callstack": "x" * size}}})


@pytest.fixture
def watched(tmp_path):
    """Records that watch the file of rank 0, and the file."""
    records = Records({})
    spec = RankSpec(0, Command(("true",)), {}, error_file=tmp_path / "logs" / "error.json")
    (tmp_path / "logs").mkdir()
    records.open([spec])
    records.watch(spec)
    records.begin_turn()
    yield records, spec.error_file
    records.close()


def test_an_open_file_is_announced_when_it_is_written_to(watched):
    """Its first half is no record, its second half completes it; the end of writing is no further record."""
    records, path = watched
    with path.open("w") as file:
        assert (records.announced(), records.look(0, 1)) == ([0], None)
        for part, expected in ((document("x")[:9], None), (document("x")[9:], Found(0, "x"))):
            file.write(part)
            file.flush()
            assert (records.announced(), records.look(0, 1)) == ([0], expected)
    assert (records.announced(), records.look(0, 1)) == ([0], None)
    assert records.changed() == []


def test_a_record_announced_beyond_the_limit_keeps_its_place_and_is_read_at_need(watched, monkeypatch):
    """No byte more than twice the limit is read, and the last record is found."""
    records, path = watched
    sizes = []
    real = protocol.read
    monkeypatch.setattr(protocol, "read", lambda name, **more: sizes.append(path.stat().st_size) or real(name, **more))
    places = []
    for number in range(12):
        path.write_text(document(str(number), 1 << 20))
        records.announced()
        places.append(records.look(0, 1))
    assert sum(sizes) <= READ_LIMIT
    assert places[:7] == [Found(0, str(number)) for number in range(7)]
    assert places[7:] == [Found(0, None)] * 5
    assert records.changed() == [0]
    assert records.look_closely(0, 1) == Found(0, "11", announced=True, ctime_ns=None)
    assert records.look_closely(0, 1) is None
    for number in range(12, 24):
        path.write_text(document(str(number), 1 << 20))
        records.announced()
        records.look(0, 1)
        records.look_closely(0, 1)
    assert sum(sizes) <= 2 * READ_LIMIT


def test_a_file_that_changes_all_the_time_is_watched_no_longer(watched):
    """Later records of the rank are found by a check."""
    records, path = watched
    with path.open("wb") as file:
        for number in range(CHANGES_PER_RANK):
            os.pwrite(file.fileno(), b"%d" % number, 0)
            records.begin_turn()
            records.announced()
    path.write_text(document("x"))
    records.begin_turn()
    assert set(records.announced()) <= {NOBODY}
    assert records.changed() == [0]
    assert records.look_closely(0, 1).message == "x"


@pytest.mark.parametrize("times", [1, 200])
def test_a_directory_that_is_moved_away_is_watched_again_but_not_for_ever(watched, times):
    """A rank that moves it all the time costs a bounded number of watches; its record is found by a check."""
    records, path = watched
    for number in range(times):
        path.parent.rename(path.parent.with_name(f"moved{number}"))
        records.begin_turn()
        records.announced()
        path.parent.mkdir()
        records.announced()
    path.write_text(document("x"))
    records.begin_turn()
    announced = 0 in records.announced()
    assert announced is (times == 1)
    found = records.look(0, 1) if announced else records.look_closely(*records.changed(), 1)
    assert found.message == "x"


class Handle:
    """A rank that ends when the test orders it."""

    pid, pidfd = 1, -1

    def __init__(self, rank):
        self.rank = rank
        self.exit_fd, self.write = os.pipe()
        self.status = None

    def end(self, code):
        """Show the end."""
        self.status = ExitStatus(code=code)
        os.write(self.write, b"x")

    def peek(self):
        """Return its exit status."""
        return self.status


@pytest.mark.parametrize("missing", ["", NO_INOTIFY_ENV])
def test_files_are_not_looked_at_once_for_each_rank_that_ends(tmp_path, monkeypatch, missing):
    """All are checked for the first failure only: the work does not grow with the square of the ranks."""
    if missing:
        monkeypatch.setenv(missing, "1")
    looks = []
    real = module.identify
    monkeypatch.setattr(module, "identify", lambda path: looks.append(path) or real(path))
    specs = [RankSpec(rank, Command(("true",)), {}, error_file=tmp_path / f"{rank}.json") for rank in range(40)]
    loop = Loop(SYSTEM_CLOCK)
    loop.open()
    order = Order(Records({}), loop, SYSTEM_CLOCK)
    handles = [Handle(spec.rank) for spec in specs]
    with closing_all(loop, handles) as stack:
        order.open(stack, specs)
        for spec, handle in zip(specs, handles, strict=True):
            order.expect(spec)
            order.add(handle)
        looks.clear()
        ended = []
        for handle in handles:
            handle.end(0 if handle.rank < 20 else 1)
            ended += [each.handle.rank for each in order.take() if isinstance(each, Ended)]
    assert ended == list(range(40))
    assert len(looks) <= 2 * len(specs)


def closing_all(loop, handles):
    """Close everything at the end."""
    stack = ExitStack()
    stack.callback(loop.close)
    for handle in handles:
        stack.callback(os.close, handle.exit_fd)
        stack.callback(os.close, handle.write)
    return stack
