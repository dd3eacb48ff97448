"""Endings of ranks: exit codes, exceptions, later moments, other programs, helpers; observed from outside."""

import os
import signal
import sys
from pathlib import Path

import pytest

from derail import faults, when
from derail.faults.catalogue.injector_api import control_signal
from derail.faults.inrank.actions.delayed_crashes import _number
from derail.model.exit import signal_name, signal_number
from derail.model.input_error import InputError
from faults.injectors.test_crashes import VERSIONS
from faults.rank_functions_of_faults import work
from faults.real_job import ended, running, stat_of, state_of, wait_for
from program_files import program_text
from wording import Tells

WAITS = "import time\nprint('ready', flush=True)\ntime.sleep(60)\n"
READY = when.line("ready")


@pytest.mark.parametrize(
    ("code", "how", "expected", "said"),
    [
        (0, "exit", "exit 0", ""),
        (256, "exit", "exit 0", ""),
        (-1, "exit", "exit 255", ""),
        ("the disk is full", "exit", "exit 1", "the disk is full\n"),
        (0, "_exit", "exit 0", ""),
        (300, "_exit", "exit 44", ""),
    ],
)
def test_an_exit_has_the_code_that_a_parent_sees(run_faults, code, how, expected, said):
    """256 is 0, a message is 1; the remaining work is not done."""
    run = run_faults([faults.exit(code, how, rank=0, when=READY)], WAITS)

    assert (str(run.job.status[0]), run.log(0, "stderr")) == (expected, said)
    assert (run.one().status, run.log(0)) == ("injected", "ready\n")


BUSY = """
import time
print("ready", flush=True)
end = time.monotonic() + 120
while time.monotonic() < end:
    time.sleep(0.001)
"""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("trigger", [when.start(), READY], ids=str)
def test_an_exception_arrives_from_another_thread(run_faults, version, trigger):
    """It ends the rank like any other, with its message."""
    run = run_faults(
        [faults.async_exception("TimeoutError", "from afar", rank=0, when=trigger)], BUSY, python=VERSIONS[version]
    )

    assert run.one().injected, run.one()
    assert run.log(0, "stderr").splitlines()[-1] == "TimeoutError: from afar"
    assert str(run.job.status[0]) == "exit 1"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_exception_from_another_thread_can_be_caught(run_faults, version):
    """By its type, of which it is an instance."""
    body = "    ".join(BUSY.splitlines(keepends=True))
    source = f"try:{body}except ValueError as error:\n    print(type(error) is ValueError, error, flush=True)\n"
    run = run_faults([faults.async_exception("ValueError", "x", rank=0, when=READY)], source, python=VERSIONS[version])

    assert run.log(0) == "ready\nTrue x\n", run.log(0, "stderr")
    assert (run.one().status, str(run.job.status[0])) == ("injected", "exit 0")


WHEN_SENT = program_text("faults/when_sent")
"""For a rank's program: something happens once an exception was sent to its main thread."""


def test_an_exception_from_another_thread_does_not_end_a_call_into_c(run_faults):
    """It arrives when the call is over."""
    source = program_text("faults/ends_call_when_sent")
    run = run_faults([faults.async_exception("ValueError", rank=0, when=READY)], source)

    first, ended_at = run.log(0).split()
    assert (run.one().status, first) == ("injected", "ready")
    assert run.events("arrived")[0]["at"] >= float(ended_at) - 1e-6  # the journal rounds


def test_an_exception_that_never_arrives_is_not_reached(run_faults):
    """The main thread slept in C until a signal ended it."""
    source = f"{WHEN_SENT}\nimport signal\nwhen_sent(lambda: os.kill(os.getpid(), signal.SIGALRM))\n{WAITS}"
    run = run_faults([faults.async_exception("ValueError", rank=0, when=READY)], source)

    assert (run.one().status, run.job.status[0].signal) == ("not_reached", signal.SIGALRM)


CRASHED = {"exception": "exit 0", "segfault": "SIGSEGV (11)", "abort": "SIGABRT (6)"}
"""What Python, or the kernel, makes of a crash where Python ignores exceptions."""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", CRASHED)
@pytest.mark.parametrize(
    "make",
    [
        faults.crash_at_exit,
        lambda **given: faults.crash_in_del("once", **given),
        lambda **given: faults.crash_in_del("end", **given),
    ],
    ids=["crash_at_exit", "crash_in_del-once", "crash_in_del-end"],
)
def test_a_crash_where_python_ignores_exceptions(run_faults, version, how, make):
    """An exception is printed on stderr and ignored; everything else ends the rank."""
    run = run_faults([make(rank=0, how=how)], "print('worked', flush=True)", python=VERSIONS[version])

    assert run.one().injected, run.one()
    assert str(run.job.status[0]) == CRASHED[how]
    assert ("injected by derail" in run.log(0, "stderr")) == (how == "exception")
    at_once = run.one().fault.name == "crash_in_del" and run.one().fault.param("at") == "once"
    assert run.log(0) == ("" if at_once and how != "exception" else "worked\n")


@pytest.mark.parametrize(
    ("make", "source"),
    [
        (lambda: faults.crash_at_exit(rank=0), "import os\nos._exit(0)"),
        (lambda: faults.crash_in_del("end", rank=0), "import os\nos._exit(0)"),
        (lambda: faults.crash_at_exit("exception", rank=0), "import os\nos._exit(0)"),
        (lambda: faults.crash_at_import("colorsys", rank=0), "pass"),
        (lambda: faults.crash_at_import("colorsys", "segfault", rank=0), "pass"),
        (lambda: faults.crash_in_handler("SIGUSR1", wait=True, rank=0), "pass"),
    ],
    ids=["exit", "del", "exit-exception", "import", "import-segfault", "handler"],
)
def test_a_moment_that_never_comes_is_not_reached(run_faults, make, source):
    """The preparation for it is no evidence."""
    run = run_faults([make()], source)

    assert (run.one().status, str(run.job.status[0])) == ("not_reached", "exit 0")
    assert "never came" in run.one().detail


IMPORTS = """
print("ready", flush=True)
try:
    import colorsys
except ImportError as error:
    print("caught", error.name, flush=True)
import colorsys
print("imported", flush=True)
"""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("how", "status"), [*CRASHED.items()])
def test_an_import_crashes(run_faults, version, how, status):
    """The first one; an ImportError can be caught, and the next import succeeds."""
    run = run_faults([faults.crash_at_import("colorsys", how, rank=0)], IMPORTS, python=VERSIONS[version])

    assert run.one().injected, run.one()
    assert str(run.job.status[0]) == status
    assert run.log(0).split() == ["ready", *(["caught", "colorsys", "imported"] if how == "exception" else [])]


def test_an_already_imported_module_is_reported(run_faults):
    """Its import cannot crash any more."""
    run = run_faults([faults.crash_at_import("os", rank=0)], "import os")

    assert run.one().status == "unavailable"
    assert run.one().detail == Tells("rank 0", "imported os")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", CRASHED)
def test_a_handler_crashes(run_faults, version, how):
    """An exception in it is raised in the program."""
    run = run_faults([faults.crash_in_handler("SIGUSR2", how=how, rank=0, when=READY)], WAITS, python=VERSIONS[version])

    assert run.one().injected, run.one()
    assert str(run.job.status[0]) == {**CRASHED, "exception": "exit 1"}[how]


def test_a_handler_crashes_on_the_supervisors_signal(tmp_path):
    """The signal is from another process."""
    program = f"""
while os.environ["RANK"] == "1" and not os.path.exists({str(tmp_path / "here")!r}): time.sleep(0.01)
if os.environ["RANK"] == "1": sys.exit(3)
open({str(tmp_path / "here")!r}, "w").close()
time.sleep(60)
"""
    seen, _ = ended(tmp_path, program, faults.crash_in_handler("SIGTERM", wait=True, rank=0), ranks=2, grace=60.0)

    assert str(seen.ranks[0].status) == "SIGSEGV (11)"
    assert (seen.root_cause, [result.status for result in seen.faults]) == (1, ["injected"])


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: faults.crash_in_handler("SIGKILL", rank=0), "no process can handle SIGKILL"),
        (lambda: faults.crash_in_handler(control_signal(), rank=0), "derail itself uses this signal"),
        (lambda: faults.crash_at_import(rank=0), "faults.crash_at_import.module: is missing"),
        (lambda: faults.crash_at_exit("boom", rank=0), "unknown how 'boom'"),
        (lambda: faults.exec("sleep 60", rank=0), "expected a program and its arguments"),
        (lambda: faults.exec([], rank=0), "expected a program and its arguments"),
        (lambda: faults.orphan(code=256, rank=0), "from 0 to 255"),
        (lambda: faults.async_exception("UnicodeDecodeError", rank=0), "needs more than a message"),
        (lambda: faults.exit("text", "_exit", rank=0), "expected a number for os._exit"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_given(make, problem):
    """Nothing is started with it."""
    with pytest.raises(InputError) as error:
        make()

    assert problem in str(error.value)


@pytest.mark.parametrize("number", sorted(signal.valid_signals()))
def test_a_rank_reads_the_names_of_signals_as_plans_write_them(number):
    """Real-time ones count from both ends."""
    assert _number(signal_name(number)) == number == signal_number(signal_name(number))


def test_a_rank_execs_another_program_under_its_pid(tmp_path):
    """The kernel shows it while the program runs."""
    with running(tmp_path, WAITS, faults.exec(["sleep", "60"], rank=0, when=READY)) as job:
        pid = job.pids()[0]
        wait_for(lambda: Path(f"/proc/{pid}/cmdline").read_text() == "sleep\x0060\0")
        wait_for(lambda: job.fault_results()[0].injected)
        wait_for(lambda: state_of(pid) == "S")  # it may still be on its way to its sleep


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("argv", "status"),
    [(["true"], "exit 0"), (["sh", "-c", "exit 9"], "exit 9"), ([sys.executable, "-c", "print('new')"], "exit 0")],
    ids=["true", "sh", "python"],
)
def test_a_program_that_exits_at_once_is_verified_after_its_exit(run_faults, version, argv, status):
    """A process that has ended keeps its name until it is reaped."""
    run = run_faults([faults.exec(argv, rank=0)], "print('old')", python=VERSIONS[version])

    assert run.one().injected, run.one()
    assert (str(run.job.status[0]), run.log(0)) == (status, "new\n" if "-c" in argv and "sh" not in argv else "")


def test_a_program_that_is_not_there_leaves_the_rank_as_it_was(run_faults):
    """Including its name."""
    source = "print(open('/proc/self/comm').read(), end='')"
    run = run_faults([faults.exec(["/no/such/program"], rank=0)], source)
    plain = run_faults([], source)

    assert run.one().status == "errored"
    assert "/no/such/program: [Errno 2]" in run.one().detail
    assert (run.log(0), str(run.job.status[0])) == (plain.log(0), "exit 0")


FORKS = program_text("faults/forks_before_import")


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (faults.crash_at_exit(rank=0), "SIGSEGV (11)"),
        (faults.crash_at_import("colorsys", "abort", rank=0), "SIGABRT (6)"),
        (faults.hang_at_exit(rank=0), "exit 0"),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
def test_a_forked_child_of_the_rank_is_not_affected(run_faults, fault, status):
    """It imports and exits normally; only the rank crashes."""
    run = run_faults([fault], FORKS)

    assert run.one().injected, run.one()
    assert run.log(0).split() == ["child"]
    assert str(run.job.status[0]) == status
    assert {record["by"] for record in run.events("crash") + run.events("hangs")} == {run.job.pid(0)}


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (faults.crash_at_exit(rank=0), "SIGSEGV (11)"),
        (faults.crash_in_del(rank=0), "SIGSEGV (11)"),
        (faults.crash_in_handler(rank=0), "SIGSEGV (11)"),
        (faults.async_exception("ValueError", rank=0), "exit 1"),
        (faults.exec(["sh", "-c", "exit 9"], rank=0), "exit 9"),
        (faults.orphan(code=4, rank=0), "exit 4"),
        (faults.segfault(rank=0), "SIGSEGV (11)"),
        (faults.stack_overflow(rank=0), "SIGSEGV (11)"),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
def test_functions_crash_with_every_start_method(tmp_path, method, fault, status):
    """A forked rank never started an interpreter, but its exit is the same."""
    steps = 100_000 if fault.name == "async_exception" else 5
    seen, _ = ended(tmp_path, work, fault, args=(steps,), start_method=method)

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert str(seen.ranks[0].status) == status


KINDS = ["group", "session", "daemon", "chatty"]


def place_of(pid, rank):
    """Return the kind of a helper by its group and session in /proc."""
    ppid, group, session = map(int, stat_of(pid)[1:4])
    assert ppid != rank
    return {(rank, rank): "group", (pid, pid): "session"}.get((group, session), "daemon" if group == session else "?")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_helper_outlives_its_rank(run_faults, version, kind):
    """It is in the group and session of its kind, and no longer the rank's child."""
    run = run_faults([faults.orphan(kind, 7, rank=0, when=READY)], WAITS, python=VERSIONS[version])
    helper = run.events("helper")[0]["pid"]
    try:
        assert run.one().injected, run.one()
        assert str(run.job.status[0]) == "exit 7"
        assert state_of(helper) not in ("", "Z", "X")
        assert place_of(helper, run.job.pid(0)) == kind.replace("chatty", "group")
        if kind == "chatty":
            wait_for(lambda: run.log(0).count("the helper of a dead rank is still here\n") > 1)
    finally:
        os.kill(helper, signal.SIGKILL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_helper_is_swept_up_with_its_job(tmp_path, kind, pid_gone):
    """Wherever it is; the outcome lists it."""
    seen, _ = ended(tmp_path, WAITS, faults.orphan(kind, 7, rank=0, when=READY))
    (leftover,) = seen.leftovers

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert (leftover.kind, leftover.ended) == ("process", True)
    assert pid_gone(leftover.pid)


def test_a_helper_ends_after_its_time(run_faults, pid_gone):
    """If no sweep ends it."""
    run = run_faults([faults.orphan("daemon", lives=4.0, rank=0)], WAITS)

    assert run.one().injected, run.one()
    assert pid_gone(run.events("helper")[0]["pid"])


ALL = [
    lambda **given: faults.exit(7, **given),
    lambda **given: faults.exception("ValueError", **given),
    lambda **given: faults.async_exception("ValueError", **given),
    lambda **given: faults.crash_at_import("colorsys", **given),
    faults.crash_at_exit,
    faults.crash_in_del,
    faults.crash_in_handler,
    lambda **given: faults.exec(["false"], **given),
    faults.orphan,
]


@pytest.mark.parametrize("make", ALL, ids=[make(rank=0).name for make in ALL])
def test_a_rank_with_an_impossible_or_never_due_fault_continues(run_faults, make):
    """An isolated Python, a program that is not Python, a line that is never written."""
    given = [make(rank=rank, when=when.line("never") if rank == 2 else when.start()) for rank in range(3)]
    run = run_faults(given, (sys.executable, "-I", "-c", "pass"), ("/bin/true",), "import colorsys")

    assert [str(run.job.status[rank]) for rank in range(3)] == ["exit 0"] * 3
    assert [result.status for result in run.results] == ["unavailable", "unavailable", "not_reached"]
