"""Output of commands for people: a job's progress on stderr, and reports, in colours on a terminal."""

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
    r"^ .* <- look here$": "bold red",
    r"^hang: ": "bold",
    r"^left behind: (?!nothing).*$": "yellow",
    r"^derail: +[\d.]+ s": "dim",
    r"^derail: ended by .*$": "yellow",
    r"^  \| .*$": "dim",
    r"^(logs and )?journal: .*$": "dim",
}
"""Style of each kind of line in reports; a named group styles only a part of the line."""


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
    """Print lines of a report, with terminal control characters from ranks escaped."""
    from derail.errors.text import neutral

    stream = sys.stderr if err else sys.stdout
    stream.write(painted(neutral(text).removesuffix("\n"), stream=stream) + "\n")
    stream.flush()


def display(ranks: int, plan: Plan, *, live: bool) -> Progress:
    """Return a display on stderr: a table on a terminal without other output, else lines."""
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
    """Show the result of each fault as soon as it is known, and until then the planned fault."""
    from derail.faults.model.results import NotReached, Unknown

    def states() -> Sequence[str]:
        results = job.fault_results()
        return [
            f"{result.fault}" if isinstance(result.result, NotReached | Unknown) else f"{result.fault}: {result.status}"
            for result in results
        ]

    progress.watch_faults(states)
