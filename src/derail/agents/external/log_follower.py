"""Reads the logs of one rank of a foreign supervisor as they grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.logs.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from derail.logs.lines import Lines
    from derail.model.clock import Clock
    from derail.model.events import Stream
    from derail.supervise.loop import Loop

INTERVAL = 0.1
"""Seconds between two looks at logs, whether anybody has announced a change or not."""
LAST_TURNS = 16
"""Turns of reading, of a mebibyte each, when the rank has ended: a helper of it may be flooding."""


class Follower:
    """Follows the streams of one process.

    Args:
        loop: whose thread this happens in.
        clock: where the time comes from.
        tell: gets each line.
    """

    def __init__(self, loop: Loop, clock: Clock, tell: Callable[[Stream, str], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._tell = tell
        self._tail: Tail[Stream] | None = None
        self._streams: dict[Stream, Path] = {}

    def follow(self, streams: dict[Stream, Path], *, skip: bool = False) -> None:
        """Read these files, instead of those before; nothing happens if they are the same.

        Args:
            streams: the files.
            skip: whether what is in them by now is of an earlier attempt; else they are read from their beginning.
        """
        if streams == self._streams:
            return
        self.close()
        self._streams = streams
        if not streams:
            return
        tail = self._tail = Tail(streams, existing="skip" if skip else "read")
        tail.add(self._take)
        tail.open()
        if tail.fd is not None:
            self._loop.add_reader(tail.fd, self._read)
        self._read_again(tail)

    def finish(self) -> None:
        """The writer has ended: read what is there, and no more."""
        if self._tail is not None:
            for stream in self._streams:
                self._tail.finish(stream)
            for _ in range(LAST_TURNS):
                if not self._tail.poll():
                    break
        self.close()

    def close(self) -> None:
        """Read no more. Idempotent."""
        tail, self._tail = self._tail, None
        if tail is not None:
            if tail.fd is not None:
                self._loop.remove_reader(tail.fd)
            tail.close()

    def _take(self, stream: Stream, lines: Lines) -> None:
        for text in lines.texts():
            self._tell(stream, text)

    def _read(self) -> None:
        if self._tail is not None and self._tail.poll():
            self._loop.post(self._read)

    def _read_again(self, tail: Tail[Stream]) -> None:
        if self._tail is tail:
            self._read()
            self._loop.call_at(self._clock.now() + INTERVAL, lambda: self._read_again(tail))
