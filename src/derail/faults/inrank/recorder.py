"""Recorder of the collectives that this process calls, into its ring file. ``bootstrap`` starts it.

``torch.distributed`` and ``mpi4py`` are recorded from the moment when the program imports them. For other libraries
there is ``record_collective``.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

from .rank_plan import RECORDER
from .ring import ASYNC, COMPARED, RAISED, STORE, Call, RingWriter, as_ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self, TypeAlias

    Ticket: TypeAlias = tuple[int, int]
    Describe: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], "Call | None"]

HERE = os.path.dirname(os.path.abspath(__file__))
MOST_PENDING = 4096
"""Collectives that are issued and not waited for, of which the recorder keeps track."""

active: Recorder | None = None
"""The recorder of this process."""


class Recorder:
    """Recorder of one process: its ring file, and what it needs to fill it quickly.

    Attributes:
        ring: the ring file; None in a forked child of the process, which is not the rank.
        world: number of ranks of the job; 0 if unknown.
        is_over: whether this is such a child.
    """

    def __init__(self, directory: str, rank: int, *, world: int, attempt: int) -> None:
        self.rank = rank
        self.world = world
        self.is_over = False
        self.ring: RingWriter | None = None
        self._about = (directory, rank, world, attempt)
        self._inside: set[int] = set()  # threads in a collective: what it calls itself is no collective of the program
        self._pending: dict[int, tuple[Ticket, int]] = {}
        self._files: dict[str, bytes | None] = {}
        self._names: dict[str, bytes] = {}
        self._hidden: list[str] = [HERE, "<frozen"]

    def open(self) -> None:
        """Create the ring file, unless that is done. Children of this process record nothing then.

        Raises:
            OSError: if the file cannot be created; nothing is recorded.
        """
        if self.ring is None:
            os.environ.pop(RECORDER, None)
            directory, rank, world, attempt = self._about
            self.ring = RingWriter(directory, rank, world=world, attempt=attempt)

    def hide(self, directory: str) -> None:
        """Take the next frame outside of a directory for the place of a call."""
        self._hidden.append(directory)
        self._files.clear()

    def wrap(self, original: Callable[..., Any], describe: Describe) -> Callable[..., Any]:
        """Return a function that records each call of ``original``; ``describe`` is given the arguments of a call."""
        inside = self._inside

        def recorded(*args: Any, **options: Any) -> Any:
            thread = get_ident()
            if thread in inside:
                return original(*args, **options)
            inside.add(thread)
            try:
                ticket, flags = self._enter(describe, args, options)
                try:
                    result = original(*args, **options)
                except BaseException:
                    self._leave(ticket, flags | RAISED)
                    raise
                if flags & ASYNC and result is not None:
                    self._keep(result, ticket, flags)
                else:
                    self._leave(ticket, flags)
                return result
            finally:
                inside.discard(thread)

        return recorded

    def wrap_wait(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that records the wait for a collective that was issued before."""
        pending = self._pending

        def wait(work: Any, *args: Any, **options: Any) -> Any:
            issued = pending.pop(id(work), None)
            if issued is None or self.ring is None:
                return original(work, *args, **options)
            ticket, flags = issued
            self.ring.wait(ticket)
            try:
                result = original(work, *args, **options)
            except BaseException:
                self._leave(ticket, flags | RAISED)
                raise
            self._leave(ticket, flags)
            return result

        return wait

    def enter(self, call: Call, depth: int) -> Ticket | None:
        """Record that a collective is called, by a function ``depth`` frames above the caller."""
        if self.ring is None:
            return None
        frame: Any = sys._getframe(depth)  # noqa: SLF001 - the place of the call
        file = None
        while frame is not None:
            code = frame.f_code
            name = code.co_filename
            try:
                file = self._files[name]
            except KeyError:
                hidden = name.startswith(tuple(self._hidden))
                file = self._files[name] = None if hidden else os.fsencode(name)[-128:]
            if file is not None:
                break
            frame = frame.f_back
        if frame is None:
            return self._write(call, b"", 0, b"")
        name = code.co_name
        function = self._names.get(name)
        if function is None:
            function = self._names[name] = name.encode(errors="replace")
        return self._write(call, file or b"", frame.f_lineno or 0, function)

    def leave(self, ticket: Ticket | None, flags: int) -> None:
        """Record that a collective has ended."""
        self._leave(ticket, flags)

    def forget(self) -> None:
        """Record nothing more: this is a forked child, and the ring is its parent's."""
        ring, self.ring, self.is_over = self.ring, None, True
        if ring is not None:
            ring.close()
        self._pending.clear()
        self._inside.clear()

    def _enter(self, describe: Describe, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Ticket | None, int]:
        try:
            call = describe(args, options)
            return (None, 0) if call is None else (self.enter(call, 3), call.flags)
        except Exception:  # an unusual argument: the program's own call says what is wrong with it
            return None, 0

    def _write(self, call: Call, file: bytes, line: int, function: bytes) -> Ticket | None:
        ring = self.ring
        if ring is None:
            return None
        write = ring.enter_store if call.flags & STORE else ring.enter
        return write(call, file, line, function)

    def _leave(self, ticket: Ticket | None, flags: int) -> None:
        if ticket is not None and self.ring is not None:
            self.ring.leave(ticket, flags)

    def _keep(self, work: Any, ticket: Ticket | None, flags: int) -> None:
        if ticket is not None:
            if len(self._pending) >= MOST_PENDING:
                self._pending.clear()
            self._pending[id(work)] = (ticket, flags)


def activate(recorder: Recorder) -> None:
    """Make a recorder the one of this process, but not of its forked children."""
    global active  # noqa: PLW0603 - one process, one rank
    active = recorder
    os.register_at_fork(after_in_child=recorder.forget)


class record_collective:  # noqa: N801 - used like a function
    """Context manager that records a collective of a library that derail does not know, for reports of hangs.

    Without a recorder in this process it does nothing.

    Args:
        operation: its name.
        group: name of the group of ranks, the same in all of them; each group has its own count.
        ranks: the ranks of the group; by default all ranks of the job.
        shapes: what is exchanged, such as ``float32[1024]``; if given, it must be equal in all ranks of the group.
    """

    def __init__(
        self, operation: str, *, group: str = "", ranks: tuple[int, ...] | None = None, shapes: str = ""
    ) -> None:
        self._about = (operation, group, ranks, shapes)
        self._ticket: Ticket | None = None
        self._recorder: Recorder | None = None
        self._flags = 0

    def __enter__(self) -> Self:
        """Record the call."""
        recorder = present()
        if recorder is not None:
            operation, group, ranks, shapes = self._about
            self._flags = COMPARED if shapes else 0
            call = Call(
                operation.encode(errors="replace"),
                f"own:{group}".encode(errors="replace"),
                group.encode(errors="replace"),
                as_ranges(range(recorder.world) if ranks is None else ranks),
                shapes.encode(errors="replace"),
                flags=self._flags,
            )
            self._recorder, self._ticket = recorder, recorder.enter(call, 2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record the end."""
        if self._recorder is not None:
            self._recorder.leave(self._ticket, self._flags | (RAISED if kind is not None else 0))


def present() -> Recorder | None:
    """Return the recorder of this process with an open ring file; None if there is none.

    It may have been started under the private name of this package.
    """
    if active is None:
        other = sys.modules.get("_derail_inrank.recorder")
        recorder = None if other is None or other.__name__ == __name__ else other.active
    else:
        recorder = active
    if recorder is None or recorder.is_over:
        return None
    if recorder.ring is None:
        try:
            recorder.open()
        except OSError:
            return None
    result: Recorder = recorder
    return result
