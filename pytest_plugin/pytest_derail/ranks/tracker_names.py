"""Names of shared memory and semaphores registered with multiprocessing's resource tracker.

The tracker unlinks them when the processes that share it have ended. It has no public interface: its private members
are used here, and nowhere else (SLF001).
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
    """Names that this process registers with multiprocessing's resource tracker between ``begin`` and ``end``.

    They are shared memory and semaphores; such a name does not identify its creator.
    """

    def __init__(self) -> None:
        self.paths: set[str] = set()

    def begin(self) -> None:
        """Start to record messages to the tracker."""

        def listen(command: str, path: str) -> None:
            self.paths.add(path) if command == "REGISTER" else self.paths.discard(path)

        _listen(listen, before=True)

    def end(self) -> None:
        """Stop recording. Idempotent."""
        vars(_tracker()).pop("_send", None)


def record(file: Path) -> None:
    """In a rank: append to a file the names that this process and its forks create and register.

    A tracker that runs already is the launcher's. It outlives the rank, and unlinks these names when pytest ends.
    """
    tracker = _tracker()
    if tracker._fd is not None:  # noqa: SLF001 - see above
        return

    def write(command: str, path: str) -> None:
        try:
            status = os.lstat(path) if command == "REGISTER" else None
            if status is not None and not (_is_created() and tracker._pid):  # noqa: SLF001 - see above
                return
            entry = None if status is None else [status.st_dev, status.st_ino, tracker._pid]  # noqa: SLF001 - see above
            fd = Held.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                Held.write(fd, json.dumps([path, entry]).encode() + b"\n")
            finally:
                Held.close(fd)
        except (OSError, ValueError, TypeError):
            return  # then the name stays unrecorded, and is not unlinked

    _listen(write, before=False)


def unlink_orphaned(files: list[Path]) -> list[str]:
    """Unlink names that ranks recorded, if their resource tracker was killed before it could do so.

    Only the exact file that a rank has created is unlinked, by device and inode, and only if no process uses it.

    Returns:
        The unlinked paths.
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
                continue  # the rank died while writing it
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
    """Return whether a file is the registered one, and its tracker has ended."""
    process = look_up(tracker)
    try:
        status = os.lstat(path)
    except OSError:
        return False
    same = (status.st_dev, status.st_ino) == (device, inode) and status.st_uid == os.geteuid()
    inside = os.path.dirname(path) == SHARED_MEMORY and stat.S_ISREG(status.st_mode)
    return same and inside and (process is None or not process.alive)


def _is_created() -> bool:
    """Return whether the caller of ``register`` has created the object that it registers.

    Semaphores are always created. Shared memory may only be attached to; before Python 3.13 that registers it as well.
    """
    frame = sys._getframe()  # noqa: SLF001 - see above
    while frame is not None and frame.f_code.co_name != "__init__":
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return False
    module = frame.f_globals.get("__name__")
    if module == "multiprocessing.shared_memory":
        return frame.f_locals.get("create") is True
    return module == "multiprocessing.synchronize"


def _listen(report: Callable[[str, str], None], *, before: bool) -> None:
    """Call ``report`` for each message to the tracker of this process: the command, and the path of the name.

    Args:
        report: the function to call.
        before: whether to call it before the message is sent, or after.
    """
    tracker = _tracker()
    send = tracker._send  # noqa: SLF001 - see above

    def listen(command: str, name: str, kind: str) -> None:
        path = os.path.join(SHARED_MEMORY, ("sem." if kind == "semaphore" else "") + name.lstrip("/"))
        if before:
            report(command, path)
        send(command, name, kind)
        if not before:
            report(command, path)

    tracker._send = listen  # noqa: SLF001 - see above


def _tracker() -> Any:
    from multiprocessing import resource_tracker

    return resource_tracker._resource_tracker  # noqa: SLF001 - see above
