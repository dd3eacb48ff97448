"""Damage to files that a rank has written and will read again: truncated, one bit changed, deleted. From outside."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires
from derail.faults.catalogue.params import choice_param, read_text
from derail.faults.injectors.resources import living
from derail.faults.model.plan import decide
from derail.faults.model.results import Errored, Injected, NotReached
from derail.platform.capabilities import PROC, why_no_proc

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.faults.catalogue.injector_api import Aim, Step

PAGE = 4096
"""Size in bytes of the unit that is lost when data has not reached the disk."""


def damage(aim: Aim) -> Step:
    """Damage the file that the path selects now, and verify it by reading it again."""
    found = _newest(aim)
    if not isinstance(found, Path):
        return found
    try:
        before = os.lstat(found)
        if before.st_size == 0 and aim.text("how") != "missing":
            return Errored(f"{found} is empty: no change possible")
        seen = _WAYS[aim.text("how")](aim, found, before.st_size)
    except OSError as error:  # it may belong to another user, or be gone by now
        return Errored(f"{found}: {error.strerror}")
    return seen if isinstance(seen, Errored) else Injected(f"{found} had {before.st_size} bytes; {seen}")


def _newest(aim: Aim) -> Path | Errored | NotReached:
    """Return the most recently written file among those that the path matches, in the rank's working directory."""
    wanted = Path(aim.text("path"))
    if not wanted.is_absolute():
        pid = living(aim)
        if pid is None:
            return NotReached(f"the rank had ended: its working directory, the base of {wanted}, is unknown")
        try:
            wanted = Path(os.readlink(PROC / str(pid) / "cwd")) / wanted
        except OSError as error:
            return Errored(f"the working directory of pid {pid}: {error.strerror}")
    files = [path for path in Path(wanted.anchor).glob(str(wanted.relative_to(wanted.anchor))) if _is_file(path)]
    if not files:
        return NotReached(f"no file matches {wanted}")
    return max(files, key=lambda path: (path.lstat().st_mtime_ns, str(path)))


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _cut(size: Callable[[int], int]) -> Callable[[Aim, Path, int], str | Errored]:
    def cut(_: Aim, path: Path, before: int) -> str | Errored:
        os.truncate(path, size(before))
        now = os.lstat(path).st_size
        return f"has {now} now" if now == size(before) else Errored(f"{path} has {now} bytes after truncation")

    return cut


def _remove(_: Aim, path: Path, __: int) -> str | Errored:
    path.unlink()
    return Errored(f"{path} still exists") if os.path.lexists(path) else "it is gone"


def _flip(aim: Aim, path: Path, size: int) -> str | Errored:
    place, bit = decide(aim.seed, aim.fault.id, "byte") % size, decide(aim.seed, aim.fault.id, "bit") % 8
    return _written(path, place, lambda old: bytes([old[0] ^ (1 << bit)]), 1, f"bit {bit} of byte {place} is flipped")


def _zero(aim: Aim, path: Path, size: int) -> str | Errored:
    place = decide(aim.seed, aim.fault.id, "page") % ((size + PAGE - 1) // PAGE) * PAGE
    length = min(PAGE, size - place)
    return _written(path, place, lambda old: bytes(len(old)), length, f"bytes {place} to {place + length - 1} are zero")


def _written(path: Path, place: int, change: Callable[[bytes], bytes], length: int, evidence: str) -> str | Errored:
    """Overwrite a part of a file, and verify it by reading it again."""
    with path.open("r+b", buffering=0) as file:
        old = os.pread(file.fileno(), length, place)
        new = change(old)
        if new == old:
            return Errored(f"{path} already has such bytes at {place}: no change possible")
        os.pwrite(file.fileno(), new, place)
        return evidence if os.pread(file.fileno(), length, place) == new else Errored(f"{path} is unchanged at {place}")


_WAYS: dict[str, Callable[[Aim, Path, int], str | Errored]] = {
    "truncated": _cut(lambda size: size // 2),
    "emptied": _cut(lambda _: 0),
    "missing": _remove,
    "bit_flipped": _flip,
    "zeroed": _zero,
}
"""The change by ``how``, which returns what was verified."""


def _read_path(value: object) -> str:
    path = read_text(value)
    if not path.strip() or "\0" in path or path.endswith(os.sep):
        raise ValueError(f"expected the path of a file like 'checkpoints/*.pt', got {value!r}")
    return path


ENTRIES = (
    Entry(
        name="checkpoint_damaged",
        side="outside",
        summary="Damages a file that a rank has written, such as a checkpoint; the next reader must detect it.",
        inject=damage,
        verified="the file's size or changed bytes, read again",
        healed="",
        example='faults.checkpoint_damaged("checkpoints/*.pt", "bit_flipped", rank=0, when=when.line("saved step 4"))',
        params=(
            Param(
                "path",
                _read_path,
                "Path of the file, relative to the rank's working directory; * and ? select the newest match.",
                "file",
                required=True,
            ),
            choice_param(
                "how",
                _WAYS,
                "Cut in half, emptied, deleted, one bit flipped, or one page zeroed; the seed selects bit and page.",
                default="truncated",
            ),
        ),
        requires=Requires("/proc, for a path that is not absolute", unavailable=why_no_proc),
        acts=Acts(repeats=True),
    ),
)
