"""Checkpoints damaged from outside: the content that the rank and other readers find."""

import os

import pytest

from derail import faults, when
from derail.faults.catalogue.injector_api import Aim
from derail.faults.injectors import checkpoints
from derail.faults.model.results import Errored
from derail.model.input_error import InputError
from faults.real_job import ENDED, ended
from program_files import UNTIL

SAVES = (
    UNTIL
    + """
import pathlib
here = pathlib.Path("checkpoints")
here.mkdir(exist_ok=True)
for step in (1, 2):
    (here / f"{step}.pt").write_bytes(bytes(range(1, 251)) * 100)
    os.utime(here / f"{step}.pt", (step, step))
print("saved", flush=True)
"""
    + f"until('{ENDED}')\n"
)
WHOLE = bytes(range(1, 251)) * 100
SAVED = when.line("saved")


def damaged(tmp_path, fault):
    """Return the fault's result, and the content of the two files (None: gone)."""
    seen, _ = ended(tmp_path, SAVES, fault, cwd=tmp_path)
    files = [tmp_path / "checkpoints" / f"{step}.pt" for step in (1, 2)]
    return seen.faults[0], [path.read_bytes() if path.exists() else None for path in files]


@pytest.mark.parametrize(
    ("how", "left"),
    [
        ("truncated", WHOLE[: len(WHOLE) // 2]),
        ("emptied", b""),
        ("missing", None),
    ],
)
def test_the_newest_file_is_cut_or_deleted(tmp_path, how, left):
    """The other file is unchanged."""
    told, files = damaged(tmp_path, faults.checkpoint_damaged("checkpoints/*.pt", how, rank=0, when=SAVED))

    assert (told.status, files) == ("injected", [WHOLE, left]), told


def test_one_bit_is_flipped(tmp_path):
    """In one byte, which the seed selects."""
    told, (first, second) = damaged(
        tmp_path, faults.checkpoint_damaged("checkpoints/1.pt", "bit_flipped", rank=0, when=SAVED)
    )
    changed = [old ^ new for old, new in zip(WHOLE, first, strict=True) if old != new]

    assert told.status == "injected", told
    assert [bits.bit_count() for bits in changed] == [1]
    assert second == WHOLE


def test_one_page_is_lost(tmp_path):
    """As if it had not reached the disk."""
    path = tmp_path / "checkpoints" / "2.pt"
    told, (_, second) = damaged(tmp_path, faults.checkpoint_damaged(str(path), "zeroed", rank=0, when=SAVED))
    zero = [place for place, byte in enumerate(second) if byte == 0]

    assert told.status == "injected", told
    assert len(second) == len(WHOLE)
    assert zero == list(range(zero[0], zero[0] + len(zero)))
    assert zero[0] % 4096 == 0
    assert 0 < len(zero) <= 4096


def test_the_same_seed_damages_the_same_place(tmp_path):
    """Two jobs under one plan leave the same bytes."""
    fault = faults.checkpoint_damaged("checkpoints/1.pt", "bit_flipped", rank=0, when=SAVED)
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(damaged(tmp_path / name, fault)[1][0])

    assert found[0] == found[1] != WHOLE


@pytest.mark.parametrize(
    ("program", "status", "why"),
    [
        (SAVES.replace("checkpoints", "elsewhere"), "not_reached", "no file matches"),
        (SAVES.replace("* 100)", "* 0)"), "errored", "no change possible"),
        (SAVES.replace("bytes(range(1, 251))", "bytes(4096)"), "errored", "has such bytes"),
    ],
    ids=["no file", "empty", "zero already"],
)
def test_a_missing_or_unchanged_file_is_no_injection(tmp_path, program, status, why):
    """The result has the reason."""
    fault = faults.checkpoint_damaged("checkpoints/*.pt", "zeroed", rank=0, when=SAVED)
    seen, _ = ended(tmp_path, program, fault, cwd=tmp_path)

    assert [result.status for result in seen.faults] == [status], seen.faults
    assert why in seen.faults[0].detail


def test_a_link_is_not_followed(tmp_path):
    """Its target may belong to any user."""
    (tmp_path / "mine").write_bytes(WHOLE)
    (tmp_path / "checkpoints").mkdir()
    os.symlink(tmp_path / "mine", tmp_path / "checkpoints" / "0.ckpt")
    told, _ = damaged(tmp_path, faults.checkpoint_damaged("checkpoints/*.ckpt", rank=0, when=SAVED))

    assert told.status == "not_reached"
    assert (tmp_path / "mine").read_bytes() == WHOLE


@pytest.mark.parametrize("path", ["", " ", "here/", 3])
def test_an_invalid_path_is_refused(path):
    """Before anything starts."""
    with pytest.raises(InputError, match="expected"):
        faults.checkpoint_damaged(path, rank=0)


def test_a_file_that_vanishes_during_the_check_is_reported(tmp_path, monkeypatch):
    """The rank itself may have removed it."""
    path = tmp_path / "1.pt"
    (fault,) = faults.plan([faults.checkpoint_damaged(str(path), rank=0)]).faults
    monkeypatch.setattr(checkpoints, "_newest", lambda _: path)

    assert checkpoints.damage(Aim(fault, 0, 0, control=None)) == Errored(f"{path}: No such file or directory")
