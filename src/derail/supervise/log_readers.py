"""Reading of the ranks' logs while they run: lines for the console, for filtered files, and for observers."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from derail.logs.sinks import ConsoleSink, FilteredFile
from derail.logs.tail import Tail
from derail.model.clock import SYSTEM_CLOCK
from derail.model.events import LineSeen, Stream
from derail.platform.hang import reads_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TextIO

    from derail.logs.lines import Lines
    from derail.logs.specs import LogsDest
    from derail.model.spec import JobSpec
    from derail.supervise.loop import Loop, Timer
    from derail.supervise.observers import Listeners


class LogReader(Protocol):
    """Reader of logs in the job's thread."""

    def join_loop(self, loop: Loop) -> None:
        """Start; called once, before the first rank is started."""
        ...

    def read_now(self) -> None:
        """Read pending output, bounded."""
        ...

    def finish(self) -> None:
        """Read to the present sizes of the files: the ranks have ended."""
        ...

    def close(self) -> int:
        """Release all resources; return the bytes of output that a console did not accept."""
        ...

    def descriptors(self) -> Iterable[int]:
        """Return the descriptors that a forked rank must close."""
        ...


Key: TypeAlias = "tuple[int, Stream]"

READ_NOW = 16
"""Reads, of one mebibyte each, before the exit of a rank is reported: its last lines come first."""

BATCH = 0.005
"""Seconds for which further output of the ranks is collected after a read."""

CONSOLE_IDLE = 1.0
"""Seconds without any progress after which a console that accepts no output is given up at the end of a job."""

CONSOLE_LIMIT = 5.0
"""Seconds after which it is given up at the end of a job even if it makes some progress."""

PROMPT_S = 0.1
"""Seconds between two checks whether the writer of an unfinished line waits for input from a terminal."""

LOOK = 0.1
"""Maximum seconds that one check of a console counts for: while this process is stalled, no console refuses output."""


def readers_for(
    spec: JobSpec,
    logs: LogsDest,
    *,
    prefixes: Mapping[int, str] | None,
    filters: tuple[Sequence[str], Sequence[str]],
) -> Callable[[Listeners], Sequence[LogReader]]:
    """Return a function that makes the readers of a job. Called in the thread that prints, before the ranks start."""

    def prefix(key: Key) -> str:
        return (prefixes or {}).get(key[0], f"[{spec.name}{key[0]}]:")

    room = _Room()
    shown: list[_Shown] = []
    tees: tuple[tuple[Stream, TextIO | None, dict[int, str], str, Sequence[str]], ...] = (
        ("stdout", sys.stdout, logs.tee_stdouts, logs.filtered_stdout, filters[0]),
        ("stderr", sys.stderr, logs.tee_stderrs, logs.filtered_stderr, filters[1]),
    )
    for stream, console, tee, filtered, needles in tees:
        files = {(rank, stream): path for rank, path in tee.items() if path and path != os.devnull}
        if files:
            sink: ConsoleSink[Key] = ConsoleSink(console, prefix=prefix, on_room=room.make)
            sink.start()
            keep = FilteredFile[Key](filtered, needles, prefix=prefix) if needles and filtered else None
            shown.append(_Shown(files, sink, keep))

    def make(listeners: Listeners) -> Sequence[LogReader]:
        files = {key: path for each in shown for key, path in each.files.items()}
        if listeners.want_lines:
            for rank in spec.ranks:
                for stream, path in (("stdout", rank.streams.stdout), ("stderr", rank.streams.stderr)):
                    if path is not None and os.fspath(path) != os.devnull:
                        files[(rank.rank, cast("Stream", stream))] = os.fspath(path)
        return [_Reader(files, shown, listeners=listeners, room=room)] if files else []

    return make


@dataclass(frozen=True, slots=True)
class _Shown:
    """One stream of the teed ranks: its files, its console, and the file for matching lines."""

    files: dict[Key, str]
    sink: ConsoleSink[Key]
    filtered: FilteredFile[Key] | None


class _Room:
    """Signal from a console's own thread that it accepts output again."""

    def __init__(self) -> None:
        self.made = threading.Event()
        self.then: Callable[[], None] = lambda: None

    def make(self) -> None:
        """Signal that there is room."""
        self.made.set()
        self.then()


class _Reader:
    """Reader of all logs of a job that have a consumer, while they grow."""

    def __init__(self, files: dict[Key, str], shown: Sequence[_Shown], *, listeners: Listeners, room: _Room) -> None:
        self._tail: Tail[Key] = Tail(files)
        self._keys = tuple(files)
        self._shown = [(each, self._tail.add(each.sink.take, keys=each.files, ready=each.sink.ready)) for each in shown]
        self._others = [
            self._tail.add(each.filtered.take, keys=each.files) for each in shown if each.filtered is not None
        ]
        if listeners.want_lines:
            self._others.append(self._tail.add(self._tell))
        self._listeners = listeners
        self._loop: Loop | None = None
        self._timer: Timer | None = None
        self._finishing = False
        self._room = room
        self._is_interactive = bool(shown) and os.isatty(0)
        self._looks_for_prompts = False

    def join_loop(self, loop: Loop) -> None:
        """Start to follow the files."""
        self._loop = loop
        self._room.then = self._poll_soon
        self._tail.open()
        self._listen()
        self._again()

    def read_now(self) -> None:
        """Pass pending lines to every consumer that is ready."""
        for _ in range(READ_NOW):  # bounded: a rank may flood its log; the rest is read in later turns
            if not self._tail.poll():
                break

    def finish(self) -> None:
        """Read what the ranks have written until now; a full console has a bounded time to accept it."""
        self._finishing = True
        if self._loop is not None and self._tail.fd is not None:
            self._loop.remove_reader(self._tail.fd)
        if self._timer is not None:
            self._timer.cancel()
        for key in self._keys:
            self._tail.finish(key)
        # The amount to read is bounded by the present sizes of the files. Only a console may not accept it.
        last, behind = SYSTEM_CLOCK.now(), self._behind() + self._behind_others()
        waited = idle = 0.0
        while not self._tail.done:
            self._room.made.clear()
            if not self._tail.poll() and not self._tail.done:
                self._room.made.wait(0.02)
            others, now = self._behind_others(), SYSTEM_CLOCK.now()
            step, last = min(now - last, LOOK), now
            waited, idle = waited + step, idle + step
            if self._behind() + others < behind:
                behind, idle = self._behind() + others, 0.0
            if idle > CONSOLE_IDLE or (waited > CONSOLE_LIMIT and not others):
                break

    def close(self) -> int:
        """Release all resources; return the bytes that the consoles did not accept."""
        missed = self._behind()
        self._tail.close()
        for each, _ in self._shown:
            missed += each.sink.close(idle=CONSOLE_IDLE, limit=CONSOLE_LIMIT)
            if each.filtered is not None:
                each.filtered.close()
        return missed

    def descriptors(self) -> Iterable[int]:
        """Return the descriptors that a forked rank must close."""
        return self._tail.descriptors

    def _behind(self) -> int:
        return sum(self._tail.behind(feed) for _, feed in self._shown)

    def _behind_others(self) -> int:
        return sum(self._tail.behind(feed) for feed in self._others)

    def _listen(self) -> None:
        """Register for changes of the files."""
        if self._loop is not None and self._tail.fd is not None and not self._finishing:
            self._loop.add_reader(self._tail.fd, self._read_change)

    def _read_change(self) -> None:
        """Read what was written, and pause notifications briefly, so that many small writes take one turn."""
        self._poll()
        if self._loop is not None and self._tail.fd is not None:
            self._loop.remove_reader(self._tail.fd)
            self._loop.call_at(SYSTEM_CLOCK.now() + BATCH, self._listen)

    def _poll(self) -> None:
        if self._tail.poll():
            self._poll_soon()
        elif self._is_interactive:
            self._look_for_prompts()

    def _look_for_prompts(self) -> None:
        """Show the prompt of a debugger, which ends no line, when its rank waits for input from the terminal."""
        if self._loop is None or self._looks_for_prompts or self._finishing:
            return
        if any(self._tail.with_open_line(feed) for _, feed in self._shown):
            self._looks_for_prompts = True
            self._loop.call_at(SYSTEM_CLOCK.now() + PROMPT_S, self._show_prompts)

    def _show_prompts(self) -> None:
        self._looks_for_prompts = False
        waiting = [(feed, key) for _, feed in self._shown for key in self._tail.with_open_line(feed)]
        for feed, key in waiting if not self._finishing else ():
            pid = self._listeners.control.pid(key[0])
            if pid is not None and reads_terminal(pid):
                self._tail.give_open_line(feed, key)
        self._look_for_prompts()

    def _poll_soon(self) -> None:
        """Poll after the other events; from any thread."""
        if self._loop is not None:
            self._loop.post(self._poll)

    def _again(self) -> None:
        """Poll from time to time even without a notification: not every file system announces changes."""
        self._poll()
        if self._loop is not None:
            self._timer = self._loop.call_at(SYSTEM_CLOCK.now() + self._tail.interval, self._again)

    def _tell(self, key: Key, lines: Lines) -> None:
        now = SYSTEM_CLOCK.now()
        for text in lines.texts():
            self._listeners.tell(LineSeen(key[0], key[1], text, at=now))
