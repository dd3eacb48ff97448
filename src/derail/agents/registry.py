"""Registry of all agents by name: derail's own, and those of installed packages.

A package provides one by an entry point of the group ``derail.agents``: its name is the agent's name, and its object is
called without arguments and returns an ``Agent``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from derail.model.input_error import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.metadata import EntryPoint

    from derail.agents.agent import Agent

__all__ = ["agent", "agents"]

GROUP = "derail.agents"
OWN = {
    "native": "derail.agents.native:NativeAgent",
    "torchrun": "derail.agents.launchers.torchrun:Torchrun",
    "derail-torchrun": "derail.agents.launchers.torchrun:DerailTorchrun",
    "torch_elastic": "derail.agents.launchers.torch_elastic:TorchElastic",
    "accelerate": "derail.agents.launchers.accelerate:Accelerate",
    "ft_launcher": "derail.agents.launchers.ft_launcher:FtLauncher",
    "torchrunx": "derail.agents.launchers.torchrunx:Torchrunx",
    "ray_train": "derail.agents.launchers.ray_train:RayTrain",
    "mpirun": "derail.agents.launchers.mpirun:Mpirun",
}
"""Agents of derail, with the object that makes each; an agent is imported only when it is requested."""


def agents() -> Mapping[str, Callable[[], Agent]]:
    """Return the factory of each agent, by name; packages cannot override the names of derail's own agents."""
    from importlib.metadata import entry_points

    offered = {point.name: _loader(point) for point in entry_points(group=GROUP)}
    return {**offered, **{name: _maker(where) for name, where in OWN.items()}}


def agent(name: str) -> Agent:
    """Return the agent of a name.

    Raises:
        InputError: if there is none, or its package cannot be imported.
    """
    from derail.model.input_error import not_known

    known = agents()
    if name not in known:
        raise InputError(not_known(name, known, "agent"))
    return known[name]()


def _maker(where: str) -> Callable[[], Agent]:
    module, _, attribute = where.partition(":")
    return lambda: cast("Agent", getattr(import_module(module), attribute)())


def _loader(point: EntryPoint) -> Callable[[], Agent]:
    def make() -> Agent:
        try:
            return cast("Agent", point.load()())
        except Exception as error:  # code of another package: the error must name the entry point
            raise InputError(f"{point.value}: {type(error).__name__}: {error}", source=f"agent {point.name}") from error

    return make
