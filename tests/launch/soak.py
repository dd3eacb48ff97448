"""Random broken jobs against an independent oracle: the root cause, the exit status of each rank, and the leftovers.

    PYTHONPATH=tests python -m launch.soak --jobs 10000 --seed 1

Ranks do nothing by themselves: each reads orders from a FIFO, and answers when it has carried one out. So the oracle
has the order in which errors were recorded and ranks ended: it gives the next order after the effect of the last one.
It does not depend on derail's way to determine that order.

Each job has a seed, ``SEED:NUMBER``; ``--only`` runs that one again. Modes: ``plain``; ``pidns``, in a separate PID
namespace; ``bare``, without pidfd, inotify, memfd and /proc, where derail may answer that the order is not known.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from derail import DefaultLogsSpecs, Std, start_processes
from derail.errors.recorder import ErrorHandler
from derail.model.clock import SYSTEM_CLOCK
from derail.model.spec import Teardown
from launch.writers import FOR_ANY_RANK, WAYS

DEADLINE = 120.0  # seconds that a step may take on a busy machine, before the soak gives up on it
MODES = ("plain", "pidns", "bare")
BARE = {"DERAIL_NO_PIDFD": "1", "DERAIL_NO_INOTIFY": "1", "DERAIL_NO_MEMFD": "1"}
KILLS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGUSR1)

# Carries out one order per line. `mv` shows an error file whole, `cat` as torch's writer does it.
SHELL_RANK = """
exec 3<"$DIR/$RANK.orders" 4>"$DIR/acks"
while read -r order word <&3; do
  case $order in
    exit) exec 4>&-; exit "$word" ;;
    kill) kill -"$word" $$ ;;
    moved) mv "$DIR/$word" "$TORCHELASTIC_ERROR_FILE" ;;
    written) cat "$DIR/$word" > "$TORCHELASTIC_ERROR_FILE" ;;
    lines) i=0; while [ $i -lt "$word" ]; do echo "rank $RANK line $i of $word"; i=$((i+1)); done ;;
    group) sleep 600 >/dev/null 2>&1 3<&- 4>&- & echo "helper $!" >&4; continue ;;
    session) setsid sleep 600 >/dev/null 2>&1 3<&- 4>&- & echo "helper $!" >&4; continue ;;
    daemon) (setsid sleep 600 >/dev/null 2>&1 3<&- 4>&- & echo "helper $!" >&4); continue ;;
  esac
  echo "done $RANK" >&4
done
"""


def function_rank() -> None:
    """Do the same in Python, for ranks that are functions."""
    directory, rank = os.environ["DIR"], os.environ["RANK"]
    acks = os.open(f"{directory}/acks", os.O_WRONLY | os.O_CLOEXEC)
    with open(f"{directory}/{rank}.orders") as orders:
        while True:
            order, _, word = orders.readline().strip().partition(" ")
            answer = f"done {rank}\n"
            if order == "exit":
                os._exit(int(word))
            elif order == "kill":
                os.kill(os.getpid(), int(word))
            elif order == "raise":
                raise ValueError(word)
            elif order == "record":
                ErrorHandler().record_exception(ValueError(word))
            elif order == "way":
                os.environ["MESSAGE"] = f"r{rank}"
                WAYS[word](Path(os.environ["TORCHELASTIC_ERROR_FILE"]))
            elif order == "moved":
                os.rename(f"{directory}/{word}", os.environ["TORCHELASTIC_ERROR_FILE"])
            elif order == "written":
                shutil.copyfile(f"{directory}/{word}", os.environ["TORCHELASTIC_ERROR_FILE"])
            elif order == "lines":
                for i in range(int(word)):
                    os.write(1, f"rank {rank} line {i} of {word}\n".encode())
            elif order in ("group", "session", "daemon"):
                helper = subprocess.Popen(
                    ["sleep", "600"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=order != "group",
                )
                helper.returncode = 0  # no code here waits for it
                answer = f"helper {helper.pid}\n"
            os.write(acks, answer.encode())


class Wrong(AssertionError):
    """A difference between the result and the oracle's truth."""


@dataclass
class Truth:
    """The oracle's truth about one rank.

    Attributes:
        end: "stopped", or how it ended by itself: the returncode of subprocess.
        evidence: place of the earliest evidence that it failed by itself, in the order of all steps; None if it did
            not fail.
    """

    end: int | str = "stopped"
    recorded: int | None = None
    ended: int | None = None
    lines: int = 0

    @property
    def evidence(self):
        """A record that was not survived, else an exit; a function that exits with 0 has not returned: it failed."""
        return self.ended if self.recorded is None or self.end == 0 else self.recorded


@dataclass
class Step:
    """One order to one rank, and its effect on the truth."""

    rank: int
    order: str
    word: str = ""


@dataclass
class Plan:
    """One job: ranks, their start methods, and the steps."""

    seed: str
    method: str
    ranks: int
    held: bool
    steps: list[Step]
    grace: float
    sweep: str
    tee: bool
    stop: str = ""
    fate: dict[int, str] = field(default_factory=dict)


def plan_of(seed: str, mode: str) -> Plan:
    """Draw a random job."""
    draw = random.Random(seed)
    method = draw.choices(["program", "warm", "fork", "forkserver", "spawn"], [60, 25, 12, 1.5, 1.5])[0]
    ranks = draw.choice([1, 2, 2, 3, 3, 4])
    plan = Plan(
        seed=seed,
        method=method,
        ranks=ranks,
        held=draw.random() < 0.6,
        steps=[],
        grace=draw.choice([0.4, 2.0, 30.0]),
        sweep=draw.choice(["group", "all"]),
        tee=draw.random() < 0.3,
    )
    scripts: list[list[Step]] = []
    for rank in range(ranks):
        script: list[Step] = []
        if draw.random() < 0.3:
            script.append(Step(rank, "lines", str(draw.choice([1, 7, 60]))))
        if draw.random() < 0.15:  # without /proc only the group of a rank can be found
            script.append(Step(rank, draw.choice(["group", "session", "daemon"] if mode != "bare" else ["group"])))
        kind = draw.choices(
            ["exit", "kill", "recorded", "raise", "survived", "garbage", "child", "lingers", "stays", "ok"],
            [20, 20, 20, 5, 8, 6, 6, 8, 12, 8],
        )[0]
        if kind == "raise" and method == "program":
            kind = "recorded"
        plan.fate[rank] = kind
        file = draw.choice(["moved", "written"])
        if kind in ("recorded", "lingers", "survived"):
            own = "record" if method != "program" and draw.random() < 0.5 else file
            script.append(Step(rank, own, f"{draw.choice(['own', 'torch'])}.{rank}" if own != "record" else f"r{rank}"))
            if own == "record" and kind != "survived" and not script[:-1]:
                # A rank that moves its directory moves the log of its lines as well.
                ways = [way for way in FOR_ANY_RANK if mode != "bare" or way != "from nowhere"]  # linked through /proc
                script[-1] = draw.choice([script[-1], Step(rank, "way", draw.choice(ways))])
        if kind == "garbage":
            script.append(Step(rank, file, f"garbage.{rank}"))
        if kind == "child":
            script.append(Step(rank, file, f"child.{rank}"))
        if kind == "raise":
            script.append(Step(rank, "raise", f"r{rank}"))
        if kind in ("exit", "recorded", "garbage"):
            script.append(Step(rank, "exit", str(draw.choice([1, 3, 255]))))
        if kind in ("kill", "child"):
            script.append(Step(rank, "kill", str(int(draw.choice(KILLS)))))
        if kind in ("survived", "ok"):
            script.append(Step(rank, "exit", "0"))
        scripts.append(script)
    while any(scripts):
        plan.steps.append(draw.choice([script for script in scripts if script]).pop(0))
    # Without a failing exit, or with ranks that stay, the job is asked to end.
    plan.stop = draw.choice(["close", "stop"])
    return plan


class Job:
    """A running job, and the oracle that gives the orders."""

    wants_lines = False

    def __init__(self, plan: Plan, directory: Path, mode: str) -> None:
        self.plan = plan
        self.directory = directory
        self.mode = mode
        self.truth = {rank: Truth() for rank in range(plan.ranks)}
        self.helpers: dict[int, int] = {}
        self.problem: BaseException | None = None
        self._given = 0
        self._pidfds: dict[int, int] = {}
        self._orders: dict[int, int] = {}
        self._acks = -1
        self._left = b""
        self._exit = ExitStack()

    # ---- the observer: in "held" jobs all orders are given before the launcher looks

    def attach(self, control) -> None:
        self._control = control

    def observe(self, event) -> None:
        if self.plan.held and type(event).__name__ == "PhaseChanged" and event.phase == "running":
            try:
                pids = {rank: self._control.pid(rank) for rank in self._control.ranks}
                self._watch(pids)
                for step in self.plan.steps:
                    self._give(step)
            except BaseException as error:
                self.problem = error

    # ---- the caller

    def start(self) -> None:
        """Start the job."""
        self.directory.mkdir()
        os.mkfifo(self.directory / "acks")
        self._acks = self._open("acks")
        for rank in range(self.plan.ranks):
            os.mkfifo(self.directory / f"{rank}.orders")
            self._orders[rank] = self._open(f"{rank}.orders")
        env = {rank: {"RANK": str(rank), "DIR": str(self.directory)} for rank in self.truth}
        program = self.plan.method == "program"
        beyond = {} if program else {"start_method": self.plan.method}
        if self.plan.method == "warm":
            beyond["preload"] = ["json"]
        self.job = start_processes(
            "soak",
            "/bin/sh" if program else function_rank,
            dict.fromkeys(self.truth, ("-c", SHELL_RANK) if program else ()),
            env,
            DefaultLogsSpecs(
                str(self.directory / "logs"), redirects=Std.ALL, tee=Std.OUT if self.plan.tee else Std.NONE
            ),
            {rank: f"[{self.plan.seed} {rank}] " for rank in self.truth},
            observers=[self],
            teardown=Teardown(grace=self.plan.grace, kill_wait=30.0, sweep=self.plan.sweep),
            **beyond,
        )

    def act(self) -> None:
        """Give the orders, up to the first failing exit where the launcher looks in between."""
        if not self.plan.held:
            self._watch(self.job.pids())
            for step in self.plan.steps:
                self._give(step)
                if self._someone_failed():
                    break

    def finish(self) -> Counter:
        """Wait for the end, and compare the result with the truth.

        Raises:
            Wrong: if it differs.
        """
        ended = all(truth.ended is not None for truth in self.truth.values())
        if not self._someone_failed() and not ended:
            if self.plan.stop == "close":
                self.job.close()
            else:
                self.job.stop("asked by the oracle", grace=self.plan.grace)
        result = self.job.wait(DEADLINE)
        if self.problem is not None:
            raise self.problem
        if result is None:
            raise Wrong("the job does not end")
        told = self._judge(result)
        self._no_survivors(result)
        self._lines()
        return told

    def close(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "job"):
            self.job.close(timeout=0)
        for pid, fd in self.helpers.items():
            with suppress(OSError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            _wait(pid, os.WEXITED | os.WNOHANG)
        self._exit.close()

    def _someone_failed(self) -> bool:
        return any(
            truth.ended is not None and (truth.end != 0 or self.plan.method != "program")
            for truth in self.truth.values()
        )

    def _watch(self, pids: dict[int, int]) -> None:
        for rank, pid in pids.items():
            self._pids = pids
            self._pidfds[rank] = self._own(os.pidfd_open(pid))

    def _give(self, step: Step) -> None:
        """Have a rank carry out an order, and return when the kernel shows the effect."""
        truth = self.truth[step.rank]
        self._given += 1
        if step.order in ("moved", "written"):
            self._write_error_file(step.word, self._pids[step.rank])
        os.write(self._orders[step.rank], f"{step.order} {step.word}\n".encode())
        if step.order in ("exit", "kill", "raise"):
            if not _readable(self._pidfds[step.rank], DEADLINE):
                raise Wrong(f"rank {step.rank} does not end")
            truth.ended = self._given
            truth.end = {"exit": 1, "kill": -1, "raise": 0}[step.order] * int(step.word if step.order != "raise" else 0)
            if step.order == "raise":
                truth.end, truth.recorded = 1, self._given
            return
        answer = self._answer()
        if step.order in ("moved", "written", "record", "way") and not step.word.startswith(("garbage", "child")):
            truth.recorded = self._given
        if step.order == "lines":
            truth.lines = int(step.word)
        if step.order in ("group", "session", "daemon"):
            pid = int(answer.split()[1])
            self.helpers[pid] = self._own(os.pidfd_open(pid))

    def _write_error_file(self, name: str, pid: int) -> None:
        kind, _, rank = name.partition(".")
        extra = {"py_callstack": f"r{rank}", "timestamp": str(int(SYSTEM_CLOCK.wall()) - 1000 * int(rank))}
        if kind == "own":
            extra["pid"] = pid
        if kind == "child":
            extra["pid"] = pid + 1
        text = json.dumps({"message": {"message": f"r{rank}", "extraInfo": extra}})
        (self.directory / name).write_text(text[:20] if kind == "garbage" else text)

    def _answer(self) -> str:
        while b"\n" not in self._left:
            if not _readable(self._acks, DEADLINE):
                raise Wrong("a rank does not answer")
            self._left += os.read(self._acks, 4096)
        line, _, self._left = self._left.partition(b"\n")
        return line.decode()

    # ---- the verdict

    def _judge(self, result) -> Counter:
        told = Counter()
        program = self.plan.method == "program"
        failed = {}
        for rank, truth in self.truth.items():
            own = truth.evidence
            if truth.ended is not None and truth.end == 0:
                own = None if program else truth.ended
            if own is not None:
                failed[rank] = own
        fates = result.ranks
        self._same("failures", sorted(result.failures), sorted(failed))
        root = min(failed, key=failed.__getitem__, default=None)
        if result.root_cause != root:
            if root not in result.root_cause_rivals:
                raise Wrong(f"root cause {result.root_cause} instead of {root}")
            told["uncertain, and another was named"] += 1
        elif result.root_cause_rivals:
            told["uncertain, and right"] += 1
        stopped = [r for r, t in self.truth.items() if t.ended is None and r not in failed]
        self._same("stopped", sorted(result.stopped), stopped)
        for rank, truth in self.truth.items():
            end = fates[rank].status.returncode if fates[rank].status is not None else None
            if truth.ended is None:
                if end not in (-signal.SIGTERM, -signal.SIGKILL):
                    raise Wrong(f"rank {rank} was stopped, and ended with {end}")
            else:
                self._same(f"returncode of rank {rank}", end, truth.end)
        for rank, failure in result.failures.items():
            if self.truth[rank].recorded is not None and self.plan.fate[rank] != "survived":
                said = failure.message if isinstance(failure.message, str) else failure.message["message"]
                if f"r{rank}" not in said:
                    raise Wrong(f"what rank {rank} recorded is lost: {said!r}")
        return told

    def _same(self, what: str, actual, expected) -> None:
        if actual != expected:
            raise Wrong(f"{what}: {actual} instead of {expected}")

    def _no_survivors(self, result) -> None:
        for rank, fd in self._pidfds.items():
            if not _readable(fd, 0):
                raise Wrong(f"rank {rank} lives")
        # Where /proc is hidden, the launcher kills the groups, and cannot wait for processes that it cannot see.
        patience = DEADLINE if self.mode == "bare" else 0
        alive = {pid for pid, fd in self.helpers.items() if not _readable(fd, patience)}
        told = {left.pid for left in result.leftovers if not left.ended}
        if self.plan.sweep == "all" and alive:
            raise Wrong(f"helpers {alive} live although all were to be ended")
        if alive - told:
            raise Wrong(f"helpers {alive - told} live and are not reported; reported: {result.leftovers}")

    def _lines(self) -> None:
        for rank, truth in self.truth.items():
            if Step(rank, "way") in [replace(step, word="") for step in self.plan.steps]:
                continue
            expected = [f"rank {rank} line {i} of {truth.lines}" for i in range(truth.lines)]
            text = Path(self.job.stdouts[rank]).read_text()
            self._same(f"stdout of rank {rank}", text.splitlines(), expected)

    def expected_on_console(self) -> Counter:
        """Return the lines that tee shows."""
        if not self.plan.tee:
            return Counter()
        return Counter(
            f"[{self.plan.seed} {rank}] rank {rank} line {i} of {truth.lines}"
            for rank, truth in self.truth.items()
            for i in range(truth.lines)
        )

    def _open(self, name: str) -> int:
        return self._own(os.open(self.directory / name, os.O_RDWR | os.O_CLOEXEC))

    def _own(self, fd: int) -> int:
        self._exit.callback(os.close, fd)
        return fd


def launcher_dies(seed: str, directory: Path, mode: str) -> None:
    """Send a signal, several, or SIGKILL to a separate launcher process, and check that nothing of its job survives.

    Raises:
        Wrong: if something does.
    """
    draw = random.Random(seed)
    number = draw.choice([signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGKILL])
    method = draw.choice(["program", "fork"])
    plan = Plan(seed, method, draw.choice([1, 2, 3]), held=False, steps=[], grace=2.0, sweep="all", tee=False)
    read, write = os.pipe()
    launcher = os.fork()
    if launcher == 0:
        try:
            os.close(read)
            os.setpgid(0, 0)
            job = Job(plan, directory, mode)
            job.start()
            os.write(write, json.dumps(list(job.job.pids().values())).encode() + b"\n")
            job.job.wait()
        except BaseException:  # SignalException, KeyboardInterrupt
            with suppress(BaseException):
                job.job.close()
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as pipe, ExitStack() as stack:
        line = pipe.readline()
        if not line:
            raise Wrong("the launcher did not start its job")
        watched = {}
        for pid in json.loads(line):
            fd = os.pidfd_open(pid)
            stack.callback(os.close, fd)
            watched[pid] = fd
        for _ in range(1 if number == signal.SIGKILL else draw.choice([1, 1, 3])):
            os.kill(launcher, number)
        alive = [pid for pid, fd in watched.items() if not _readable(fd, 30.0)]
        fd = os.pidfd_open(launcher)
        stack.callback(os.close, fd)
        if not _readable(fd, 30.0):
            os.kill(launcher, signal.SIGKILL)
            _wait(launcher)
            raise Wrong(f"a launcher does not end by {number}")
        _wait(launcher)
        if alive:
            raise Wrong(f"ranks {alive} outlive their launcher, which got {number}")


def work(seed: int, jobs: range, mode: str, seconds: float) -> int:
    """Run jobs, up to three at once; print one JSON line per failure, and one at the end; return the failures."""
    begin, told, wrong, done = SYSTEM_CLOCK.now(), Counter(), 0, 0
    home = Path(tempfile.mkdtemp(prefix="soak-"))
    console = os.open(home / "console", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    report = os.dup(1)
    os.dup2(console, 1)

    def say(**facts) -> None:
        os.write(report, json.dumps(facts).encode() + b"\n")

    def fail(number: int, error: BaseException) -> None:
        nonlocal wrong
        wrong += 1
        say(seed=f"{seed}:{number}", mode=mode, error=f"{type(error).__name__}: {error}")

    numbers = list(jobs)
    while numbers and (not seconds or SYSTEM_CLOCK.now() - begin < seconds):
        draw = random.Random(f"{seed}:{numbers[0]}:together")
        batch, numbers = numbers[: (together := draw.choice([1, 1, 2, 3]))], numbers[together:]
        if draw.random() < 0.05 and mode != "bare":
            number = batch[0]
            try:
                launcher_dies(f"{seed}:{number}", home / str(number), mode)
            except Exception as error:
                fail(number, error)
            told["launchers that died"] += 1
            shutil.rmtree(home / str(number), ignore_errors=True)
            batch = batch[1:]
            done += 1
        running = {n: Job(plan_of(f"{seed}:{n}", mode), home / str(n), mode) for n in batch}
        broken: set[int] = set()
        for phase in ("start", "act", "finish"):
            for number, job in running.items():
                if number not in broken:
                    try:
                        told += getattr(job, phase)() or Counter()
                    except Exception as error:
                        broken.add(number)
                        fail(number, error)
        expected = Counter()
        for number, job in running.items():
            told[job.plan.method] += 1
            expected += job.expected_on_console()
            try:
                job.close()
            except Exception as error:
                fail(number, error)
            shutil.rmtree(job.directory, ignore_errors=True)
        shown = Counter(os.pread(console, 1 << 24, 0).decode(errors="replace").splitlines())
        os.ftruncate(console, 0)
        if shown != expected and not broken:
            fail(batch[-1], Wrong(f"console: lost {list(expected - shown)[:3]}, torn {list(shown - expected)[:3]}"))
        done += len(batch)
    shutil.rmtree(home, ignore_errors=True)
    say(mode=mode, jobs=done, wrong=wrong, seconds=round(SYSTEM_CLOCK.now() - begin, 1), told=dict(told))
    return wrong


def _readable(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _wait(pid: int, options: int = os.WEXITED) -> None:
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, options)


def _command(mode: str) -> list[str]:
    """Return the command that enters a mode; needs root, or user namespaces."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    if mode == "pidns":
        return ["unshare", *user, "--pid", "--fork", "--mount-proc", "--kill-child"]
    if mode == "bare":
        return ["unshare", *user, "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    return []


def why_not(mode: str) -> str:
    """Return why a mode is not available here; empty if it is."""
    done = subprocess.run([*_command(mode), "true"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit {done.returncode}"


def main() -> int:
    """Distribute the jobs to workers, two per processor since jobs mostly wait, and sum up."""
    parser = argparse.ArgumentParser(prog="launch.soak", description="Random broken jobs against an oracle.")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--modes", default=",".join(MODES), help="of plain, pidns, bare")
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--seconds", type=float, default=0.0, help="time budget; 0 for none")
    parser.add_argument("--only", help="SEED:NUMBER of one job to run again; with --modes MODE")
    parser.add_argument("--range", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # shells and nohup ignore them, and launchers leave ignored ones ignored
    modes = options.modes.split(",")
    if options.range:
        first, last = map(int, options.range.split(":"))
        return min(1, work(options.seed, range(first, last), modes[0], options.seconds))
    if options.only:
        seed, number = map(int, options.only.split(":"))
        options.seed, shares = seed, [(modes[0], number, number + 1)]
    else:
        shares = _shares(options.jobs, [mode for mode in modes if _usable(mode)], options.workers)
    print(f"seed {options.seed}, {sum(last - first for _, first, last in shares)} jobs", flush=True)
    begin, waiting, running, codes = SYSTEM_CLOCK.now(), list(shares), [], []
    while waiting or running:
        while waiting and len(running) < options.workers:
            mode, first, last = waiting.pop(0)
            command = [sys.executable, "-m", "launch.soak", f"--seed={options.seed}", f"--modes={mode}"]
            budget = options.seconds and max(1.0, options.seconds / max(1, -(-len(shares) // options.workers)))
            command += [f"--range={first}:{last}", f"--seconds={budget}"]
            environ = {**os.environ, **(BARE if mode == "bare" else {})}
            running.append(subprocess.Popen([*_command(mode), *command], env=environ))
        codes.append(running.pop(0).wait())
    print(f"seed {options.seed}: {'all right' if not any(codes) else 'WRONG'} in {SYSTEM_CLOCK.now() - begin:.0f} s")
    return int(any(codes))


def _usable(mode: str) -> bool:
    reason = why_not(mode)
    if reason:
        print(f"mode {mode} is left out: {reason}", flush=True)
    return not reason


def _shares(jobs: int, modes: list[str], workers: int) -> list[tuple[str, int, int]]:
    """Return the shares of workers and modes: half of the jobs plain, the rest in the other modes."""
    weights = {mode: 2 if mode == "plain" else 1 for mode in modes}
    shares, first = [], 0
    for mode, weight in weights.items():
        for _ in range(workers):
            last = first + max(1, jobs * weight // sum(weights.values()) // workers)
            shares.append((mode, first, last))
            first = last
    return shares


if __name__ == "__main__":
    from launch import soak  # functions are imported by their module's name in ranks

    sys.exit(soak.main())
