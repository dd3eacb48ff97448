"""The environment variables by which launchers tell ranks who they are, and the names that workers read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.agents.invocation import LOOPBACK
from derail.faults.inrank.bootstrap import RANK_VARIABLE, RANK_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES: Mapping[str, tuple[str, ...]] = {
    "RANK": RANK_VARIABLES[1:-1],
    "WORLD_SIZE": ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS", "SLURM_NPROCS"),
    "LOCAL_RANK": ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"),
    "LOCAL_WORLD_SIZE": ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"),
}
"""The names that workers read, and those under which Open MPI, MPICH, Intel MPI and Slurm give the same."""
MAPPED = frozenset({*NAMES, "MASTER_ADDR", "MASTER_PORT"})
"""What a declaration can map, and what a rank is given that lacks it."""


def missing(environ: Mapping[str, str], declared: Mapping[str, str], master_port: int) -> dict[str, str]:
    """Return the variables that a worker reads and its launcher has given under other names, or not at all.

    Args:
        environ: the environment of a rank.
        declared: by the name that workers read, the one that the launcher is declared to use.
        master_port: a port of loopback that no socket is bound to, for launchers that give ranks no address to meet at.
    """
    found: dict[str, str] = {}
    for name, theirs in NAMES.items():
        candidates = (declared.get(name, ""), name, *theirs)
        value = next((environ[each] for each in candidates if environ.get(each)), None)
        if value is not None:
            found[name] = value
    for name, default in (("MASTER_ADDR", LOOPBACK), ("MASTER_PORT", str(master_port))):
        found[name] = environ.get(declared.get(name, "")) or environ.get(name) or default
    return {name: value for name, value in found.items() if environ.get(name) != value}


def named(declared: Mapping[str, str]) -> str:
    """Return the names of the variables in which a rank's number is looked for, in words."""
    return ", ".join(filter(None, (declared.get("RANK"), *RANK_VARIABLES)))


def handed_on(declared: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that gives the processes of a job the name under which its launcher gives the rank."""
    return {RANK_VARIABLE: declared["RANK"]} if "RANK" in declared else {}
