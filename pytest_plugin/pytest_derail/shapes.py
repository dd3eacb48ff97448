"""Classes of other suites that start processes themselves, recognised without an import of their packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Shape: TypeAlias = Literal["MultiProcessTestCase", "MultiProcContinuousTest", "DistributedTest"]

TORCH = "torch.testing._internal.common_distributed"
"""Module of torch's classes for tests in several processes."""

OWN: Mapping[Shape, tuple[str, ...]] = {
    "MultiProcessTestCase": ("_run", "join_or_run", "_start_processes", "_join_processes", "_check_return_codes"),
    "MultiProcContinuousTest": ("_spawn_processes", "_worker_loop", "_worker_run_main_wait"),
    "DistributedTest": (),
}
"""Methods that must be torch's own, because their work is done by derail's ranks."""

REMEDY = "remove the marker and run the tests with -p pytest_derail.adopt, or derail_adopt = true in the ini file"


def shape_of(cls: type | None) -> Shape | None:
    """Return the shape of a class of tests; None for any other class."""
    for base in getattr(cls, "__mro__", ()):
        for name in ("MultiProcessTestCase", "MultiProcContinuousTest"):
            if base.__name__ == name and base.__module__ == TORCH:
                return name
    if getattr(cls, "is_dist_test", False) is True and is_distributed(cls):
        return "DistributedTest"
    return None


def is_distributed(cls: type | None) -> bool:
    """Return whether a class has the launching methods of DeepSpeed's ``DistributedExec``."""
    return callable(getattr(cls, "_launch_procs", None)) and callable(getattr(cls, "_dist_run", None))


def why_not_adopted(cls: type, shape: Shape) -> str:
    """Return why the tests of a class cannot run on derail's ranks; empty if they can."""
    for method in OWN[shape]:
        of = next((base for base in cls.__mro__ if method in vars(base)), None)
        if of is not None and not of.__module__.startswith("torch.testing._internal."):
            return f"its {method} is not torch's own, but that of {of.__qualname__}"
    return ""
