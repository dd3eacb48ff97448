"""DeepSpeed's ``DistributedTest`` and ``DistributedFixture``, which suites define themselves: recognised by shape."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from derail.platform.ports import free_port
from pytest_derail.adopt.calls import DistributedCall
from pytest_derail.adopt.controller import NotAdoptedError
from pytest_derail.shapes import is_distributed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_derail.adopt.controller import AdoptedTest

POOL, PROCESSES = "_launch_daemonic_procs", "_launch_non_daemonic_procs"


def classes_of(item: pytest.Function) -> set[type]:
    """Return the classes that launch processes for a test: its own, and those of its distributed fixtures."""
    functions = [
        getattr(each, "func", None)
        for defs in item._fixtureinfo.name2fixturedefs.values()  # noqa: SLF001 - there is no other way
        for each in defs
    ]
    fixtures = [each for each in functions if getattr(each, "is_dist_fixture", False) is True]
    classes: list[Any] = [item.cls, *(each if isinstance(each, type) else type(each) for each in fixtures)]
    return {_launching(cls) for cls in classes if is_distributed(cls)}


def _launching(cls: type) -> type:
    """Return the class that defines the launch: tests and fixtures inherit it from the same one."""
    return next(base for base in cls.__mro__ if "_launch_procs" in vars(base))


@contextmanager
def distributed_class(cls: Any, test: AdoptedTest) -> Iterator[None]:
    """While a test runs: have ranks run what the class would launch."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in (POOL, PROCESSES) if hasattr(cls, name)] or ["_launch_procs"]:
            patch.setattr(cls, name, _launcher(getattr(cls, name), test, is_pooled=name != PROCESSES))
        yield


def _launcher(launch: Callable[..., object], test: AdoptedTest, *, is_pooled: bool) -> Callable[..., object]:
    def launch_on_ranks(self: Any, num_procs: int, *args: object) -> None:
        __tracebackhide__ = True
        port = str(free_port())
        calls = [
            DistributedCall(self._dist_run, (rank, num_procs, port, *args), is_pooled=is_pooled)
            for rank in range(num_procs)
        ]
        try:
            verdict = test.call(calls, timeout=float(self.exec_timeout), reuse="class" if self.reuse_dist_env else None)
        except NotAdoptedError as error:
            test.reasons.append(f"{test.item.nodeid}: {type(self).__qualname__}: {error}")
            launch(self, num_procs, *args)
            return
        test.raise_failure(verdict)
        if (reason := verdict.reason("xfailed")) is not None:
            pytest.xfail(reason)
        if (reason := verdict.reason("skipped")) is not None:
            pytest.skip(reason)

    return launch_on_ranks
