"""``derail compare``: changes between two scorecards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from derail.cli.usage import usage_errors

_FILE = click.Path(path_type=Path)


@click.command(short_help="Show the changes between two scorecards.")
@click.argument("before", type=_FILE)
@click.argument("now", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
def compare(*, before: Path, now: Path, as_json: bool) -> NoReturn:
    """Show the changes from one scorecard to another: JSON files written by ``derail verify-agent --json``.

    Exits with 0 if nothing is worse; 1 if a scenario fails that did not, or breaks a promise that it kept; 2 if a file
    is not a scorecard; 3 if nothing is worse but a scenario that was judged before is not now.
    """
    import json

    from derail.platform.input_files import read_input
    from derail.report.comparison import as_data, changes, exit_code, render_changes
    from derail.report.scorecard_json import decode

    with usage_errors():
        old, new = (decode(read_input(path), source=str(path)) for path in (before, now))
    listed = changes(old, new)
    if as_json:
        click.echo(json.dumps(as_data(listed), indent=2))
    else:
        click.echo(render_changes(old, new, listed), nl=False)
    sys.exit(exit_code(listed))
