"""Options, markers, fixtures and hooks of the plugin.

A suite that does not use the plugin pays for this file and nothing else: whatever imports derail is imported by the
first test that asks for the fixture, or runs on ranks.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from pytest_derail.bench import Bench
    from pytest_derail.fixtures import Derail
    from pytest_derail.kept_ranks import KeptRanks
    from pytest_derail.rank_session import Order
    from pytest_derail.ranks import RanksTest

BENCH: pytest.StashKey[Derail] = pytest.StashKey()
"""In the stash of a test: what its ``derail`` fixture holds."""

LIVE: pytest.StashKey[list[Derail]] = pytest.StashKey()
"""In the stash of the configuration: fixtures that have not been torn down yet."""

RANKS: pytest.StashKey[RanksTest] = pytest.StashKey()
"""In the stash of a test that runs on ranks: its side in the controller."""

CURRENT: pytest.StashKey[RanksTest] = pytest.StashKey()
"""In the stash of the configuration: the test on ranks whose protocol runs."""

BROKEN_OFF: pytest.StashKey[list[RanksTest | Bench]] = pytest.StashKey()
"""In the stash of the configuration: tests whose ranks ran when the session was broken off, which have no report."""

KEPT: pytest.StashKey[dict[object, KeptRanks]] = pytest.StashKey()
"""In the stash of the configuration: ranks that are kept for the next tests."""

IN_RANK: pytest.StashKey[Order] = pytest.StashKey()
"""In the stash of the configuration of a rank's own session: what it was told."""

NO_SCENARIO: pytest.StashKey[str] = pytest.StashKey()
"""In the stash of the configuration: what to say as ``--scenarios`` has found none."""

ON_RANKS = frozenset({"rank", "local_rank", "world_size", "process_group"})
"""Fixtures that are there only on ranks."""

OF_PYTEST = frozenset({"parametrize", "skip", "skipif", "xfail", "usefixtures", "filterwarnings"})
"""Markers that say nothing of ranks."""

PARAMETER = "_derail_ranks"
"""The hidden parameter of a test whose ``ranks`` marker has a list."""

START_METHODS = ("warm", "spawn", "fork", "forkserver")
"""How the processes of ranks are made; the first is the default."""

STRONGER_FIRST = (
    "whose word counts: the test and its marker; these options; DERAIL_... in the environment; derail_... in the ini "
    "file"
)
"""Whose word counts, for the help."""

DEFAULTS = {"timeout": 60.0, "grace": 5.0}
"""Seconds."""

MARKERS = {
    "ranks(n, *, timeout=None, start_method=None, preload=None, in_ranks=(), reuse=None)": "run the body of the test "
    "on n ranks as one job, or once for each number of a list. timeout: seconds for the whole job. start_method: how "
    "its processes are made. preload: modules that warm ranks find imported. in_ranks: names of fixtures that each "
    "rank sets up although their scope is wider than 'function'. reuse: 'module' or 'session' keeps the ranks, and "
    "their process group, for the next tests in it.",
    "faults(*plans, seed=None)": "break the ranks of the test: paths of plans (beside the test's module, or below the "
    "root directory), plans, or faults. For tests with the ranks marker, and for jobs of the derail fixture that have "
    "no faults of their own.",
}

pytest.register_assert_rewrite("pytest_derail.assertions")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare what can be set: on the command line, or, less strongly, in the ini file."""
    group = parser.getgroup("derail", f"multi-rank jobs, and faults in them ({STRONGER_FIRST})")
    group.addoption(
        "--derail-timeout",
        type=float,
        metavar="SECONDS",
        help=f"how long a job of the derail fixture may take if the test does not say; default {DEFAULTS['timeout']:g}",
    )
    group.addoption(
        "--derail-grace",
        type=float,
        metavar="SECONDS",
        help=f"how long ranks may take to end between SIGTERM and SIGKILL; default {DEFAULTS['grace']:g}",
    )
    group.addoption(
        "--derail-keep",
        action="store_true",
        default=None,
        help="keep the logs and journals of tests that passed, too; those of failed tests are always kept",
    )
    group.addoption(
        "--derail-start-method",
        metavar="METHOD",
        help=f"how the processes of ranks are made: {', '.join(START_METHODS)}; default {START_METHODS[0]}",
    )
    group.addoption(
        "--derail-preload",
        metavar="MODULES",
        help="modules, separated by commas, that warm ranks find imported; default: those that the test's module "
        "imports",
    )
    group.addoption(
        "--derail-plan",
        metavar="FILE",
        help="run tests that have @pytest.mark.faults under this plan and not under their own: a failure once more",
    )
    group.addoption(
        "--scenarios",
        dest="derail_scenarios",
        action="store_true",
        help="collect scenarios (TOML files below the given paths) as tests. Without paths: those of ./scenarios, or "
        "else those that come with derail, and nothing else",
    )
    group.addoption(
        "--derail-agent",
        metavar="NAME",
        help="the agent that scenarios are run on; default native",
    )
    parser.addini("derail_agent", "the same as --derail-agent", default="")
    parser.addini("derail_timeout", "the same as --derail-timeout", default="")
    parser.addini("derail_grace", "the same as --derail-grace", default="")
    parser.addini("derail_keep", "the same as --derail-keep", type="bool", default=False)
    parser.addini("derail_start_method", "the same as --derail-start-method", default="")
    parser.addini("derail_preload", "modules that warm ranks find imported", type="args", default=[])
    parser.addini(
        "derail_fixtures_in_ranks",
        "fixtures that each rank sets up although their scope is wider than 'function'",
        type="args",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; nothing is open yet."""
    config.stash[LIVE] = []
    for marker, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")
    if config.getoption("xmlpath", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(RecordedForJUnit(config))
    if config.getoption("derail_scenarios"):
        from pytest_derail.collect import choose_scenarios

        choose_scenarios(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """End ranks that are kept while reports still reach everybody; what fails in that makes the session fail."""
    if session.config.stash.get(KEPT, {}):
        from pytest_derail.kept_ranks import finish_all

        failed = session.testsfailed
        finish_all(session.config)
        if session.testsfailed > failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what no fixture could end (the session was broken off in the middle of a tear-down), and the processes that
    were kept for later tests."""
    for kept in tuple(config.stash.get(KEPT, {}).values()):
        kept.close()
    for bench in config.stash.get(LIVE, []):
        bench.end_jobs()
    if IN_RANK not in config.stash and "derail.spawn.warm" in sys.modules:
        from derail.spawn.warm import end_idle

        end_idle()


@pytest.fixture
def derail(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Derail]:
    """Starts multi-rank jobs, breaks them, and leaves nothing behind: ``derail.run(step_loop, ranks=4)``.
    start, run: a function or a program on ranks. agent: a program under another supervisor. plan: faults and a seed.
    hold, release, barrier: ranks stay, or meet, at a point. workdir, free_port, allow_left: as they say.

    A rank that fails and is not expected to fails the test; so do a fault that did not happen and a job that took too
    long. What ranks leave behind is an error of the test that left it.
    """
    from pytest_derail.fixtures import open_bench

    bench = open_bench(request.node, tmp_path_factory)
    live = request.config.stash[LIVE]
    request.node.stash[BENCH] = bench
    live.append(bench)
    try:
        yield bench
    finally:
        try:
            bench.close()
        finally:
            live.remove(bench)


def _in_rank(request: pytest.FixtureRequest, name: str) -> int:
    if IN_RANK not in request.config.stash:
        pytest.fail(f"this is there only in tests with @pytest.mark.ranks(n): {request.fixturename}", pytrace=False)
    return int(os.environ[name])


@pytest.fixture
def rank(request: pytest.FixtureRequest) -> int:
    """The number of this rank in its job, in tests with ``@pytest.mark.ranks(n)``: from 0 to n - 1."""
    return _in_rank(request, "RANK")


@pytest.fixture
def local_rank(request: pytest.FixtureRequest) -> int:
    """The number of this rank on its machine, in tests with ``@pytest.mark.ranks(n)``."""
    return _in_rank(request, "LOCAL_RANK")


@pytest.fixture
def world_size(request: pytest.FixtureRequest) -> int:
    """How many ranks there are, in tests with ``@pytest.mark.ranks(n)``."""
    return _in_rank(request, "WORLD_SIZE")


@pytest.fixture
def process_group(request: pytest.FixtureRequest, world_size: int) -> Iterator[object]:
    """The default process group of torch (gloo), in tests with ``@pytest.mark.ranks(n)``: joined by each rank before
    the test, and left after it. Needs torch; without it the test is skipped."""
    del world_size  # it says that this is a rank
    from pytest_derail.process_group import open_process_group

    order = request.config.stash[IN_RANK]
    with open_process_group(seconds=2 * order.timeout, kept=order.kept) as group:
        yield group


@pytest.fixture(name=PARAMETER)
def _derail_ranks(request: pytest.FixtureRequest) -> int:
    """How many ranks the test runs on, if its marker has a list."""
    count: int = request.param
    return count


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``ranks([1, 2, 4])`` makes three tests. What is wrong with markers is an error of the collection."""
    marked = {mark.name for mark in metafunc.definition.iter_markers()}
    if IN_RANK not in metafunc.config.stash and (marked - OF_PYTEST or not ON_RANKS.isdisjoint(metafunc.fixturenames)):
        from pytest_derail.ranks_mark import check

        check(metafunc)
    if "ranks" in marked:
        from pytest_derail.ranks_mark import parametrize

        parametrize(metafunc)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """``--scenarios``: TOML files are tests."""
    if file_path.suffix == ".toml" and parent.config.getoption("derail_scenarios"):
        from pytest_derail.collect import ScenarioFile, is_scenario

        if is_scenario(file_path, parent):
            return ScenarioFile.from_parent(parent, path=file_path)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """``--scenarios``: note if there is none, before others are deselected. Look at the markers of methods of
    unittest.TestCase: no other hook of the collection sees them."""
    if (
        config.getoption("derail_scenarios") and not session.testsfailed
    ):  # one with a mistake is no test, and is reported
        from pytest_derail.collect import none_collected

        config.stash[NO_SCENARIO] = none_collected(config, items)
    if IN_RANK not in config.stash:
        for item in items:
            if not isinstance(item, pytest.Function) and any(mark.name == "ranks" for mark in item.own_markers):
                raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.ranks is for test functions")
            if not hasattr(item, "callspec") and hasattr(item, "_testcase") and item.get_closest_marker("ranks"):
                from pytest_derail.ranks_mark import wrong_markers

                if problem := wrong_markers(item):
                    raise pytest.UsageError(problem)


def ranks_marker(item: pytest.Item) -> pytest.Mark | None:
    """Return the ``ranks`` marker of a test function; other items (doctests) of its module are no tests on ranks."""
    return item.get_closest_marker("ranks") if isinstance(item, pytest.Function) else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test with the ``ranks`` marker gets another body: the job that runs its own one."""
    mark = ranks_marker(item)
    if mark is None or not isinstance(item, pytest.Function) or IN_RANK in item.config.stash:
        try:
            return (yield)
        except (KeyboardInterrupt, pytest.exit.Exception) as error:
            if (bench := item.stash.get(BENCH, None)) in item.config.stash[LIVE]:
                bench.break_off(error)
            raise
    from pytest_derail.ranks import install

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
    """pytest-timeout limits a test on ranks: the controller keeps to that while ranks run. Where it ends the process,
    the jobs of the ``derail`` fixture are shown before."""
    on_ranks = item.stash.get(RANKS, None)
    if on_ranks is not None:
        on_ranks.outer.note(settings)
    result = yield
    if on_ranks is None and "derail" in getattr(item, "fixturenames", ()):
        from pytest_derail.outer_timeout import report_before_exit

        def report(terminal: object) -> None:
            if BENCH in item.stash:
                item.stash[BENCH].show_running(terminal)

        report_before_exit(item, report)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> None:
    """In a rank, what is to be set up once is not set up again."""
    order = request.config.stash.get(IN_RANK, None)
    if order is not None:
        from pytest_derail.handover import refuse_late

        refuse_late(fixturedef, request, order.handed, order.in_ranks)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """When the test's own code is done, its jobs end, and what went wrong in them unseen fails the test."""
    bench = item.stash.get(BENCH, None)
    if bench is None:
        return (yield)
    bench.enter_body()
    try:
        result = yield
    except (KeyboardInterrupt, pytest.exit.Exception):
        raise
    except BaseException as error:
        bench.leave_body(error)
        raise
    bench.leave_body(None)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what became of the jobs beside the failure of the test, and no frames of derail's own."""
    on_ranks, bench = item.stash.get(RANKS, None), item.stash.get(BENCH, None)
    if call.excinfo is not None and (on_ranks or bench or IN_RANK in item.config.stash):
        from pytest_derail.own_frames import hide

        hide(call.excinfo)
    if on_ranks is not None:
        on_ranks.before_report(call)
    report = yield
    if on_ranks is not None:
        on_ranks.note_report(report, call.excinfo)
    if bench is not None:
        bench.note_report(report, excinfo=call.excinfo)
    return report


class RecordedForJUnit:
    """Hands on to JUnit XML what ranks have recorded for it. With xdist only this process writes that."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at each report."""
        recorded = getattr(report, "__dict__", {}).get("derail_junit")
        if recorded:
            from pytest_derail.ranks_report import write_junit

            write_junit(self._config, report, recorded)


def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """``--pdb``, when the report of a failure is there."""
    on_ranks = node.stash.get(RANKS, None)
    if on_ranks is not None:
        on_ranks.look_into()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line about the jobs of the session, if there were any; and ranks that ran when it was broken off."""
    if missing := terminalreporter.config.stash.get(NO_SCENARIO, ""):
        terminalreporter.write_line(missing)
    for test in terminalreporter.config.stash.get(BROKEN_OFF, []):
        test.show_broken_off(terminalreporter)
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    counted = [
        vars(report)["derail_counts"] for report in reports if "derail_counts" in getattr(report, "__dict__", {})
    ]
    if counted:
        from pytest_derail.tally import fallbacks, replacements, summary

        terminalreporter.write_line(summary(counted))
        words = [getattr(report, "__dict__", {}) for report in reports]
        for line in (
            *fallbacks(each["derail_spawned"] for each in words if "derail_spawned" in each),
            *replacements([each["derail_replaced"] for each in words if "derail_replaced" in each]),
        ):
            terminalreporter.write_line(line)
