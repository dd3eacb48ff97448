"""Return values of functions: sent from the rank to the launcher, of any size, without either waiting for the other.

Each rank inherits a file in memory. It writes the pickled value there, and then the head of the file, which marks the
value as complete: a rank that is killed in between has returned nothing. One pipe informs the launcher which ranks
have done so. Another one lets them all go when the last of them has (rank 0 may serve the others until then).

The reasons are in docs/adr/values-in-memory-files.md.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.spawn.descriptors import close_owned, own
from derail.spawn.handle import NotReturned, Returned

if TYPE_CHECKING:
    from collections.abc import Iterable

NO_MEMFD_ENV = "DERAIL_NO_MEMFD"
"""Environment variable: if not empty, files in the temp directory are used instead of files in memory."""

_MAGIC = b"derail\x001"
_HEAD = struct.Struct("<8sQQ")
_VALUE, _REASON = 1, 2
_CHUNK = 1 << 30
_REASON_LIMIT = 16384


@dataclass(frozen=True, slots=True)
class Slot:
    """The descriptors with which one rank delivers its value.

    Attributes:
        rank: local rank.
        value_fd: its file in memory.
        done_fd: write end of the job's pipe for the numbers of ranks that have returned.
        release_fd: read end of the pipe that signals, by a byte or by its end, that all have returned.
    """

    rank: int
    value_fd: int
    done_fd: int
    release_fd: int

    @property
    def fds(self) -> tuple[int, int, int]:
        """All three, in the order of the fields."""
        return (self.value_fd, self.done_fd, self.release_fd)


class Returns:
    """The launcher's side of the values of one job. Allocated by ``open``, not by the constructor.

    ``read_done`` and ``release`` belong to the thread of the job; ``take`` and ``close`` may be called from any thread.
    """

    def __init__(self, ranks: Iterable[int]) -> None:
        self.ranks = tuple(ranks)
        self.done_fd = -1
        """Descriptor that polls readable while ``read_done`` has something to return."""
        self._done_write = self._release_read = self._release_write = -1
        self._files: dict[int, int] = {}
        self._taken: dict[int, Returned | NotReturned] = {}
        self._partial = b""
        self._lock = threading.RLock()

    def open(self) -> None:
        """Make the files and pipes; if that fails, none of them is left."""
        with ExitStack() as undo:
            undo.callback(self.close)
            self.done_fd, self._done_write = map(own, os.pipe())
            self._release_read, self._release_write = map(own, os.pipe())
            os.set_blocking(self.done_fd, False)
            os.set_blocking(self._release_write, False)
            for rank in self.ranks:
                self._files[rank] = own(create_memory_file(f"derail-value-{rank}"))
            undo.pop_all()

    def slot(self, rank: int) -> Slot:
        """Return the descriptors for ``rank``. The launcher keeps them: a rank gets copies."""
        return Slot(rank, self._files[rank], self._done_write, self._release_read)

    def read_done(self) -> list[int]:
        """Return the ranks with complete values that were not returned before; never blocks."""
        try:
            data = self._partial + os.read(self.done_fd, 65536)
        except BlockingIOError:
            return []
        *lines, self._partial = data.split(b"\n")
        numbers = [int(line) for line in lines if line.isdigit() and len(line) < 10]
        return [rank for rank in numbers if self._is_whole(rank)]

    def release(self) -> None:
        """Let the ranks exit that have returned and wait for the others. Idempotent."""
        fd, self._release_write = self._release_write, -1
        if fd >= 0:
            # Not only by the end of the pipe: other code may have forked a process with a copy of this end.
            try:
                os.write(fd, bytes(len(self.ranks)))
            except OSError:
                pass  # no rank is left to read it
            close_owned(fd)

    def take(self, rank: int) -> Returned | NotReturned:
        """Return the value of ``rank``; later calls return the same object. Never raises, whatever the rank wrote."""
        with self._lock:
            taken = self._taken.get(rank)
            if taken is not None:
                return taken
            fd = self._files.get(rank, -1)
            if fd < 0:
                return NotReturned()
            result = _read(fd)
            if isinstance(result, Returned) or result.reason:
                self._taken[rank] = result
                self._free(rank)
            return result

    def close(self) -> None:
        """Close all descriptors, which lets the ranks exit; values that were not taken are lost. Idempotent."""
        with self._lock:
            self.release()
            for rank in tuple(self._files):
                self._free(rank)
            ends = (self.done_fd, self._done_write, self._release_read)
            self.done_fd = self._done_write = self._release_read = -1
            for fd in ends:
                close_owned(fd)

    def _free(self, rank: int) -> None:
        fd = self._files.pop(rank, -1)
        if fd >= 0:
            try:
                os.truncate(fd, 0)  # the rank may still run, with its copy of the descriptor
            except OSError:
                pass  # the memory is freed a little later
            close_owned(fd)

    def _is_whole(self, rank: int) -> bool:
        fd = self._files.get(rank, -1)
        return rank in self._taken or (fd >= 0 and _read_head(fd) is not None)


def create_memory_file(name: str) -> int:
    """Open a new unnamed file, in memory where the platform supports that; ``exec`` closes it."""
    if hasattr(os, "memfd_create") and not os.environ.get(NO_MEMFD_ENV):
        try:
            return os.memfd_create(name, os.MFD_CLOEXEC)
        except OSError as error:
            # Old kernels and strict sandboxes have none; anything else is a real shortage.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
    import tempfile

    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


def write_value(fd: int, value: object) -> None:
    """Pickle ``value`` into its file, then mark it as complete; called in the rank.

    Plain pickle, so that tensors are sent by value: memory that multiprocessing shares would be gone with the rank.
    """
    import io
    import pickle

    os.truncate(fd, 0)
    os.lseek(fd, _HEAD.size, os.SEEK_SET)
    with io.BufferedWriter(io.FileIO(fd, "wb", closefd=False), 1 << 20) as file:
        pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)
        file.flush()
        length = file.tell() - _HEAD.size
    os.pwrite(fd, _HEAD.pack(_MAGIC, _VALUE, length), 0)


def write_reason(fd: int, reason: str) -> None:
    """Record why there is no value although the function returned; called in the rank."""
    text = reason.encode("utf-8", "backslashreplace")[:_REASON_LIMIT]
    os.truncate(fd, 0)
    os.pwrite(fd, text, _HEAD.size)
    os.pwrite(fd, _HEAD.pack(_MAGIC, _REASON, len(text)), 0)


def write_done(fd: int, rank: int) -> None:
    """Inform the launcher that the value is complete; called in the rank."""
    os.write(fd, b"%d\n" % rank)


def _read_head(fd: int) -> tuple[int, int] | None:
    head = os.pread(fd, _HEAD.size, 0)
    if len(head) < _HEAD.size:
        return None
    magic, kind, length = _HEAD.unpack(head)
    return (kind, length) if magic == _MAGIC and kind in (_VALUE, _REASON) else None


def _read(fd: int) -> Returned | NotReturned:
    import pickle

    try:
        head = _read_head(fd)
        if head is None:
            return NotReturned()
        kind, length = head
        data = _read_exactly(fd, length)
        if data is None:
            return NotReturned(f"the returned value is damaged: expected {length} bytes, got fewer")
        if kind == _REASON:
            return NotReturned(data.decode("utf-8", "replace"))
        return Returned(pickle.loads(data))
    except BaseException as error:  # unpickling runs third-party code, which may raise anything
        return NotReturned(f"the returned value could not be unpickled in the launcher: {describe(error)}")


def _read_exactly(fd: int, length: int) -> bytearray | None:
    # Copied, not mapped: a rank that truncates its file would kill the launcher with SIGBUS.
    if os.fstat(fd).st_size < _HEAD.size + length:
        return None
    data = bytearray(length)
    view = memoryview(data)
    done = 0
    while done < length:
        count = os.preadv(fd, [view[done : done + _CHUNK]], _HEAD.size + done)
        if count == 0:
            return None
        done += count
    return data


def describe(error: BaseException) -> str:
    """Return type and text of an exception, whatever its ``__str__`` does."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # a hostile __str__ must not hide which error it was
        return type(error).__name__
