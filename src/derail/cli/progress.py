"""Display of a running job on the console: a live table if nothing else writes to the terminal, else lines.

The job's thread only puts events into a queue; the display's thread takes them out and draws. A blocked terminal
(Ctrl-S) delays the display and never the job.
"""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TextIO

from derail.model.clock import SYSTEM_CLOCK
from derail.model.events import (
    Exited,
    Finished,
    PhaseChanged,
    Restarted,
    SignalSent,
    Started,
    StopRequested,
    ValueReceived,
)
from derail.model.exit import signal_name
from derail.platform.threads import start_thread
from derail.report.text import SHOWN_RANKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from rich.console import Console, RenderableType
    from rich.live import Live

    from derail.model.clock import Clock
    from derail.model.events import Event, JobControl
    from derail.model.exit import ExitStatus

REFRESH_SECONDS = 0.1  # seconds between two drawings
FAREWELL_SECONDS = 2.0
"""Seconds to wait for the end of the display: a blocked terminal must not delay the end of the command."""


@dataclass(slots=True)
class _Rank:
    pid: int
    started_at: float
    state: str = "running"
    ended_at: float | None = None
    asked: list[str] = field(default_factory=list)


class Board:
    """State of a job, updated by events, as new lines or as the rows of a table."""

    def __init__(self, ranks: int, *, faults: Sequence[str] = ()) -> None:
        self.expected = ranks
        self.faults = tuple(faults)
        self.phase = "starting"
        self.started_at: float | None = None
        self.ranks: dict[int, _Rank] = {}

    def update(self, event: Event) -> str:
        """Update the state by an event; return a line about it, or an empty text."""
        match event:
            case Started(rank=rank, pid=pid, at=at):
                self.started_at = at if self.started_at is None else self.started_at
                self.ranks[rank] = _Rank(pid=pid, started_at=at)
                return ""
            case ValueReceived(rank=rank):
                self.ranks[rank].state = "returned"
                return ""
            case SignalSent(rank=rank, signal=number):
                self.ranks[rank].asked.append(signal_name(number))
                self.ranks[rank].state = f"was sent {signal_name(number)}"
                return ""
            case Exited(rank=rank, status=status, at=at):
                return self._ended(rank, status, at)
            case Restarted(number=number, restarts=restarts):
                return f"restart {number} of {restarts}: starting all ranks again"
            case StopRequested(reason=reason):
                return f"stopping: {reason}"
            case PhaseChanged(phase=phase):
                return self._phase_line(phase)
            case Finished():
                self.phase = "done"
        return ""

    def _ended(self, rank: int, status: ExitStatus, at: float) -> str:
        state = self.ranks[rank]
        state.ended_at = at
        state.state = f"{status}" + (f", after {' and '.join(state.asked)} from us" if state.asked else "")
        return "" if status.ok and not state.asked else f"rank {rank}: {state.state}"

    def _phase_line(self, phase: str) -> str:
        if phase == self.phase:
            return ""
        self.phase = phase
        living = [rank for rank, state in self.ranks.items() if state.ended_at is None]
        if phase == "running":
            running, planned = _count(len(self.ranks), "rank"), _count(len(self.faults), "fault")
            return f"{running} running, {planned} planned" if self.faults else ""
        if phase in ("stopping", "killing") and living:
            return f"{phase} {_names(living)}"
        return ""

    def fault_news(self, states: Sequence[str]) -> list[str]:
        """Return the new states of faults, which replace the planned faults."""
        news = [state for state in states if state not in self.faults]
        self.faults = tuple(states) or self.faults
        return news

    def elapsed(self, now: float) -> float:
        """Return the seconds since the first rank was started."""
        return 0.0 if self.started_at is None else max(0.0, now - self.started_at)

    def rows(self, now: float) -> list[tuple[str, str, str, str]]:
        """Return rank, pid, seconds and state for each rank of interest."""
        some = len(self.ranks) > SHOWN_RANKS
        shown = {r: s for r, s in self.ranks.items() if not some or s.state not in ("running", "returned", "exit 0")}
        rows = [
            (str(rank), str(s.pid), f"{(now if s.ended_at is None else s.ended_at) - s.started_at:.1f} s", s.state)
            for rank, s in list(shown.items())[: 2 * SHOWN_RANKS]
        ]
        hidden = len(self.ranks) - len(rows)
        return [*rows, ("", "", "", f"and {_count(hidden, 'rank')} more, running or done")] if hidden else rows

    def title(self, now: float) -> str:
        """Return one line about the whole job."""
        living = sum(state.ended_at is None for state in self.ranks.values())
        parts = [self.phase, f"{living} of {_count(self.expected, 'rank')} alive", f"{self.elapsed(now):.0f} s"]
        return " · ".join(parts)


class Progress:
    """Observer of a job, with a thread that displays it; a context manager around the job."""

    wants_lines = False

    def __init__(
        self,
        board: Board,
        stream: TextIO,
        *,
        live: bool,
        name: str = "derail",
        clock: Clock = SYSTEM_CLOCK,
        paint: Callable[[str], str] = str,
    ) -> None:
        self.board = board
        self._stream = stream
        self._live = live
        self._name = name
        self._clock = clock
        self._paint = paint
        self._fault_states: Callable[[], Sequence[str]] = tuple
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def watch_faults(self, states: Callable[[], Sequence[str]]) -> None:
        """Call ``states`` for the state of each fault from now on, in the display's thread, at every update."""
        self._fault_states = states

    def attach(self, control: JobControl) -> None:
        """Do nothing: the display does not control the job."""

    def observe(self, event: Event) -> None:
        """Pass the event to the display."""
        self._events.put(event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._show, name="derail-progress", daemon=True)
        start_thread(self._thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.put(None)
        if self._thread is not None:
            self._thread.join(FAREWELL_SECONDS)

    def _show(self) -> None:
        try:
            if self._live:
                self._show_table()
            else:
                self._show_lines()
        except OSError:
            pass  # the console is closed; the job continues

    def _show_lines(self) -> None:
        while (event := self._events.get()) is not None:
            news = [*self.board.fault_news(self._fault_states()), self.board.update(event)]
            for line in filter(None, news):
                # One write for the whole line, so that output of ranks does not interrupt it.
                text = f"{self._name}: {self.board.elapsed(event.at):6.2f} s  {_on_one_line(line)}"
                self._stream.write(self._paint(text) + "\n")
                self._stream.flush()

    def _show_table(self) -> None:
        from rich.live import Live

        with Live(console=console(self._stream), auto_refresh=False, transient=True, redirect_stdout=False) as live:
            over = False
            while not over:
                over = self._take_events()
                self._draw(live)

    def _take_events(self) -> bool:
        """Wait for the next event or refresh, then take all events; return whether the last one was among them."""
        try:
            event = self._events.get(timeout=REFRESH_SECONDS)
            while event is not None:
                self.board.update(event)
                event = self._events.get_nowait()
        except queue.Empty:
            return False
        return True

    def _draw(self, live: Live) -> None:
        live.update(self._table(), refresh=True)

    def _table(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        now = self._clock.now()
        table = Table(box=None, pad_edge=False)
        for heading in ("rank", "pid", "time", "state"):
            table.add_column(heading, justify="left" if heading == "state" else "right")
        for row in self.board.rows(now):
            table.add_row(*(Text(_on_one_line(cell)) for cell in row))
        self.board.fault_news(self._fault_states())
        for fault in self.board.faults:
            table.add_row("", "", "", Text(_on_one_line(fault), style="dim"))
        # A separate line: as the table's title it would be wrapped at the table's width (narrow with short pids).
        return Group(Text(self.board.title(now), style="italic"), table)


def _on_one_line(text: str) -> str:
    """Return text of a scenario, a plan or a rank as one line without terminal control characters."""
    from derail.errors.text import neutral

    return neutral(text).replace("\n", "\\n")


def wants_colours(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that shows colours and NO_COLOR is not set (https://no-color.org)."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def console(stream: TextIO) -> Console:
    """Return the console for a live table, without styles if colours are off."""
    from rich.console import Console

    return Console(file=stream) if wants_colours(stream) else Console(file=stream, color_system=None)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _names(ranks: Sequence[int]) -> str:
    if len(ranks) > SHOWN_RANKS:
        return f"{len(ranks)} ranks"
    return f"rank{'' if len(ranks) == 1 else 's'} {', '.join(map(str, ranks))}"
