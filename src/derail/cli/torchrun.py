"""``derail torchrun``: torch's launcher, with derail's below it."""

from __future__ import annotations

import sys

import click


@click.command(
    short_help="Run torchrun with derail's launcher below it.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
    options_metavar="[TORCHRUN'S OPTIONS]",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="PROGRAM [ARGS]...")
def torchrun(*, words: tuple[str, ...]) -> None:
    """Run torchrun with derail's launcher: torchrun's options, rendezvous and restarts, with derail's ranks.

    After a failure it exits with the exit code of the rank that failed first, or 128 plus its signal.
    """
    from importlib.util import find_spec

    from derail.launch.signals import SignalException

    if find_spec("torch") is None:
        raise click.ClickException("torchrun: torch is not installed. derail torchrun needs it")
    from derail.launch import orphans
    from derail.torch import torchrun as run

    orphans.owns_process = True

    try:
        sys.exit(run(words))
    except SignalException as error:
        sys.exit(128 + error.sigval)
