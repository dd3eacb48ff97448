"""What torch's flight recorder adds to a ring, and answers that are none."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from derail.diagnose.torch_trace import MOST_BYTES, add, ask, merged, read_trace
from derail.faults.inrank.hooks.torch_trace import trace_names
from diagnose.recorded import call, ring

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = {
    "number": 0, "place": 1, "operation": "all_reduce", "group": "0", "label": "", "ranks": [0, 1, 2, 3],
    "shapes": "Float[8]", "file": "/x/train.py", "line": 88, "function": "main", "created": 1100.0, "done": True,
    "to_peer": False,
}  # fmt: skip
ANSWER = {"version": 1, "offset": 1000.0, "entries": [ENTRY]}


def answer(path: Path, *entries: dict[str, object], **facts: object) -> Path:
    """Write an answer with changed entries."""
    path.write_text(json.dumps({**ANSWER, "entries": [{**ENTRY, **each} for each in entries], **facts}))
    return path


def test_calls_of_a_ring_are_not_added_again(tmp_path: Path) -> None:
    """A call in C++ that is made in a call of the program is known by that; of DDP, the calls inside are added."""
    own = [
        call(1, entered=100.0, left=100.1),
        call(2, "broadcast", entered=100.2, left=100.9, is_async=True),
        call(3, "DDP backward", entered=101.0, left=None),
    ]
    times = (100.05, 100.21, 100.5, 101.1, 101.2)
    entries = [{"number": n, "place": n + 1, "created": 1000 + time} for n, time in enumerate(times)]
    entries[-1]["done"] = False
    trace = read_trace(answer(tmp_path / "answer", *entries, {"number": 9, "to_peer": True}))
    assert trace is not None
    whole = add(ring(0, own), trace)

    assert [(each.operation, each.place) for each in whole.calls] == [
        ("all_reduce", 1), ("broadcast", 2), ("C++ all_reduce", 3), ("DDP backward", 3), ("C++ all_reduce", 4),
        ("C++ all_reduce", 5),
    ]  # fmt: skip
    assert [each.number for each in whole.calls] == [1, 2, 3, 4, 5, 6]
    assert (whole.blocking and (whole.blocking.operation, whole.blocking.place)) == ("C++ all_reduce", 5)


@pytest.mark.parametrize(("first_of_ring", "first_of_trace"), [(5, 0), (1, 3)])
def test_it_is_known_that_calls_are_lost(tmp_path: Path, first_of_ring: int, first_of_trace: int) -> None:
    """A rank is not accused of a call that was overwritten, in the ring or in torch's buffer."""
    trace = read_trace(answer(tmp_path / "answer", {"number": first_of_trace, "created": 1200.0}))
    assert trace is not None
    assert add(ring(0, [call(1, number=first_of_ring)]), trace).calls[0].number > 1


def test_nothing_is_added_unless_all_ranks_answer(tmp_path: Path) -> None:
    """The rank without an answer would seem to have called nothing."""
    found = {rank: ring(rank, [call(1)]) for rank in (0, 1)}
    answer(tmp_path / trace_names(0, 1000)[1], {"created": 2000.0})
    assert merged(tmp_path, found, {0, 1}, patience=0, among={0, 1}) == found
    assert merged(tmp_path, found, {0}, patience=0, among={0, 1}) == found
    answer(tmp_path / trace_names(1, 1001)[1], {"created": 2000.0})
    assert [len(each.calls) for each in merged(tmp_path, found, {0, 1}, patience=0, among={0, 1}).values()] == [2, 2]


def test_a_rank_without_a_thread_is_not_asked(tmp_path: Path) -> None:
    """Nobody has opened its FIFO, it has none, or something else has its name. An old answer is removed."""
    found = {rank: ring(rank, []) for rank in range(3)}
    names = {rank: [tmp_path / name for name in trace_names(rank, each.pid)] for rank, each in found.items()}
    os.mkfifo(names[0][0])
    names[1][0].write_text("x")
    names[0][1].write_text("old")

    assert ask(tmp_path, found) == set()
    assert not names[0][1].exists()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"\x80\x04K\x01.", b'{"version": 2, "entries": [], "offset": 0}', b"[" * 100_000,
        json.dumps({**ANSWER, "offset": "1"}).encode(), json.dumps({**ANSWER, "entries": 3}).encode(),
        json.dumps({**ANSWER, "entries": [{**ENTRY, "place": -1}]}).encode(),
        json.dumps({**ANSWER, "entries": [{**ENTRY, "created": float("nan")}]}).encode(),
        json.dumps({**ANSWER, "entries": [{**ENTRY, "ranks": ["x"]}]}).encode(), b" " * (MOST_BYTES + 1),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever the file contains."""
    (tmp_path / "answer").write_bytes(content)
    assert read_trace(tmp_path / "answer") is None


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A FIFO, a link, a directory, nothing: without waiting."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(answer(tmp_path / "answer", {}))
    assert read_trace(tmp_path / "answer") is not None
    assert [read_trace(tmp_path / name) for name in ("fifo", "link", ".", "nothing")] == [None] * 4
