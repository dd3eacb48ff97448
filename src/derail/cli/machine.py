"""``derail doctor``: faults available on this machine, and the reasons why others are not."""

from __future__ import annotations

import sys

import click

from derail.cli.usage import usage_errors


@click.command(short_help="Show which faults are available on this machine, and why others are not.")
@click.option(
    "--require", "required", multiple=True, metavar="N|NAMES",
    help="Exit with 1 unless N faults are available, or all these mechanisms and faults are (a,b,...). Repeatable.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def doctor(*, required: tuple[str, ...], as_json: bool) -> None:
    """Try each mechanism that faults need on this machine, and show which work, and why the others do not.

    Exits with 1 if something required is missing, and with 2 if a required name does not exist.
    """
    import json

    from derail.report.doctor import as_data, examine, render_checkup

    words = [word.strip() for text in required for word in text.split(",") if word.strip()]
    with usage_errors():
        checkup = examine()
        missing = checkup.missing(words)
    if as_json:
        click.echo(json.dumps({**as_data(checkup), "missing": missing}, indent=2))
    else:
        click.echo(render_checkup(checkup), nl=False)
    for problem in missing:
        click.echo(f"derail: required and missing: {problem}", err=True)
    sys.exit(1 if missing else 0)
