"""A program starts with exactly its settings, is signalled and reaped by its owner only, and leaves nothing."""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from derail.model.exit import ExitStatus
from derail.model.spec import Command, Function, RankSpec, Streams
from derail.platform import exits
from derail.spawn import command
from derail.spawn.command import StartError, SubprocessHandler, get_subprocess_handler, start_command
from program_files import program_text

DEADLINE = 60.0
PATH = {"PATH": os.environ["PATH"]}
BLOCKED = ("sh", "-c", "trap 'exit 7' USR1; echo ready; while :; do sleep 0.02; done")


@pytest.fixture(params=["pidfd", "thread"])
def use_pidfd(request):
    """Whether exits are detected by pidfd or by a waiting thread."""
    return request.param == "pidfd"


@pytest.fixture
def out(tmp_path):
    """The file for the program's stdout."""
    return tmp_path / "stdout.log"


@pytest.fixture
def run(use_pidfd, out):
    """Return a function that starts a program: ``run("sh", "-c", ...)``; end and reap it after the test."""
    with ExitStack() as stack:

        def start(*argv, rank=0, env=PATH, **more):
            spec = RankSpec(rank, Command(argv), env, **{"streams": Streams(stdout=out), **more})
            handle = start_command(spec, use_pidfd=use_pidfd)
            stack.callback(_end, handle)
            return handle

        yield start


def _end(handle):
    if handle.reap() is None:
        handle.signal(signal.SIGKILL, group=True)
        handle.wait_readable(DEADLINE)
        handle.reap()
    handle.close()


def _ended(handle):
    assert exits.is_readable(handle.exit_fd, DEADLINE)
    return handle.peek()


def test_a_program_has_exactly_the_environment_that_was_given(run, out):
    """No variable of ours is added, and all are set at exec."""
    handle = run("env", env={**PATH, "RANK": "3", "EMPTY": ""})

    assert _ended(handle) == ExitStatus(code=0)
    assert set(out.read_text().splitlines()) == {f"PATH={PATH['PATH']}", "RANK=3", "EMPTY="}


def test_a_program_is_looked_up_on_its_own_path(run, out, tmp_path):
    """The PATH of the rank counts, not ours."""
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)

    assert _ended(run("only-here", env={"PATH": str(tmp_path)})).ok
    assert out.read_text() == "found\n"


def test_without_a_file_the_stream_is_ours(capfd):
    """None means the launcher's own stream."""
    handle = start_command(RankSpec(0, Command(("sh", "-c", "echo out; echo err >&2")), PATH))
    _ended(handle)
    _end(handle)

    assert tuple(capfd.readouterr()) == ("out\n", "err\n")


def _masks(text):
    return {line.split()[0]: int(line.split()[1], 16) for line in text.splitlines()}


def test_a_pending_signal_is_not_delivered_during_a_start(run, out):
    """A blocked pending signal stays blocked: to unblock it would end this very process."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        assert _ended(run("true")).ok
        assert signal.sigwait({signal.SIGUSR1}) == signal.SIGUSR1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def test_an_ignored_hangup_stays_ignored(run, out):
    """The effect of nohup reaches the ranks; SIGPIPE, which Python ignores for itself, does not."""
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        handle = run("grep", "SigIgn", "/proc/self/status")
    finally:
        signal.signal(signal.SIGHUP, old)
    assert _ended(handle).ok

    ignored = _masks(out.read_text())["SigIgn:"]
    assert bool(ignored >> (signal.SIGHUP - 1) & 1)
    assert not ignored >> (signal.SIGPIPE - 1) & 1


def test_no_descriptor_of_ours_reaches_a_program(run, out):
    """Not even one that was made inheritable by mistake."""
    with open(os.devnull) as file:
        os.set_inheritable(file.fileno(), True)
        handle = run(sys.executable, "-c", "import os; print(*sorted(map(int, os.listdir('/proc/self/fd'))))")
    assert _ended(handle).ok

    assert out.read_text().split() == ["0", "1", "2", "3"]  # 3 belongs to the listing


def test_starting_leaves_one_descriptor_and_closing_none(use_pidfd, out):
    """The files of the streams are closed in the launcher as soon as the program has them."""
    before = len(os.listdir("/proc/self/fd"))
    handle = start_command(RankSpec(0, Command(BLOCKED), PATH, Streams(out, out)), use_pidfd=use_pidfd)
    during = len(os.listdir("/proc/self/fd"))
    _end(handle)

    assert during - before == (1 if use_pidfd else 3)


def test_256_programs_cost_256_descriptors_and_no_thread(tmp_path):
    """One pidfd each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1024:
        pytest.skip(f"only {hard} descriptors are allowed here")
    if soft < 1024:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    handles = []
    try:
        for rank in range(256):
            streams = Streams(tmp_path / f"{rank}.out", tmp_path / f"{rank}.err")
            handles.append(start_command(RankSpec(rank, Command(("sleep", "600")), PATH, streams)))
        during, threads_during = len(os.listdir("/proc/self/fd")), threading.active_count()
    finally:
        for handle in handles:
            handle.signal(signal.SIGKILL)
        for handle in handles:
            _end(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (during - before, threads_during - threads) == (256, 0)


_MESSAGES = [
    (("no-such-program",), {}, FileNotFoundError, "'no-such-program' is not on the rank's PATH (/"),
    (("/no/such/program",), {}, FileNotFoundError, "the program '/no/such/program' does not exist"),
    (("{dir}/no-interpreter",), {}, FileNotFoundError, "no-interpreter' exists, but the interpreter in its first line"),
    (("{dir}/not-executable",), {}, PermissionError, "not-executable' may not be executed; check its mode"),
    (("{dir}/garbage",), {}, OSError, "garbage' is not a program of this machine"),
    (("sh", "-c", "x" * 200_000), {}, OSError, "arguments and environment of 'sh' are 2"),
    (("sh",), {"cwd": Path("/no/such/dir")}, FileNotFoundError, "its working directory '/no/such/dir' does not exist"),
    (("sh",), {"streams": Streams(Path("/no/dir/x"))}, FileNotFoundError, "'/no/dir/x': its directory does not exist"),
    (("sh",), {"streams": Streams(None, Path("{dir}/fifo"))}, OSError, "fifo': it is a FIFO without a reader"),
    (("sh",), {"streams": Streams(Path("/"))}, OSError, "cannot be written to '/': Is a directory"),
    (("sh", "a\0b"), {}, OSError, "embedded null byte"),
    (("sh",), {"cpus": frozenset({100_000})}, OSError, "cannot be bound to CPUs [100000]"),
    ((), {}, OSError, "argv is empty"),
]


@pytest.mark.parametrize(("argv", "more", "kind", "message"), _MESSAGES, ids=[case[3][:40] for case in _MESSAGES])
def test_a_program_that_cannot_be_started_is_reported_with_rank_reason_and_remedy(
    run, tmp_path, argv, more, kind, message
):
    """The error is a StartError and the usual OSError at once, and nothing is left open."""
    os.mkfifo(tmp_path / "fifo")
    for name, text, mode in [
        ("no-interpreter", "#!/no/such/interpreter\n", 0o755),
        ("not-executable", "#!/bin/sh\n", 0o644),
        ("garbage", "\x00\x01\x02", 0o755),
    ]:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    argv = tuple(word.replace("{dir}", str(tmp_path)) for word in argv)
    streams = more.get("streams", Streams())
    if streams.stderr is not None:
        more = {"streams": Streams(None, Path(str(streams.stderr).replace("{dir}", str(tmp_path))))}
    before = set(os.listdir("/proc/self/fd"))

    with pytest.raises(StartError) as caught:
        run(*argv, rank=5, **more)
    assert isinstance(caught.value, kind)
    assert str(caught.value).partition("] ")[2].startswith("rank 5 could not be started: ")
    assert message in str(caught.value)
    assert set(os.listdir("/proc/self/fd")) == before
    assert os.sched_getaffinity(0) >= {0}


@pytest.mark.parametrize("left", range(8))
def test_running_out_of_descriptors_anywhere_in_a_start_leaves_nothing(left, out, tmp_path, use_pidfd, wait_until):
    """With 0 to 7 descriptors left, the start works whole or fails whole: no child, no descriptor."""
    spec = RankSpec(1, Command(("sleep", "600")), PATH, Streams(out, tmp_path / "err"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = start_command(RankSpec(0, Command(("true",)), PATH))
    first.proc.wait()  # late imports happen now
    _end(first)
    gc.collect()
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(40)]
    before = set(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1 + left, hard))
    handle = error = None
    try:
        handle = start_command(spec, use_pidfd=use_pidfd)
    except StartError as caught:
        error = caught
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        if handle is not None:
            _end(handle)
        else:
            assert error.errno == errno.EMFILE
            assert "no descriptor is left" in str(error)
        # The waiting thread closes its own ones after it has reported the exit.
        wait_until(lambda: set(os.listdir("/proc/self/fd")) == before)
        children = {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
        assert [pid for pid in children if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()] == []
    finally:
        for fd in taken:
            os.close(fd)


def test_a_lack_of_an_exit_descriptor_ends_the_program_again(monkeypatch, out, pid_gone):
    """A start that fails after exec kills and reaps the started program, including helpers."""
    seen = []

    def refuse(pid, **_):
        seen.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(exits, "open_exit_fd", refuse)
    with pytest.raises(StartError, match="no descriptor is left"):
        start_command(RankSpec(0, Command(("sleep", "600")), PATH, Streams(out)))

    with pytest.raises(ChildProcessError):
        os.waitid(os.P_PID, seen[0], os.WEXITED | os.WNOHANG)


def test_an_interrupt_during_a_start_ends_the_program_again(monkeypatch, out):
    """A signal handler that raises in the middle leaves no child."""
    seen = []

    def interrupt(pid, **_):
        seen.append(pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(exits, "open_exit_fd", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start_command(RankSpec(0, Command(("sleep", "600")), PATH, Streams(out)))

    with pytest.raises(ChildProcessError):
        os.waitid(os.P_PID, seen[0], os.WEXITED | os.WNOHANG)


def test_a_function_is_refused():
    """Functions are started elsewhere."""
    with pytest.raises(TypeError, match="rank 0 is not a program"):
        start_command(RankSpec(0, Function(print, ()), PATH))


_STDIN = program_text("spawn/odd_stdin")


@pytest.mark.parametrize(("ours", "expected"), [("tty", "/dev/"), ("closed", "/dev/null"), ("pipe", "pipe:[")])
def test_stdin_is_inherited_even_if_it_is_a_terminal(run_python, ours, expected):
    """As with torch; without one it is empty, and no file of the program gets its number."""
    stdin = run_python(_STDIN, ours).stdout

    assert stdin.startswith(expected)
    assert (stdin == "/dev/null\n") == (ours == "closed")


_CLOSED_STREAMS = program_text("spawn/closed_streams")


def test_a_launcher_without_streams_gives_its_ranks_the_null_device(run_python):
    """A closed stdout is not inherited as such: the program's first file would become its stdout."""
    assert run_python(_CLOSED_STREAMS).stdout == "0"


class TestProc:
    """``handle.proc``: a Popen that does not reap."""

    def test_poll_and_wait_do_not_reap(self, run, out, wait_until):
        """User code may wait on it; the supervisor still gets the exit."""
        handle = run(*BLOCKED)
        assert isinstance(handle.proc, subprocess.Popen)
        assert handle.proc.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            handle.proc.wait(0.01)
        wait_until(lambda: out.read_text() == "ready\n")
        handle.proc.send_signal(signal.SIGUSR1)

        assert handle.proc.wait(DEADLINE) == 7
        assert (handle.proc.poll(), handle.proc.returncode, handle.proc.pid) == (7, 7, handle.pid)
        assert handle.reap() == ExitStatus(code=7)

    def test_waiting_in_another_thread_ends_with_the_program(self, run):
        """Also when the handle is closed during the wait."""
        handle = run(*BLOCKED)
        codes = []
        waiter = threading.Thread(target=lambda: codes.append(handle.proc.wait()))
        waiter.start()
        handle.signal(signal.SIGKILL)
        _ended(handle)
        handle.reap()
        handle.close()
        waiter.join(DEADLINE)

        assert codes == [-signal.SIGKILL]

    def test_terminate_and_kill_reach_the_program(self, run):
        """Popen's other verbs work."""
        handle = run("sleep", "600")
        handle.proc.terminate()

        assert handle.proc.wait(DEADLINE) == -signal.SIGTERM
        handle.proc.kill()

    def test_communicate_and_with_work(self, run):
        """Methods that wait inside Popen wait through the handle."""
        handle = run("sh", "-c", "exit 7")
        with handle.proc as proc:
            assert proc.communicate(timeout=DEADLINE) == (None, None)
        assert handle.proc.returncode == 7

    def test_dropping_it_neither_warns_nor_reaps(self, run):
        """No ResourceWarning, and no entry in subprocess' list of children to be reaped later."""
        handle = run("sh", "-c", "exit 7")
        handle._proc = None
        gc.collect()

        assert subprocess._active == []
        assert exits.is_readable(handle.exit_fd, DEADLINE)
        assert os.waitid(os.P_PID, handle.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        handle._proc = command.Program.__new__(command.Program)
        assert handle.reap() == ExitStatus(code=7)


class TestSubprocessHandler:
    """torch's handler, without a job."""

    def test_a_program_runs_with_merged_environment_and_paths_as_strings(self, out, monkeypatch):
        """The environment is merged with ours, arguments become strings, an empty path is our stream."""
        monkeypatch.setenv("OURS", "1")
        monkeypatch.setenv("RANK", "old")
        handler = get_subprocess_handler(
            "sh", ("-c", 'echo $OURS $RANK "$@"', "sh", 2, 3.5), {"RANK": "7"}, str(out), "", 7
        )

        assert isinstance(handler, SubprocessHandler)
        assert (handler.proc.wait(DEADLINE), handler.local_rank_id) == (0, 7)
        assert out.read_text() == "1 7 2 3.5\n"

    @pytest.mark.parametrize(("death_sig", "expected"), [(None, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
    def test_close_signals_the_group(self, death_sig, expected, out, pid_gone, wait_until):
        """SIGTERM by default, to helpers as well; it may be closed again after the end."""
        source = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
        handler = get_subprocess_handler(
            sys.executable, ("-c", "import signal; signal.signal(2, signal.SIG_DFL); " + source), {}, str(out), None, 0
        )
        helper = int(wait_until(lambda: out.read_text().strip()))
        handler.close(death_sig)

        assert handler.proc.wait(DEADLINE) == -expected
        assert pid_gone(helper)
        handler.close()

    def test_poll_reaps_and_closes(self, wait_until):
        """There is no supervisor: poll and wait leave no zombie and no descriptor."""
        before = set(os.listdir("/proc/self/fd"))
        handler = get_subprocess_handler("sh", ("-c", "exit 7"), {}, None, None, 0)
        wait_until(lambda: handler.proc.poll() is not None)

        assert handler.proc.returncode == 7
        with pytest.raises(ChildProcessError):
            os.waitid(os.P_PID, handler.proc.pid, os.WEXITED | os.WNOHANG)
        assert set(os.listdir("/proc/self/fd")) == before

    def test_dropped_after_the_end_it_leaves_no_zombie(self):
        """Even if the result was never requested."""
        handler = get_subprocess_handler("true", (), {}, None, None, 0)
        pid = handler.proc.pid
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        del handler
        gc.collect()

        with pytest.raises(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def test_log_files_are_read_by_this_user_only(run, out):
    """Whatever the umask allows."""
    old = os.umask(0)
    try:
        assert _ended(run("true")).ok
    finally:
        os.umask(old)

    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_ending_the_starting_thread_has_no_effect(run):
    """A rank belongs to the process, not to the thread that started it."""
    handles = []
    thread = threading.Thread(target=lambda: handles.append(run(*BLOCKED)))
    thread.start()
    thread.join()

    assert not exits.is_readable(handles[0].exit_fd, 0.1)
    assert handles[0].peek() is None


def test_many_threads_start_programs_at_the_same_time(use_pidfd, tmp_path):
    """Streams, exits and descriptors do not mix."""
    results = {}

    def start(rank):
        path = tmp_path / f"{rank}.out"
        spec = RankSpec(rank, Command(("sh", "-c", f"echo {rank}; exit {rank}")), PATH, Streams(path))
        handle = start_command(spec, use_pidfd=use_pidfd)
        code = handle.proc.wait(DEADLINE)
        handle.reap()
        handle.close()
        results[rank] = (code, path.read_text())

    threads = [threading.Thread(target=start, args=(rank,)) for rank in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == {rank: (rank, f"{rank}\n") for rank in range(16)}


def test_a_forked_copy_of_the_launcher_closes_nothing_that_is_not_its_own(run_python):
    """In a forked child the numbers of our descriptors may be reused: dropping a handle there closes none."""
    source = program_text("spawn/forked_handle")

    assert run_python(source).stdout.splitlines() == ["0", str(ExitStatus(signal=signal.SIGKILL))]
