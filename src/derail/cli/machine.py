"""``derail doctor``: what can be broken on this machine, and what stands in the way of the rest."""

from __future__ import annotations

import sys

import click

from derail.cli.usage import usage_errors


@click.command(short_help="Say what can be broken on this machine, and why not the rest.")
@click.option(
    "--require", "required", multiple=True, metavar="N|NAMES",
    help="Exit with 1 unless N faults can be done here, or all these mechanisms and faults work (a,b,...). Repeatable.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def doctor(*, required: tuple[str, ...], as_json: bool) -> None:
    """Try each mechanism that faults need on this machine, and say which work, and why the others do not.

    Exits with 1 if anything is missing that is required, and with 2 if there is no such thing.
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
    for lack in missing:
        click.echo(f"derail: required and missing: {lack}", err=True)
    sys.exit(1 if missing else 0)
