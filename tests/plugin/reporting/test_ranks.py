"""What the report of a failed test on ranks says: every rank's fate, the root cause first, streams, stacks."""

from __future__ import annotations

import re
import socket
import threading
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from derail.platform.ports import EPHEMERAL
from plugin.inner_pytest import evidence_of
from program_files import program_text
from pytest_derail.jobs import ports
from pytest_derail.ranks.stacks import shorten

if TYPE_CHECKING:
    import pytest

    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]


def test_every_failed_rank_is_reported_the_first_one_first(run_pytest: RunPytest) -> None:
    """Each has its traceback, rewritten assertions and streams; ranks that waited are marked, with their stacks."""
    result = run_pytest(
        program_text("suites/reporting/root_cause"),
        # Rank 0 fails because rank 2 has: it gets more time for that than a rank gets by default.
        conftest="from pytest_derail.ranks import controller\ncontroller.SETTLE_SECONDS = 5\n",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">  *assert numbers == ?1, 2, 3?",
            "E  *assert ?1, 2, 2? == ?1, 2, 3?",
            "E  *At index 2 diff: 2 != 3",
            "test_it.py:*: AssertionError",
            "-* ranks -*",
            "rank 0: failed in call: KeyError: 'missing'",
            "rank 1: stopped in call, because of another rank",
            "rank 2: failed in call: assert ?1, 2, 2? == ?1, 2, 3?  <- root cause",
            "rank 3: passed",
            "-* rank 0 also failed -*",
            '>  *{}?"missing"?',
            "E  *KeyError: 'missing'",
            "-* rank 1: where it was -*",
            "*, line * in test_one",
            "state: S (sleeping)",
            "-* stdout of rank 2 -*",
            "out of 2",
            "-* stderr of rank 2 -*",
            "err of 2",
            "-* stdout of rank 0 -*",
            "out of 0",
            "-* stderr of rank 1 -*",
            "err of 1",
            "-* stdout of rank 3 -*",
            "logs and journal: *",
            "FAILED *test_one - rank 2: assert *",
        ]
    )
    assert "_pytest" not in result.stdout.str()


def test_output_of_ranks_in_a_passed_test_is_shown_on_request(run_pytest: RunPytest) -> None:
    """It is shown with -rA, as by pytest, and not without."""
    source = """
import pytest

@pytest.mark.ranks(2)
def test_one(rank):
    print("out of", rank)
"""
    run_pytest(source, "-rA").stdout.fnmatch_lines(
        ["-* Captured stdout of rank 0 -*", "out of 0", "-* Captured stdout of rank 1 -*", "out of 1"]
    )
    assert "out of" not in run_pytest(source).stdout.str()


def test_failures_of_fixtures_and_of_imports_tell_their_phase(run_pytest: RunPytest) -> None:
    """They are in set-up, in tear-down, in a module that a rank cannot import, and in one with other parameters."""
    result = run_pytest(program_text("suites/reporting/phases"))
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "rank 1: failed in setup: OSError: no start  <- root cause",
            "rank 1: failed in teardown: OSError: no end  <- root cause",
            "*this rank did not find the test *",
            "*OSError: not in a rank",
        ]
    )


def test_leftovers_of_a_test_on_ranks_fail_it(run_pytest: RunPytest) -> None:
    """Leftover processes and files of successful ranks count."""
    result = run_pytest(program_text("suites/reporting/leftovers"))
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["left behind: process *: sleep 619 (ended)", "left behind: file in the ranks' TMPDIR: *-of-0"]
    )


def test_evidence_of_tests_on_ranks_is_kept_if_they_failed(
    run_pytest: RunPytest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is also kept on request, by command line or environment."""
    source = """
import pytest

@pytest.mark.ranks(1)
@pytest.mark.parametrize("passes", [True, False])
def test_one(passes):
    assert passes
"""
    kept = {}
    for way, options, told in (("not", [], "0"), ("option", ["--derail-keep"], "0"), ("environment", [], "1")):
        monkeypatch.setenv("DERAIL_KEEP", told)
        run_pytest(source, f"--basetemp={pytester.path / way}", *options)
        kept[way] = evidence_of(pytester.path / way)
    both = ["derail-test_one_False_0", "derail-test_one_True_0"]
    assert kept == {"not": both[:1], "option": both, "environment": both}


def test_frames_of_pytest_are_left_out_of_a_stack_of_every_thread() -> None:
    """The frames above them belong to the test."""
    text = """Thread 0x1 (most recent call first):
  File "/lib/threading.py", line 1 in wait
  File "/x/_pytest/python.py", line 2 in runtest
  File "/lib/other.py", line 3 in other

Current thread 0x2 (most recent call first):
  File "/t/test_it.py", line 4 in test_it
  File "/x/pluggy/_callers.py", line 5 in call
"""
    assert shorten(text).splitlines() == [
        "Thread 0x1 (most recent call first):",
        '  File "/lib/threading.py", line 1 in wait',
        "  ...",
        "",
        "Current thread 0x2 (most recent call first):",
        '  File "/t/test_it.py", line 4 in test_it',
        "  ...",
    ]


def test_no_two_jobs_have_the_same_port_at_the_same_time() -> None:
    """Ports in use, and the kernel's ephemeral ports, are not chosen."""
    with ports.claimed_port() as first, socket.create_server(("127.0.0.1", 0)) as other:
        low, high = map(int, EPHEMERAL.read_text().split())
        assert not low <= first <= high
        assert ports._claim(first) is None
        assert ports._claim(other.getsockname()[1]) is None
        with socket.create_server(("127.0.0.1", first)) as server:
            assert server.getsockname()[1] == first
    claim = ports._claim(first)
    assert claim is not None
    claim.close()


def test_claims_of_many_threads_differ() -> None:
    """All are held at the same time."""
    held: list[int] = []
    barrier = threading.Barrier(8)

    def claim() -> None:
        with ports.claimed_port() as port:
            held.append(port)
            barrier.wait(30)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(held)) == 8


def test_no_text_of_a_rank_is_obeyed_by_a_terminal(run_pytest: RunPytest, pytester: pytest.Pytester) -> None:
    """Messages, types of exceptions, reasons, names of threads and properties: control characters are named, in JUnit's
    XML as well, which stays well-formed."""
    result = run_pytest(
        program_text("suites/reporting/hostile_texts"),
        "-rA", "--junitxml=junit.xml",
    )  # fmt: skip
    result.assert_outcomes(failed=2, skipped=1, xfailed=1)
    text = str(result.stdout)

    assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text) == []
    assert "Hostile\\x1b[31m: \\x1b[31mred\\x1b]0;title\\x07 \\x9b2J \\u202ebidi" in text
    assert len(ET.parse(pytester.path / "junit.xml").findall(".//testcase")) == 4
