"""States of a disk after a loss of power."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from derail.faults.mechanisms.persistence import Operation, fixed_part, matcher
from derail.recovery.power import PAGE, Disk

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def disk(tmp_path: Path):
    """Return the disk of a run with one durable file."""
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "old").write_text("old")
    disk = Disk(tmp_path, ("ckpt",), tmp_path / "shadow")
    disk.begin()
    yield disk
    disk.close()


def content(root: Path) -> dict[str, bytes]:
    """Return the files of the watched folder."""
    return {path.name: path.read_bytes() for path in (root / "ckpt").rglob("*") if path.is_file()}


def sync(disk: Disk, path: str) -> None:
    """Synchronize a file or a directory."""
    disk.note(Operation("sync", "fsync", os.getpid(), path))


def test_a_new_file_without_any_sync(disk: Disk, tmp_path: Path) -> None:
    """It is gone, or empty."""
    (tmp_path / "ckpt" / "new").write_text("new")
    disk.lose_power("names", 0)
    assert content(tmp_path) == {"old": b"old", "new": b""}
    disk.lose_power("lost", 0)
    assert content(tmp_path) == {"old": b"old"}


def test_a_rename_without_a_sync_of_the_directory(disk: Disk, tmp_path: Path) -> None:
    """It is undone if all is lost, and kept with the names; the data was synchronized."""
    (tmp_path / "ckpt" / "draft").write_text("new")
    sync(disk, "ckpt/draft")
    (tmp_path / "ckpt" / "draft").replace(tmp_path / "ckpt" / "old")
    disk.lose_power("names", 0)
    assert content(tmp_path) == {"old": b"new"}
    disk.lose_power("lost", 0)
    assert content(tmp_path) == {"old": b"old"}


def test_all_synchronized_is_kept(disk: Disk, tmp_path: Path) -> None:
    """In each state."""
    (tmp_path / "ckpt" / "draft").write_text("new")
    sync(disk, "ckpt/draft")
    (tmp_path / "ckpt" / "draft").replace(tmp_path / "ckpt" / "old")
    sync(disk, "ckpt")
    for state in ("names", "torn", "lost"):
        disk.lose_power(state, 0)
        assert content(tmp_path) == {"old": b"new"}


def test_data_written_in_place_is_the_old_one(disk: Disk, tmp_path: Path) -> None:
    """The last synchronized content comes back."""
    (tmp_path / "ckpt" / "old").write_text("changed")
    assert disk.lose_power("names", 0) == ("ckpt/old: 3 bytes instead of 7",)
    assert content(tmp_path) == {"old": b"old"}


def test_a_removed_file_comes_back(disk: Disk, tmp_path: Path) -> None:
    """Its removal was not synchronized, although a new file may have its inode by now."""
    (tmp_path / "ckpt" / "old").unlink()
    (tmp_path / "ckpt" / "other").write_text("other")
    assert disk.lose_power("lost", 0) == ("ckpt/old: back", "ckpt/other: gone")
    assert content(tmp_path) == {"old": b"old"}


def test_a_directory_that_was_renamed_without_a_sync(disk: Disk, tmp_path: Path) -> None:
    """Its own names are durable, and its new name is not."""
    draft = tmp_path / "ckpt" / "step.tmp"
    draft.mkdir()
    (draft / "data").write_text("data")
    sync(disk, "ckpt/step.tmp/data")
    sync(disk, "ckpt/step.tmp")
    sync(disk, "ckpt")
    draft.rename(tmp_path / "ckpt" / "step")
    disk.lose_power("lost", 0)
    assert (tmp_path / "ckpt" / "step.tmp" / "data").read_text() == "data"
    assert not (tmp_path / "ckpt" / "step").exists()


@pytest.mark.parametrize("seed", range(5))
def test_torn_data_ends_at_a_page(disk: Disk, tmp_path: Path, seed: int) -> None:
    """Zeros follow; the size is kept; the same seed tears at the same place."""
    path = tmp_path / "ckpt" / "new"
    path.write_bytes(b"x" * (3 * PAGE + 5))
    disk.lose_power("torn", seed)
    data = path.read_bytes()
    kept = len(data.rstrip(b"\0"))
    assert (len(data), kept % PAGE) == (3 * PAGE + 5, 0)
    path.write_bytes(b"x" * (3 * PAGE + 5))
    disk.lose_power("torn", seed)
    assert path.read_bytes() == data


def test_sync_makes_everything_durable(disk: Disk, tmp_path: Path) -> None:
    """Names and data."""
    (tmp_path / "ckpt" / "new").write_text("new")
    disk.note(Operation("sync", "sync", os.getpid()))
    disk.lose_power("lost", 0)
    assert content(tmp_path) == {"old": b"old", "new": b"new"}


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("ckpt/**", ["ckpt", "ckpt/a", "ckpt/a/b"], ["ckpts", "a/ckpt"]),
        ("ckpt/*.pt", ["ckpt", "ckpt/a.pt"], ["ckpt/a/b.pt", "ckpt/a.ptx"]),
        ("out/**/last.pt", ["out", "out/last.pt", "out/a/b/last.pt"], ["out/a/first.pt"]),
        ("*.pt", ["a.pt"], ["", "b/a.pt"]),
        ("model.pt", ["model.pt"], ["model_pt"]),
    ],
)
def test_patterns(pattern: str, matching: list[str], other: list[str]) -> None:
    """The folder before the first wildcard belongs to them."""
    matches = matcher((pattern,))
    assert [path for path in matching if not matches(path)] == []
    assert [path for path in other if matches(path)] == []
    assert fixed_part("a/b/*.pt") == "a/b"
