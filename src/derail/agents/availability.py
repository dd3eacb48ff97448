"""Availability of agents: their versions, missing packages, and the files that a launcher has."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from textwrap import wrap
from typing import TYPE_CHECKING

from derail.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from derail.scenario.model import Promise, Scenario

WIDTH = 120


@dataclass(frozen=True, slots=True)
class Availability:
    """Availability of an agent on this machine.

    Attributes:
        name: the name of the agent on the command line.
        version: the installed version of the launcher; empty if it is unknown.
        missing: why it cannot run here; empty if it can.
        promises: its promises, in the order of ``Promise``.
    """

    name: str
    version: str
    missing: str
    promises: tuple[Promise, ...]


def available_agents() -> tuple[Availability, ...]:
    """Return each registered agent, with its version and why it cannot run here."""
    from typing import get_args

    from derail.agents.registry import agents
    from derail.scenario.model import Promise

    found: list[Availability] = []
    for name, make in agents().items():
        try:
            agent = make()
            missing = agent.unavailable()
            promises = tuple(promise for promise in get_args(Promise) if promise in agent.promises)
            found.append(Availability(name, agent.version(), missing, promises))
        except Exception as error:  # the package of the agent may raise anything; list the others
            found.append(Availability(name, "", f"{type(error).__name__}: {error}", ()))
    return tuple(found)


def render_agents(listed: Iterable[Availability]) -> str:
    """Return a line for each agent: its name, its version, and why it cannot run here."""
    return "\n".join(_lines(tuple(listed))) + "\n"


def _lines(listed: tuple[Availability, ...]) -> Iterator[str]:
    wide = max((len(agent.name) for agent in listed), default=0)
    for agent in listed:
        text = printable(f"not here: {agent.missing}" if agent.missing else agent.version or "version unknown")
        begin = f"{printable(agent.name):<{wide}}  "
        yield from wrap(text, WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))
    able = sum(not agent.missing for agent in listed)
    yield f"{able} of {len(listed)} agents can be run on this machine; derail run SCENARIO --agent NAME runs one"


def as_data(agent: Availability) -> dict[str, object]:
    """Return an agent as plain data, for JSON."""
    return {
        "name": agent.name,
        "version": agent.version,
        "available": not agent.missing,
        "missing": agent.missing,
        "promises": list(agent.promises),
    }


def version_of(*packages: str) -> str:
    """Return the first package's version, and those of the others with their names; empty if one is missing."""
    try:
        first, *others = ((package, version(package)) for package in packages)
    except PackageNotFoundError:
        return ""
    beside = ", ".join(f"{package} {number}" for package, number in others)
    return f"{first[1]} ({beside})" if beside else first[1]


def missing(*packages: str) -> str:
    """Return a sentence about the first missing package; empty if all are installed."""
    for package in packages:
        if not version_of(package):
            return f"{package} is not installed here"
    return ""


def no_error_files(scenario: Scenario) -> str:
    """Return why a launcher without error files cannot run a scenario about them; empty for other scenarios."""
    from derail.faults.registry import entry

    about = any(entry(fault.name).family == "errorfile" for fault in scenario.faults.faults)
    return "it gives ranks no error file, and the fault needs one" if about else ""
