"""What is there to run: which packages are installed, in which versions, and which files a launcher has."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derail.scenario.model import Scenario


def version_of(*packages: str) -> str:
    """The first package's version, and those of the others with their names; empty if one is missing."""
    try:
        first, *others = ((package, version(package)) for package in packages)
    except PackageNotFoundError:
        return ""
    beside = ", ".join(f"{package} {number}" for package, number in others)
    return f"{first[1]} ({beside})" if beside else first[1]


def missing(*packages: str) -> str:
    """Which of them is not installed, as a sentence; empty if all are."""
    for package in packages:
        if not version_of(package):
            return f"{package} is not installed here"
    return ""


def no_error_files(scenario: Scenario) -> str:
    """Why a scenario about error files says nothing of a launcher that has none; empty if it is about others."""
    from derail.faults.registry import entry

    about = any(entry(fault.name).family == "errorfile" for fault in scenario.faults.faults)
    return "it tells ranks no file for their errors, and the fault is about one" if about else ""
