"""What was asked for wrongly is said in words, and exits with 2."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

USAGE = 2
"""Exit code for what was asked for wrongly: options, scripts, plans, scenarios."""


@contextmanager
def usage_errors() -> Iterator[None]:
    """What was asked for wrongly, or cannot be started at all, in words and without a traceback."""
    from derail.errors.text import neutral
    from derail.faults.plan import PlanError
    from derail.scenario.model import ScenarioError

    try:
        yield
    except (PlanError, ScenarioError, OSError, ValueError) as error:
        for line in str(error).splitlines():
            click.echo(f"derail: {neutral(line)}", err=True)
        sys.exit(USAGE)
