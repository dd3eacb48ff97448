"""Limits, descriptors and disks that run out: seen in real ranks, from outside."""

import os
from pathlib import Path

import pytest

from derail import faults, when
from derail.faults.mechanisms import namespaces
from derail.faults.registry import entry
from derail.model.input_error import InputError
from faults.rank_functions_of_faults import work
from faults.real_job import ENDED, LATER_THAN_RANK_0, ended, record_of, result_of, running, wait_for
from program_files import UNTIL, program_text

WAITS = "print('ready', flush=True)\ntime.sleep(60)\n"
WAITS_FOR_GO = "while not os.path.exists(os.environ['GO']): time.sleep(0.01)\n" + WAITS
READY = when.line("ready")


@pytest.mark.parametrize(
    ("resource", "value", "what", "said"),
    [
        ("NOFILE", 16, "files", "EMFILE"),
        ("AS", "300M", "memory", "MemoryError"),
        ("DATA", "100M", "memory", "MemoryError"),
        ("FSIZE", 4096, "size", "EFBIG"),
    ],
)
def test_a_limit_applies_to_a_running_rank(tmp_path, resource, value, what, said):
    """Its next attempt fails with the kernel's error for this limit."""
    program = program_text("faults/exhausts", WHAT=what)
    seen, text = ended(tmp_path, program, faults.limit(resource, value, rank=0, when=READY), cwd=tmp_path)

    assert text.split() == ["ready", said]
    assert str(seen.ranks[0].status) == "exit 3"
    assert [result.status for result in seen.faults] == ["injected"], seen.faults


def test_a_limit_of_processor_time_kills_a_busy_rank(tmp_path):
    """The kernel sends SIGXCPU after one second of it."""
    seen, _ = ended(
        tmp_path, "print('ready', flush=True)\nwhile True: pass", faults.limit("CPU", 1, rank=0, when=READY)
    )

    assert seen.ranks[0].status.signal == 24
    assert [result.status for result in seen.faults] == ["injected"]


FORKS = program_text("faults/forks")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may have as many processes as it wants")
def test_a_limit_of_processes_lets_fork_fail(tmp_path):
    """EAGAIN, for any user but root."""
    seen, text = ended(tmp_path, FORKS, faults.limit("NPROC", 0, rank=0, when=READY))

    assert text.split() == ["ready", "EAGAIN"]
    assert [result.status for result in seen.faults] == ["injected"], seen.faults


def test_a_limit_of_the_stack_lets_recursion_end_in_a_segmentation_fault(tmp_path):
    """The stack cannot grow to what it needs; with what it had before it could."""
    program = program_text("faults/recurses", LIMIT=128 << 10)
    seen, text = ended(tmp_path, program, faults.limit("STACK", "128K", rank=0, when=READY))
    other = tmp_path / "other"
    other.mkdir()
    _, whole = ended(other, program_text("faults/recurses"))

    assert seen.ranks[0].status.signal == 11
    assert (text.split(), whole.split()) == (["ready"], ["ready", "done"])
    assert [result.status for result in seen.faults] == ["injected"], seen.faults


@pytest.mark.parametrize("resource", ["STACK", "CORE", "MEMLOCK", "NPROC", "DATA"])
def test_other_limits_show_in_proc_and_are_restored(tmp_path, resource):
    """Before, during and after: as in /proc/PID/limits."""
    title = {"STACK": "Max stack", "CORE": "Max core", "MEMLOCK": "Max locked", "NPROC": "Max proc", "DATA": "Max data"}

    def row(pid):
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        return next(line.split() for line in lines if line.startswith(title[resource]))

    go = tmp_path / "go"
    fault = faults.limit(resource, 4096, rank=0, when=READY, for_=0.5)
    with running(tmp_path, WAITS_FOR_GO, fault, env={"GO": str(go)}) as job:
        pid = job.pids()[0]
        before = row(pid)
        go.touch()
        assert result_of(job) == ("injected" if "4096" not in before[:-2] else "errored")
        record_of(job, "healed")
        assert row(pid) == before


def test_a_lowered_hard_limit_shows_in_proc(tmp_path):
    """The rank cannot raise it again."""
    with running(tmp_path, WAITS, faults.limit("NOFILE", 64, hard=True, rank=0, when=READY)) as job:
        assert result_of(job) == "injected"
        lines = Path(f"/proc/{job.pids()[0]}/limits").read_text().splitlines()
        assert next(line.split()[3:5] for line in lines if line.startswith("Max open files")) == ["64", "64"]


def test_a_limit_that_changes_nothing_is_no_injection(tmp_path):
    """An existing limit is not derail's work."""
    program = "import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n" + WAITS
    with running(tmp_path, program, faults.limit("CORE", 0, rank=0, when=READY)) as job:
        assert result_of(job) == "errored"


def test_a_limit_above_the_hard_limit_is_no_injection(tmp_path):
    """The soft limit never goes there."""
    program = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n" + WAITS
    with running(tmp_path, program, faults.limit("NOFILE", 65, rank=0, when=READY)) as job:
        assert result_of(job) == "errored"


def test_a_limit_for_a_rank_that_has_ended_is_not_reached(tmp_path):
    """A line of rank 1 fires the fault after rank 0 has ended."""
    fault = faults.limit("NOFILE", 16, rank=0, when=when.line("ready", rank=1))
    seen, _ = ended(tmp_path, LATER_THAN_RANK_0, fault, ranks=2)

    assert [result.status for result in seen.faults] == ["not_reached"], seen.faults
    assert "its target ended with exit 0" in seen.faults[0].detail


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: faults.limit("NOFILES", 1, rank=0), "did you mean 'NOFILE'"),
        (lambda: faults.limit("AS", "lots", rank=0), "expected a number, a size like '64M'"),
        (lambda: faults.limit("CPU", 0, rank=0), "Use 1"),
        (lambda: faults.limit("AS", True, rank=0), "expected a number"),
        (lambda: faults.oom_score(1001, rank=0), "from -1000 to 1000"),
        (lambda: faults.full_disk("/no/such/place", rank=0), "is not a directory here"),
        (lambda: faults.full_disk("/", rank=0), "other than /"),
        (lambda: faults.full_shm(0, rank=0), "has no limit"),
        (lambda: faults.fd_leak(-1, rank=0), "from 0 to"),
        (lambda: faults.full_inodes("/no/such/place", rank=0), "is not a directory here"),
        (lambda: faults.full_inodes("/tmp", files=0, rank=0), "from 1 to"),
        (lambda: faults.memory_limit(0, rank=0), "without memory"),
        (lambda: faults.memory_limit(rank=0), "is missing"),
    ],
)
def test_wrong_amounts_are_refused_where_they_are_given(make, problem):
    """Nothing is started with them."""
    with pytest.raises(InputError) as error:
        make()

    assert problem in str(error.value)


def test_the_score_for_the_oom_killer_is_raised(tmp_path):
    """As in /proc, with the kernel's resulting score."""
    with running(tmp_path, WAITS, faults.oom_score(900, rank=0, when=READY)) as job:
        assert result_of(job) == "injected"
        assert Path(f"/proc/{job.pids()[0]}/oom_score_adj").read_text() == "900\n"
        assert int(Path(f"/proc/{job.pids()[0]}/oom_score").read_text()) > 900


def test_the_score_for_the_oom_killer_is_restored(tmp_path):
    """After its time it has the previous value."""
    go = tmp_path / "go"
    fault = faults.oom_score(900, rank=0, when=READY, for_=0.2)
    with running(tmp_path, WAITS_FOR_GO, fault, env={"GO": str(go)}) as job:
        score = Path(f"/proc/{job.pids()[0]}/oom_score_adj")
        before = score.read_text()
        go.touch()
        assert result_of(job) == "injected"
        record_of(job, "healed")
        assert score.read_text() == before


def test_an_unchanged_score_is_no_injection(tmp_path):
    """There would be no change."""
    program = "open('/proc/self/oom_score_adj', 'w').write('700')\n" + WAITS
    with running(tmp_path, program, faults.oom_score(700, rank=0, when=READY)) as job:
        assert result_of(job) == "errored"


LEAKS = program_text("faults/opens")


def test_a_rank_that_leaks_descriptors_cannot_open_a_file(tmp_path):
    """Its own open fails with EMFILE, and /proc/PID/fd is full."""
    with running(tmp_path, LEAKS, faults.fd_leak(rank=0, when=when.point("full"))) as job:
        assert result_of(job) == "injected"
        wait_for(lambda: "ready" in job.log(0, "stdout").read_text())
        assert job.log(0, "stdout").read_text().split() == ["EMFILE", "ready"]
        assert len(os.listdir(f"/proc/{job.pids()[0]}/fd")) == 256


def test_a_leak_stops_at_its_count(tmp_path):
    """The rank can open more."""
    with running(tmp_path, LEAKS, faults.fd_leak(100, rank=0, when=when.point("full"))) as job:
        assert result_of(job) == "injected"
        wait_for(lambda: "ready" in job.log(0, "stdout").read_text())
        assert job.log(0, "stdout").read_text().split() == ["ready"]
        assert 100 <= len(os.listdir(f"/proc/{job.pids()[0]}/fd")) <= 110


def test_a_leak_of_more_than_the_limit_allows_is_no_injection(tmp_path):
    """256 descriptors are not 1000."""
    with running(tmp_path, LEAKS, faults.fd_leak(1000, rank=0, when=when.point("full"))) as job:
        assert result_of(job) == "errored"


def test_a_program_that_is_no_python_leaks_nothing(tmp_path):
    """It has no runtime that could."""
    seen, _ = ended(tmp_path, ["/bin/sleep", "0.2"], faults.fd_leak(rank=0))

    assert [result.status for result in seen.faults] == ["unavailable"]


NAMESPACES = pytest.mark.skipif(bool(namespaces.why_not("mount")), reason=namespaces.why_not("mount"))


@NAMESPACES
@pytest.mark.parametrize(
    ("options", "bytes_", "said"), [({"size": "64K"}, 4096, "16 ENOSPC"), ({"size": "1M", "inodes": 3}, 1, "3 ENOSPC")]
)
def test_a_full_disk_is_full_for_the_rank_alone(tmp_path, options, bytes_, said):
    """The rank gets ENOSPC; the directory outside is unchanged."""
    place = tmp_path / "disk"
    place.mkdir()
    (place / "kept").write_text("before")
    program = program_text("faults/fills", PLACE=str(place), BYTES=bytes_)
    with running(tmp_path, program, faults.full_disk(str(place), **options, rank=0)) as job:
        wait_for(lambda: "ready" in job.log(0, "stdout").read_text())
        lines = job.log(0, "stdout").read_text().splitlines()
        assert lines == [said, f"{job.pids()[0]} ready"]
        assert result_of(job) == "injected"
        assert [path.name for path in place.iterdir()] == ["kept"]


@NAMESPACES
@pytest.mark.parametrize("files", [1, 4])
def test_a_disk_without_inodes_takes_data_and_no_more_files(tmp_path, files):
    """The next file is refused with ENOSPC, although almost everything is free."""
    place = tmp_path / "disk"
    place.mkdir()
    program = program_text("faults/fills", PLACE=str(place))
    with running(tmp_path, program, faults.full_inodes(str(place), files=files, rank=0)) as job:
        wait_for(lambda: "ready" in job.log(0, "stdout").read_text())
        assert job.log(0, "stdout").read_text().splitlines()[0] == f"{files} ENOSPC"
        assert result_of(job) == "injected"
        assert list(place.iterdir()) == []


@NAMESPACES
def test_touching_mapped_memory_in_a_full_shm_is_a_bus_error(tmp_path):
    """The way in which loaders of training data die."""
    program = f"""{UNTIL}
import mmap
with open("/dev/shm/derail-test", "w+b") as file:
    file.truncate(1 << 20)
    memory = mmap.mmap(file.fileno(), 1 << 20)
until('{ENDED}')
memory[:] = b"x" * (1 << 20)
"""
    seen, _ = ended(tmp_path, program, faults.full_shm("16K", rank=0))

    assert str(seen.ranks[0].status).startswith("SIGBUS")
    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert not os.path.exists("/dev/shm/derail-test")


@NAMESPACES
def test_the_shim_leaves_environment_signals_and_directory_as_they_are(tmp_path):
    """The program cannot detect the shim."""
    program = """
import signal
print(sorted(os.environ.items()) == eval(os.environ.get("WAS", "None")), os.getcwd())
print(open("/proc/self/status").read().partition("SigBlk")[2].split()[:6])
print(sorted(os.listdir("/proc/self/fd")), os.getsid(0) == os.getpid(), os.getuid())
"""
    texts = []
    other = tmp_path / "other"
    other.mkdir()
    for number, given in enumerate([(), (faults.full_disk(str(other), rank=0),)]):
        (tmp_path / str(number)).mkdir()
        _, text = ended(tmp_path / str(number), program, *given, cwd=tmp_path)
        texts.append(text)

    assert texts[0] == texts[1]


@NAMESPACES
def test_a_missing_program_exits_as_in_a_shell_and_is_no_injection(tmp_path):
    """The shim is there, the rank's program is not."""
    program = tmp_path / "nothing"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    seen, _ = ended(tmp_path, [str(program)], faults.full_disk(str(tmp_path), rank=0))

    assert str(seen.ranks[0].status) == "exit 127"
    assert [result.status for result in seen.faults] != ["unknown"]


@NAMESPACES
def test_a_function_cannot_be_given_another_disk(tmp_path):
    """The refusal comes before anything starts."""
    with pytest.raises(InputError, match="expected a rank that runs a program, got a function"):
        ended(tmp_path, work, faults.full_disk(str(tmp_path), rank=0), ranks=2)


def test_where_namespaces_are_forbidden_a_full_disk_is_unavailable_with_the_reason(tmp_path, monkeypatch):
    """The rank runs unchanged."""
    refused = tmp_path / "shim.py"
    refused.write_text("import sys\nsys.exit('unshare: Operation not permitted')\n")
    monkeypatch.setattr(namespaces, "SHIM", refused)
    namespaces.why_not.cache_clear()
    try:
        assert "Operation not permitted" in entry("full_disk").requires.unavailable()
        seen, text = ended(tmp_path, "print('ran')", faults.full_disk(str(tmp_path), rank=0))
    finally:
        namespaces.why_not.cache_clear()

    assert text == "ran\n"
    assert [result.status for result in seen.faults] == ["unavailable"]
