"""Recorder of the collectives that this process calls, into its ring file. ``bootstrap`` starts it.

``torch.distributed`` and ``mpi4py`` are recorded from the moment when the program imports them. For other libraries
there is ``record_collective``.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

from .rank_plan import RECORDER
from .ring import ASYNC, COMPARED, RAISED, Call, RingWriter, as_ranges

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
        pending: collectives that are issued and not waited for, by a number for what they returned.
    """

    def __init__(self, directory: str, rank: int, *, world: int, attempt: int) -> None:
        self.rank = rank
        self.world = world
        self.is_over = False
        self.ring: RingWriter | None = None
        self._about = (directory, rank, world, attempt)
        self._inside: set[int] = set()  # threads in a collective: what it calls itself is no collective of the program
        self.pending: dict[int, tuple[Ticket, Call]] = {}
        self._files: dict[str, bool] = {}
        self._hidden: tuple[str, ...] = (HERE, "<frozen")

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
        self._hidden += (directory,)
        self._files.clear()

    def is_hidden(self, file: str) -> bool:
        """Return whether a file is no place of the program."""
        return file.startswith(self._hidden)

    def wrap(self, original: Callable[..., Any], describe: Describe) -> Callable[..., Any]:
        """Return a function that records each call of ``original``; ``describe`` is given the arguments of a call."""
        inside = self._inside

        def recorded(*args: Any, **options: Any) -> Any:
            thread = get_ident()
            if thread in inside:
                return original(*args, **options)
            inside.add(thread)
            try:
                try:
                    call = describe(args, options)
                    ticket = None if call is None else self.enter(call, 2)
                except Exception:  # an unusual argument: the program's own call says what is wrong with it
                    ticket = None
                if ticket is None or call is None:
                    return original(*args, **options)
                try:
                    result = original(*args, **options)
                except BaseException:
                    self.leave(ticket, call, raised=True)
                    raise
                if call.flags & ASYNC and result is not None:
                    if len(self.pending) >= MOST_PENDING:
                        self.pending.clear()
                    self.pending[id(result)] = (ticket, call)
                else:
                    self.leave(ticket, call)
                return result
            finally:
                inside.discard(thread)

        return recorded

    def wrap_wait(self, original: Callable[..., Any], key: Callable[[Any], int] = id) -> Callable[..., Any]:
        """Return a function that records the wait for a collective that was issued before.

        It is given what the collective returned; ``key`` returns the number for it in ``pending``.
        """
        pending = self.pending

        def wait(work: Any, *args: Any, **options: Any) -> Any:
            issued = pending.pop(key(work), None) if pending else None
            if issued is None or self.ring is None:
                return original(work, *args, **options)
            ticket, call = issued
            self.ring.wait(ticket)
            try:
                result = original(work, *args, **options)
            except BaseException:
                self.leave(ticket, call, raised=True)
                raise
            self.leave(ticket, call)
            return result

        return wait

    def enter(self, call: Call, depth: int, frame: Any = None) -> Ticket | None:
        """Record that a collective is called, by the first frame of the program from ``depth`` frames above on.

        With ``frame``, from that one on: that of another thread, on whose behalf this one acts.
        """
        if self.ring is None:
            return None
        if frame is None:
            frame = sys._getframe(depth)  # noqa: SLF001 - the place of the call
        outer, files = frame, self._files
        while outer is not None:
            name = outer.f_code.co_filename
            hidden = files.get(name)
            if hidden is None:
                hidden = files[name] = name.startswith(self._hidden)
            if not hidden:
                frame = outer
                break
            outer = outer.f_back
        return self.ring.enter(call, call.texts(frame.f_code), frame.f_lineno or 0)

    def leave(self, ticket: Ticket, call: Call, *, raised: bool = False) -> None:
        """Record that a collective has ended."""
        if self.ring is not None:
            self.ring.leave(ticket, call.flags | RAISED if raised else 0)

    def forget(self) -> None:
        """Record nothing more: this is a forked child, and the ring is its parent's."""
        ring, self.ring, self.is_over = self.ring, None, True
        if ring is not None:
            ring.close()
        self.pending.clear()
        self._inside.clear()


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
        self._entered: tuple[Recorder, Ticket, Call] | None = None

    def __enter__(self) -> Self:
        """Record the call."""
        recorder = present()
        if recorder is not None:
            operation, group, ranks, shapes = self._about
            members = as_ranges(range(recorder.world) if ranks is None else ranks)
            flags = COMPARED if shapes else 0
            call = Call(operation, f"own:{group}", label=group, ranks=members, shapes=shapes, flags=flags)
            ticket = recorder.enter(call, 2)
            self._entered = None if ticket is None else (recorder, ticket, call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record the end."""
        if self._entered is not None:
            recorder, ticket, call = self._entered
            recorder.leave(ticket, call, raised=kind is not None)


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
