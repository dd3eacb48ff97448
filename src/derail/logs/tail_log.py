"""``TailLog`` and ``tail_logfile`` as torch has them, on one thread for all files and with an end that always comes."""

from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING

from derail.logs.lines import Lines
from derail.logs.sinks import ConsoleSink
from derail.logs.tail import Tail
from derail.model.clock import SYSTEM_CLOCK
from derail.platform.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from threading import Event
    from typing import TextIO

STOP_SECONDS = 60.0
"""How long the end of a tail waits at most for a destination that takes something now and then."""

IDLE_SECONDS = 2.0
"""How long it waits for one that takes nothing."""


def _every_line(_: str) -> bool:
    return True


def tail_logfile(
    header: str,
    file: str,
    dst: TextIO,
    finished: Event,
    interval_sec: float,
    log_line_filter: Callable[[str], bool] | None = None,
) -> None:
    """Write what is and will be in ``file`` to ``dst``, each line after ``header``, until ``finished`` is set and all
    that was in the file by then is written.

    Args:
        header: stands in front of each line.
        file: need not exist yet.
        dst: where the lines go; if it blocks, the end does not wait for it for more than some seconds.
        finished: says that the writer has ended.
        interval_sec: how long it takes at most to notice something new, or the end.
        log_line_filter: gets each line with its line end and says whether it is written; None writes all.
    """
    _follow(
        {0: file},
        {0: header},
        dst,
        finished=finished,
        interval=interval_sec,
        is_wanted=log_line_filter or _every_line,
    )


def _follow(
    files: Mapping[int, str],
    headers: Mapping[int, str],
    dst: TextIO,
    *,
    finished: Event,
    interval: float,
    is_wanted: Callable[[str], bool],
) -> None:
    room = threading.Event()
    console: ConsoleSink[int] = ConsoleSink(dst, prefix=headers.__getitem__, on_room=room.set)
    receive = console.take if is_wanted is _every_line else _filtered(console.take, is_wanted)
    with Tail(files, existing="read") as tail:
        tail.add(receive, ready=console.ready)
        while not finished.is_set():
            room.clear()
            if not tail.poll():
                _pause(tail, interval, room)
        for key in files:
            tail.finish(key)
        end = SYSTEM_CLOCK.now() + STOP_SECONDS
        while not tail.done and SYSTEM_CLOCK.now() < end:
            room.clear()
            if not tail.poll() and not tail.done and not room.wait(IDLE_SECONDS):
                break
    console.close(idle=IDLE_SECONDS, limit=STOP_SECONDS)


def _pause(tail: Tail[int], interval: float, room: Event) -> None:
    """Wait until there is something new, or might be."""
    if tail.held_up:
        room.wait(interval)
        return
    poll = select.poll()
    if tail.fd is not None:
        poll.register(tail.fd, select.POLLIN)
    poll.poll(min(interval, tail.interval) * 1000)


def _filtered(receive: Callable[[int, Lines], None], is_wanted: Callable[[str], bool]) -> Callable[[int, Lines], None]:
    """Only the lines that a filter wants; of a line that comes in pieces the first one decides."""
    goes_on: set[int] = set()

    def take(key: int, lines: Lines) -> None:
        chosen = []
        parts = lines.split()
        for number, line in enumerate(parts):
            is_rest = number == 0 and lines.continues
            wanted = key in goes_on if is_rest else is_wanted(line.decode("utf-8", "replace") + "\n")
            if wanted:
                chosen.append(line)
            if number == len(parts) - 1:
                (goes_on.add if wanted and lines.more else goes_on.discard)(key)
        if chosen:
            is_open = lines.more and key in goes_on
            data = b"\n".join(chosen) + (b"" if is_open else b"\n")
            is_rest_chosen = lines.continues and chosen[0] is parts[0]
            receive(key, Lines(data, continues=is_rest_chosen, more=is_open))

    return take


class TailLog:
    """Shows what ranks append to their log files, line by line, while they run.

    Each line stands after ``[{name}{idx}]:``, or after what ``log_line_prefixes`` has for its ``idx``. The files need
    not exist yet. One thread serves all of them.

    Args:
        name: of the job.
        log_files: path by local rank.
        dst: where the lines go; None shows nothing.
        log_line_prefixes: in place of the usual one, by local rank.
        interval_sec: how long it takes at most to notice something new, where the system does not tell.
        log_line_filter: gets each line with its line end and says whether it is shown.
    """

    def __init__(
        self,
        name: str,
        log_files: dict[int, str],
        dst: TextIO,
        log_line_prefixes: dict[int, str] | None = None,
        interval_sec: float = 0.1,
        log_line_filter: Callable[[str], bool] = _every_line,
    ) -> None:
        self._name = name
        self._log_files = log_files
        self._dst = dst
        self._prefixes = log_line_prefixes or {}
        self._interval_sec = interval_sec
        self._log_line_filter = log_line_filter
        self._finished = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def start(self) -> TailLog:
        """Begin to show lines, from the beginning of each file."""
        if self._log_files and self._dst and self._thread is None:
            headers = {idx: self._prefixes.get(idx, f"[{self._name}{idx}]:") for idx in self._log_files}
            self._thread = threading.Thread(
                target=_follow,
                name=f"derail-tail-{self._name}",
                args=(self._log_files, headers, self._dst),
                kwargs={
                    "finished": self._finished,
                    "interval": self._interval_sec,
                    "is_wanted": self._log_line_filter,
                },
                daemon=True,
            )
            start_thread(self._thread)
        return self

    def stop(self) -> None:
        """Show what is in the files by now, and end. It takes seconds at most, whatever the writers do and whether
        or not anybody reads ``dst``."""
        self._finished.set()
        if self._thread is not None:
            self._thread.join(2 * STOP_SECONDS + IDLE_SECONDS)
        self._stopped = True

    def stopped(self) -> bool:
        """Whether ``stop`` was called and has come to its end."""
        return self._stopped
