"""``derail faults`` lists what can be broken, ``derail explain`` tells of one fault all that there is to know."""

from __future__ import annotations

import click

from derail.cli.usage import usage_errors


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything that the catalogue knows as JSON.")
def faults(*, as_json: bool) -> None:
    """List all faults by family: where each acts, what it does, and why it cannot be done here if it cannot."""
    import json

    from derail.faults.catalogue import entries
    from derail.report.catalogue import as_data, render_list

    if as_json:
        click.echo(json.dumps([as_data(entry) for entry in entries().values()], indent=2))
    else:
        click.echo(render_list(entries().values()), nl=False)


@click.command()
@click.argument("name")
def explain(*, name: str) -> None:
    """Tell what the fault NAME does and takes, when it acts, what it needs, and how it is proved and undone.

    Exits with 2 if there is no such fault.
    """
    from derail.faults.catalogue import entry
    from derail.report.catalogue import render_entry

    with usage_errors():
        known = entry(name)
    click.echo(render_entry(known), nl=False)
