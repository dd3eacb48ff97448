"""Faults of launchers under test, which start others and wait for them, observed by the job that they run in."""

import re
import sys
from shutil import which

import pytest

from derail import faults, when
from derail.faults.catalogue.injector_api import Aim
from derail.faults.model.results import Errored, NotReached
from derail.faults.registry import entry
from derail.model.exit import ExitStatus
from derail.model.input_error import InputError
from derail.platform import seccomp
from faults.fake_job import IdleJob
from faults.inrank.test_runtime import PYTHONS
from faults.rank_functions_of_faults import work
from faults.real_job import DEADLINE, ENDED, record_of, result_of, running, state_of, wait_for
from program_files import UNTIL, program_text

NO_PID = 2**22 + 1  # more than the kernel gives out
SECCOMP = pytest.mark.skipif(bool(seccomp.why_not()), reason=seccomp.why_not())

# A launcher as many are: it starts programs, waits for each, and says what it was told. Its lines and theirs are in one
# file, so each is written at once: an unbuffered ``print`` writes its words one by one.
NAIVE = program_text("faults/naive_launcher")
PIPES = program_text("faults/naive_launcher", SESSION=True)  # else Python 3.13 needs no pipe for it
SEEN = f"{UNTIL}\nuntil('{ENDED}')\n"
"""For a launcher: it goes on when it is known what came of the fault."""
HOLDS = """
import subprocess
child = subprocess.Popen(["/bin/sleep", "60"])
print("child", child.pid, flush=True)
child.wait()
print("went on", flush=True)
"""


def derail_launch(tmp_path, program, *options, ranks=2):
    """Return the argv of derail itself as a launcher under test."""
    script = tmp_path / "rank.py"
    script.write_text("import os, sys, time\n" + program)
    start = "import sys; from derail.cli import main; sys.exit(main())"
    words = [
        "launch",
        "-n",
        str(ranks),
        "--output-dir",
        str(tmp_path / "inner"),
        "--grace",
        "60",
        *options,
        str(script),
    ]
    return [sys.executable, "-c", start, *words]


def observe(tmp_path, program, fault, **options):
    """Return the observation of a launcher with one fault, its output, and the fault's result."""
    with running(tmp_path, program, fault, **options) as job:
        seen = job.wait(DEADLINE)
        text = job.log(0, "stdout").read_text()
        errors = job.log(0, "stderr").read_text()
    (result,) = seen.faults
    return seen, text, errors, result


def line_of(text, first):
    """Return the line with this beginning."""
    return next((line for line in text.splitlines() if line.startswith(first)), "")


# What its children were.


def test_a_launcher_with_sigchld_ignored_reports_every_failure_as_success(tmp_path):
    """Three programs exited with 3, 4 and 5; the launcher got 0, 0 and 0."""
    _, text, _, result = observe(tmp_path, NAIVE + SEEN, faults.sigchld_ignored(rank=0))

    assert line_of(text, "told") == "told [0, 0, 0]"
    assert result.status == "injected", result


def test_derail_itself_gets_exit_statuses_with_sigchld_ignored(tmp_path):
    """It reports the exit code."""
    program = derail_launch(tmp_path, SEEN + "sys.exit(7)", ranks=1)
    seen, _, errors, result = observe(tmp_path, program, faults.sigchld_ignored(rank=0))

    assert result.status == "injected", result
    assert str(seen.ranks[0].status) == "exit 7", errors


def test_sigchld_of_a_function_cannot_be_ignored_before_it_starts(tmp_path):
    """The refusal comes before anything starts."""
    with pytest.raises(InputError, match="expected a rank that runs a program, got a function"):
        observe(tmp_path, work, faults.sigchld_ignored(rank=0))


def test_a_missing_program_is_no_injection(tmp_path):
    """Only the shim ran with SIGCHLD ignored."""
    program = tmp_path / "nothing"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    seen, _, _, result = observe(tmp_path, [str(program)], faults.launcher_stdout_closed(rank=0))

    assert (str(seen.ranks[0].status), result.status) == ("exit 127", "errored")


@pytest.mark.parametrize("make", [faults.sigchld_ignored, faults.launcher_stdout_closed])
@pytest.mark.parametrize(("status", "came"), [(ExitStatus(code=127), Errored), (ExitStatus(signal=9), NotReached)])
def test_a_launcher_that_ended_before_the_check_is_no_evidence(make, status, came):
    """Killed from outside: it was not reached."""
    (fault,) = faults.plan([make(rank=0)]).faults
    step = entry(fault.name).inject(Aim(fault, 0, 0, IdleJob(NO_PID)))

    assert step.check() is None
    assert isinstance(step.at_exit(status), came)


@pytest.mark.parametrize(("count", "told"), [(1, "told [0, 4, 5]"), (2, "told [0, 0, 5]")])
def test_a_launcher_with_stolen_waits_reports_failures_as_success(tmp_path, count, told):
    """As many as were stolen; subprocess takes a missing status for 0."""
    _, text, _, result = observe(tmp_path, NAIVE, faults.stolen_wait(count, rank=0))

    assert line_of(text, "told") == told
    assert result.status == "injected", result
    assert f"(status {2 + count})" in result.detail


@pytest.mark.parametrize("version", PYTHONS)
def test_waits_are_stolen_in_every_python_that_a_launcher_may_have(tmp_path, version):
    """Whatever Python runs derail."""
    script = tmp_path / "launcher.py"
    script.write_text(NAIVE)
    _, text, _, result = observe(tmp_path, [str(PYTHONS[version]), str(script)], faults.stolen_wait(2, rank=0))

    assert line_of(text, "told") == "told [0, 0, 5]"
    assert result.status == "injected", result


def test_derail_itself_reports_a_stolen_status(tmp_path):
    """Other code has reaped its rank: that is no success."""
    program = derail_launch(tmp_path, "sys.exit(7)", ranks=1)
    seen, _, errors, result = observe(tmp_path, program, faults.stolen_wait(2, rank=0))

    assert not seen.ranks[0].status.ok, errors
    assert result.status == "injected", (result, errors)


def test_a_launcher_that_never_waits_is_not_reached(tmp_path):
    """There is nothing to steal."""
    _, _, _, result = observe(tmp_path, "print('no child')", faults.stolen_wait(rank=0))

    assert result.status == "not_reached"


# Starting them.


@SECCOMP
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (faults.spawn_eagain, "BlockingIOError 11"),
        (faults.spawn_emfile, "OSError 24"),
        (faults.spawn_enoent, "FileNotFoundError 2"),
    ],
)
@pytest.mark.parametrize("child", [1, 2, 3])
def test_the_nth_process_of_a_launcher_cannot_be_started(tmp_path, make, said, child):
    """It gets the reason, and the others run."""
    _, text, _, result = observe(tmp_path, PIPES if make is faults.spawn_emfile else NAIVE, make(child, rank=0))

    told = [3, 4, 5]
    told[child - 1] = None
    assert line_of(text, f"rank {child - 1} ") == f"rank {child - 1} {said}", result
    assert line_of(text, "told") == f"told {told}"
    assert result.status == "injected", result


WRAPPERS = {
    "execs": 'for n in 1 2 3 4; do word=$(echo $n); done; exec "$@"',
    "execs a wrapper": 'for n in 1 2; do word=$(echo $n); done; exec sh -c \'word=$(echo 3); exec "$@"\' sh "$@"',
}


@SECCOMP
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("child", [2, 3])
def test_processes_of_a_wrapper_are_not_those_of_the_launcher_that_it_becomes(tmp_path, wrapper, child):
    """A shell that runs commands and then execs the launcher, like pyenv's shims, is not affected."""
    program = tmp_path / "naive.py"
    program.write_text(NAIVE)
    argv = ["sh", "-c", WRAPPERS[wrapper], "sh", sys.executable, str(program)]
    _, text, errors, result = observe(tmp_path, argv, faults.spawn_eagain(child, rank=0))

    assert result.status == "injected", (result, errors)
    assert line_of(text, f"rank {child - 1} ") == f"rank {child - 1} BlockingIOError 11", (text, errors)


@SECCOMP
def test_the_nth_process_of_a_launcher_that_is_a_shell_cannot_be_started(tmp_path):
    """Only living processes of a shell count: commands that it waits for are none of its ranks."""
    script = "word=$(echo one); sleep 60 & word=$(echo two); sleep 60 & sleep 60 & kill %1 %2; wait"
    _, _, errors, result = observe(
        tmp_path, ["dash" if which("dash") else "sh", "-c", script], faults.spawn_eagain(3, rank=0)
    )

    assert result.status == "injected", (result, errors)
    assert "fork" in errors.lower(), errors


@SECCOMP
@pytest.mark.parametrize("make", [faults.spawn_eagain, faults.spawn_emfile, faults.spawn_enoent])
def test_threads_are_no_processes(tmp_path, make):
    """A program that only starts threads is not reached."""
    program = (
        "import threading\nfor _ in range(3):\n    t = threading.Thread(target=int)\n    t.start()\n    t.join()\n"
    )
    _, _, errors, result = observe(tmp_path, program + "print('ran')", make(2, rank=0))

    assert (result.status, errors) == ("not_reached", "")


@SECCOMP
@pytest.mark.parametrize("make", [faults.spawn_eagain, faults.spawn_emfile, faults.spawn_enoent])
@pytest.mark.parametrize("child", [2, 3])
def test_derail_that_cannot_start_a_rank_ends_those_before_it_and_says_why(tmp_path, make, child):
    """Process 1 is the keeper of its job; 2 and 3 are its ranks. Nothing is left."""
    program = derail_launch(tmp_path, "time.sleep(60)")
    seen, _, errors, result = observe(tmp_path, program, make(child, rank=0))

    assert result.status == "injected", result
    assert seen.ranks[0].status.code not in (0, None), errors
    assert f"rank {child - 2}" in errors
    assert seen.leftovers == ()


@SECCOMP
def test_a_function_is_no_launcher_whose_calls_can_be_filtered(tmp_path):
    """The refusal comes before anything starts."""
    with pytest.raises(InputError, match="function"):
        observe(tmp_path, work, faults.spawn_eagain(rank=0))


# Killed, stopped, signalled.


def child_of(job):
    """Return the process that the launcher has started, once its whole line is written."""
    return int(wait_for(lambda: re.search(r"^child (\d+)\n", job.log(0, "stdout").read_text()))[1])


def test_a_killed_launcher_leaves_its_process_alone(tmp_path):
    """Its child was alive at its exit; the surrounding job finds that child and ends it."""
    with running(tmp_path, HOLDS, faults.launcher_killed(rank=0, when=when.line("child"))) as job:
        child = child_of(job)
        seen = job.wait(DEADLINE)

    (result,) = seen.faults
    assert seen.ranks[0].status.signal == 9
    assert result.status == "injected", result
    assert f"it had started {child}, of which {child} lived then" in result.detail
    assert state_of(child) in ("", "Z")


@pytest.mark.parametrize("phase", ["running", "stopping", "killing"])
def test_the_ranks_of_a_killed_derail_die_with_it_in_every_phase(tmp_path, phase):
    """Its keeper ends them, also between SIGTERM and SIGKILL."""
    deaf = program_text("faults/deaf")
    line = {"running": "pid", "stopping": "stopping rank 1", "killing": "asked"}[phase]
    program = [*derail_launch(tmp_path, deaf), phase]
    fault = faults.launcher_killed(rank=0, when=when.line(line))
    with running(tmp_path, program, fault, cwd=tmp_path) as job:
        seen = job.wait(DEADLINE)

    (result,) = seen.faults
    logs = [path.read_text() for path in (tmp_path / "inner").rglob("stdout.log")]
    pids = [int(line.split()[-1]) for text in logs for line in text.splitlines() if "pid" in line]
    assert result.status == "injected", result
    assert seen.ranks[0].status.signal == 9
    assert pids
    wait_for(lambda: all(state_of(pid) in ("", "Z") for pid in pids))


def test_a_stopped_launcher_stops_and_its_child_does_not(tmp_path):
    """State T of the launcher, while its child reaches its sleep."""
    with running(tmp_path, HOLDS, faults.launcher_stopped(rank=0, when=when.line("child"))) as job:
        child = child_of(job)
        assert result_of(job) == "injected"
        wait_for(lambda: state_of(child) == "S", "a child that sleeps")
        assert state_of(job.pids()[0]) == "T"


def test_a_stopped_launcher_continues_after_for(tmp_path):
    """It is no longer stopped."""
    with running(tmp_path, HOLDS, faults.launcher_stopped(rank=0, when=when.line("child"), for_=0.2)) as job:
        assert result_of(job) == "injected"
        record_of(job, "healed")
        wait_for(lambda: state_of(job.pids()[0]) == "S")


def test_a_signal_reaches_only_the_launcher(tmp_path):
    """Derail ends its ranks on request, and reports the signal."""
    program = derail_launch(tmp_path, "print('ready', flush=True)\ntime.sleep(60)", ranks=1)
    fault = faults.launcher_signalled("SIGTERM", rank=0, when=when.line("ready"))
    seen, _, errors, result = observe(tmp_path, program, fault)

    assert result.status == "injected", result
    assert str(seen.ranks[0].status) in ("exit 143", "SIGTERM (15)", "SIGTERM"), errors


@pytest.mark.parametrize("name", ["launcher_killed", "launcher_stopped", "launcher_signalled"])
def test_a_rank_without_children_is_no_launcher(tmp_path, name):
    """It gets no signal."""
    given = {"signal": "SIGKILL"} if name == "launcher_signalled" else {}
    fault = getattr(faults, name)(**given, rank=0, when=when.line("ready"))
    with running(tmp_path, "print('ready', flush=True)\ntime.sleep(60)", fault) as job:
        assert result_of(job) == "not_reached"
        wait_for(lambda: state_of(job.pids()[0]) == "S", "a rank that sleeps")


# What it prints, and writes.


@pytest.mark.parametrize("how", ["closed", "broken"])
def test_derail_without_a_stdout_runs_its_ranks_to_the_end(tmp_path, how):
    """Their output is in their log files."""
    program = derail_launch(tmp_path, SEEN + "print('from the rank', flush=True)", ranks=1)
    seen, text, errors, result = observe(tmp_path, program, faults.launcher_stdout_closed(how, rank=0))

    logs = [path.read_text() for path in (tmp_path / "inner").rglob("stdout.log")]
    assert result.status == "injected", result
    assert (text, logs) == ("", ["from the rank\n"])
    assert str(seen.ranks[0].status) == "exit 0", errors


def test_a_launcher_that_prints_into_a_broken_pipe_gets_an_error(tmp_path):
    """EPIPE, as before ``| head``."""
    program = f"""{SEEN}
import errno
try:
    os.write(1, b"x")
except OSError as error:
    os.write(2, errno.errorcode[error.errno].encode())
"""
    _, _, errors, result = observe(tmp_path, program, faults.launcher_stdout_closed("broken", rank=0))

    assert (errors, result.status) == ("EPIPE", "injected")


WRITES = """
import errno, subprocess
print("writes", flush=True)
subprocess.run(["/bin/sh", "-c", "echo from the child > mine.child"])
try:
    with open("mine.log", "w") as file:
        file.write("from the launcher")
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
"""


@SECCOMP
def test_a_full_disk_of_the_launcher_is_not_its_childrens(tmp_path):
    """Its own write to its own file fails, the child's to the same directory does not."""
    fault = faults.launcher_log_disk_full("mine.", rank=0)
    _, text, _, result = observe(tmp_path, WRITES, fault, cwd=tmp_path)

    assert text.split() == ["writes", "ENOSPC"]
    assert ((tmp_path / "mine.child").read_text(), (tmp_path / "mine.log").read_text()) == ("from the child\n", "")
    assert result.status == "injected", result


@SECCOMP
def test_a_launcher_that_writes_elsewhere_is_not_reached(tmp_path):
    """None of its files matches."""
    fault = faults.launcher_log_disk_full("no such file", rank=0)
    _, text, _, result = observe(tmp_path, WRITES, fault, cwd=tmp_path)

    assert (text.split(), result.status) == (["writes"], "not_reached")


@SECCOMP
def test_derail_with_a_full_journal_continues_to_supervise(tmp_path):
    """Its ranks exit normally, and so does it."""
    program = derail_launch(tmp_path, "sys.exit(7)", ranks=1)
    seen, _, errors, result = observe(tmp_path, program, faults.launcher_log_disk_full("journal.jsonl", rank=0))

    assert result.status == "injected", result
    assert seen.ranks[0].status.code not in (0, None), errors
    assert seen.leftovers == ()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: faults.spawn_eagain(0, rank=0), "from 1 to"),
        (lambda: faults.stolen_wait(0, rank=0), "from 1 to"),
        (lambda: faults.launcher_log_disk_full("", rank=0), "a part of the path"),
        (lambda: faults.launcher_stdout_closed("shut", rank=0), "unknown how 'shut'"),
        (lambda: faults.launcher_signalled("SIGNOPE", rank=0), "unknown signal"),
        (lambda: faults.sigchld_ignored(rank=0, when=when.after(1)), "cannot act after 1 s"),
        (lambda: faults.launcher_killed(rank=0, for_=1), "cannot be undone"),
    ],
)
def test_wrong_values_are_refused_where_they_are_given(make, problem):
    """Nothing is started with them."""
    with pytest.raises(InputError) as error:
        make()

    assert problem in str(error.value)
