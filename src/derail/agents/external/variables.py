"""Environment variables in which launchers give ranks their number and job, and the names that ranks read."""

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
"""Variables that ranks read, with those of Open MPI, MPICH, Intel MPI and Slurm for the same value."""
MAPPED = frozenset({*NAMES, "MASTER_ADDR", "MASTER_PORT"})
"""Variables that a declaration can map, and that derail sets for a rank that lacks them."""


def missing(environ: Mapping[str, str], declared: Mapping[str, str], master_port: int) -> dict[str, str]:
    """Return the variables that ranks read and their launcher has given under other names, or not at all.

    Args:
        environ: the environment of a rank.
        declared: the declared variables of the launcher, by the name that ranks read.
        master_port: a free port of loopback, for launchers that give ranks no rendezvous address.
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
    """Return the names of the variables that may contain a rank's number, in words."""
    return ", ".join(filter(None, (declared.get("RANK"), *RANK_VARIABLES)))


def handed_on(declared: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that passes the processes of a job the name of its launcher's variable for the rank."""
    return {RANK_VARIABLE: declared["RANK"]} if "RANK" in declared else {}
