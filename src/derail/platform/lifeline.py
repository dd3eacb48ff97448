"""Protection against ranks that outlive a SIGKILLed launcher: a keeper process at the other end of a pipe ends them.

PR_SET_PDEATHSIG cannot do it: it follows the thread that started the rank, not the process, and setting it for a
program needs code between fork and exec. The end of a pipe is noticed at once, whatever ended the launcher.

The reasons are in docs/adr/keeper-instead-of-pdeathsig.md.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK
from derail.model.spec import JOB_ENV
from derail.platform import exits
from derail.platform.groups import signal_process

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

SHELL = "/bin/sh"
KEEPER_ENV = "DERAIL_KEEPER"
"""Environment variable with the mark of the keeper's job."""
_HARMLESS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT})

# The protocol of both keepers. Lines: "+123" a rank with pid and process group 123, "-123" no longer, "q" end quietly.
# They wait for stdin only. The lines about ranks are in a second pipe, its stdout, which they read when stdin has
# ended: so no rank's start wakes them. Lines about ranks in stdin are later ones, for which that pipe was full.
# The end of stdin without "q": SIGKILL each rank and its group, then every process with the job's mark in its
# environment; again after a pause, since a rank may have been between fork and exec, without its mark. Helpers that
# clean up behind others (platform/leftovers.py) are spared for 15 s: on a busy machine they may still be starting. A
# group with one is ended member by member. A member in the middle of its exec has no command line, and is read again.
# A line with anything but a number above 1 is ignored: "kill -9 -1" would end every process there is.
# The keeper itself has no mark, so that it neither finds itself nor is found. Marks are no secret between processes of
# one user, but another user must not get one, and mark a foreign process as one of the job. So the keeper gets it by
# its environment, and passes it to grep by a pipe, because every user can read a command line.
_SHELL_KEEPER = """
ranks=' ' later=
note() {
  case $1 in
    +*[!0-9]* | + | +0* | +1) ;;
    +*) ranks="$ranks${1#+} " ;;
    -*) p=${1#-}; case $ranks in *" $p "*) ranks="${ranks%%" $p "*} ${ranks#*" $p "}" ;; esac ;;
  esac
}
while IFS= read -r line; do
  case $line in
    q) exit 0 ;;
    [+-]*[!0-9]*) ;;
    *) later="$later $line" ;;
  esac
done
while IFS= read -r line; do note "$line"; done <&1
for line in $later; do note "$line"; done
marked() { [ -z "$DERAIL_KEEPER" ] || printf '%s\\n' "^$1=([A-Za-z0-9_-]+:)*$DERAIL_KEEPER(:|\\$)" |
  grep -lszE -f - /proc/[0-9]*/environ; }
is_spared() { case $spared in *" $1 "*) return 0 ;; esac; return 1; }
spare() {
  for f in $(grep -lszE "$helpers" "$@"); do f=${f#/proc/}; spared="$spared${f%/cmdline} "; done
}
wait_for_words() {
  n=0
  while [ $n -lt 50 ] && grep -qsE '\\) [^XZ] ' "$1/stat" && ! grep -qs . "$1/cmdline"; do
    n=$((n + 1)); sleep 0.01 || sleep 1
  done
}
end_group() {
  members= served= words=
  for f in $(grep -lsE "\\) [^XZ] [0-9]+ $1 " /proc/[0-9]*/stat); do
    f=${f%/stat}; members="$members ${f#/proc/}"; words="$words $f/cmdline"
  done
  kill -9 "$1"
  if [ "$2" ] && [ "$words" ]; then
    for f in $(grep -Ls . $words); do wait_for_words "${f%/cmdline}"; done
    spare $words
  fi
  for m in $members; do ! is_spared "$m" || served=1; done
  [ "$served" ] || kill -9 "-$1"
  [ -z "$served" ] || for m in $members; do is_spared "$m" || kill -9 "$m"; done
}
end_all() {
  spared=' '
  for p in $ranks; do end_group "$p" "$2"; done
  [ -d /proc/self ] || return 0
  found=$(marked "$1") words=
  for f in $found; do words="$words ${f%environ}cmdline"; done
  [ -z "$2" ] || [ -z "$words" ] || spare $words
  for f in $found; do p=${f#/proc/}; p=${p%/environ}; is_spared "$p" || kill -9 "$p"; done
}
helpers='^from [A-Za-z0-9_.]*(resource_tracker|semaphore_tracker|forkserver) import main|(^|/)torch_shm_manager$'
end_all "$1" spare
ranks=
for pause in 0.05 0.2; do sleep "$pause" || sleep 1; end_all "$1" spare; done
for pause in 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1; do [ "$(marked "$1")" ] || exit 0; sleep "$pause"; end_all "$1" spare; done
end_all "$1" ''
"""

_PYTHON_KEEPER = """
import os, re, signal, sys, time
ranks, later = set(), []
for line in iter(sys.stdin.readline, ""):
    if line.strip() == "q":
        os._exit(0)
    later.append(line)
for line in [*open(1, closefd=False), *later]:
    line = line.strip()
    if line[1:].isdigit() and int(line[1:]) > 1:
        (ranks.add if line[0] == "+" else ranks.discard)(int(line[1:]))
job, name = os.environb.get(b"DERAIL_KEEPER", b""), sys.argv[1].encode() + b"="
helpers = re.compile(
    rb"(^|\\0)from [A-Za-z0-9_.]*(resource_tracker|semaphore_tracker|forkserver) import main|(^|/)torch_shm_manager\\0"
)
def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
def read(pid, what):
    try:
        with open("/proc/%s/%s" % (pid, what), "rb") as file:
            return file.read()
    except OSError:
        return b""
def state_and_group(pid):
    fields = read(pid, "stat").rpartition(b")")[2].split()
    return (fields[0], fields[2]) if len(fields) > 2 else (b"X", b"")
def is_spared(pid):
    words = read(pid, "cmdline")
    for _ in range(50):
        if words or state_and_group(pid)[0] in (b"X", b"Z"):
            break
        time.sleep(0.01)
        words = read(pid, "cmdline")
    return helpers.search(words)
for number, pause in enumerate((0.05, 0.2, *[1] * 15, 0)):
    there = [int(pid) for pid in os.listdir("/proc") if pid.isdigit()] if os.path.isdir("/proc/self") else []
    for pid in ranks:
        members = [each for each in there if state_and_group(each)[1] == b"%d" % pid]
        kill(pid)
        served = any(map(is_spared, members))
        for each in [each for each in members if not is_spared(each)] if served else [-pid]:
            kill(each)
    ranks, rest = set(), 0
    for pid in there if job else ():
        words = read(pid, "environ").split(b"\\0")
        if any(job in word[len(name):].split(b":") for word in words if word.startswith(name)):
            rest += 1
            if pause == 0 or not is_spared(pid):
                kill(pid)
    if number > 1 and not rest:
        break
    time.sleep(pause)
"""


class Lifeline:
    """The keeper of one job, which ends its ranks when this process is gone.

    Owned by one job; ``start`` may be called in any thread. ``stop`` leaves no child and no descriptor.
    """

    def __init__(self, job_id: str) -> None:
        """Store the job; nothing exists before ``start``.

        Raises:
            ValueError: if ``job_id`` has other characters than letters, digits, ``_`` and ``-``.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]+", job_id):
            raise ValueError(f"job id {job_id!r} must be of letters, digits, '_' and '-' only")
        self._job_id = job_id
        self._lock = threading.Lock()
        self._read_end = self._write_end = -1
        self._list_read_end = self._list_write_end = -1
        self._list_is_full = False
        self._keeper: subprocess.Popen[bytes] | None = None
        self._exit_fd: exits.ExitFd | None = None
        self._forks = threading.local()

    @property
    def fd(self) -> int:
        """The write end of the pipe that the keeper watches, not inheritable; -1 when there is none."""
        return self._write_end

    @property
    def pid(self) -> int | None:
        """The keeper's process; None when there is none."""
        return None if self._keeper is None else self._keeper.pid

    @property
    def exit_fd(self) -> exits.ExitFd | None:
        """Descriptor that is readable once the keeper has ended, which it should not by itself; None without one."""
        return self._exit_fd

    def start(self) -> None:
        """Start the keeper.

        Raises:
            OSError: if there is no descriptor or process left; nothing is left behind then.
        """
        import subprocess

        if self._keeper is not None:
            raise RuntimeError(f"the lifeline of job {self._job_id} was started already")
        self._read_end, self._write_end = os.pipe()
        _open_lifelines.add(self)
        try:
            self._list_read_end, self._list_write_end = os.pipe()
            # Never EPIPE, and no SIGPIPE in a host that does not ignore it: both ends stay open here.
            os.set_blocking(self._write_end, False)
            os.set_blocking(self._list_write_end, False)
            with _blocked_signals():
                self._keeper = subprocess.Popen(
                    self._command(),
                    stdin=self._read_end,
                    stdout=self._list_read_end,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": os.environ.get("PATH") or os.defpath, KEEPER_ENV: self._job_id},
                    cwd="/",
                    start_new_session=True,
                )
            self._exit_fd = exits.open_exit_fd(self._keeper.pid)
        except BaseException:
            self._end_keeper(0.0)
            self._close()
            raise

    def register(self, pid: int) -> bool:
        """Have the keeper end rank ``pid`` and its group if this process dies; return False without a keeper.

        Never blocks, never raises. A pid that kill(2) takes for more than one group is not registered.
        """
        return pid > 1 and self._list(b"+%d\n" % pid)

    def unregister(self, pid: int) -> bool:
        """Inform the keeper that ``pid`` was reaped and may be reused from now on. As ``register``."""
        return self._list(b"-%d\n" % pid)

    def alive(self) -> bool:
        """Return whether the keeper runs."""
        exit_fd = self._exit_fd
        return exit_fd is not None and not exit_fd.closed and not exits.is_readable(exit_fd.fileno())

    def let_go(self) -> None:
        """Ask the keeper to end, without waiting: all processes that it kept have ended. ``stop`` is still needed."""
        self._send(b"q\n")

    def stop(self, deadline: float | None = None) -> None:
        """End the keeper peacefully, and by SIGKILL if it has not ended at ``deadline`` (monotonic; None: in 2 s).

        Idempotent. No rank is affected.
        """
        now = SYSTEM_CLOCK.now()
        self.let_go()
        self._end_keeper((now + 2.0 if deadline is None else deadline) - now)
        self._close()

    def forget_in_child(self) -> None:
        """Close this end in a forked child, without ending anything; ``os.fork`` calls it automatically."""
        self._keeper_is_not_ours()
        self._close()

    @contextmanager
    def adopts_forks(self) -> Iterator[None]:
        """Make every fork of this thread register itself first while the body runs.

        A forked rank has no mark to be found by, if the launcher dies before it can register it.
        """
        self._forks.adopt = True
        try:
            yield
        finally:
            self._forks.adopt = False

    def _command(self) -> list[str]:
        if os.access(SHELL, os.X_OK):
            return [SHELL, "-c", _SHELL_KEEPER, "derail-lifeline", JOB_ENV]
        return [sys.executable, "-I", "-S", "-c", _PYTHON_KEEPER, JOB_ENV]

    def _list(self, line: bytes) -> bool:
        """Write a line that the keeper reads only after the launcher's end."""
        with self._lock:
            if not self.alive():
                return False
            self._list_is_full = self._list_is_full or not _written(self._list_write_end, line)
            return not self._list_is_full or _written(self._write_end, line)

    def _send(self, line: bytes) -> bool:
        with self._lock:
            return self.alive() and _written(self._write_end, line)

    def _end_keeper(self, seconds: float) -> None:
        keeper, exit_fd = self._keeper, self._exit_fd
        if keeper is None:
            return
        if exit_fd is None or not exits.wait_readable(exit_fd, max(0.0, seconds)):
            signal_process(keeper.pid, None if exit_fd is None else exit_fd.pidfd, signal.SIGKILL)
            # A killed shell is gone at once; the limit is for a thrashing machine.
            if exit_fd is not None:
                exits.wait_readable(exit_fd, 5.0)
        if exit_fd is None:
            os.waitid(os.P_PID, keeper.pid, os.WEXITED)
        else:
            exits.reap(keeper.pid, exit_fd)
            exit_fd.close()
        self._keeper_is_not_ours()

    def _keeper_is_not_ours(self) -> None:
        if self._keeper is not None:
            # Popen warns about a process of unknown status, and would wait for it.
            self._keeper.returncode = 0
        if self._exit_fd is not None:
            self._exit_fd.close()
        self._keeper = self._exit_fd = None

    def _close(self) -> None:
        with self._lock:
            # The list's end first: the keeper reads it when the other has ended.
            ends = (self._list_write_end, self._list_read_end, self._read_end, self._write_end)
            self._list_write_end = self._list_read_end = self._read_end = self._write_end = -1
            _open_lifelines.discard(self)
        for end in ends:
            if end >= 0:
                os.close(end)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it
        if getattr(self._forks, "adopt", False):
            line = b"+%d\n" % os.getpid()
            _ = _written(self._list_write_end, line) or _written(self._write_end, line)
        self.forget_in_child()


def _written(fd: int, line: bytes) -> bool:
    """Write a line to a pipe, atomically because it is shorter than PIPE_BUF; return False if the pipe is full."""
    try:
        return os.write(fd, line) == len(line)
    except OSError:
        return False


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block the usual ending signals, which the keeper inherits: they never reach it, from its first instruction on.

    A trap would leave a window before it is set.
    """
    old = signal.pthread_sigmask(signal.SIG_BLOCK, _HARMLESS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


_open_lifelines: set[Lifeline] = set()


def _forget_all_in_child() -> None:
    """Close the write ends in a child: with a copy of one, the keeper would never notice its end."""
    for lifeline in list(_open_lifelines):
        lifeline._after_fork_in_child()  # noqa: SLF001 - the other half of this module


os.register_at_fork(after_in_child=_forget_all_in_child)
