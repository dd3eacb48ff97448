"""Options for the agent that runs scenarios: its name, or its command line and a declaration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.agents.agent import Agent

F = TypeVar("F", bound="Callable[..., Any]")


def own_agent_options(command: F) -> F:
    """Add ``--agent-cmd`` and ``--declaration``, which describe a user's own agent."""
    declaration = click.option(
        "--declaration", type=click.Path(dir_okay=False, path_type=Path),
        help="TOML file that describes what your own agent supports and promises.",
    )  # fmt: skip
    line = click.option(
        "--agent-cmd", "agent_command", metavar="LINE",
        help='Command line of your own agent: "myagent -n {ranks} {script}".',
    )  # fmt: skip
    return line(declaration(command))


def is_described(agent_command: str | None, declaration: Path | None) -> bool:
    """Return whether the options describe the user's own agent."""
    return agent_command is not None or declaration is not None


def chosen_agent(name: str | None, agent_command: str | None, declaration: Path | None) -> Agent:
    """Return the agent that the options choose.

    Raises:
        ValueError: if they choose none, or two.
    """
    from derail.agents import registry

    described = is_described(agent_command, declaration)
    if name is not None and described:
        raise ValueError("agent: expected either a NAME, or --agent-cmd and --declaration, got both")
    if name is not None:
        return registry.agent(name)
    if not described:
        names = ", ".join(sorted(registry.agents()))
        raise ValueError(f"agent: none given. Give its NAME ({names}), or --agent-cmd for your own")
    from derail.agents.custom import CommandAgent, read_declaration

    return CommandAgent(agent_command or "", None if declaration is None else read_declaration(declaration))


def recording(agent: Agent) -> Agent:
    """Return an agent of the same kind whose ranks record their collectives, if it is one whose ranks can."""
    from derail.agents.external.agent import ExternalAgent
    from derail.agents.native import NativeAgent

    if isinstance(agent, NativeAgent):
        return NativeAgent(record=True)
    if isinstance(agent, ExternalAgent):
        agent.record = True
    return agent
