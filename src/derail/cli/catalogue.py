"""``derail faults`` lists what can be broken, ``derail explain`` tells of one fault all that there is to know."""

from __future__ import annotations

import click

from derail.cli.usage import of_families, usage_errors


@click.command(short_help="List what can be broken, by family.")
@click.argument("families", nargs=-1, metavar="[FAMILY]...")
@click.option("--json", "as_json", is_flag=True, help="Print everything that the catalogue knows as JSON.")
def faults(*, families: tuple[str, ...], as_json: bool) -> None:
    """List the faults of each FAMILY, or all: where each acts, what it does, and why it cannot be done here.

    Exits with 2 if there is no such family.
    """
    import json

    from derail.faults.registry import entries
    from derail.report.catalogue import as_data, render_list

    with usage_errors():
        for word in families:
            if word in entries():
                raise ValueError(
                    f"{word} is a fault of the family {entries()[word].family}: see 'derail explain {word}'"
                )
        listed = of_families(entries().values(), families)
    if as_json:
        click.echo(json.dumps([as_data(entry) for entry in listed], indent=2))
    else:
        click.echo(render_list(listed), nl=False)


@click.command(short_help="Tell all about one fault.")
@click.argument("name")
def explain(*, name: str) -> None:
    """Tell what the fault NAME does and takes, when it acts, what it needs, and how it is proved and undone.

    Exits with 2 if there is no such fault.
    """
    from derail.faults.registry import entry
    from derail.report.catalogue import render_entry

    with usage_errors():
        known = entry(name)
    click.echo(render_entry(known), nl=False)
