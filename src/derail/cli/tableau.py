"""Progress of a campaign on stderr: a live table on a terminal, else a line for each verdict."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self, TextIO

from derail.model.clock import SYSTEM_CLOCK
from derail.report.text import printable

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType

    from derail.campaign.campaign import News
    from derail.model.clock import Clock
    from derail.report.scorecard import Row

STYLES = {"PASS": "green", "FAIL": "bold red", "INCONCLUSIVE": "yellow", "SKIPPED": "dim"}
LAST = 6
"""Number of latest verdicts in the table; the latest ones other than PASS and SKIPPED stay longer."""
REFRESHES = 5  # per second


class Tableau:
    """Display of a campaign's progress; a context manager around ``campaign.verify``.

    Attributes:
        rows: the rows so far.
    """

    def __init__(self, agent: str, scenarios: int, stream: TextIO, *, live: bool, clock: Clock = SYSTEM_CLOCK) -> None:
        self.rows: list[Row] = []
        self._agent = agent
        self._scenarios = scenarios
        self._stream = stream
        self._live = live
        self._clock = clock
        self._began = 0.0
        self._running: dict[str, float] = {}
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self._began = self._clock.now()
        if self._live:
            from rich.live import Live

            from derail.cli.progress import console

            self._exit.enter_context(
                Live(
                    get_renderable=self._table,
                    console=console(self._stream),
                    refresh_per_second=REFRESHES,
                    transient=True,
                )
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def update(self, news: News) -> None:
        """Show a beginning or a verdict."""
        from derail.campaign.campaign import Began

        if isinstance(news, Began):
            self._running[news.scenario] = self._clock.now()
            return
        self._running.pop(news.row.scenario, None)
        self.rows.append(news.row)
        if not self._live:
            self._stream.write(self._line(news.row))
            self._stream.flush()

    def _line(self, row: Row) -> str:
        """Return a line, to be written at once."""
        why = f": {printable(row.reasons[0])}" if row.reasons else ""
        more = f" (and {len(row.reasons) - 1} more)" if len(row.reasons) > 1 else ""
        width = len(str(self._scenarios))
        place = f"[{len(self.rows):{width}}/{self._scenarios}]"
        return f"derail: {self._elapsed():7.2f} s {place} {row.verdict} {printable(row.scenario)}{why}{more}\n"

    def _elapsed(self) -> float:
        return self._clock.now() - self._began

    def _table(self) -> RenderableType:
        """Return the table; the drawing thread calls this while the main thread appends."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        rows, running = list(self.rows), dict(self._running)
        title = Text(
            f"{printable(self._agent)} · {len(rows)} of {self._scenarios} · {self._elapsed():.0f} s", style="italic"
        )
        for kind, style in STYLES.items():
            if number := sum(row.verdict == kind for row in rows):
                title.append(f" · {number} {kind}", style=style)
        table = Table(box=None, pad_edge=False, show_header=False)
        for justify in ("left", "left", "right"):
            table.add_column(justify=justify, overflow="ellipsis", no_wrap=True)
        table.add_row("", ProgressBar(total=max(1, self._scenarios), completed=len(rows), width=40), "")
        for row in self._in_sight(rows):
            took = "" if row.seconds is None else f"{row.seconds:.1f} s"
            table.add_row(Text(row.verdict, style=STYLES[row.verdict]), Text(printable(row.scenario)), took)
        for name, began in running.items():
            table.add_row("", Text(printable(name), style="dim"), f"{self._clock.now() - began:.1f} s")
        return Group(title, table)  # as the table's title it would be wrapped at the table's width

    @staticmethod
    def _in_sight(rows: list[Row]) -> list[Row]:
        striking = [row for row in rows if row.verdict in ("FAIL", "INCONCLUSIVE")][-LAST:]
        return [row for row in rows if row in striking or row in rows[-LAST:]]
