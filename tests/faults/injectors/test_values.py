"""Return values that are huge, unusual, slow or never arrive: what the launcher receives, and how the ranks exit."""

import pytest

from derail import faults, when
from faults.rank_functions_of_faults import says_who, work
from faults.real_job import DEADLINE, ended, running
from wording import Tells

METHODS = ["spawn", "fork", "forkserver"]
ALL = [
    lambda **given: faults.value_huge("1M", **given),
    faults.value_unpicklable,
    faults.value_slow,
    faults.killed_while_sending,
    faults.crash_after_return,
]
each_method = pytest.mark.parametrize("method", METHODS)


def returned(tmp_path, method, fault):
    """Return the observation of two functions that return their pids, one of them broken."""
    seen, _ = ended(tmp_path, says_who, fault, ranks=2, start_method=method)
    return seen


@each_method
@pytest.mark.parametrize("beside", [False, True])
def test_a_huge_value_arrives(tmp_path, method, beside):
    """Instead of the value of the function, or beside it."""
    seen = returned(tmp_path, method, faults.value_huge("24M", beside=beside, rank=0))
    huge, pid = bytes(24 << 20), seen.ranks[0].pid

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert seen.succeeded
    assert seen.return_values[0] == ((pid, huge) if beside else huge)
    assert seen.return_values[1] == seen.ranks[1].pid


@each_method
@pytest.mark.parametrize("kind", ["lambda", "raises"])
def test_a_value_that_cannot_be_sent_fails_its_rank(tmp_path, method, kind):
    """The launcher gets the reason."""
    seen = returned(tmp_path, method, faults.value_unpicklable(kind, rank=0))

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert (seen.root_cause, str(seen.ranks[0].status)) == (0, "exit 1")
    assert "cannot be pickled" in seen.failures[0].message


def test_a_value_that_cannot_be_unpickled_arrives(tmp_path):
    """It raises in its reader, which survives."""
    with running(tmp_path, says_who, faults.value_unpicklable("unpickling", rank=0), ranks=2) as job:
        seen = job.wait(DEADLINE)

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert str(seen.ranks[0].status) == "exit 0"
    assert 0 not in (seen.return_values or {})


@each_method
def test_a_value_that_is_sent_slowly_arrives_unchanged(tmp_path, method):
    """Its rank exits that much later than the other one."""
    seen = returned(tmp_path, method, faults.value_slow(0.5, rank=0))

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert seen.return_values == {rank: seen.ranks[rank].pid for rank in range(2)}
    assert float(seen.faults[0].detail.split()[-2]) >= 0.5


@each_method
def test_a_rank_that_is_killed_while_sending_has_returned_no_value(tmp_path, method):
    """A part of a value is no value."""
    seen = returned(tmp_path, method, faults.killed_while_sending("4M", rank=0))

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert (seen.root_cause, str(seen.ranks[0].status)) == (0, "SIGKILL (9)")
    assert 0 not in (seen.return_values or {})


@each_method
@pytest.mark.parametrize(("how", "status"), [("segfault", "SIGSEGV (11)"), ("abort", "SIGABRT (6)")])
@pytest.mark.parametrize("unsent", [False, True])
def test_a_rank_crashes_after_its_function_has_returned(tmp_path, method, how, status, unsent):
    """Before or after its value has arrived; in both cases it has failed."""
    seen = returned(tmp_path, method, faults.crash_after_return(how, unsent=unsent, rank=0))

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert (seen.succeeded, str(seen.ranks[0].status)) == (False, status)
    assert ("before its value was sent" if unsent else "after its value was received") in seen.faults[0].detail


def test_a_crash_after_a_value_that_could_not_be_sent_is_errored(tmp_path):
    """The crash was meant to follow the arrival of the value."""
    seen, _ = ended(tmp_path, says_who, faults.value_unpicklable(rank=0), faults.crash_after_return(rank=0))

    assert [result.status for result in seen.faults] == ["injected", "errored"], seen.faults
    assert seen.faults[1].detail == Tells("value", "SIGSEGV")


@pytest.mark.parametrize("make", ALL, ids=[make(rank=0).name for make in ALL])
def test_a_program_returns_no_value(tmp_path, make):
    """The fault is impossible, the result reports it, and the program continues."""
    seen, text = ended(tmp_path, "print('ran')", make(rank=0))

    assert [result.status for result in seen.faults] == ["unavailable"], seen.faults
    assert "program" in seen.faults[0].detail
    assert (text, seen.succeeded) == ("ran\n", True)


@pytest.mark.parametrize("make", ALL, ids=[make(rank=0).name for make in ALL])
def test_a_function_that_never_returns_has_no_value(tmp_path, make):
    """It ended in another way before."""
    given = make(rank=0), faults.exit(7, rank=0, when=when.line("step 2"))
    seen, _ = ended(tmp_path, work, *given, args=(100_000,))

    assert [result.status for result in seen.faults] == ["not_reached", "injected"], seen.faults


@pytest.mark.parametrize("make", ALL, ids=[make(rank=0).name for make in ALL])
def test_a_value_with_a_fault_that_is_never_due_arrives(tmp_path, make):
    """Unchanged."""
    seen = returned(tmp_path, "spawn", make(rank=0, when=when.line("never")))

    assert [result.status for result in seen.faults] == ["not_reached"]
    assert seen.return_values == {rank: seen.ranks[rank].pid for rank in range(2)}
