"""Command line: a module per group of commands; each command imports what it needs when it runs."""

from __future__ import annotations

import click

from derail.cli.compare import compare
from derail.cli.job import launch
from derail.cli.listing import explain, list_
from derail.cli.machine import doctor
from derail.cli.replay import replay
from derail.cli.run import run
from derail.cli.schema import schema
from derail.cli.shrink import shrink
from derail.cli.survive import survive
from derail.cli.torchrun import torchrun
from derail.cli.verify import verify_agent
from derail.cli.where import where


class _Commands(click.Group):
    """Group that lists its commands with their whole help line, wrapped at the width of the terminal."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(limit=1000)) for name in self.list_commands(ctx)]
            )


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="derail", prog_name="derail", message="%(prog)s %(version)s")
def main() -> None:
    """Run multi-rank jobs, break them on purpose, and prove what happened."""


for _command in (
    launch, torchrun, where, run, verify_agent, survive, compare, replay, shrink, list_, explain, schema, doctor
):  # fmt: skip
    main.add_command(_command)
