"""All agents by name: those that come with derail, and those that installed packages offer.

A package offers one by an entry point of the group ``derail.agents``: the name is the agent's, the object is called
without arguments and gives an ``Agent``.
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
"""The agents that come with derail, and where each is made; nothing is imported before it is asked for."""


def agents() -> Mapping[str, Callable[[], Agent]]:
    """What makes each agent, by name. A package cannot take the name of one of derail's own."""
    from importlib.metadata import entry_points

    offered = {point.name: _loader(point) for point in entry_points(group=GROUP)}
    return {**offered, **{name: _maker(where) for name, where in OWN.items()}}


def agent(name: str) -> Agent:
    """The agent of a name.

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
        except Exception as error:  # somebody else's code: whatever it throws, the name of the entry point must be told
            raise InputError(f"{point.value}: {type(error).__name__}: {error}", source=f"agent {point.name}") from error

    return make
