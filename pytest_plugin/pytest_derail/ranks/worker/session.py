"""pytest session in a rank: start, collection, and search for a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from _pytest import assertion
from pluggy import PluginManager

from pytest_derail.protocol import AS_COLLECTED, names_of
from pytest_derail.ranks.prefork import pytest_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_derail.protocol import Order
    from pytest_derail.ranks.prefork.pytest_session import Preparation

UNSET: Mapping[str, Any] = {
    # Options that select, sort or list tests, or belong to the one reporting process: the controller applies them.
    "keyword": "",
    "markexpr": "",
    "deselect": None,
    "lf": False,
    "failedfirst": False,
    "newfirst": False,
    "stepwise": False,
    "stepwise_skip": False,
    "collectonly": False,
    "usepdb": False,
    "derail_debugpy": None,
    "trace": False,
    "setuponly": False,
    "setupplan": False,
    "setupshow": False,
    "pyargs": False,
    "maxfail": 0,
    "dist": "no",
    "distload": False,
    "looponfail": False,
    "numprocesses": None,
    "maxprocesses": None,
    "tx": [],
}

NOT_FOUND = (
    "this rank did not find the test {}; names and parameters must be the same in every process that imports the module"
)

COLLECTED: pytest.StashKey[Mapping[str, Sequence[pytest.Item]]] = pytest.StashKey()
"""Key in the stash of a session: tests of files that were collected before the rank was forked."""


def add_hooks(config: pytest.Config, plugin: object) -> None:
    """Register one of our objects that has hooks and no fixtures.

    This skips pytest's search of its attributes for fixtures, which takes a millisecond.
    """
    PluginManager.register(config.pluginmanager, plugin)


def begin(preparation: Preparation, worker: Mapping[str, Any], basetemp: str | None = None) -> pytest.Session:
    """Begin a session like that of a pytest-xdist worker: another process reports.

    Args:
        preparation: what the session depends on; a session prepared for it is continued if there is one.
        worker: the value of ``config.workerinput`` for plugins.
        basetemp: base folder of temporary directories; None for pytest's default.
    """
    from _pytest.config import _prepareconfig

    prepared_session = pytest_session.take(preparation)
    config = _prepareconfig([*preparation.args]) if prepared_session is None else prepared_session.config
    for name, value in UNSET.items():
        if hasattr(config.option, name):
            setattr(config.option, name, value)
    if basetemp is not None:
        config.option.basetemp = basetemp
    for name in ("terminalreporter", "terminal", "faulthandler"):
        config.pluginmanager.set_blocked(name)
    # Plugins detect by this attribute that another process reports.
    config.workerinput, config.workeroutput = dict(worker), {}  # type: ignore[attr-defined]
    try:
        config._do_configure()  # noqa: SLF001 - what pytest's own main does
        session = pytest.Session.from_config(config) if prepared_session is None else prepared_session
        session.exitstatus = pytest.ExitCode.OK
        pytest_session.start(session)
    except BaseException:
        config._ensure_unconfigure()  # noqa: SLF001
        raise
    return session


def command_line(args: tuple[str, ...], options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command line with the options of a rank; its modules are imported already."""
    end = args.index("--") if "--" in args else len(args)
    added = ("-W", "ignore::pytest.PytestAssertRewriteWarning", *options)
    return (*args[:end], *added, *args[end:])


@dataclass(slots=True, eq=False)
class Problems:
    """Reasons why a rank did not collect tests.

    Attributes:
        failed: texts of failures.
        skipped: modules that skip themselves when they are imported, by node ID, with their reasons.
    """

    failed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a failure or a skip."""
        if report.failed:
            self.failed.append(report.longreprtext)
        elif report.skipped and isinstance(report.longrepr, tuple):
            self.skipped[report.nodeid] = report.longrepr[2].removeprefix("Skipped: ")


def find(items: Iterable[pytest.Item], problems: Problems, order: Order) -> pytest.Function:
    """Return the test of an order: the one with its node ID, else its names, else its position in its file.

    A suite may write the rank into the node ID, or into the name of a parameter.

    Raises:
        CollectError: if it does not exist, or its module could not be imported.
        Skipped: if its module skips itself in this rank.
    """
    nodeid, functions = order.nodeid, [item for item in items if isinstance(item, pytest.Function)]
    index, count = order.position
    of_file = functions[0].session.stash[AS_COLLECTED].get(order.names[0], []) if functions else []
    for item in (
        *(item for item in functions if item.nodeid == nodeid),
        *(item for item in functions if names_of(item) == order.names),
        *(of_file[index : index + 1] if len(of_file) == count else ()),
    ):
        if isinstance(item, pytest.Function):
            return item
    reason = problems.skipped.get(nodeid.partition("::")[0])
    if reason is not None:
        raise pytest.skip.Exception(reason, allow_module_level=True)
    text = "\n".join(problems.failed).strip()
    raise pytest.Collector.CollectError(
        text or f"{NOT_FOUND.format(nodeid)}\ncollected: {[item.nodeid for item in functions]}"
    )


def _names(node: str) -> frozenset[str] | None:
    """Return the names of a test and of its classes; None for a whole module."""
    _, _, inside = node.partition("::")
    return frozenset(inside.partition("[")[0].split("::")) if inside else None


def collect(session: pytest.Session, nodes: Sequence[str]) -> tuple[Sequence[pytest.Item], Problems]:
    """Collect tests; return them and the problems. Files that were collected before are reused."""
    problems = Problems()
    collected = session.stash.get(COLLECTED, {})
    files = [node.partition("::")[0] for node in nodes]
    if all(file in collected for file in files):
        return [item for file in files for item in collected[file]], problems

    class Watch:
        @pytest.hookimpl(tryfirst=True)
        def pytest_pycollect_makeitem(self, name: str) -> list[pytest.Item] | None:
            return None if wanted is None or name in wanted else []

    wanted = _names(nodes[0]) if len(nodes) == 1 else None
    watch = Watch()
    add_hooks(session.config, watch)
    add_hooks(session.config, problems)
    # pytest rewrites assertions in named files whatever their names are; its rewrite hook asks here for those files.
    assertion.pytest_collection(session)
    try:
        return session.perform_collect(list(nodes)), problems
    except pytest.UsageError as error:
        problems.failed = problems.failed or [f"{NOT_FOUND.format(nodes[0])}\n{error}"]
        return [], problems
    finally:
        assertion.pytest_sessionfinish(session)
        session.config.pluginmanager.unregister(watch)
        session.config.pluginmanager.unregister(problems)
