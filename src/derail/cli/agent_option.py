"""The agent that a command runs scenarios on: by its name, or by its command line and a declaration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.agents.agent import Agent

F = TypeVar("F", bound="Callable[..., Any]")


def own_agent_options(command: F) -> F:
    """Add ``--agent-cmd`` and ``--declaration``, by which a user describes an agent of their own."""
    declaration = click.option(
        "--declaration", type=click.Path(dir_okay=False, path_type=Path),
        help="What an agent of your own supports and promises, as TOML.",
    )  # fmt: skip
    line = click.option(
        "--agent-cmd", "agent_command", metavar="LINE",
        help='An agent of your own, by its command line: "myagent -n {ranks} {script}".',
    )  # fmt: skip
    return line(declaration(command))


def is_described(agent_command: str | None, declaration: Path | None) -> bool:
    """Return whether the options describe an agent of the user's own."""
    return agent_command is not None or declaration is not None


def chosen_agent(name: str | None, agent_command: str | None, declaration: Path | None) -> Agent:
    """Return the agent that the options choose.

    Raises:
        ValueError: if they choose none, or two.
    """
    from derail.agents import registry

    described = is_described(agent_command, declaration)
    if name is not None and described:
        raise ValueError("an agent has a NAME, or is described by --agent-cmd and --declaration; give one of both")
    if name is not None:
        return registry.agent(name)
    if not described:
        known = ", ".join(sorted(registry.agents()))
        raise ValueError(f"which agent? give its NAME ({known}), or --agent-cmd for one of your own")
    from derail.agents.custom import CommandAgent, read_declaration

    return CommandAgent(agent_command or "", None if declaration is None else read_declaration(declaration))
