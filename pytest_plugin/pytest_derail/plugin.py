"""Options, markers, fixtures and hooks of the plugin.

A suite that does not use the plugin imports only this file: the modules that import derail are imported by the first
test that uses the fixture or runs on ranks.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_derail.markers import MARKERS
from pytest_derail.options import add_options, adopts, debugpy_ranks, ranks_of_suite
from pytest_derail.protocol import (
    AS_COLLECTED,
    BROKEN_OFF,
    COLLECTING,
    CURRENT,
    IN_RANK,
    KEPT,
    LIFECYCLE,
    LIVE,
    NO_SCENARIO,
    ON_RANKS,
    PARAMETER,
    RANKS,
    ranks_marker,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from pytest_derail.jobs.fixture import Derail

OF_PYTEST = frozenset({"parametrize", "skip", "skipif", "xfail", "usefixtures", "filterwarnings"})
"""Markers that do not concern ranks."""

pytest.register_assert_rewrite("pytest_derail.assertions")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options: on the command line, or, with lower priority, in the ini file."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; open nothing yet."""
    config.stash[LIVE] = []
    for marker, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")
    if config.getoption("xmlpath", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(RecordedForJUnit(config))
    if adopts(config) in ("yes", "report"):
        config.pluginmanager.import_plugin("pytest_derail.adopt")
    debugpy_ranks(config)
    if config.getoption("derail_scenarios"):
        from pytest_derail.scenarios import choose_scenarios

        choose_scenarios(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """With ``--derail-ranks``, conftest files and modules find the environment of rank 0 while tests are collected."""
    ranks = ranks_of_suite(early_config)
    if ranks and COLLECTING not in early_config.stash:
        from pytest_derail.ranks.spmd import begin

        begin(early_config, ranks)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Give this process its own environment again when the tests are collected."""
    try:
        return (yield)
    finally:
        if COLLECTING in session.config.stash:
            from pytest_derail.ranks.spmd import end

            end(session.config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """End reused ranks while reports still reach all plugins; a failure in that makes the session fail."""
    if session.config.stash.get(KEPT, {}):
        from pytest_derail.ranks.pool.pool import finish_all

        failed = session.testsfailed
        finish_all(session.config)
        if session.testsfailed > failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what no fixture could end, because the session was aborted in a tear-down, and processes kept for later."""
    for kept in tuple(config.stash.get(KEPT, {}).values()):
        kept.close()
    for lifecycle in config.stash.get(LIVE, []):
        lifecycle.end_jobs()
    if IN_RANK not in config.stash and "derail.spawn.zygote.warm" in sys.modules:
        from derail.spawn.zygote.warm import end_idle

        end_idle()


@pytest.fixture
def derail(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Derail]:
    """Start multi-rank jobs, break them, and leave nothing behind: ``derail.run(step_loop, ranks=4)``.
    start, run: a function or a program on ranks. agent: a program under another launcher. plan: faults and a seed.
    hold, release, barrier: ranks wait or meet at a sync point. workdir, free_port, allow_left: see their docstrings.
    faults, when: the modules of these names, because the fixture's name hides the package in a test.

    A test fails if a rank fails unexpectedly, a fault did not happen, or a job took too long. Leftovers of ranks are an
    error of the test that left them.
    """
    from pytest_derail.jobs.fixture import Derail
    from pytest_derail.jobs.lifecycle import Lifecycle

    lifecycle = Lifecycle(request.node, tmp_path_factory)
    lifecycle.begin()
    live = request.config.stash[LIVE]
    request.node.stash[LIFECYCLE] = lifecycle
    live.append(lifecycle)
    try:
        yield Derail(lifecycle)
    finally:
        try:
            lifecycle.close()
        finally:
            live.remove(lifecycle)


def _in_rank(request: pytest.FixtureRequest, name: str) -> int:
    if IN_RANK not in request.config.stash:
        pytest.fail(f"the `{request.fixturename}` fixture needs @pytest.mark.ranks(n)", pytrace=False)
    return int(os.environ[name])


@pytest.fixture
def rank(request: pytest.FixtureRequest) -> int:
    """Return the number of this rank in its job, from 0 to n - 1, in tests with ``@pytest.mark.ranks(n)``."""
    return _in_rank(request, "RANK")


@pytest.fixture
def local_rank(request: pytest.FixtureRequest) -> int:
    """Return the number of this rank on its machine, in tests with ``@pytest.mark.ranks(n)``."""
    return _in_rank(request, "LOCAL_RANK")


@pytest.fixture
def world_size(request: pytest.FixtureRequest) -> int:
    """Return the number of ranks, in tests with ``@pytest.mark.ranks(n)``."""
    return _in_rank(request, "WORLD_SIZE")


@pytest.fixture
def process_group(request: pytest.FixtureRequest, world_size: int) -> Iterator[object]:
    """Join torch's default process group (gloo) before the test, and leave it afterwards.

    It is for tests with ``@pytest.mark.ranks(n)``. Without torch the test is skipped.
    """
    del world_size  # requested because it fails outside ranks
    from pytest_derail.ranks.process_group import open_process_group

    order = request.config.stash[IN_RANK]
    with open_process_group(
        2 * order.timeout, kept=order.kept, debugged=bool(order.debugger or order.debugger_for_ide)
    ) as group:
        yield group


@pytest.fixture
def comm(request: pytest.FixtureRequest) -> object:
    """Return mpi4py's ``MPI.COMM_WORLD``, in tests with ``@pytest.mark.ranks(n)`` on ranks of an MPI launcher.

    Without mpi4py the test is skipped. It fails if the ranks are not the ranks of one MPI world.
    """
    ranks = _in_rank(request, "WORLD_SIZE")
    from pytest_derail.ranks.libraries import mpi_world

    return mpi_world(ranks)


@pytest.fixture
def jax_distributed(request: pytest.FixtureRequest) -> Iterator[object]:
    """Make the ranks the processes of jax (``jax.distributed``) before the test, and shut that down afterwards.

    It is for tests with ``@pytest.mark.ranks(n)``. Without jax the test is skipped.
    """
    _in_rank(request, "WORLD_SIZE")
    from pytest_derail.ranks.libraries import open_jax

    if "process_group" in request.fixturenames:
        pytest.fail("jax_distributed and process_group: both listen at MASTER_PORT. Use one of them", pytrace=False)
    order = request.config.stash[IN_RANK]
    with open_jax(2 * order.timeout, kept=order.kept) as distributed:
        yield distributed


@pytest.fixture(name=PARAMETER)
def _derail_ranks(request: pytest.FixtureRequest) -> int:
    """Return the number of ranks of the test, if its marker has a list."""
    count: int = request.param
    return count


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make three tests of ``ranks([1, 2, 4])``; wrong markers are collection errors."""
    marked = {mark.name for mark in metafunc.definition.iter_markers()}
    if IN_RANK not in metafunc.config.stash and (marked - OF_PYTEST or not ON_RANKS.isdisjoint(metafunc.fixturenames)):
        from pytest_derail.ranks.marker import check

        check(metafunc)
    if "ranks" in marked:
        from pytest_derail.ranks.marker import parametrize

        parametrize(metafunc)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """With ``--scenarios``, collect TOML files as tests."""
    if file_path.suffix == ".toml" and parent.config.getoption("derail_scenarios"):
        from pytest_derail.scenarios import ScenarioFile, is_scenario

        if is_scenario(file_path, parent):
            return ScenarioFile.from_parent(parent, path=file_path)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note what was collected, and with ``--scenarios`` if there is none, before others are deselected.

    With ``--derail-ranks``, mark the tests. Also check the markers of methods of unittest.TestCase: no other hook of
    the collection covers them.
    """
    collected = session.stash[AS_COLLECTED] = {}
    for item in items:
        collected.setdefault(str(item.path), []).append(item)
    if ranks := ranks_of_suite(config):
        from pytest_derail.ranks.spmd import mark

        mark(items, ranks)
    if (
        config.getoption("derail_scenarios") and not session.testsfailed
    ):  # a scenario with a mistake is not an item, and is reported as an error
        from pytest_derail.scenarios import none_collected

        config.stash[NO_SCENARIO] = none_collected(config, items)
    if IN_RANK not in config.stash:
        for item in items:
            if not isinstance(item, pytest.Function) and any(mark.name == "ranks" for mark in item.own_markers):
                raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.ranks is for test functions")
            if not hasattr(item, "callspec") and hasattr(item, "_testcase") and item.get_closest_marker("ranks"):
                from pytest_derail.ranks.marker import wrong_markers

                if problem := wrong_markers(item):
                    raise pytest.UsageError(problem)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Give a test with the ``ranks`` marker another body: the job that runs its own one."""
    mark = ranks_marker(item)
    if mark is None or not isinstance(item, pytest.Function) or IN_RANK in item.config.stash:
        try:
            return (yield)
        except (KeyboardInterrupt, pytest.exit.Exception) as error:
            lifecycle = item.stash.get(LIFECYCLE, None)
            if lifecycle is not None and lifecycle in item.config.stash[LIVE]:
                lifecycle.break_off(error)
            raise
    from pytest_derail.ranks.controller import install

    item.config.stash[CURRENT] = install(item, mark)
    manager = item.config.pluginmanager
    debugger = manager.get_plugin("pdbinvoke")
    try:
        return (yield)
    finally:
        del item.config.stash[CURRENT]
        if debugger is not None and not manager.is_registered(debugger):
            manager.register(debugger, "pdbinvoke")


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: object) -> Generator[None, object, object]:
    """Apply the limit of pytest-timeout to a test on ranks: the controller enforces it while ranks run.

    Where pytest-timeout ends the process, show the jobs of the ``derail`` fixture before.
    """
    on_ranks = item.stash.get(RANKS, None)
    if on_ranks is not None:
        on_ranks.outer.note(settings)
    result = yield
    if on_ranks is None and "derail" in getattr(item, "fixturenames", ()):
        from pytest_derail.ranks.outer_timeout import report_before_exit

        def report(terminal: object) -> None:
            if LIFECYCLE in item.stash:
                item.stash[LIFECYCLE].show_running(terminal)

        report_before_exit(item, report)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> None:
    """In a rank, do not set up a shared fixture again."""
    order = request.config.stash.get(IN_RANK, None)
    if order is not None:
        from pytest_derail.ranks.shared_fixtures import refuse_late

        refuse_late(fixturedef, request, order.handed, order.in_ranks)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """After the test's own code, end its jobs; failures in them that the test did not check fail the test."""
    lifecycle = item.stash.get(LIFECYCLE, None)
    if lifecycle is None:
        return (yield)
    lifecycle.enter_body()
    try:
        result = yield
    except (KeyboardInterrupt, pytest.exit.Exception):
        raise
    except BaseException as error:
        lifecycle.leave_body(error)
        raise
    lifecycle.leave_body(None)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the results of the jobs with the failure of the test, and hide derail's own frames."""
    on_ranks, lifecycle = item.stash.get(RANKS, None), item.stash.get(LIFECYCLE, None)
    if call.excinfo is not None and (on_ranks or lifecycle or IN_RANK in item.config.stash):
        from pytest_derail.reporting.own_frames import hide

        hide(call.excinfo)
    if on_ranks is not None:
        on_ranks.before_report(call)
    report = yield
    if on_ranks is not None:
        on_ranks.note_report(report, call.excinfo)
    if lifecycle is not None:
        lifecycle.note_report(report, excinfo=call.excinfo)
    return report


class RecordedForJUnit:
    """Plugin that passes records of ranks to JUnit XML. With xdist only the main process writes that file."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the records on a report, if it has any."""
        recorded = getattr(report, "__dict__", {}).get("derail_junit")
        if recorded:
            from pytest_derail.reporting.ranks import write_junit

            write_junit(self._config, report, recorded)


def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """With ``--pdb``, finish debugging after the report of a failure."""
    on_ranks = node.stash.get(RANKS, None)
    if on_ranks is not None:
        on_ranks.look_into()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write one line about the jobs of the session, if any, and the ranks that ran when it was aborted."""
    if missing := terminalreporter.config.stash.get(NO_SCENARIO, ""):
        terminalreporter.write_line(missing)
    for test in terminalreporter.config.stash.get(BROKEN_OFF, []):
        test.show_broken_off(terminalreporter)
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    counted = [
        vars(report)["derail_counts"] for report in reports if "derail_counts" in getattr(report, "__dict__", {})
    ]
    if counted:
        from pytest_derail.reporting.summary import fallbacks, replacements, summary

        terminalreporter.write_line(summary(counted))
        words = [getattr(report, "__dict__", {}) for report in reports]
        for line in (
            *fallbacks(each["derail_spawned"] for each in words if "derail_spawned" in each),
            *replacements([each["derail_replaced"] for each in words if "derail_replaced" in each]),
        ):
            terminalreporter.write_line(line)
