"""What a person sees of a job: on stderr while it runs, and of its end, in colours where there is a terminal."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from derail.agents.native_job import NativeJob
    from derail.cli.progress import Progress
    from derail.faults.model.plan import Plan


COLOURS = {
    r"^PASS\b": "bold green",
    r"^FAIL\b": "bold red",
    r"^INCONCLUSIVE\b": "bold yellow",
    r"^SKIPPED\b": "bold",
    r"^  \* .*$": "bold",
    r"^\S.* FAILED$": "bold red",
    r"^Root Cause .*$": "bold red",
    r"^root cause: (?!none)(?P<red>.*)$": "",
    r"^fault .*: injected\b.*$": "green",
    r"^fault .*: (not reached|unavailable|unknown)\b.*$": "yellow",
    r"^fault .*: errored\b.*$": "red",
    r"^  \+ .*$": "green",
    r"^  [-?] .*$": "yellow",
    r"^  ! .*$": "red",
    r"^left behind: (?!nothing).*$": "yellow",
    r"^derail: +[\d.]+ s": "dim",
    r"^derail: ended by .*$": "yellow",
    r"^  \| .*$": "dim",
    r"^(logs and )?journal: .*$": "dim",
}
"""The style of each kind of line that reports consist of; of a part of it, by the name of a group."""


def painted(text: str, *, stream: TextIO) -> str:
    """Return the text for a stream: with colours if the stream is a terminal and NO_COLOR is not set."""
    from derail.cli.progress import wants_colours

    if not wants_colours(stream):
        return text
    import re

    from rich.console import Console
    from rich.text import Text

    shown = Text(text)
    for pattern, style in COLOURS.items():
        shown.highlight_regex(re.compile(pattern, re.MULTILINE), style)
    console = Console(file=stream, soft_wrap=True, highlight=False)
    with console.capture() as capture:
        console.print(shown, end="")
    return capture.get()


def show(text: str, *, err: bool = False) -> None:
    """Print lines of a report: what came from ranks in them is shown by the terminal, and not obeyed."""
    from derail.errors.text import neutral

    stream = sys.stderr if err else sys.stdout
    stream.write(painted(neutral(text).removesuffix("\n"), stream=stream) + "\n")
    stream.flush()


def display(ranks: int, plan: Plan, *, live: bool) -> Progress:
    """A display on stderr: a table on a terminal that nobody else writes to, else lines."""
    from derail.cli.progress import Board, Progress

    return Progress(
        Board(ranks, faults=[str(fault) for fault in plan.faults]),
        sys.stderr,
        live=live and _is_terminal(),
        paint=partial(painted, stream=sys.stderr),
    )


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def watch_faults(progress: Progress, job: NativeJob) -> None:
    """Show what has come of a fault as soon as it is known, and what was planned until then."""
    from derail.faults.model.results import NotReached, Unknown

    def states() -> Sequence[str]:
        told = job.fault_results()
        return [
            f"{result.fault}" if isinstance(result.result, NotReached | Unknown) else f"{result.fault}: {result.status}"
            for result in told
        ]

    progress.watch_faults(states)
