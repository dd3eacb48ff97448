"""Ring files: what a rank has recorded is read from outside, whatever became of it, and whatever the file contains."""

from __future__ import annotations

import os
import signal
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.diagnose.rings import Collective, Ring, decode, parse_ranks, read_ring, read_rings
from derail.faults.inrank import ring as layout
from derail.faults.inrank.ring import CAPACITY, Call, RingWriter, as_ranges
from diagnose.recorded import started
from program_files import program_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RECORDS = program_text("diagnose/records")
HELLO = Call("all_reduce", "torch:0", label="dp", ranks=b"0-3", shapes="float32[8]", flags=layout.COMPARED)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RingWriter]:
    """A ring file in an empty directory."""
    writer = RingWriter(str(tmp_path), 3, world=4, attempt=2)
    yield writer
    writer.close()


CODE = compile("", "/x/train.py", "exec").replace(co_name="main")


def enter(writer: RingWriter, call: Call, line: int = 1) -> tuple[int, int]:
    """Record a call."""
    return writer.enter(call, call.texts(CODE), line)


def content(writer: RingWriter) -> Ring:
    """Return what is in a ring file."""
    found = read_ring(writer.path)
    assert isinstance(found, Ring), found
    return found


def test_a_call_is_read_as_it_was_written(writer: RingWriter) -> None:
    """Every field arrives, and the call is open until it is left."""
    ticket = enter(writer, HELLO, 88)
    before = content(writer)
    writer.leave(ticket, layout.COMPARED)
    after = content(writer)

    assert (before.rank, before.pid, before.world, before.attempt, before.torn) == (3, os.getpid(), 4, 2, 0)
    (opened,) = before.calls
    assert opened == Collective(
        number=1, place=1, operation="all_reduce", group="torch:0", label="dp", ranks=frozenset(range(4)),
        shapes="float32[8]", compared=True, file="/x/train.py", line=88, function="main", entered=opened.entered,
    )  # fmt: skip
    assert before.blocking == opened
    assert after.blocking is None
    assert after.calls[0].raised
    assert after.calls[0].left is not None
    assert after.calls[0].left >= opened.entered


def test_the_last_calls_are_kept_and_each_group_has_its_own_count(writer: RingWriter) -> None:
    """Older records are replaced; a call that ends after its record was replaced changes no other one."""
    first = enter(writer, HELLO)
    for _ in range(CAPACITY):
        writer.leave(enter(writer, Call("barrier", "torch:1")), 0)
    writer.leave(first, layout.RAISED)
    calls = content(writer).calls

    assert [call.number for call in calls] == list(range(2, CAPACITY + 2))
    assert [call.place for call in calls] == list(range(1, CAPACITY + 1))
    assert not any(call.raised for call in calls)


def test_a_call_that_was_issued_blocks_from_the_wait_on(writer: RingWriter) -> None:
    """An asynchronous call does not hold the rank up until the program waits for it."""
    ticket = enter(writer, Call("all_reduce", flags=layout.ASYNC))
    issued = content(writer)
    writer.wait(ticket)

    assert issued.blocking is None
    assert content(writer).blocking is not None


def test_a_wait_for_a_key_replaces_no_collective(writer: RingWriter) -> None:
    """A program that polls a store has one record for that."""
    writer.leave(enter(writer, HELLO), 0)
    for number in range(1000):
        ticket = enter(writer, Call("store.get", "store", flags=layout.STORE, subject=f"key{number}"))
        if number < 999:
            writer.leave(ticket, 0)
    found = content(writer)

    assert [call.operation for call in found.calls] == ["all_reduce"]
    assert found.blocking is found.store
    assert found.store is not None
    assert found.store.subject == "key999"


def test_an_incomplete_record_is_left_out(writer: RingWriter) -> None:
    """A record whose two numbers differ, or whose first number changes between two looks, was being written."""
    for _ in range(2):
        writer.leave(enter(writer, HELLO), 0)
    with open(writer.path, "rb") as file:
        data = file.read()
    begun = bytearray(data)
    struct.pack_into("<Q", begun, layout.START + layout.RECORD_BYTES, 0)

    for torn in (decode(bytes(begun)), decode(data, bytes(begun))):
        assert torn is not None
        assert [call.number for call in torn.calls] == [1]
        assert torn.torn == 1


def fifo(path: Path) -> None:
    """Put a FIFO without a writer at a path."""
    os.mkfifo(path)


def link(path: Path) -> None:
    """Put a link to a proper ring file there."""
    writer = RingWriter(str(path.parent), 9, world=1, attempt=0)
    writer.close()
    os.symlink(writer.path, path)


def huge(path: Path) -> None:
    """Put a file of a terabyte there."""
    with open(path, "wb") as file:
        file.truncate(1 << 40)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "no file": lambda _: None,
    "empty": lambda path: path.write_bytes(b""),
    "truncated header": lambda path: path.write_bytes(layout.MAGIC),
    "garbage": lambda path: path.write_bytes(os.urandom(layout.SIZE)),
    "another version": lambda path: path.write_bytes(struct.pack("<8sI", layout.MAGIC, 99) + bytes(layout.SIZE)),
    "a FIFO": fifo,
    "a link": link,
    "a directory": lambda path: path.mkdir(),
    "a terabyte": huge,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_ring_is_refused_with_a_reason(tmp_path: Path, kind: str) -> None:
    """The reader neither raises nor blocks; the reason names the file."""
    path = tmp_path / "rank-0.1.ring"
    HOSTILE[kind](path)

    refused = read_ring(path)

    assert isinstance(refused, str)
    assert refused.startswith(str(path))
    assert 0 not in read_rings(tmp_path)


def test_a_truncated_ring_keeps_its_whole_records(writer: RingWriter) -> None:
    """The record that was cut is left out."""
    for _ in range(3):
        writer.leave(enter(writer, HELLO), 0)
    os.truncate(writer.path, layout.START + 2 * layout.RECORD_BYTES + 100)

    assert [call.number for call in content(writer).calls] == [1, 2]


HEADER = layout.HEADER.pack(layout.MAGIC, layout.VERSION, CAPACITY, layout.RECORD_BYTES, 0, 1, 2, 0, 1.0).ljust(
    64, b"\0"
)


@given(st.binary(min_size=496, max_size=496), st.integers(1, 1 << 63))
def test_any_bytes_in_a_record_are_read(body: bytes, number: int) -> None:
    """A complete record with arbitrary content is a value, or is left out; it never raises."""
    found = decode(HEADER + struct.pack("<Q", number) + body + struct.pack("<Q", number))

    assert found is not None
    assert len(found.calls) + found.torn == 1
    assert found.blocking is None or found.blocking in found.calls


@given(st.binary(max_size=2048))
def test_any_bytes_of_a_file_are_read(data: bytes) -> None:
    """So is a file as a whole."""
    decode(data)
    decode(HEADER + data)


@given(st.sets(st.integers(0, 300), max_size=40))
def test_ranks_are_read_as_they_were_written_if_they_fit(ranks: set[int]) -> None:
    """A list that does not fit is unknown, never a part of it."""
    text = as_ranges(ranks).decode()

    assert len(text) <= 48
    assert parse_ranks(text) == (None if text.endswith("...") or not ranks else ranks)


@pytest.mark.parametrize("text", ["0-999999", "5-2", "x", "0-", "-1", "1,,2", "0-65536"])
def test_impossible_ranks_are_unknown(text: str) -> None:
    """No list is longer than any job."""
    assert parse_ranks(text) is None


def test_of_several_processes_of_a_rank_its_own_counts(tmp_path: Path) -> None:
    """The last attempt counts, and there the given process, else the first one: helpers start later."""
    for pid, attempt, started_at in ((10, 0, 1.0), (20, 1, 2.0), (30, 1, 3.0)):
        header = layout.HEADER.pack(
            layout.MAGIC, layout.VERSION, CAPACITY, layout.RECORD_BYTES, 0, pid, 1, attempt, started_at
        )
        (tmp_path / f"rank-0.{pid}.ring").write_bytes(header.ljust(64, b"\0"))

    assert read_rings(tmp_path)[0].pid == 20
    assert read_rings(tmp_path, pids={0: 30})[0].pid == 30


def line_of(process: object) -> str:
    """Return the next line of a process."""
    return process.stdout.readline().strip()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("how", ["waits", "holds the GIL"])
@pytest.mark.parametrize("sent", [None, signal.SIGSTOP, signal.SIGKILL], ids=["running", "stopped", "killed"])
def test_the_ring_of_a_rank_is_read_whatever_became_of_it(
    tmp_path: Path, how: str, sent: signal.Signals | None
) -> None:
    """The call in which it was is known, and those before it."""
    with started(RECORDS, tmp_path, how) as (rank,):
        assert line_of(rank) == "inside"
        if sent is not None:
            rank.send_signal(sent)
        if sent == signal.SIGKILL:
            rank.wait()
        ring = read_rings(tmp_path)[0]

    assert ring.pid == rank.pid
    assert ring.torn == 0
    assert len(ring.calls) == CAPACITY
    assert ring.blocking is not None
    assert (ring.blocking.operation, ring.blocking.place, ring.blocking.label) == ("exchange", 201, "halo")
    assert ring.blocking.file == "<string>"
    assert ring.blocking.line == 12


def test_a_forked_child_of_a_rank_records_nothing(tmp_path: Path) -> None:
    """The memory is common to both, and is the rank's."""
    with started(RECORDS, tmp_path, "forks") as (rank,):
        rank.wait()
        rings = read_rings(tmp_path)

    assert {call.operation for call in rings[0].calls} == {"exchange"}
    assert len(os.listdir(tmp_path)) == 1


def test_without_a_recorder_nothing_is_recorded(run_python: Callable[..., object], tmp_path: Path) -> None:
    """``record_collective`` does nothing then, and no file is made."""
    run_python(
        "import derail, os, sys\n"
        "with derail.record_collective('x', ranks=(0,)): pass\n"
        "assert sys.modules['derail.faults.inrank.recorder'].active is None",
        env={"RANK": "0", "TMPDIR": str(tmp_path)},
    )

    assert os.listdir(tmp_path) == []


def test_a_rank_without_space_for_its_ring_runs_unrecorded(tmp_path: Path) -> None:
    """The file is written before it is mapped: memory without space behind it would kill the rank."""
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n" + RECORDS
    with started(limited, tmp_path, "waits") as (rank,):
        assert line_of(rank) == "inside"
        rank.communicate("")

    assert rank.returncode == 0
    assert os.listdir(tmp_path) == []
