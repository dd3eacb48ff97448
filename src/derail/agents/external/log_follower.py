"""Reader of the growing logs of one rank of an external agent."""

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
"""Seconds between two checks of the logs, even without a notification of a change."""
LAST_TURNS = 16
"""Maximum reads, of a mebibyte each, after the exit of the rank: a helper may keep writing."""


class Follower:
    """Follower of the streams of one process.

    Args:
        loop: the loop, with the thread in which everything runs.
        clock: the source of time.
        tell: called with each line.
    """

    def __init__(self, loop: Loop, clock: Clock, tell: Callable[[Stream, str], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._tell = tell
        self._tail: Tail[Stream] | None = None
        self._streams: dict[Stream, Path] = {}

    def follow(self, streams: dict[Stream, Path], *, skip: bool = False) -> None:
        """Read these files instead of the previous ones; do nothing if they are the same.

        Args:
            streams: the files.
            skip: whether to skip their present content, from an earlier attempt.
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
        """Read the remaining lines of a writer that has ended, and stop."""
        if self._tail is not None:
            for stream in self._streams:
                self._tail.finish(stream)
            for _ in range(LAST_TURNS):
                if not self._tail.poll():
                    break
        self.close()

    def close(self) -> None:
        """Stop reading. Idempotent."""
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
