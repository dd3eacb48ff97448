"""A correct launcher, or one with a bug: ``steady.py [--bug BUG] -n N [-r RESTARTS] [-g GRACE] [-l LOGS] PROGRAM ...``.

Without a bug it keeps every promise that a scenario of one node asks for. A bug is a place where ``BUG`` is compared.
BUGS says what each changes.
"""

import argparse
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

BUGS = {
    "blames_last": "the last rank that failed is the root cause",
    "rank_order": "of ranks that ended since the last look the lowest number ended first",
    "blames_nobody": "it names no root cause",
    "stopped_failed": "ranks that it stopped are failures",
    "grace_each": "each rank has a grace period of its own, one after the other",
    "slow_look": "it looks every five seconds",
    "no_grace": "SIGKILL at once",
    "no_kill": "it never sends SIGKILL",
    "no_stop": "it does not stop the others",
    "no_cont": "stopped ranks are not continued, nor killed",
    "leader_only": "only the rank gets a signal, not its group, and helpers are not swept",
    "no_sweep": "adopted helpers are not ended",
    "code_1": "it exits with 1 for every failure",
    "signal_is_fine": "an end by a signal is a success",
    "zero_on_failure": "it exits with 0",
    "tells_code_1": "it reports exit 1 for every rank that failed",
    "no_message": "it reports no message",
    "first_line": "the message is the first line of stderr",
    "breaks_on_bad_file": "an error file that is no JSON breaks it",
    "believes_stale": "an error file of an earlier attempt counts",
    "opens_fifo": "it reads an error file that is a FIFO, and waits for a writer",
    "never_restarts": "it does not restart",
    "one_restart_more": "it restarts once more than it may",
    "restarts_success": "it restarts a job that succeeded",
    "old_port": "a restarted rank gets the port of the first attempt",
    "old_port_for_some": "restarted ranks but the first get the port of the first attempt",
    "fewer_after_restart": "WORLD_SIZE counts those that ended well or were stopped, after a restart",
    "keeps_helpers": "helpers are swept after the last attempt only",
    "one_rank_less": "it starts one rank less",
    "rank_0_decides": "only a failure of rank 0 counts",
    "lost_is_zero": "a rank whose status was taken by another wait has ended well",
    "ignores_term": "it ignores SIGTERM",
    "exits_before_ranks": "asked to end, it exits at once",
    "console_kills": "a broken console ends it with its ranks left alone",
    "no_forward": "it dies of SIGUSR1",
    "orphans": "ranks outlive it when it is killed",
    "no_files": "output goes nowhere",
    "pipe_deadlock": "it reads the ranks' pipes when they have ended",
}
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)
LIBC = ctypes.CDLL(None, use_errno=True)
MILLION = 1 << 20
CONSOLE = {"whole": True}
"""Whether what ranks have written to the console ends with a whole line."""

parser = argparse.ArgumentParser()
parser.add_argument("--bug", choices=BUGS, default="")
parser.add_argument("-n", type=int, required=True)
parser.add_argument("-r", type=int, default=0)
parser.add_argument("-g", type=float, default=5.0)
parser.add_argument("-l", default="")
parser.add_argument("program", nargs=argparse.REMAINDER)
OPTIONS = parser.parse_args(None if __name__ == "__main__" else ["-n", "1"])  # imported, it has bugs to list
BUG = OPTIONS.bug


class Rank:
    """One process of a rank."""

    def __init__(self, number, attempt, port, size):
        directory = os.path.join(OPTIONS.l or f"/tmp/steady-{os.getpid()}", str(number))
        os.makedirs(directory, exist_ok=True)
        self.number, self.status, self.stopped, self.seen = number, None, False, 0.0
        name = "error" if BUG == "believes_stale" else f"error-{attempt}"
        self.error_file = os.path.join(directory, f"{name}.json")
        self.began = time.time_ns()
        env = {
            **os.environ,
            **{name: str(number) for name in ("RANK", "LOCAL_RANK")},
            **{name: str(size) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")},
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "PYTHONUNBUFFERED": "1",
            "TORCHELASTIC_RESTART_COUNT": str(attempt),
            "TORCHELASTIC_ERROR_FILE": self.error_file,
        }
        self.logs = [os.path.join(directory, f"{stream}.log") for stream in ("stdout", "stderr")]
        streams = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for path in self.logs]
        self.shown = [os.stat(path).st_size for path in self.logs]
        self.pipe = None
        if BUG == "no_files":
            os.dup2(os.open(os.devnull, os.O_WRONLY), streams[0])
        if BUG == "pipe_deadlock":
            self.pipe, write = os.pipe()
            os.dup2(write, streams[0])
            os.close(write)
        launcher = os.getpid()

        def before():
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            if BUG not in ("orphans", "exits_before_ranks"):
                LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
                if os.getppid() != launcher:
                    os._exit(1)

        self.process = subprocess.Popen(
            [*([sys.executable, "-u"] if OPTIONS.program[0].endswith(".py") else []), *OPTIONS.program],
            env=env, stdin=subprocess.DEVNULL, stdout=streams[0], stderr=streams[1], start_new_session=True,
            preexec_fn=before,
        )  # fmt: skip
        for stream in streams:
            os.close(stream)
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)

    def send(self, number, *, group=True):
        """Signal the rank and its group, which cannot be a stranger's before it is reaped."""
        try:
            if group and BUG != "leader_only":
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def look(self):
        """Take in how it ended."""
        try:
            ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
            self.status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        except ChildProcessError:  # another wait in this process was first: the kernel keeps the status with the pidfd
            self.status = 0 if BUG == "lost_is_zero" else self.ask_kernel()
        self.seen = time.monotonic()

    def ask_kernel(self):
        """PIDFD_GET_INFO, from Linux 6.15 on."""
        info = bytearray(struct.pack("QQ12I", 8, 0, *[0] * 12))
        try:
            fcntl.ioctl(self.pidfd, (3 << 30) | (64 << 16) | (0xFF << 8) | 11, info)
        except OSError:
            return 1
        told, status = struct.unpack_from("Q", info)[0], struct.unpack_from("i", info, 60)[0]
        return 1 if not told & 8 else -(status & 127) if status & 127 else status >> 8 & 255

    @property
    def failed(self):
        """Whether it failed by itself."""
        bad = self.status not in (None, 0) and not (BUG == "signal_is_fine" and self.status < 0)
        return bad and (not self.stopped or BUG == "stopped_failed")

    def message(self):
        """What the rank said of its failure."""
        lines = [line.strip() for line in read_end(self.logs[1]).splitlines() if line.strip()]
        text = lines[0 if BUG == "first_line" else -1] if lines else ""
        try:
            about = os.stat(self.error_file)
            fresh = about.st_mtime_ns >= self.began - 50_000_000 or BUG == "believes_stale"
            regular = (about.st_mode & 0o170000) == 0o100000 or BUG == "opens_fifo"
            if fresh and regular:
                with open(self.error_file, errors="replace") as file:
                    told = json.loads(file.read(16 * MILLION))["message"]
                text = str(told["message"] if isinstance(told, dict) else told)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            if BUG == "breaks_on_bad_file" and os.path.isfile(self.error_file):
                raise
        end = f"exit code {self.status}" if self.status > 0 else signal.Signals(-self.status).name
        return f"{' '.join(text.split())[:2000]} ({end})"


def read_end(path):
    """The end of a file, as text."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - MILLION))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def say(text):
    """Write a line to the console, whatever has become of it."""
    try:
        os.write(2, (b"" if CONSOLE["whole"] else b"\n") + text.encode(errors="replace") + b"\n")
        CONSOLE["whole"] = True
    except OSError:
        if BUG == "console_kills":
            os._exit(1)


def descendants():
    """Return all processes below this one, including adopted ones, since it is the subreaper."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] != b"Z":
            parents[int(name)] = int(fields[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


class Launcher:
    """All attempts of one job."""

    def __init__(self):
        LIBC.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.asked, self.ranks, self.first_port, self.survivors = [], [], None, OPTIONS.n
        self.wakeup, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in ENDING + (() if BUG == "no_forward" else FORWARDED):
            signal.signal(number, lambda *_: None)
        if BUG == "ignores_term":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def run(self):
        """Run attempts until one succeeds or no restart is left; the exit code."""
        restarts = OPTIONS.r + (BUG in ("one_restart_more", "restarts_success")) if BUG != "never_restarts" else 0
        for attempt in range(restarts + 1):
            try:
                self.attempt(attempt)
            except OSError as error:
                self.end()
                self.sweep()
                say(f"steady: a rank could not be started: {error}")
                return 1
            self.sweep(last=attempt == restarts or self.root is None)
            if self.asked or (self.root is None and not (BUG == "restarts_success" and attempt == 0)):
                break
        return self.report()

    def attempt(self, attempt):
        """Start all ranks and wait until all have ended."""
        self.ranks, self.root, self.deadline, self.killed, self.last = [], None, None, False, time.monotonic()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.first_port = self.first_port or port
        poller = select.epoll()
        poller.register(self.wakeup, select.EPOLLIN)
        by_fd = {}
        for number in range(OPTIONS.n - (BUG == "one_rank_less")):
            old = BUG == "old_port" or (BUG == "old_port_for_some" and number)
            size = self.survivors if BUG == "fewer_after_restart" else OPTIONS.n
            rank = Rank(number, attempt, self.first_port if old else port, size)
            self.ranks.append(rank)
            by_fd[rank.pidfd] = rank
            poller.register(rank.pidfd, select.EPOLLIN)
        while any(rank.status is None for rank in self.ranks):
            ready = [fd for fd, _ in poller.poll(self.patience())]
            self.hear()
            ended = [fd for fd in ready if fd in by_fd]  # in the order in which they ended
            if BUG == "slow_look" and ended and time.monotonic() < self.last + 5:
                time.sleep(0.01)
                continue
            for fd in sorted(ended) if BUG == "rank_order" else ended:
                poller.unregister(fd)
                self.ended(by_fd[fd])
            self.show()
            self.go_on()
        poller.close()
        self.survivors = sum(rank.stopped or rank.status == 0 for rank in self.ranks)

    def patience(self):
        """Seconds until the next look."""
        return 0.05 if self.deadline is None else min(0.05, max(0.0, self.deadline - time.monotonic()))

    def ended(self, rank):
        """One more rank has ended."""
        asked_to = rank.stopped
        rank.look()
        # A rank that was asked to end has not failed by itself, but by a signal that this launcher did not send.
        rank.stopped = asked_to and (rank.status >= 0 or -rank.status in (signal.SIGTERM, signal.SIGKILL))
        counts = rank.number == 0 or BUG != "rank_0_decides"
        if rank.failed and counts and (self.root is None or BUG == "blames_last"):
            self.root = rank

    def hear(self):
        """Take in the signals that came: those to end, and those to hand on."""
        try:
            numbers = os.read(self.wakeup, 4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number in ENDING:
                self.asked.append(number)
                if BUG == "exits_before_ranks":
                    os._exit(128 + number)
            elif number in FORWARDED:
                for rank in self.ranks:
                    if rank.status is None:
                        rank.send(number, group=False)

    def go_on(self):
        """Begin the teardown, or go on to SIGKILL."""
        if self.deadline is None and (self.asked or self.root is not None) and BUG != "no_stop":
            self.deadline = time.monotonic() + OPTIONS.g
            for rank in self.ranks:
                rank.stopped = rank.status is None
                rank.send(signal.SIGKILL if BUG == "no_grace" else signal.SIGTERM, group=BUG != "keeps_helpers")
                if BUG != "no_cont":
                    rank.send(signal.SIGCONT)
        over = self.deadline is not None and (time.monotonic() >= self.deadline or len(self.asked) > 1)
        if over and not self.killed and BUG not in ("no_kill", "no_cont"):
            if BUG == "grace_each":
                living = next((rank for rank in self.ranks if rank.status is None), None)
                if living is not None:
                    living.send(signal.SIGKILL)
                self.deadline = time.monotonic() + OPTIONS.g
                return
            self.end()

    def end(self):
        """SIGKILL to all."""
        self.killed = True
        for rank in self.ranks:
            rank.stopped = rank.stopped or rank.status is None
            rank.send(signal.SIGKILL)

    def show(self):
        """Copy what ranks have written to the console; only the console misses what cannot be read."""
        for rank in self.ranks:
            for stream, path in enumerate(rank.logs):
                try:
                    with open(path, "rb") as file:
                        file.seek(rank.shown[stream])
                        data = file.read(MILLION)
                except OSError:
                    continue
                rank.shown[stream] += len(data)
                if data:
                    self.write(stream + 1, data)

    def write(self, fd, data):
        """Write to the console, if it takes anything."""
        try:
            os.set_blocking(fd, False)
            os.write(fd, data)
            CONSOLE["whole"] = data.endswith(b"\n")
        except OSError:
            if BUG == "console_kills":
                os._exit(1)

    def sweep(self, *, last=True):
        """End what ranks have left behind, and only then reap them."""
        for rank in self.ranks:
            if BUG != "leader_only" and (last or BUG != "keeps_helpers"):
                rank.send(signal.SIGKILL)
        until = time.monotonic() + 5
        while time.monotonic() < until and BUG not in ("no_sweep", "leader_only") and (last or BUG != "keeps_helpers"):
            left = descendants()
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)
                except (ProcessLookupError, PermissionError, ChildProcessError):
                    pass
            if not left:
                break
            time.sleep(0.005)
        self.show()
        for rank in self.ranks:
            if rank.pipe is not None and rank.status is not None:
                with open(rank.pipe, "rb") as pipe, open(rank.logs[0], "ab") as file:
                    file.write(pipe.read())
            try:
                os.waitpid(rank.pid, os.WNOHANG)
            except ChildProcessError:
                pass
            rank.process.returncode = rank.status or 0
            os.close(rank.pidfd)

    def report(self):
        """Say what became of the ranks; the exit code."""
        failed = sorted((rank for rank in self.ranks if rank.failed), key=lambda rank: rank is not self.root)
        failed = [] if self.root is None else failed
        for rank in failed if not self.asked else ():
            end = f"exit {rank.status}" if rank.status > 0 else f"signal {signal.Signals(-rank.status).name}"
            end = "exit 1" if BUG == "tells_code_1" else end
            say(f"rank {rank.number}: {end}: {'it failed' if BUG == 'no_message' else rank.message()}")
        if failed and not self.asked:
            say(f"root cause: rank {'none' if BUG == 'blames_nobody' else self.root.number}")
        if self.asked:
            return 128 + self.asked[0]
        if not failed or BUG == "zero_on_failure":
            return 0
        return 1 if BUG == "code_1" else self.root.status if self.root.status > 0 else 128 - self.root.status


if __name__ == "__main__":
    for standard in (0, 1, 2):  # a file that is opened later must not get the number of a stream that is closed
        try:
            os.fstat(standard)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL if BUG == "console_kills" else signal.SIG_IGN)
    sys.exit(Launcher().run())
