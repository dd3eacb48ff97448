"""Imports of a suite: which ones the zygote does once, and which ones each rank does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

MARK = program_text("suites/prefork/marks")
"""A module counts how often it is imported; nothing of this is the rank's own."""

TESTS = """
@pytest.mark.ranks(2)
@pytest.mark.parametrize("number", [1, 2])
def test_it(rank, number):
    assert rank == int(os.environ["RANK"])
"""
RANKS = 4
"""How many ranks that makes."""

ASKS = {
    "a variable of ranks": "os.environ.get('RANK')",
    "whether there is one": "'LOCAL_RANK' in os.environ",
    "all variables": "dict(os.environ)",
    "a temporary directory": "import tempfile; tempfile.gettempdir()",
    "the number of its process": "os.getpid()",
    "a unique number": "import uuid; uuid.uuid4()",
    "a random number": "import random; random.random()",
    "a seed": "import random; random.seed(7)",
    "a working directory": "os.chdir('/')",
    "a thread": "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "a descriptor": "kept = open(__file__)",
    "an exit function": "import atexit; atexit.register(print)",
    "a finalizer": "import weakref; kept = set(); class_ = type('C', (), {}); c = class_(); weakref.finalize(c, print)",
    "a signal handler": "import signal; signal.signal(signal.SIGUSR1, print)",
}
"""What a module may do when it is imported that another rank must not share."""


@pytest.fixture
def imported(pytester: pytest.Pytester):
    """Return how often a module was imported after the imports by pytest and for the trial."""

    def count(name: str) -> int:
        return len((pytester.path / name).read_text()) - 2

    return count


def test_what_is_alike_in_all_ranks_is_imported_once(
    run_pytest: RunPytest, pytester: pytest.Pytester, imported
) -> None:
    """Conftest files and test modules: the zygote imports them, and ranks are forked from it."""
    folder = pytester.mkdir("folder")
    (folder / "conftest.py").write_text(MARK + "mark('below')\n@pytest.fixture\ndef below():\n    return 'below'\n")
    (folder / "test_below.py").write_text(MARK + "mark('module')\n" + TESTS.replace("number)", "number, below)"))
    result = run_pytest(MARK + "mark('module')\n" + TESTS, conftest=MARK + "mark('above')\n")

    result.assert_outcomes(passed=4)
    assert (imported("above"), imported("module")) == (1, 1)
    assert [len((folder / name).read_text()) - 2 for name in ("below", "module")] == [1, 1]


@pytest.mark.parametrize("does", ASKS.values(), ids=ASKS.keys())
def test_what_ranks_could_tell_apart_is_imported_by_each(
    run_pytest: RunPytest, pytester: pytest.Pytester, imported, does: str
) -> None:
    """And a module beside it that does no such thing is not: it is tried again without those that do. The second that
    does may be found out only then, since there is nothing left to do for it."""
    pytester.makepyfile(
        test_beside=MARK + "mark('beside')\n" + TESTS,
        test_later=MARK + f"mark('later')\n{does}\n" + TESTS,
    )
    result = run_pytest(MARK + f"mark('asks')\n{does}\n" + TESTS)

    result.assert_outcomes(passed=6)
    again = imported("beside") - 2
    assert again in (0, 1)
    assert (imported("asks"), imported("later")) == (RANKS, RANKS + again)


def test_a_conftest_that_asks_is_imported_by_each_rank(run_pytest: RunPytest, imported) -> None:
    """So are the modules, which may depend on it."""
    source = MARK + "mark('module')\n" + TESTS + "    import conftest\n    assert conftest.mine == str(rank)\n"
    result = run_pytest(source, conftest=MARK + "mark('conftest')\nmine = os.environ.get('RANK')\n")

    result.assert_outcomes(passed=2)
    assert (imported("conftest"), imported("module")) == (RANKS, RANKS - 1)


def test_a_module_that_fails_without_a_rank_is_imported_by_each(
    run_pytest: RunPytest, pytester: pytest.Pytester
) -> None:
    """Also one that ends the trial process, or one that imports a module changed by another."""
    pytester.makepyfile(
        test_exits=MARK + "mark('exits')\nif len(open(__file__[:-13] + 'exits').read()) == 2: os._exit(3)\n" + TESTS,
    )
    result = run_pytest(MARK + TESTS)

    result.assert_outcomes(passed=4)


def test_what_another_module_has_imported_is_found_out(
    run_pytest: RunPytest, pytester: pytest.Pytester, imported
) -> None:
    """A later importer only finds the loaded module, and is tried again without the first."""
    pytester.makepyfile(
        asks=MARK + "mine = os.environ.get('RANK')\n",
        test_a=MARK + "mark('a')\nimport asks\n" + TESTS + "    assert asks.mine == str(rank)\n",
        test_b=MARK + "mark('b')\nimport asks\n" + TESTS + "    assert asks.mine == str(rank)\n",
    )
    result = run_pytest(MARK + "mark('c')\n" + TESTS)

    result.assert_outcomes(passed=6)
    assert (imported("a"), imported("b")) == (RANKS, RANKS + 1)  # b was tried twice


def test_what_a_module_prints_is_printed_by_each_rank(run_pytest: RunPytest, pytester: pytest.Pytester) -> None:
    """Also through a stream saved at import, and with an incomplete line at the end."""
    result = run_pytest(program_text("suites/prefork/prints"))

    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    for rank in range(2):
        result.stdout.fnmatch_lines([f"*stdout of rank {rank}*", "imported", "half"])
        result.stdout.fnmatch_lines([f"*stderr of rank {rank}*", "also"])
    assert text.count("imported\n") == 2


def test_directories_belong_to_the_rank(run_pytest: RunPytest, imported) -> None:
    """Paths of tempfile and pytest's temporary directories are the rank's, although the session began before it."""
    result = run_pytest(
        MARK
        + """
import tempfile

mark("module")

@pytest.mark.ranks(2)
def test_it(rank, tmp_path_factory):
    assert tempfile.gettempdir() == os.environ["TMPDIR"]
    assert tmp_path_factory.getbasetemp().name == f"tmp-{rank}"
""",
        ini="derail_fixtures_in_ranks = tmp_path_factory",
    )

    result.assert_outcomes(passed=1)
    assert imported("module") == 1


def test_a_changed_module_is_imported_anew(run_pytest: RunPytest, imported) -> None:
    """The next test sees the change, as if each rank had imported the module."""
    result = run_pytest(
        program_text("suites/prefork/changes_helper"),
        conftest="""
import os
path = os.path.join(os.path.dirname(__file__), "helper.py")
if not os.path.exists(path):
    with open(path, "w") as file:
        file.write("value = 'one'\\n")
""",
    )

    result.assert_outcomes(passed=2)


def test_planned_faults_meet_the_import_of_the_module(run_pytest: RunPytest) -> None:
    """Ranks with faults import the module themselves: a fault may affect the import."""
    result = run_pytest(
        """
import json
import pytest
from derail import faults, when

@pytest.mark.ranks(2)
@pytest.mark.faults(faults.exit(7, rank=1, when=when.import_of("subject")))
def test_it(rank):
    import time
    time.sleep(60)
""",
        "-rA",
    )

    result.assert_outcomes(failed=1)


def test_a_suite_with_its_own_start_of_a_session_is_left_to_the_ranks(run_pytest: RunPytest, imported) -> None:
    """Each rank runs both its session start and its session end."""
    result = run_pytest(
        MARK + "mark('module')\n" + TESTS,
        conftest=MARK + "def pytest_sessionstart():\n    mark('start')\n",
    )

    result.assert_outcomes(passed=2)
    assert imported("start") == RANKS


@pytest.mark.parametrize("options", [(), ("-p", "no:randomly")], ids=["", "not shuffled"])
def test_neighbours_that_order_tests_do_no_harm(run_pytest: RunPytest, imported, options: tuple[str, ...]) -> None:
    """pytest-randomly seeds its generators equally in each process."""
    result = run_pytest(MARK + "mark('module')\n" + TESTS, *options, plugins=("randomly",))

    result.assert_outcomes(passed=2)
    assert imported("module") == 1
