"""Order in which ranks recorded errors and ended, as far as the kernel shows it; else it is marked as unknown.

The exits of ranks and the announcements of error files arrive on different descriptors. One epoll holds them all, and
its list of ready descriptors keeps the order in which they became ready (epoll(7) promises no order; Linux appends to
that list in ``ep_poll_callback``). So the order of exits is known. The inotify descriptor becomes ready with the first
event in its queue: that event is before all exits behind the descriptor in the list, and after those in front of it.
Further events of the same turn have no known order against the exits behind it.

The inotify descriptor is edge-triggered, and each turn polls until nothing is ready. Otherwise its entry of an earlier
turn would stay in the list, in front of exits that happened before the next event.

On a platform without pidfd, a thread per rank waits for its exit, and the scheduler determines the order of these
threads. Then all ranks are checked until no further one has ended: those of one turn have no known order.

Files that are not announced (without inotify: all) are checked when a rank fails and before a signal is sent. The
kernel's time of such a file (ctime) decides: if it precedes the last moment at which all ranks were alive, the record
is before the exits of this turn. Otherwise their order is not known, and the record is put first if the turn began
later. Files on a file server with a clock that is ahead are therefore "not known", never "first".

A process closes its files some time before its exit is announced, which may be milliseconds on a busy machine. A peer
may see the lost connection and record an error in that time. So at a record of a rank that still runs, the others are
checked: the exit of one that the kernel is already tearing down (PF_EXITING) may be before that record, and the order
is marked as unknown. Its place is before the record if it then proves to have died of a signal, which a peer's error
does not cause; else it is behind the record. While a dying process still has descriptors, no peer can know of its
death: the kernel frees its memory first, then takes all descriptors, and closes the files after that.

A rank may end between its start and the moment at which it is watched. Events before its start are collected before
that. Its exit has no known order against other exits in between, and is put first: the rank had little time to become
a victim.

The reasons are in docs/adr/order-of-evidence.md.
"""

from __future__ import annotations

import select
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from derail.model.exit import ExitStatus
from derail.model.spec import Function
from derail.platform.exits import is_readable
from derail.platform.processes import has_open_files, is_exiting, is_proc_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import ExitStack

    from derail.model.clock import Clock
    from derail.model.events import End, Known
    from derail.model.spec import RankSpec
    from derail.spawn.handle import ProcessHandle
    from derail.supervise.loop import Loop
    from derail.supervise.records import Found, Records

STATUS_SECONDS = 6.0
"""Seconds for which later exits wait for the status of a rank with a detected exit; then its status is lost. More than
``spawn.zygote.client.ANSWER_SECONDS``."""

RETRY_SECONDS = 0.005
"""Seconds between two queries of an unknown status."""

ROUNDS = 20
"""Number of polls in a turn, if a rank changes its error file again and again."""

DOUBTFUL_LOOKS = 8
"""Number of checks of all error files because of exits that may or may not be failures."""

EXITING_LOOKS = 8
"""Number of turns with a record in which the other ranks are checked."""

FILE_LOOKS = 8
"""Number of dying ranks whose open files are checked in such a turn: in a large job, many die at once."""

COARSE_NS = 20_000_000
"""Nanoseconds by which the kernel's time of a file may be late: it is taken at a clock tick, of 10 ms at most."""


class Ended(NamedTuple):
    """The exit of a rank.

    Attributes:
        handle: of the rank.
        status: its exit status.
        order: whether its place is known.
    """

    handle: ProcessHandle
    status: ExitStatus
    order: Known = "known"


class Recorded(NamedTuple):
    """A complete error file of a rank, written by the rank itself.

    Attributes:
        rank: local rank.
        message: the recorded error; None if it is not read yet, and only its place is to be stored.
        at: when it was detected, which may be long before this is yielded.
        order: as above, or that it takes the place of an earlier one without a message.
        may_be_older: whether it may be older than records that were yielded before it.
    """

    rank: int
    message: str | None
    at: float
    order: Known = "known"
    may_be_older: bool = False


class Exiting(NamedTuple):
    """The place of an exit that is announced later: the kernel was already tearing the rank down.

    Attributes:
        rank: local rank.
        order: whether its place is known.
        ends: the kinds of exit of which it is the place, if the exit turns out to be one of them.
    """

    rank: int
    order: Known
    ends: tuple[End, ...]


class _Exit(NamedTuple):
    """An announced exit; its status may not be known yet."""

    handle: ProcessHandle
    at: float
    order: Known = "known"


_Entry: TypeAlias = "_Exit | Exiting | Recorded"


def _died(entry: _Exit) -> bool:
    """Return whether a rank is known to have died of a signal."""
    status = entry.handle.peek()
    return status is not None and status.signal is not None


def _is_failure(entry: _Entry) -> bool:
    """Return whether an entry shows that its rank failed."""
    if isinstance(entry, _Exit):
        status = entry.handle.peek()
        return status is not None and not status.ok
    return isinstance(entry, Recorded)


class Order:
    """Reporter of the exits and the error files of one job in order. Belongs to the job's thread."""

    def __init__(self, records: Records, loop: Loop, clock: Clock) -> None:
        self._records = records
        self._loop = loop
        self._clock = clock
        self._epoll: select.epoll | None = None
        self._watched: dict[int, ProcessHandle] = {}
        self._without_pidfd: dict[int, ProcessHandle] = {}
        self._handles: dict[int, ProcessHandle] = {}
        self._functions: set[int] = set()
        self._doubtful_looks = DOUBTFUL_LOOKS
        self._exiting_looks = EXITING_LOOKS
        self._exiting: set[int] = set()
        self._failed = False
        self._at_once: set[int] = set()
        self._line: deque[_Entry] = deque()
        self._quiet_ns = 0
        self._retrying = False
        self._broken_off = False
        """Whether the last turn ended while something was ready: the next one begins with an unknown order."""

    def open(self, stack: ExitStack, ranks: Iterable[RankSpec]) -> None:
        """Acquire the descriptors; ``stack`` releases them.

        Raises:
            OSError: if there is no descriptor left.
        """
        if hasattr(select, "epoll"):
            self._epoll = stack.enter_context(select.epoll())
            self._loop.add_reader(self._epoll.fileno(), _wake)
        stack.callback(self._records.close, wait=False)
        self._records.open(ranks)
        if self._records.fd is not None and self._epoll is not None:
            self._epoll.register(self._records.fd, select.EPOLLIN | select.EPOLLET)
        self._quiet_ns = int(self._clock.wall() * 1e9)

    def descriptors(self) -> tuple[int, ...]:
        """Return the own descriptors, for a forked rank to close."""
        fds = (-1 if self._epoll is None else self._epoll.fileno(), self._records.fd)
        return tuple(fd for fd in fds if fd is not None and fd >= 0)

    def expect(self, spec: RankSpec) -> None:
        """Prepare for a rank that is about to be started: events until now happened before its start."""
        if isinstance(spec.run, Function):
            self._functions.add(spec.rank)
        self.settle()
        self._records.watch(spec)

    def add(self, handle: ProcessHandle) -> None:
        """Watch a rank that was started."""
        self._handles[handle.rank] = self._watched[handle.exit_fd] = handle
        if handle.pidfd is None:
            self._without_pidfd[handle.exit_fd] = handle
        if self._epoll is None:
            self._loop.add_reader(handle.exit_fd, _wake)
        else:
            self._epoll.register(handle.exit_fd, select.EPOLLIN | select.EPOLLONESHOT)
        if is_readable(handle.exit_fd):
            self._at_once.add(handle.exit_fd)  # it may have ended before it was watched

    def settle(self) -> None:
        """Collect the events until now. The creation of log files in watched directories is no evidence: it must not
        precede evidence in the queue."""
        now_ns = int(self._clock.wall() * 1e9)
        ready = self._ready()
        if not (ready or self._broken_off or self._records.unheard):
            self._quiet_ns = now_ns  # no event: the most common case, at the start of each rank
            return
        self._collect(look=False, ready=ready)
        if self._line:
            self._loop.post(_wake)  # an event taken from the kernel's list no longer wakes the loop

    def take(self, *, look: bool = False, final: bool = False) -> Iterator[Ended | Exiting | Recorded]:
        """Yield the events that were not yielded before, in order, up to a rank with an unknown status.

        Args:
            look: check the error files of which the kernel announces no change, even if no rank has failed.
            final: do not wait for any status: one that is unknown now is lost.
        """
        self._collect(look=look)
        while self._line:
            entry = self._line[0]
            if isinstance(entry, _Exit):
                status = self._status(entry, final=final)
                if status is None:
                    return
                self._line.popleft()
                yield Ended(entry.handle, status, entry.order)
            else:
                self._line.popleft()
                yield entry

    def _status(self, entry: _Exit, *, final: bool) -> ExitStatus | None:
        """Return the exit status; None while that is unknown, in which case it is queried again soon."""
        status = entry.handle.peek()
        if status is not None:
            return status
        now = self._clock.now()
        if final or now - entry.at > STATUS_SECONDS:
            return ExitStatus(
                lost=f"process {entry.handle.pid} ended, but its exit status was unknown {now - entry.at:.1f} s later; "
                "check whether a debugger holds it"
            )
        if not self._retrying:
            self._retrying = True
            self._loop.call_at(now + RETRY_SECONDS, self._retry)
        return None

    def _retry(self) -> None:
        self._retrying = False

    def _collect(self, *, look: bool, ready: list[int] | None = None) -> None:
        """Append the events until now to the line.

        Args:
            look: as for ``take``.
            ready: descriptors that were ready a moment ago.
        """
        failed_before = self._failed
        exits: list[_Exit] = []
        announced: dict[int, list[Found]] = {}
        in_front: int | None = None
        quiet_ns, known_order = self._quiet_ns, not self._broken_off
        started_ns = int(self._clock.wall() * 1e9)
        self._broken_off = True
        self._records.begin_turn()
        for _ in range(ROUNDS):
            if ready is None:
                self._quiet_ns = int(self._clock.wall() * 1e9)
                ready = self._ready()
            if not ready:
                self._broken_off = False
                break
            for fd in ready:
                handle = self._watched.get(fd)
                if handle is not None:
                    known_order &= handle.pidfd is not None and fd not in self._at_once
                    self._forget(fd)
                    exits.append(_Exit(handle, self._clock.now()))
                elif in_front is None:
                    in_front = len(exits)
            for rank in self._records.announced():
                record = self._look(self._records.look, rank)  # each time: it may have been incomplete before
                announced.setdefault(rank, []).extend([record] if record is not None else [])
            ready = None
        exits.sort(key=lambda each: each.handle.exit_fd not in self._at_once)
        self._at_once.clear()
        everyone = look or self._shows_failure(exits)
        changed = self._records.changed(None if everyone else self._records.unheard)
        looked = [self._look(self._records.look_closely, rank) for rank in changed]
        self._records.unheard.clear()
        if known_order and not announced and not looked:
            self._line += exits if failed_before else self._with_exiting([*exits])
            return
        entries = _in_order(
            exits,
            announced,
            in_front,
            [record for record in looked if record is not None],
            now=self._clock.now(),
            quiet_ns=quiet_ns,
            started_ns=started_ns,
            known_order=known_order,
        )
        self._line += entries if failed_before else self._with_exiting([*entries])

    def _with_exiting(self, entries: list[_Entry]) -> list[_Entry]:
        """Add the ranks that are being torn down at the first failure of a turn, unless that is a death by a signal.

        Of a rank that dies, the peers learn before the launcher does: its sockets are closed long before its exit is
        announced. While the rank that failed still runs, its own exit killed no peer. Later that may be so, but only if
        the peer aborts: no other signal is the consequence of a peer's exit.
        """
        place = next((n for n, each in enumerate(entries) if _is_failure(each)), None)
        if place is None or not self._exiting_looks or is_proc_foreign():
            return entries
        first = entries[place]
        failed = first.handle if isinstance(first, _Exit) else self._handles.get(first.rank)
        if failed is None or isinstance(first, Exiting) or (isinstance(first, _Exit) and _died(first)):
            return entries
        self._exiting_looks -= 1
        recorded = {each.rank for each in entries if isinstance(each, Recorded)} | self._exiting
        others = [handle for handle in self._watched.values() if handle.rank not in recorded]
        dying = [handle for handle in others if is_exiting(handle.pid, foreign=False)]
        with_files = {handle.rank for handle in dying[:FILE_LOOKS] if has_open_files(handle.pid)}
        exiting = [handle.rank for handle in dying if handle.rank not in with_files]
        if not exiting:
            return entries
        self._exiting.update(exiting)
        runs = not (is_readable(failed.exit_fd) or is_exiting(failed.pid, foreign=False))
        known: Known = "known" if runs else "unknown"
        ends: tuple[End, ...] = ("signal", "abort") if runs else ("signal",)
        before = [Exiting(rank, "unknown" if n else known, ends) for n, rank in enumerate(exiting)]
        behind = [Exiting(rank, "unknown", ("code",)) for rank in exiting if runs]
        if first.order != "as announced":
            first = first._replace(order="unknown")
        return [*entries[:place], *before, first, *behind, *entries[place + 1 :]]

    def _look(self, look: Callable[[int, int], Found | None], rank: int) -> Found | None:
        """Check the error file of a rank, unless that rank has not been started."""
        handle = self._handles.get(rank)
        return None if handle is None else look(rank, handle.pid)

    def _shows_failure(self, exits: list[_Exit]) -> bool:
        """Return whether error files count now: the first rank has failed, or one may have failed.

        This keeps the work below the square of the number of ranks. After the first failure, records count until the
        stop signal is sent, and they are checked before that.
        """
        if self._failed or not exits:
            return False
        statuses = [(each.handle, each.handle.peek()) for each in exits]
        self._failed = any(status is not None and not status.ok for _, status in statuses)
        if self._failed:
            return True
        doubtful = any(status is None or handle.rank in self._functions for handle, status in statuses)
        self._doubtful_looks -= doubtful
        return doubtful and self._doubtful_looks >= 0

    def _ready(self) -> list[int]:
        """Return ready descriptors in the order in which they became ready.

        If exits have no order, these are the descriptors of all ranks found to have ended: deaths by a signal first.
        """
        ready = [] if self._epoll is None else [fd for fd, _ in self._epoll.poll(0)]
        if not self._without_pidfd:
            return ready
        ended = []
        for fd, handle in self._without_pidfd.items():
            status = handle.peek()
            if status is not None:
                ended.append((status.signal is None, handle.rank, fd))
        return [fd for fd in ready if fd not in self._without_pidfd] + [fd for *_, fd in sorted(ended)]

    def _forget(self, fd: int) -> None:
        del self._watched[fd]
        self._without_pidfd.pop(fd, None)
        if self._epoll is None:
            self._loop.remove_reader(fd)


def _in_order(
    exits: list[_Exit],
    announced: dict[int, list[Found]],
    in_front: int | None,
    looked: list[Found],
    *,
    now: float,
    quiet_ns: int,
    started_ns: int,
    known_order: bool,
) -> Iterator[_Entry]:
    """Yield the exits and records of one turn as one line; those of unknown order are adjacent and marked as such.

    Args:
        exits: in order, if ``known_order``.
        announced: the records that the kernel announced, in the order of the first announcement of each rank.
        in_front: number of exits that were ready before the first announcement.
        looked: the records that were found by a check.
        now: time of the detection.
        quiet_ns: a time at which none of the exits had happened.
        started_ns: when the turn began.
        known_order: whether the exits have an order, among themselves and against the announcements.
    """
    records = [Recorded(rank, each.message, now) for rank, items in announced.items() for each in items]
    early: list[Recorded] = []
    probable: list[Recorded] = []
    late: list[Recorded] = []
    for record in looked:
        recorded = Recorded(record.rank, record.message, now, may_be_older=True)
        if record.announced and all(each.rank != record.rank for each in records):
            yield Recorded(record.rank, record.message, now, "as announced")
        elif record.announced:
            last = max(place for place, each in enumerate(records) if each.rank == record.rank)
            records[last] = records[last]._replace(message=record.message)
        elif record.ctime_ns is not None and record.ctime_ns + COARSE_NS < quiet_ns:
            early.append(recorded)
        else:
            (probable if (record.ctime_ns or 0) + COARSE_NS < started_ns else late).append(recorded)
    yield from early
    if known_order and not (late or probable):
        yield from exits[: in_front or 0]
        exits = exits[in_front or 0 :]
        if records and next(iter(announced)) == records[0].rank:
            yield records.pop(0)
    loose = [*late, *probable]
    for index, entry in enumerate([*probable, *_merged(exits, [*records, *late])]):
        order: Known = "known"
        if index and (not known_order or (loose and isinstance(entry, Recorded))):
            order = "unknown"
        elif index and exits and (records or loose):
            order = "within its kind"
        yield entry if order == "known" else entry._replace(order=order)


def _merged(exits: list[_Exit], records: list[Recorded]) -> Iterator[_Entry]:
    """Merge both, each in its own order: exits as early as possible, but after earlier records of the same rank."""
    waiting = deque(records)
    for each in exits:
        while any(record.rank == each.handle.rank for record in waiting):
            yield waiting.popleft()
        yield each
    yield from waiting


def _wake() -> None:
    """Do nothing but wake the loop: ``take`` runs after each turn."""
