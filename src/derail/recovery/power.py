"""States that a disk may have after a loss of power, built from what was synchronized before.

The model is that of fsync(2): an fsync of a file makes its data durable, and an fsync of a directory its names. All
that was not synchronized may be there or not, in any combination. Three of the combinations are built:

- ``lost``: only what was synchronized is there; a name without a synchronized directory is gone, or is the old one.
- ``names``: all names are there, as a journal of metadata keeps them; unsynchronized data is missing.
- ``torn``: as ``names``, but unsynchronized data is there up to a page boundary, and zeros follow.

The folders that the patterns begin with are always there. A real disk may do worse: see docs/explanation/recovery.md.
Files are identified by their inodes, which hard links keep from being used again.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.faults.mechanisms.persistence import Operation

PAGE = 4096
Listing = dict[str, int]


@dataclass(slots=True)
class Disk:
    """What is durable of the watched files of one run.

    Args:
        root: the directory of the run.
        folders: the watched folders, relative to it.
        shadow: an empty directory on the same file system, for copies of synchronized data.
    """

    root: Path
    folders: tuple[str, ...]
    shadow: Path
    _names: dict[int, Listing] = field(default_factory=dict)
    _links: dict[int, str] = field(default_factory=dict)
    _directories: dict[int, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Take all that is there as durable; ``close`` it later."""
        self.shadow.mkdir(parents=True, exist_ok=True)
        for folder in self.folders:
            self._all(self.root / folder)

    def close(self) -> None:
        """Release the directories whose inodes it has kept."""
        while self._directories:
            os.close(self._directories.popitem()[1])

    def note(self, operation: Operation) -> None:
        """Note a synchronization that is about to happen."""
        if operation.kind != "sync":
            return
        for path in [self.root / operation.path] if operation.path else [self.root / name for name in self.folders]:
            if not operation.path:
                self._all(path)
            elif path.is_dir():
                self._names_of(path)
            else:
                self._data_of(path)

    def lose_power(self, state: str, seed: int) -> tuple[str, ...]:
        """Put the watched files into a state after a loss of power; return what changed, in words.

        All processes of the run must have ended.
        """
        changes = self._tear(seed, torn=state == "torn") if state != "lost" else self._lose()
        return tuple(sorted(changes))

    def _tear(self, seed: int, *, torn: bool) -> Iterator[str]:
        random = Random(f"{seed}")
        for path in sorted(self._files()):
            if path.is_symlink() or self._is_synchronized(path):
                continue
            data = path.read_bytes()
            old = self._durable(os.lstat(path).st_ino)
            name = path.relative_to(self.root)
            if torn:
                kept = PAGE * random.randrange(0, max(1, -(-len(data) // PAGE)))
                _replace(path, data[:kept] + bytes(len(data) - kept))
                yield f"{name}: zeros after byte {kept} of {len(data)}"
            else:
                _replace(path, old or b"")
                yield f"{name}: {len(old or b'')} bytes instead of {len(data)}"

    def _lose(self) -> Iterator[str]:
        for folder in self.folders:
            here = self.root / folder
            before = {str(path.relative_to(self.root)) for path in self._files()}
            if not here.is_dir():
                continue
            built = self.shadow / "built"
            self._build(os.lstat(here).st_ino, built)
            for child in list(here.iterdir()):
                shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
            for child in list(built.iterdir()):
                child.rename(here / child.name)
            built.rmdir()
            after = {str(path.relative_to(self.root)) for path in self._files()}
            yield from (f"{name}: gone" for name in before - after)
            yield from (f"{name}: back" for name in after - before)

    def _build(self, directory: int, at: Path) -> None:
        at.mkdir()
        for name, ino in self._names.get(directory, {}).items():
            if ino in self._directories:
                self._build(ino, at / name)
            elif ino in self._links:
                (at / name).symlink_to(self._links[ino])
            else:
                (at / name).write_bytes(self._durable(ino) or b"")

    def _files(self) -> Iterator[Path]:
        """Yield all files and links in the watched folders."""
        for folder in self.folders:
            for base, _, names in os.walk(self.root / folder):
                yield from (Path(base, name) for name in names)

    def _all(self, path: Path) -> None:
        for base, _, names in os.walk(path):
            self._names_of(Path(base))
            for name in names:
                self._data_of(Path(base, name))

    def _names_of(self, path: Path) -> None:
        listing: Listing = {}
        try:
            entries = sorted(os.listdir(path))
            directory = os.lstat(path).st_ino
        except OSError:
            return
        for name in entries:
            with suppress(OSError):
                info = os.lstat(path / name)
                listing[name] = info.st_ino
                if stat.S_ISDIR(info.st_mode):
                    self._names.setdefault(info.st_ino, {})
                    if info.st_ino not in self._directories:  # an open directory keeps its inode
                        self._directories[info.st_ino] = os.open(path / name, os.O_PATH | os.O_CLOEXEC)
                elif stat.S_ISLNK(info.st_mode):
                    self._links[info.st_ino] = os.readlink(path / name)
                else:
                    self._pin(path / name, info.st_ino)
        self._names[directory] = listing

    def _data_of(self, path: Path) -> None:
        with suppress(OSError):
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode):
                self._pin(path, info.st_ino)
                shutil.copyfile(path, self.shadow / f"data-{info.st_ino}")

    def _pin(self, path: Path, ino: int) -> None:
        """Keep an inode from being used again, for as long as the run takes."""
        with suppress(OSError):  # it is there already, or this file system has no hard links
            os.link(path, self.shadow / f"inode-{ino}", follow_symlinks=False)

    def _durable(self, ino: int) -> bytes | None:
        try:
            return (self.shadow / f"data-{ino}").read_bytes()
        except OSError:
            return None

    def _is_synchronized(self, path: Path) -> bool:
        info = os.lstat(path)
        if not stat.S_ISREG(info.st_mode):
            return True
        return self._durable(info.st_ino) == path.read_bytes()


def _replace(path: Path, data: bytes) -> None:
    """Write data to a file of a new inode: the old one may have a second name."""
    mode = stat.S_IMODE(os.lstat(path).st_mode)
    path.unlink()
    path.write_bytes(data)
    path.chmod(mode)
