"""Failing and delayed system calls in unchanged programs."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import derail
from derail import faults, when
from derail.agents.invocation import LocalJob
from derail.agents.native_job import default_teardown, start_job
from derail.faults import Plan
from derail.faults.engine import journal
from derail.faults.engine.prepare import prepare
from derail.faults.injectors import syscalls
from derail.faults.mechanisms import namespaces
from derail.faults.mechanisms.syscall_filter import Watch
from derail.faults.mechanisms.syscall_rules import Rule
from derail.faults.model.occurrences import Hits
from derail.model.clock import SYSTEM_CLOCK
from derail.model.input_error import InputError
from derail.model.spec import Command, Function, JobSpec, RankSpec
from derail.platform import exits, seccomp
from derail.platform.handshake import HandshakeListener, PrivateDirectory
from derail.platform.seccomp import Call
from faults.real_job import DEADLINE
from program_files import program_text
from wording import Tells

REASON = seccomp.why_not()
needs_seccomp = pytest.mark.skipif(bool(REASON), reason=REASON or "it works")
DD = ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=512", "count=10"]


@pytest.fixture
def launched(tmp_path):
    """Run a job to its end, and return the observation and the output of rank 0."""
    jobs = []

    def launch(run, *given, ranks=1, **options):
        job = start_job(
            LocalJob(run, ranks=ranks, plan=Plan(tuple(given)), **options),
            workdir=tmp_path / f"work{len(jobs)}",
        )
        jobs.append(job)
        seen = job.wait(DEADLINE)
        return seen, *(
            "".join(path.read_text() for path in sorted(job.workdir.rglob(f"*/{rank}/{name}.log")))
            for rank in range(ranks)
            for name in ("stdout", "stderr")
        )

    yield launch
    for job in jobs:
        job.close()


def python(source):
    """Return the command line of a Python program."""
    return [sys.executable, "-c", source]


def statuses(seen):
    """Return the statuses of the faults."""
    return [result.status for result in seen.faults]


@needs_seccomp
def test_the_fourth_write_of_dd_fails_for_want_of_space(launched):
    """The kernel never executes it, and dd prints its usual error."""
    seen, _, stderr = launched(DD, faults.syscall_errno("write", "ENOSPC", calls=4, rank=0))

    assert str(seen.ranks[0].status) == "exit 1"
    assert "error writing '/dev/null': No space left on device" in stderr
    assert "3+0 records out" in stderr
    assert [str(result.result) for result in seen.faults] == [
        Tells("injected", "call 4", "write", "ENOSPC", seen.ranks[0].pid)
    ]


@needs_seccomp
@pytest.mark.parametrize(
    ("calls", "errors"),
    [
        ("3", "0 0 EIO 0 0 0 0"),
        ("2..6+2", "0 EIO 0 EIO 0 EIO 0"),
        ("5..", "0 0 0 0 EIO EIO EIO"),
        ("1..+3", "EIO 0 0 EIO 0 0 EIO"),
    ],
)
def test_exactly_the_requested_calls_fail(launched, calls, errors):
    """The program itself counts them."""
    seen, stdout, _ = launched(
        python(program_text("faults/syncs_often", TIMES=7)), faults.syscall_errno("fsync", "EIO", calls=calls, rank=0)
    )

    assert stdout.split() == errors.split()
    assert statuses(seen) == ["injected"]
    assert "7 calls seen" in seen.faults[0].detail or calls in ("3", "2..6+2")


@needs_seccomp
def test_a_connect_is_held_as_long_as_the_plan_says(launched):
    """By the clock of the rank; the next one is not delayed."""
    source = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
for _ in range(2):
    began = time.monotonic()
    socket.create_connection(server.getsockname()).close()
    print(time.monotonic() - began)
"""
    seen, stdout, _ = launched(python(source), faults.syscall_delay("connect", 4.0, rank=0))

    first, second = map(float, stdout.split())
    assert first >= 4.0
    assert second < 4.0
    assert seen.faults[0].detail == Tells("call 1", "connect", "4 s")


@needs_seccomp
def test_a_call_that_is_never_made_is_not_reached(launched):
    """The program ends normally, and the result has the number of its calls."""
    seen, _, stderr = launched(DD, faults.syscall_errno("write", "ENOSPC", calls=400, fd=1, rank=0))

    assert seen.succeeded
    assert "10+0 records out" in stderr
    assert [str(result.result) for result in seen.faults] == [
        Tells("not reached", "write", "10", "descriptor 1", "400", "exit 0")
    ]


@needs_seccomp
def test_another_rank_keeps_its_calls(launched):
    """Only the target rank has a filter."""
    source = (
        program_text("faults/syncs_often", TIMES=3) + "print(open('/proc/self/status').read().count('Seccomp:\\t2'))"
    )
    seen, first, _, second, _ = launched(python(source), faults.syscall_errno("fsync", "EIO", calls=2, rank=1), ranks=2)

    assert [first.split(), second.split()] == [["0", "0", "0", "0"], ["0", "EIO", "0", "1"]]
    assert statuses(seen) == ["injected"]


def test_a_machine_without_support_reports_why_and_changes_nothing(launched, monkeypatch):
    """The program runs unchanged."""
    monkeypatch.setattr(seccomp, "why_not", lambda: "there is no seccomp on the moon")

    seen, _, stderr = launched(DD, faults.syscall_errno("write", "ENOSPC", calls=4, rank=0))

    assert seen.succeeded
    assert "10+0 records out" in stderr
    assert [str(result.result) for result in seen.faults] == [Tells("unavailable", "no seccomp on the moon")]


@needs_seccomp
def test_all_faults_on_a_rank_share_one_listener(launched):
    """A process can have only one."""
    source = (
        program_text("faults/syncs_often", TIMES=4)
        + "began = time.monotonic(); os.sync(); print(time.monotonic() - began)"
    )
    seen, stdout, _ = launched(
        python("import time\n" + source),
        faults.syscall_errno("fsync", "EIO", calls=2, rank=0),
        faults.syscall_errno("fsync", "ENOSPC", calls=3, rank=0),
        faults.syscall_delay("sync", 0.3, rank=0),
    )

    *errors, took = stdout.split()
    assert errors == ["0", "EIO", "ENOSPC", "0"]
    assert float(took) >= 0.3
    assert statuses(seen) == ["injected"] * 3


@needs_seccomp
@pytest.mark.parametrize(("children", "status"), [(True, "injected"), (False, "not_reached")])
def test_calls_of_children_count_if_the_plan_says_so(launched, children, status):
    """The shell itself writes nothing."""
    shell = ["/bin/sh", "-c", f"{' '.join(DD)}; echo $? >&2"]

    seen, _, stderr = launched(shell, faults.syscall_errno("write", "ENOSPC", calls=4, fd=1, children=children, rank=0))

    assert statuses(seen) == [status]
    assert stderr.split()[-1] == ("1" if children else "0")


@needs_seccomp
def test_only_calls_on_paths_that_match_count(launched, tmp_path):
    """A path argument, or the path of the file behind a descriptor."""
    source = program_text("faults/opens_and_writes", DIRECTORY=str(tmp_path))
    seen, stdout, _ = launched(
        python(source),
        faults.syscall_errno("open,openat", "EMFILE", calls=2, path="checkpoint", rank=0),
        faults.syscall_errno("write", "EIO", calls=2, path="checkpoint-1", rank=0),
    )

    assert stdout.splitlines() == ["checkpoint-1 write 5", "checkpoint-2 open 24"]
    assert statuses(seen) == ["injected", "injected"]


@needs_seccomp
def test_a_held_call_that_is_interrupted_remains_held(launched):
    """A signal handler runs during the delay, and the call is executed once, after it."""
    source = program_text("faults/reads_by_timer")
    seen, stdout, _ = launched(python(source), faults.syscall_delay("read", 0.4, calls=2, path="pipe", rank=0))

    assert float(stdout.split()[1]) >= 0.4
    assert seen.faults[0].detail == Tells("call 2", "read", "0.4 s")
    assert "2 calls seen" in seen.faults[0].detail


class Listens:
    """Listener with a caller that waits for the answer, or was interrupted."""

    waits = False

    def let(self, call):
        """Return whether a caller has received the answer."""
        return self.waits


def test_a_call_that_expires_while_interrupted_is_made_on_repetition():
    """Its caller lives: nothing was cut off, and it is the same call."""
    watch, listener = Watch(os.getpid()), Listens()
    rule = Rule("a", "fsync", {74: "fsync"}, os.getpid(), Hits.read("1"), delay=0.5, active=True)
    watch.rules, watch._executed = [rule], True
    call = Call(1, os.getpid(), 74, (3, 0, 0, 0, 0, 0))
    later = SYSTEM_CLOCK.now() + 60
    watch.decide(listener, call)
    watch._let_go(listener, later)

    assert (rule.answered, rule.cut, watch._until_next()) == ([], [], None)

    listener.waits = True
    watch.decide(listener, replace(call, id=2))
    watch._let_go(listener, later)
    assert (rule.answered, rule.cut, rule.seen) == ([1], [], 1)


def test_an_expired_call_of_a_dead_caller_was_cut_off():
    """The call is not repeated."""
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    watch = Watch(pid)
    rule = Rule("a", "fsync", {74: "fsync"}, pid, Hits.read("1"), delay=0.5, active=True)
    watch.rules, watch._executed = [rule], True
    watch.decide(Listens(), Call(1, pid, 74, (3, 0, 0, 0, 0, 0)))
    watch._let_go(Listens(), SYSTEM_CLOCK.now() + 60)
    os.waitid(os.P_PID, pid, os.WEXITED)

    assert (rule.answered, [n for n, _ in rule.cut]) == ([], [1])


@needs_seccomp
def test_a_job_is_torn_down_while_a_call_is_held(launched):
    """The rank ends by the supervisor's signal, without waiting for the call."""
    source = program_text("faults/held_call", NUMBER=f"{syscalls.this_machine().number('fsync')} ")
    seen, *_ = launched(
        python(source),
        faults.syscall_delay("fsync", 3600, rank=0),
        faults.signal("SIGKILL", rank=1, when=when.line("it is held", rank=0)),
        ranks=2,
        teardown=default_teardown(60),
    )

    assert statuses(seen) == ["injected", "injected"]
    assert str(seen.ranks[0].status) == "SIGTERM (15)"
    assert re.search(r"call 1 .*fsync.* \d+\.\d\d s", seen.faults[0].detail)
    assert [record["event"] for record in journal.read(seen.journal)].count("healed") == 1


@needs_seccomp
def test_calls_are_counted_from_the_trigger_on(launched):
    """Earlier calls do not count."""
    source = program_text("faults/syncs")
    seen, stdout, _ = launched(python(source), faults.syscall_errno("fsync", "EIO", rank=0, when=when.line("ready")))

    assert stdout.split() == ["ready", "5"]
    assert seen.faults[0].detail == Tells("call 1", "fsync", "EIO")


LOOK = """
import os, sys
print(sys.argv[1:], sorted(os.environ.items()), os.getcwd())
told = dict(line.split(":", 1) for line in open("/proc/self/status"))
print({name: told[name] for name in ("SigBlk", "SigIgn", "SigCgt", "Threads", "PPid")})
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd")), os.getpid() == os.getsid(0) == os.getpgid(0))
"""


@needs_seccomp
def test_the_program_cannot_detect_the_shim(run_faults):
    """Arguments, environment, signals, descriptors and pid are the program's own."""
    argv = (sys.executable, "-I", "-X", "utf8=0", "-c", LOOK, "a b", "", "--flag")
    bare = run_faults([], argv).log(0)
    run = run_faults([faults.syscall_errno("fsync", "EIO", rank=0)], argv)

    assert run.log(0)[len(bare) :] == bare
    assert run.one().status == "not_reached"
    assert "fsync was never called" in run.one().detail


@needs_seccomp
def test_a_plain_program_gets_exactly_its_environment(run_faults):
    """Python sets a locale if there is none; the program must not get it."""
    bare = run_faults([], ("/usr/bin/env",)).log(0)
    run = run_faults([faults.syscall_errno("fsync", "EIO", rank=0)], ("/usr/bin/env",))

    assert run.log(0)[len(bare) :] == bare
    assert "LC_CTYPE" not in bare


@needs_seccomp
def test_a_missing_program_exits_as_in_a_shell(run_faults):
    """With 127, and a message on stderr."""
    run = run_faults([faults.syscall_errno("fsync", "EIO", rank=0)], ("/no/such/program",))

    assert str(run.job.status[0]) == "exit 127"
    assert "/no/such/program: No such file or directory" in run.log(0, "stderr")
    assert run.one().status == "not_reached"


@needs_seccomp
def test_a_faults_own_machinery_does_not_count(launched):
    """Even for execve: the first one is not the rank's own."""
    seen, _, stderr = launched(
        ["/bin/sh", "-c", "(exec /bin/true); (exec /bin/true)"],
        faults.syscall_errno("execve", "EACCES", calls=1, children=True, rank=0),
    )

    assert seen.faults[0].detail == Tells("call 1", "execve", "EACCES")
    assert "2 calls seen" in seen.faults[0].detail or "1 calls seen" in seen.faults[0].detail
    assert "Permission denied" in stderr
    assert "derail:" not in stderr
    assert seen.succeeded


@needs_seccomp
def test_calls_that_the_shim_needs_can_be_filtered(launched):
    """A thread without the filter passes the listener on."""
    calls = "sendmsg,recvfrom,recvmsg,close,write,read,openat,connect,socket,dup,fcntl,ioctl,clone,clone3,poll"
    seen, _, stderr = launched(DD, faults.syscall_errno(calls, "EIO", calls=100_000, children=True, rank=0))

    assert seen.succeeded, stderr
    assert statuses(seen) == ["not_reached"]


@needs_seccomp
def test_a_filter_under_a_filter_is_unavailable(launched):
    """A derail inside a rank with such a fault reports why it cannot have its own filter."""
    source = "from derail.platform import seccomp; print(seccomp.why_not())"
    _, stdout, _ = launched(python(source), faults.syscall_errno("fsync", "EIO", rank=0))

    assert "Device or resource busy (this process is under such a filter itself)" in stdout


UNPRIVILEGED = program_text("faults/unprivileged")


@needs_seccomp
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
@pytest.mark.parametrize("user", [["--reuid=65534", "--regid=65534", "--clear-groups"], []], ids=["65534", "0"])
def test_it_needs_no_privilege(user):
    """A user without any capability can inject it, and so can uid 0 without capabilities."""
    readable = [str(Path(module.__file__).parents[1]) for module in (derail, psutil)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(readable), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(python, source):
        stripped = ["setpriv", *user, "--bounding-set=-all", "--inh-caps=-all", python, "-c", source, *DD]
        return subprocess.run(stripped, cwd="/", env=env, capture_output=True, text=True, timeout=DEADLINE, check=False)

    usable = "import subprocess, sys, psutil, derail; subprocess.run([sys.executable, '-c', ''], check=True)"
    pythons = [python for python in (sys.executable, "/usr/bin/python3") if run(python, usable).returncode == 0]
    if not pythons:
        pytest.skip(f"such a user may not start {sys.executable}, and there is no other Python")
    done = run(pythons[0], UNPRIVILEGED)

    assert done.stderr == ""
    first, second, status, capless = done.stdout.splitlines()
    assert first == Tells("injected", "call 4", "write", "ENOSPC")
    assert second == Tells("not reached", "open,openat", "'null'", "1000")
    assert (status, capless) == ("exit 1", "True")


def test_a_rank_that_is_a_function_is_refused():
    """Nothing is started; the message has a remedy."""
    spec = JobSpec("job", "id-1", (RankSpec(0, Function(print, ()), {}),))
    plan = faults.plan([faults.syscall_errno("write", "EIO", rank=0)])

    with pytest.raises(InputError, match="expected a rank that runs a program, got a function"):
        syscalls.prepare(spec.ranks[0], plan.faults[0])


@needs_seccomp
def test_the_filter_is_next_to_the_program(tmp_path):
    """After other shims, once for all faults, and only in the target rank."""
    other = ("python", "-X", "utf8", "-I", "-S", str(syscalls.SHIM.with_name("namespace.py")), "{}")
    spec = JobSpec("job", "id-1", tuple(RankSpec(rank, Command((*other, "a", "b")), {}) for rank in range(2)))
    given = [faults.syscall_errno("write", "EIO", rank=0), faults.syscall_delay("close", 1, rank=0)]

    changed, same = prepare(faults.plan(given), spec, journal=tmp_path / "journal.jsonl").ranks

    assert same == spec.ranks[1]
    assert changed.run.argv[: len(other)] == other
    assert changed.run.argv[-2:] == ("a", "b")
    assert changed.run.argv.count(str(syscalls.SHIM)) == 1
    assert len(changed.run.argv) == len(other) + 7 + 2


@pytest.mark.parametrize(
    ("text", "shown", "which"),
    [
        ("4", "4", [4]),
        ("2..4", "2..4", [2, 3, 4]),
        ("2 .. 7 + 2", "2..7+2", [2, 4, 6]),
        ("6..", "6..", [6, 7, 8]),
        ("1..+3", "1..+3", [1, 4, 7]),
        ("3..3", "3", [3]),
    ],
)
def test_calls_are_read_as_they_are_written(text, shown, which):
    """A number, a range, a range with a step, a range without an end."""
    calls = Hits.read(text)

    assert ([n for n in range(1, 9) if calls.has(n)], str(calls)) == (which, shown)
    assert calls.count in (None, len(which))


@pytest.mark.parametrize(
    ("given", "options", "problem"),
    [
        (("wirte", "EIO"), {}, "unknown system call 'wirte'; did you mean 'write'"),
        (("write", "ENOSPACE"), {}, "unknown errno 'ENOSPACE'; did you mean 'ENOSPC'"),
        (("write", "EIO"), {"calls": "0"}, "occurrences from 1 upwards"),
        (("write", "EIO"), {"calls": "5..2"}, "occurrences from 1 upwards"),
        (("write", "EIO"), {"calls": "third"}, "expected something like"),
        (("write", "EIO"), {"calls": True}, "expected a string"),
        (("write", "EIO"), {"fd": -1}, "the number of a descriptor"),
        (("openat", "EIO"), {"fd": 1}, "fd: openat has no descriptor argument"),
        (("getppid", "EIO"), {"path": "x"}, "path: getppid has neither a path"),
        (("write", "EIO"), {"times": 2}, "acts once"),
    ],
)
def test_invalid_parameters_are_refused_before_anything_runs(given, options, problem):
    """With the expected form, and the nearest name."""
    with pytest.raises(InputError, match=problem):
        faults.syscall_errno(*given, rank=0, **options)


@needs_seccomp
def test_a_call_that_every_process_needs_is_refused(tmp_path):
    """By number, any call can be requested."""
    futex = {0: 202, 1: 98}[syscalls.this_machine().column]

    with pytest.raises(InputError, match=f"system call {futex} cannot be held up"):
        start_job(LocalJob(DD, ranks=1, plan=Plan((faults.syscall_errno(futex, "EIO", rank=0),))), workdir=tmp_path)


@needs_seccomp
def test_nothing_of_the_handshake_reaches_the_program(launched):
    """Neither a variable nor a descriptor, and its directory is removed with the job."""
    source = """
import os
descriptors = sorted(map(int, os.listdir("/proc/self/fd")))[:-1]
print([name for name in os.environ if name.startswith("DERAIL_SYS")], descriptors)
"""
    seen, stdout, _ = launched(python(source), faults.syscall_errno("fsync", "EIO", rank=0))

    assert stdout.split("\n")[0] == "[] [0, 1, 2]"
    assert [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("dh-")] == []
    assert statuses(seen) == ["not_reached"]


@needs_seccomp
@pytest.mark.skipif(bool(namespaces.why_not("mount")), reason="no mount namespaces here")
def test_a_disk_that_hides_the_temporary_directory_does_not_keep_the_shim_from_derail(launched):
    """The socket is there; both faults are injected."""
    source = "import os\ntry: os.fsync(1)\nexcept OSError as error: print(error.errno)"
    seen, stdout, stderr = launched(
        python(source),
        faults.full_disk(tempfile.gettempdir(), size="64K", rank=0),
        faults.syscall_errno("fsync", "EIO", rank=0),
    )

    assert (stdout, stderr) == ("5\n", "")
    assert statuses(seen) == ["injected", "injected"]


def test_the_listener_is_passed_to_no_process_without_the_secret(tmp_path):
    """The program is not started then: the owner of the listener decides each of its calls."""
    directory = PrivateDirectory(tmp_path)
    shim = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "import os, sys; sys.stdin.read(); os.execv(sys.argv[1], sys.argv[1:])",
         sys.executable, "-I", "-S", syscalls.SHIM, '{"filter": "", "seccomp": 0, "flags": 0}', "echo", "started"],
        env={"DERAIL_SYSCALLS": str(directory.endpoint())},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    impostor = HandshakeListener(socket.SOCK_SEQPACKET).open_at(directory.endpoint(str(shim.pid)))
    try:
        shim.stdin.close()
        assert exits.is_readable(impostor.fileno(), DEADLINE)
        with impostor.accept() as connection:
            connection.settimeout(DEADLINE)
            connection.recv(256)
            connection.send(b"another secret")
            shim.stdin = None
            stdout, stderr = shim.communicate(timeout=DEADLINE)
    finally:
        impostor.close()
        directory.close()

    assert (stdout, shim.returncode) == (b"", 125)
    assert b"does not have the secret of the job" in stderr
