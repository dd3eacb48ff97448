"""What torch's public collectives leave in a ring."""

from __future__ import annotations

from fnmatch import fnmatch
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from derail.diagnose.examine import examine
from derail.diagnose.rings import read_rings
from derail.diagnose.torch_trace import read_trace
from derail.faults.inrank.hooks.torch_collectives import groups_of
from derail.platform.ports import free_port
from diagnose.recorded import started
from program_files import program_text

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable
    from pathlib import Path

    from conftest import WaitUntil

PROGRAM = program_text("diagnose/torch_collectives")
WHOLE = "float32[4]"
EXPECTED = [
    ("init_process_group", 1, "", "", None),
    ("all_reduce", 1, "", WHOLE, None),
    ("all_reduce", 2, "", WHOLE, None),
    ("new_group", 2, "", "", None),
    ("broadcast", 1, "dp", WHOLE, None),
    ("broadcast", 2, "dp", WHOLE, None),
    ("all_gather", 3, "", WHOLE, None),
    ("all_gather_into_tensor", 4, "", WHOLE, None),
    ("all_gather_object", 5, "", "", None),
    ("broadcast_object_list", 6, "", "", None),
    ("barrier", 7, "", "", None),
    ("monitored_barrier", 8, "", "", None),
    ("reduce", 9, "", WHOLE, None),
    ("all_reduce", 10, "", WHOLE, None),
]


def send(process: subprocess.Popen[str]) -> None:
    """Let a rank continue."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def facts(calls: Iterable[Any]) -> list[tuple[object, ...]]:
    """Return what is the same in all runs."""
    return [(call.operation, call.place, call.label, call.shapes, call.peer) for call in calls]


@pytest.mark.torch
def test_every_kind_of_collective_is_recorded_once(tmp_path: Path, wait_until: WaitUntil) -> None:
    """Names that were imported before, asynchronous calls, peers and keys are covered; inner calls are not recorded."""
    with started(PROGRAM, tmp_path, ranks=2, port=free_port()) as ranks:
        for rank in ranks:
            assert rank.stdout.readline() == "issued\n", rank.stderr.read()  # type: ignore[union-attr]
        issued = read_rings(tmp_path)
        for rank in ranks:
            send(rank)
        printed = [rank.stdout.readline() for rank in ranks for _ in range(3)]  # type: ignore[union-attr]
        done = read_rings(tmp_path)
        for rank in ranks:
            send(rank)
        wait_until(lambda: all(ring.blocking for ring in read_rings(tmp_path).values()))
        waiting = read_rings(tmp_path)[0].blocking

    assert printed == ["TypeError\n", "True tensor op group async_op\n", "done\n"] * 2
    for number, ring in issued.items():
        assert facts(ring.calls) == EXPECTED
        assert ring.calls[-1].is_async
        assert ring.calls[-1].left is None
        assert ring.blocking is None
        assert {call.ranks for call in ring.calls} == {frozenset({0, 1})}
        assert {call.subject for call in ring.calls if call.operation == "broadcast"} == {"root 1"}
        after = done[number].calls[len(EXPECTED) - 1 :]
        assert after[0].left is not None
        assert after[0].waited is not None
        peers = [("send", 1), ("recv", 1)] if number == 0 else [("recv", 1), ("send", 1)]
        peers += [("isend", 1), ("irecv", 1)]
        assert [call[:2] for call in facts(after)[1:5]] == peers
        assert {call.peer for call in after[1:5]} == {1 - number}
        assert [(call.operation, call.raised) for call in after[5:]] == [("all_reduce", True)]
        assert all(call.left is not None for call in after)
        assert {call.file for call in done[number].calls} == {"<string>"}
    assert waiting is not None
    assert (waiting.operation, waiting.subject) == ("store.get", "a key that no rank sets")


INNER = [
    ("DDP init", 1, "Net"),
    *[("DDP buffers", 2, "Net"), ("DDP backward", 3, "Net"), ("DDP buffers", 4, "Net"), ("DDP backward", 5, "Net")],
    *[("DDP buffers", 6, "Net"), ("DDP backward", 7, "Net"), ("DDP buffers", 8, "Net"), ("DDP backward", 9, "Net")],
    ("DDP init", 10, "Net 2"),
    ("all_reduce", 11, "float32[2,4]"),
    ("all_gather_tensor", 12, "float32[2,4]"),
    ("reduce_scatter_tensor", 13, "float32[2,4]"),
]
"""What two ranks have called before they wait for anything: no backward pass under ``no_sync`` is a collective."""


@pytest.mark.torch
@pytest.mark.parametrize(
    ("kind", "waits_in", "after"),
    [
        ("ddp", "DDP backward #* (Net 2)", "after *_scatter* #*"),
        ("fsdp", "all_gather_* #* (*)", "after *"),
        ("functional", "all_reduce #* (float32[[]2,4])", "after *_scatter* #*"),
    ],
)
def test_collectives_inside_of_torch_name_the_rank_that_does_not_call_them(
    tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, kind: str, waits_in: str, after: str
) -> None:
    """DDP's backward passes, FSDP's collectives, and functional ones; torch's compiler still follows the latter."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    rings, port = tmp_path / "rings", free_port()
    rings.mkdir()
    with started(program_text("diagnose/torch_inner_collectives"), rings, kind, ranks=2, port=port) as ranks:
        for rank in ranks:
            assert rank.stdout.readline() == "issued\n", rank.stderr.read()  # type: ignore[union-attr]
        issued = read_rings(rings)
        for rank in ranks:
            send(rank)
        printed = [rank.stdout.readline() for rank in ranks for _ in range(3)]  # type: ignore[union-attr]
        pids = {number: rank.pid for number, rank in enumerate(ranks)}
        wait_until(lambda: read_rings(rings)[0].blocking is not None)
        wait_until(lambda: examine(pids, dict.fromkeys(pids), rings, ended={}, patience=0).verdict.culprits)
        verdict = examine(pids, dict.fromkeys(pids), rings, ended={}).verdict
        done = read_rings(rings)

    assert printed == ["16.0 4 1\n", "16.0\n", "goes\n"] * 2
    for ring in issued.values():
        assert [(call.operation, call.place, call.shapes) for call in ring.calls[1:]] == INNER
        assert [call.operation for call in ring.calls if call.left is None] == [each[0] for each in INNER[-3:]]
        assert [call.operation for call in ring.calls if call.raised] == ["DDP backward"]
    waited = {call.operation: call.left is not None for call in done[1].calls[11:14]}
    assert waited["all_reduce"]
    assert waited["reduce_scatter_tensor"]
    assert verdict.ranks == (1,), verdict
    assert verdict.culprits[0].reason == "missing call"
    assert fnmatch(verdict.lines[0], f"hang: rank 0 waits in {waits_in} called at <string>:*"), verdict
    assert fnmatch(verdict.lines[1], f"      rank 1 never called it: {after}*   <- look here"), verdict


@pytest.mark.torch
def test_a_functional_collective_is_waited_for_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a view of the result, by keyword, inside the function, and for each part of a list."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    rings = tmp_path / "rings"
    rings.mkdir()
    with started(program_text("diagnose/functional_collectives"), rings) as (rank,):
        assert rank.stdout.readline() == "done\n", rank.stderr.read()  # type: ignore[union-attr]
        calls = read_rings(rings)[0].calls[1:]

    assert [(call.operation, call.left is not None) for call in calls] == [
        ("all_reduce", True),
        ("broadcast", True),
        ("all_gather_tensor", True),
        ("all_reduce_coalesced", True),
        ("all_reduce", False),
    ]


@pytest.mark.torch
@pytest.mark.parametrize("entries", ["0", "100"])
def test_what_compiled_code_calls_is_known_by_torchs_recorder(
    tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, entries: str
) -> None:
    """Where it is on. Else nothing is known, and nobody is named."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_FR_BUFFER_SIZE", entries)
    rings, port = tmp_path / "rings", free_port()
    rings.mkdir()
    with started(program_text("diagnose/compiled_collectives"), rings, ranks=2, port=port) as ranks:
        for rank in ranks:
            assert rank.stdout.readline() == "goes\n", rank.stderr.read()  # type: ignore[union-attr]
            send(rank)
        pids = {number: rank.pid for number, rank in enumerate(ranks)}
        if entries == "0":
            verdict = examine(pids, dict.fromkeys(pids), rings, ended={}, patience=0).verdict
        else:
            wait_until(lambda: examine(pids, dict.fromkeys(pids), rings, ended={}, patience=0).verdict.culprits)
            verdict = examine(pids, dict.fromkeys(pids), rings, ended={}).verdict
        traces = [read_trace(path) for path in rings.glob("*.json")]

    if entries == "0":
        assert verdict.lines[0] == "hang: no rank stands out: no rank waits in a recorded collective"
        return
    assert fnmatch(verdict.lines[0], "hang: rank 0 waits in C++ all_reduce #5 (float32[[]6[]]) called at <string>:*"), (
        verdict
    )
    assert fnmatch(verdict.lines[1], "      rank 1 never called it: after barrier #2*   <- look here"), verdict
    assert [(call.place, call.left is None) for trace in traces for call in trace or () if call.place == 5] == [
        (5, True)
    ]


def test_all_hooks_of_a_process_have_the_same_groups() -> None:
    """A name that a new group has taken over is forgotten by functional collectives and DDP as well."""

    def group(label: str) -> SimpleNamespace:
        return SimpleNamespace(group_name="1", group_desc=label)

    c10d = ModuleType("c10d")
    vars(c10d).update(_get_default_group=lambda: None, get_process_group_ranks=lambda _: [0, 1])
    of_functions, of_others = groups_of(c10d), groups_of(c10d)
    before = of_others.about(group("old"))
    of_functions.forget()

    assert before[1] == "old"
    assert of_others.about(group("new"))[1] == "new"
