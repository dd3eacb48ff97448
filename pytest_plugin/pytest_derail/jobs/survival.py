"""Campaign of ``derail survive`` in a test."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from derail.recovery.report import Report

LIMIT_S = 600.0  # seconds of a quiet run


def survive(
    run: Callable[[], object] | str | Path | Sequence[str | os.PathLike[str]],
    workdir: Path,
    *,
    cwd: Path | None,
    watch: str | Sequence[str],
    equal: str | Sequence[str],
    same: str | Sequence[str],
    allow: str | Sequence[str],
    breaks: str | Sequence[str],
    jobs: int,
    step: str,
    scale: float,
    **others: float | None,
) -> Report:
    """Run the campaign, and return its report; the arguments are those of the fixture.

    Raises:
        InputError: if the program cannot be judged.
        Skipped: if this machine cannot show the operations of a program.
    """
    import pytest

    from derail.faults.mechanisms import persistence
    from derail.recovery import campaign
    from derail.recovery.attempt import Program, check_patterns
    from derail.recovery.breaks import read_breaks
    from derail.recovery.settings import Settings
    from derail.recovery.trial import Demands

    if problem := persistence.why_not():
        pytest.skip(f"derail.survive: {problem}")
    watched, values, files, allowed = map(_words, (watch, equal, same, allow))
    check_patterns(watched, files, allowed, values=(*values, *([step] if step else [])), step=step)
    close, max_restarts = others.pop("close"), others.pop("max_restarts")
    settings = Settings(
        Program(_argv(run), str(cwd or Path.cwd()), watched, step),
        Demands(values, close, files, allowed, int(max_restarts or 1), LIMIT_S),
        read_breaks(_words(breaks), scale=scale),
        scale=scale,
        **others,  # type: ignore[arg-type] # points and seed
    )
    return campaign.survive(settings, workdir, jobs=jobs)


def _words(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _argv(run: Callable[[], object] | str | Path | Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Return the command of a program or function.

    Raises:
        ValueError: if a function is not at the top level of its file.
    """
    if callable(run):
        code = getattr(run, "__code__", None)
        name = getattr(run, "__qualname__", "")
        if code is None or not name.isidentifier():
            raise ValueError(f"derail.survive: {name or run!r}: expected a function at the top level of its file")
        start = f"import runpy; runpy.run_path({code.co_filename!r}, run_name='derail_survive')[{name!r}]()"
        return (sys.executable, "-c", start)
    if isinstance(run, str | Path):
        return (sys.executable, str(run)) if str(run).endswith(".py") else (str(run),)
    return tuple(os.fspath(word) for word in run)
