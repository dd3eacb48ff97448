"""``derail list`` names scenarios, faults and agents; ``derail explain`` describes one fault in full."""

from __future__ import annotations

import click

from derail.cli.usage import of_families, usage_errors

_FAMILIES = click.argument("families", nargs=-1, metavar="[FAMILY]...")


@click.group("list", short_help="List scenarios, faults or agents.")
def list_() -> None:
    """List the scenarios that come with derail, its faults, or the agents that it can run."""


def _as_json(data: object) -> None:
    import json

    click.echo(json.dumps(data, indent=2))


@list_.command(short_help="List the scenarios that come with derail, by family.")
@_FAMILIES
@click.option("--json", "as_json", is_flag=True, help="Print the scenarios as JSON.")
def scenarios(*, families: tuple[str, ...], as_json: bool) -> None:
    """List the scenarios of each FAMILY, or all: the name that ``derail run`` takes, and the expected result.

    Exits with 2 if there is no such family.
    """
    from derail.report.library import as_data, library, render_list

    with usage_errors():
        listed = of_families(library(), families)
    if as_json:
        _as_json([as_data(scenario) for scenario in listed])
    else:
        click.echo(render_list(listed), nl=False)


@list_.command(short_help="List faults, by family.")
@_FAMILIES
@click.option("--json", "as_json", is_flag=True, help="Print the whole catalogue entry of each fault as JSON.")
def faults(*, families: tuple[str, ...], as_json: bool) -> None:
    """List the faults of each FAMILY, or all: where each acts, its effect, and why it is unavailable here.

    Exits with 2 if there is no such family.
    """
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
        _as_json([as_data(entry) for entry in listed])
    else:
        click.echo(render_list(listed), nl=False)


@list_.command(short_help="List the launchers that can run scenarios, with their versions.")
@click.option("--json", "as_json", is_flag=True, help="Print the agents, with their promises, as JSON.")
def agents(*, as_json: bool) -> None:
    """List the agents: derail's own, and those of installed packages.

    Each is listed with its version, and with what is missing to run it on this machine.
    """
    from derail.agents.availability import as_data, available_agents, render_agents

    listed = available_agents()
    if as_json:
        _as_json([as_data(agent) for agent in listed])
    else:
        click.echo(render_agents(listed), nl=False)


@click.command(short_help="Describe one fault in full.")
@click.argument("name")
def explain(*, name: str) -> None:
    """Describe the fault NAME: effect, parameters, triggers, requirements, and how it is proved and undone.

    Exits with 2 if there is no such fault.
    """
    from derail.faults.registry import entry
    from derail.report.catalogue import render_entry

    with usage_errors():
        described = entry(name)
    click.echo(render_entry(described), nl=False)
