"""Damaged error files: verified, and survived by the supervisor."""

import json
import os
import stat
from pathlib import Path

import pytest

from derail import faults, when
from derail.errors.failure import ProcessFailure
from derail.faults.catalogue.injector_api import Aim
from derail.faults.injectors.errorfile import cannot_write, damage
from derail.faults.mechanisms.error_file_samples import CONTENTS, HUGE, NEEDS_OLD, PLACES
from derail.faults.mechanisms.file_swapper import Replacing
from derail.faults.model.results import Errored, Injected, NotReached, Unavailable
from derail.model.input_error import InputError
from faults.fake_job import IdleJob
from faults.rank_functions_of_faults import waits_for, work
from faults.real_job import DEADLINE, ENDED, running, wait_for
from program_files import program_text

EXTRA = {"py_callstack": "Trace", "timestamp": "1700000000"}
GOOD = json.dumps({"message": {"message": "RuntimeError: x", "extraInfo": EXTRA}})


def aim(content, path, seed=0):
    """Return a fault with a target rank that has ended."""
    (fault,) = faults.plan([faults.error_file(content, rank=1)], seed=seed).faults
    return Aim(fault, 1, seed, IdleJob(error_file=path))


@pytest.fixture
def error_file(tmp_path):
    """Return a valid error file."""
    path = tmp_path / "error.json"
    path.write_text(GOOD)
    return path


LINKS = [name for name in PLACES if "link" in name or "device" in name or name == "read_error"]
KINDS = {
    **dict.fromkeys(LINKS, stat.S_IFLNK),
    "missing": 0,
    "directory": stat.S_IFDIR,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
}


def kind_of(path):
    """Return the file type at a path; 0 if there is none."""
    return stat.S_IFMT(os.lstat(path).st_mode) if os.path.lexists(path) else 0


@pytest.mark.parametrize("content", [*CONTENTS, *PLACES])
def test_the_supervisor_survives_each_damage(error_file, content):
    """The bytes have changed, the exit code is known, and the failure has a text."""
    before = error_file.read_bytes()

    result = damage(aim(content, error_file))
    failure = ProcessFailure(1, 4242, 3, str(error_file))

    assert isinstance(result, Injected), result
    assert kind_of(error_file) == KINDS.get(content, stat.S_IFREG)
    assert content in PLACES or error_file.read_bytes() != before
    assert (failure.exitcode, bool(failure.message)) == (3, True)


@pytest.mark.parametrize(
    "content",
    [
        *("truncated", "empty", "blank", "text", "word", "not_json", "two_documents", "single_quotes", "binary"),
        *("pickle", "null", "number", "long_number", "utf16", "utf32", "nul", "deep", "many_values", "huge"),
        *("no_message", "number_message", "list_message", "empty_message", *(n for n in PLACES if n != "missing")),
    ],
)
def test_a_file_that_is_no_error_file_is_called_malformed(error_file, content):
    """The supervisor reports the problem with it."""
    damage(aim(content, error_file))

    assert ProcessFailure(1, 4242, 3, str(error_file)).error_file_problem


def test_truncated_is_a_proper_prefix(error_file):
    """Half of the file, and never all of it."""
    damage(aim("truncated", error_file))

    assert GOOD.startswith(error_file.read_text())
    assert 0 < error_file.stat().st_size < len(GOOD)


@pytest.mark.parametrize("content", [*NEEDS_OLD, *PLACES])
def test_damage_to_content_needs_a_file(tmp_path, content):
    """A rank without an error file has nothing to damage."""
    assert isinstance(damage(aim(content, tmp_path / "error.json")), NotReached)
    assert list(tmp_path.iterdir()) == []


def test_replacing_content_needs_no_file(tmp_path):
    """A file can be placed where the rank wrote none."""
    result = damage(aim("text", tmp_path / "error.json"))

    assert isinstance(result, Injected)
    assert "was no file" in result.evidence


def test_a_rank_without_an_error_file_is_not_reached():
    """It has no path to use."""
    assert damage(aim("text", None)) == NotReached("the rank has no error file")


def test_an_empty_file_cannot_be_truncated(tmp_path):
    """There would be no change."""
    (tmp_path / "error.json").touch()

    assert isinstance(damage(aim("truncated", tmp_path / "error.json")), Errored)


def test_noise_depends_on_the_seed(tmp_path):
    """The same plan writes the same bytes, another seed others."""

    def noise(name, seed):
        damage(aim("binary", tmp_path / name, seed))
        return Path(tmp_path / name).read_bytes()

    assert noise("a", 1) == noise("b", 1) != noise("c", 2)


def test_a_lost_write_is_detected(error_file, monkeypatch):
    """The bytes are read again."""
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: len(data))

    assert isinstance(damage(aim("empty", error_file)), Errored)


def test_an_unreadable_file_needs_a_user_other_than_root(error_file):
    """Root can still read it: then nothing is broken, and the result reports that."""
    result = damage(aim("unreadable", error_file))

    assert stat.S_IMODE(error_file.stat().st_mode) == 0
    if os.geteuid() == 0:
        assert isinstance(result, Unavailable)
    else:
        assert isinstance(result, Injected)
        assert "cannot be opened" in ProcessFailure(1, 4242, 3, str(error_file)).error_file_problem


def test_a_huge_file_has_64_mib(error_file):
    """More than a supervisor should want to read."""
    damage(aim("huge", error_file))

    assert error_file.stat().st_size > HUGE == 64 << 20


# In real jobs.

WRITES = program_text("faults/error_files")
FAILS = WRITES + "write('its own')\nos._exit(3)\n"
BOTH = WRITES + program_text("faults/both_fail")


def run(tmp_path, program, fault, ranks=1, **options):
    """Return the observation of a job with one fault, the fault's result, and the ranks' error files."""
    with running(tmp_path, program, fault, ranks=ranks, cwd=tmp_path, **options) as job:
        seen = job.wait(DEADLINE)
        files = [job.log(rank, "stdout").with_name("error.json") for rank in range(ranks)]
    (result,) = seen.faults
    return seen, result, files


@pytest.mark.parametrize("moment", [when.start(), when.own_exit()])
def test_the_supervisor_finds_a_stale_file(tmp_path, moment):
    """The rank has written none, so the supervisor finds the hour-old one of an earlier attempt."""
    fault = faults.error_file_stale(message="long ago", rank=0, when=moment)
    seen, result, (path,) = run(tmp_path, "os._exit(3)", fault)

    told = json.loads(path.read_text())["message"]
    assert result.status == "injected", result
    assert told["message"] == "long ago"
    assert seen.ended_at > 0
    assert abs(int(told["extraInfo"]["timestamp"]) - path.stat().st_mtime) < 2
    assert str(seen.ranks[0].status) == "exit 3"


@pytest.mark.parametrize("moment", [when.start(), when.own_exit()])
def test_a_stale_file_that_the_rank_replaces_is_no_injection(tmp_path, moment):
    """The supervisor finds the rank's own file, even if it was written right after the stale one."""
    covers = f"{WRITES}while not os.path.exists(os.environ['TORCHELASTIC_ERROR_FILE']): pass\n{FAILS}"
    fault = faults.error_file_stale(rank=0, when=moment)
    _, result, (path,) = run(tmp_path, covers if moment == when.start() else FAILS, fault)

    assert result.status == "not_reached", result
    assert json.loads(path.read_text())["message"]["message"] == "its own"


def test_a_file_of_another_rank_changes_neither_the_exit_nor_the_blame(tmp_path):
    """Rank 1 was stopped, and its file has the content of rank 0's."""
    fault = faults.error_file_of_other_rank(0, rank=1)
    seen, result, files = run(tmp_path, BOTH, fault, ranks=2, grace=60)

    assert result.status == "injected", result
    assert files[0].read_bytes() == files[1].read_bytes()
    assert (seen.root_cause, str(seen.ranks[1].status)) == (0, "exit 4")


@pytest.mark.parametrize(
    ("program", "other", "status"), [("os._exit(3)", 1, "not_reached"), (FAILS, 0, "errored"), (FAILS, 5, "errored")]
)
def test_a_missing_file_of_another_rank_is_no_injection(tmp_path, program, other, status):
    """The other rank wrote none, is this one, or does not exist."""
    fault = faults.error_file_of_other_rank(other, rank=0)
    _, result, _ = run(tmp_path, program, fault, ranks=2)

    assert result.status == status, result


def test_skewed_times_do_not_change_the_root_cause(tmp_path):
    """By its file, rank 1 failed an hour before rank 0, which was observed to end first."""
    seen, result, files = run(tmp_path, BOTH, faults.error_file_skewed(-3600, rank=1), ranks=2, grace=60)

    first, second = (json.loads(path.read_text())["message"]["extraInfo"] for path in files)
    assert result.status == "injected", result
    assert 3540 <= int(first["timestamp"]) - int(second["timestamp"]) <= 3601
    assert 3540 <= (first["wall_ns"] - second["wall_ns"]) / 1e9 <= 3601
    assert seen.root_cause == 0


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"message": "flat", "timestamp": 1700000000}', "injected"),
        ('{"message": "flat"}', "not_reached"),
        ("no JSON", "not_reached"),
        ("[" * 100_000, "not_reached"),
        (None, "not_reached"),
    ],
)
def test_only_existing_times_can_be_skewed(tmp_path, text, status):
    """A flat file has its time elsewhere; a file may also have none."""
    write = "" if text is None else f"open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w').write({text!r})\n"
    _, result, (path,) = run(tmp_path, write + "os._exit(3)", faults.error_file_skewed(60, rank=0))

    assert result.status == status, result
    assert status != "injected" or json.loads(path.read_text())["timestamp"] == 1700000060


def test_a_file_that_is_replaced_during_a_read_does_not_block(tmp_path):
    """The supervisor gets one of the two contents or the problem, and the exit code; then the file is restored."""
    seen, result, (path,) = run(tmp_path, FAILS, faults.error_file_replaced(rank=0))

    assert result.status == "injected", result
    assert str(seen.ranks[0].status) == "exit 3"
    found = seen.failures[0]
    assert ("its own" in found.message, found.problem) == (True, "") or "truncated JSON" in found.problem
    assert json.loads(path.read_text())["message"]["message"] == "its own"
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_a_reader_finds_a_file_that_is_replaced_in_both_states(error_file):
    """Whole and half, with another inode each time."""
    replacing = Replacing(error_file, other=b"half", every=0.0)
    try:
        result = replacing.start()
        found = set()
        wait_for(lambda: found.add(error_file.read_text()) or len(found) == 2)
    finally:
        replacing.stop()

    assert isinstance(result, Injected), result
    assert found == {GOOD, "half"}
    assert error_file.read_text() == GOOD


def test_a_file_that_was_never_written_cannot_be_replaced(tmp_path):
    """There is nothing to replace."""
    _, result, _ = run(tmp_path, "os._exit(3)", faults.error_file_replaced(rank=0))

    assert result.status == "not_reached", result


TRIES = program_text("faults/writes_error_file")


@pytest.mark.parametrize(
    ("how", "said"), [("missing_directory", "ENOENT"), ("full_disk", "ENOSPC"), ("directory", "EISDIR")]
)
def test_an_unwritable_error_file_is_missing(tmp_path, how, said):
    """The rank gets the error; the supervisor finds no file and has the exit code."""
    seen, result, (path,) = run(tmp_path, TRIES, faults.error_file_unwritable(how, rank=0))

    assert seen.log_tail[(0, "stdout")] == (said,)
    assert result.status == "injected", result
    assert not path.exists()
    assert str(seen.ranks[0].status) == "exit 3"


def test_a_spawned_function_cannot_write_its_error_file_either(tmp_path):
    """Its environment is set from its first instruction on."""
    args = (str(tmp_path / "work" / "journal.jsonl"), ENDED)
    _, result, _ = run(tmp_path, waits_for, faults.error_file_unwritable(rank=0), args=args)

    assert result.status == "injected", result


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_forked_function_without_a_visible_environment_is_refused(tmp_path, method):
    """Before anything starts."""
    with pytest.raises(InputError, match="is not visible from outside"):
        run(tmp_path, work, faults.error_file_unwritable(rank=0), start_method=method)


def test_a_rank_with_another_path_is_no_injection(tmp_path):
    """Its environment, as in /proc, has another file or none."""
    (fault,) = faults.plan([faults.error_file_unwritable(rank=1)]).faults
    step = cannot_write(Aim(fault, 1, 0, IdleJob(error_file=tmp_path / "error.json")))

    assert step.check() is None
    assert isinstance(step.at_exit("exit 3"), Errored)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: faults.error_file("truncatd", rank=0), "did you mean 'truncated'"),
        (lambda: faults.error_file_stale(age=0, rank=0), "expected more than 0 seconds"),
        (lambda: faults.error_file_skewed(0.5, rank=0), "whole seconds"),
        (lambda: faults.error_file_skewed(rank=0), "is missing"),
        (lambda: faults.error_file_of_other_rank(-1, rank=0), "from 0 to"),
        (lambda: faults.error_file_unwritable("fulldisk", rank=0), "did you mean 'full_disk'"),
        (lambda: faults.error_file_skewed(60, rank=0, when=when.start()), "cannot act at its start"),
    ],
)
def test_wrong_values_are_refused_where_they_are_given(make, problem):
    """Nothing is started with them."""
    with pytest.raises(InputError) as error:
        make()

    assert problem in str(error.value)
