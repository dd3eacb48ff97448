"""``TailLog`` and ``tail_logfile`` as in torch, with one thread for all files and a guaranteed end."""

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
"""Maximum seconds that the end of a tail waits for a destination that accepts some output."""

IDLE_SECONDS = 2.0
"""Maximum seconds that it waits for one that accepts none."""


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
    """Copy present and future lines of ``file`` to ``dst``, each after ``header``, until ``finished`` is set.

    All that was in the file by then is written.

    Args:
        header: prefix of each line.
        file: need not exist yet.
        dst: destination of the lines; if it blocks, the end waits for it only for some seconds.
        finished: set when the writer has ended.
        interval_sec: maximum seconds until new content, or the end, is noticed.
        log_line_filter: gets each line with its line end and returns whether to write it; None writes all.
    """
    _follow(
        {0: file},
        {0: header},
        dst,
        finished=finished,
        interval=interval_sec,
        accepts=log_line_filter or _every_line,
    )


def _follow(
    files: Mapping[int, str],
    headers: Mapping[int, str],
    dst: TextIO,
    *,
    finished: Event,
    interval: float,
    accepts: Callable[[str], bool],
) -> None:
    room = threading.Event()
    console: ConsoleSink[int] = ConsoleSink(dst, prefix=headers.__getitem__, on_room=room.set)
    receive = console.take if accepts is _every_line else _filtered(console.take, accepts)
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
    """Wait until there is new content, or there might be."""
    if tail.held_up:
        room.wait(interval)
        return
    poll = select.poll()
    if tail.fd is not None:
        poll.register(tail.fd, select.POLLIN)
    poll.poll(min(interval, tail.interval) * 1000)


def _filtered(receive: Callable[[int, Lines], None], accepts: Callable[[str], bool]) -> Callable[[int, Lines], None]:
    """Pass on only lines that a filter accepts; for a line in pieces the first piece decides."""
    continued: set[int] = set()

    def take(key: int, lines: Lines) -> None:
        chosen = []
        parts = lines.split()
        for number, line in enumerate(parts):
            is_rest = number == 0 and lines.continues
            is_chosen = key in continued if is_rest else accepts(line.decode("utf-8", "replace") + "\n")
            if is_chosen:
                chosen.append(line)
            if number == len(parts) - 1:
                (continued.add if is_chosen and lines.more else continued.discard)(key)
        if chosen:
            is_open = lines.more and key in continued
            data = b"\n".join(chosen) + (b"" if is_open else b"\n")
            is_rest_chosen = lines.continues and chosen[0] is parts[0]
            receive(key, Lines(data, continues=is_rest_chosen, more=is_open))

    return take


class TailLog:
    """A thread that shows what ranks append to their log files, line by line, while they run.

    Each line follows ``[{name}{idx}]:``, or the entry of ``log_line_prefixes`` for its ``idx``. The files need not
    exist yet. One thread serves all of them.

    Args:
        name: of the job.
        log_files: path by local rank.
        dst: destination of the lines; None shows nothing.
        log_line_prefixes: alternative prefixes, by local rank.
        interval_sec: maximum seconds until new content is noticed, where the system does not announce it.
        log_line_filter: gets each line with its line end and returns whether to show it.
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
        """Start to show lines, from the beginning of each file."""
        if self._log_files and self._dst and self._thread is None:
            headers = {idx: self._prefixes.get(idx, f"[{self._name}{idx}]:") for idx in self._log_files}
            self._thread = threading.Thread(
                target=_follow,
                name=f"derail-tail-{self._name}",
                args=(self._log_files, headers, self._dst),
                kwargs={
                    "finished": self._finished,
                    "interval": self._interval_sec,
                    "accepts": self._log_line_filter,
                },
                daemon=True,
            )
            start_thread(self._thread)
        return self

    def stop(self) -> None:
        """Show the present content of the files, and end. It takes seconds at most, even if a writer continues or
        ``dst`` has no reader."""
        self._finished.set()
        if self._thread is not None:
            self._thread.join(2 * STOP_SECONDS + IDLE_SECONDS)
        self._stopped = True

    def stopped(self) -> bool:
        """Return whether ``stop`` was called and has returned."""
        return self._stopped
