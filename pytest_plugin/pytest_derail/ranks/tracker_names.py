"""Names of shared memory and semaphores that are registered with multiprocessing's resource tracker, which unlinks
them when the processes that share it have ended.

The tracker has no public interface: its private members are used here, and nowhere else (SLF001).
"""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from derail.platform.processes import look_up
from derail.platform.shared_memory import unused
from derail.platform.snapshot import SHARED_MEMORY
from pytest_derail.ranks.worker.held_os import Held

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Registered:
    """The names that this process makes known to multiprocessing's resource tracker, between ``begin`` and ``end``:
    shared memory and semaphores whose names do not say who made them."""

    def __init__(self) -> None:
        self.paths: set[str] = set()

    def begin(self) -> None:
        """Listen to what is sent to the tracker."""

        def listen(command: str, path: str) -> None:
            self.paths.add(path) if command == "REGISTER" else self.paths.discard(path)

        _listen(listen, before=True)

    def end(self) -> None:
        """Listen no more. Idempotent."""
        vars(_tracker()).pop("_send", None)


def record(file: Path) -> None:
    """In a rank: append to a file what this process, and what it forks, registers and has created itself.

    A tracker that runs already is the launcher's. It outlives the rank, and unlinks these names when pytest ends.
    """
    tracker = _tracker()
    if tracker._fd is not None:  # noqa: SLF001 - see above
        return

    def write(command: str, path: str) -> None:
        try:
            found = os.lstat(path) if command == "REGISTER" else None
            if found is not None and not (_is_created() and tracker._pid):  # noqa: SLF001 - see above
                return
            entry = None if found is None else [found.st_dev, found.st_ino, tracker._pid]  # noqa: SLF001 - see above
            fd = Held.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                Held.write(fd, json.dumps([path, entry]).encode() + b"\n")
            finally:
                Held.close(fd)
        except (OSError, ValueError, TypeError):
            return  # it is not known then, and nothing is unlinked

    _listen(write, before=False)


def unlink_orphaned(files: list[Path]) -> list[str]:
    """Unlink what ranks recorded whose resource tracker has ended, killed before it could do so.

    Only the very file that a rank has created, by device and inode, and only if no process uses it.

    Returns:
        What was unlinked.
    """
    left: dict[str, list[int]] = {}
    for file in files:
        try:
            lines = file.read_bytes().splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                path, entry = json.loads(line)
            except ValueError:
                continue  # the rank died while it wrote
            left.pop(path, None)
            if entry is not None:
                left[path] = entry
    orphaned = [path for path, entry in left.items() if _is_orphaned(path, *entry)]
    unlinked = []
    for path in unused(orphaned) if orphaned else ():
        try:
            os.unlink(path)
        except OSError:
            continue
        unlinked.append(path)
    return unlinked


def _is_orphaned(path: str, device: int, inode: int, tracker: int) -> bool:
    """Whether a file is the one that was registered, and its tracker has ended."""
    process = look_up(tracker)
    try:
        found = os.lstat(path)
    except OSError:
        return False
    same = (found.st_dev, found.st_ino) == (device, inode) and found.st_uid == os.geteuid()
    inside = os.path.dirname(path) == SHARED_MEMORY and stat.S_ISREG(found.st_mode)
    return same and inside and (process is None or not process.alive)


def _is_created() -> bool:
    """Whether the caller of ``register`` has created what it registers: semaphores always are, shared memory may only
    be attached to, which is registered as well before Python 3.13."""
    frame = sys._getframe()  # noqa: SLF001 - see above
    while frame is not None and frame.f_code.co_name != "__init__":
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return False
    module = frame.f_globals.get("__name__")
    if module == "multiprocessing.shared_memory":
        return frame.f_locals.get("create") is True
    return module == "multiprocessing.synchronize"


def _listen(heard: Callable[[str, str], None], *, before: bool) -> None:
    """Have a function called with what is sent to the tracker of this process: the command, and the path of the name.

    Args:
        heard: the function.
        before: whether it is called before the message is sent, or after.
    """
    tracker = _tracker()
    send = tracker._send  # noqa: SLF001 - see above

    def listen(command: str, name: str, kind: str) -> None:
        path = os.path.join(SHARED_MEMORY, ("sem." if kind == "semaphore" else "") + name.lstrip("/"))
        if before:
            heard(command, path)
        send(command, name, kind)
        if not before:
            heard(command, path)

    tracker._send = listen  # noqa: SLF001 - see above


def _tracker() -> Any:
    from multiprocessing import resource_tracker

    return resource_tracker._resource_tracker  # noqa: SLF001 - see above
