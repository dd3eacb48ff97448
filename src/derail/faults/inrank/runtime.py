"""Runtime inside the rank that carries out its part of a plan: it reads, journals and injects in the main thread.

It costs no thread. At the start a profile hook waits for the first line of the program. Later the driver writes a line
into the journal and sends a signal; Python runs its handler in the main thread, and the handler reads the line. The
occurrences that the driver itself waits for are journalled, and the program then waits until the driver has acted.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
from functools import partial

from . import actions, real_time
from .frames import is_starting_up, is_within, place
from .hooks import main_module_calls
from .hooks.hit_counter import Lookout, Ours
from .rank_plan import ImpossibleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from .api import Effect
    from .rank_plan import Part, Task, Watch

FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.02
"""Seconds between two checks for the driver's answer: at first, and at most."""
PATIENCE = 10.0
"""Maximum seconds that another thread waits for the main thread to act."""
NUDGE = 0.1
"""Seconds before that thread signals the main thread again."""


OWN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags to open the journal with."""


class Runtime:
    """Faults of one rank, in the process that acts for the rank."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.pid = os.getpid()
        self._main = _thread.get_ident()
        self.points: dict[str, Callable[[], None]] = {}
        self.on_return: list[Callable[[object], object]] = []
        self._attempt = part.attempt
        self._acted: set[str] = set()
        self._due: list[Task] = []
        self._called = False
        self._comes_back = False
        self._begun = False
        self._offset = 0

    def claim(self) -> bool:
        """Claim the rank in the journal; return False if another process has claimed it before.

        The handler is installed before the claim is written, because the driver may send its signal right after.
        """
        before = signal.signal(self.part.signal, self._on_signal)
        self.write("runtime", attempt=self._attempt, python=f"{sys.version_info[0]}.{sys.version_info[1]}")
        mine = (self.part.job, self.part.rank, self._attempt)
        claims = []
        # Nothing counts as read yet: the driver may have written already, and be about to send its signal.
        for record in self._read(0)[0]:
            if record["event"] == "runtime":
                if (record.get("job"), record.get("rank"), record.get("attempt")) == mine:
                    claims.append(record["by"])
            elif record["event"] == "start" and self._was_here(record):
                self._acted.add(str(record.get("fault")))
        if claims and claims[0] != self.pid:
            signal.signal(self.part.signal, signal.SIG_DFL if before is None else before)
            return False
        return True

    def _was_here(self, record: dict[str, object]) -> bool:
        """Return whether a record is from this process before an exec, or from its rank in an earlier attempt."""
        own = record.get("by") == self.pid
        return own or (record.get("rank"), record.get("job")) == (self.part.rank, self.part.job)

    def arm(self) -> None:
        """Set the hooks: for the first line of the program, and for the places that the plan watches."""
        for task in self.part.tasks:
            if task.watch is not None and task.id not in self._acted:
                self._look_out(task.watch, partial(self._act_here, task))
        for watch in reversed(
            self.part.watches
        ):  # later steps first: the occurrence that ends a step is not part of the next one
            self._look_out(watch, partial(self._stay, watch))
        if not self.part.function and (self._starting() or main_module_calls.wanted()):
            sys.setprofile(self._before_main)

    def _look_out(self, watch: Watch, come: Callable[[int, FrameType | None], bool]) -> None:
        """Have ``come`` called when the program reaches a watched place."""
        reached = Lookout(watch, come)
        try:
            if watch.kind == "point":
                self._arm_point(watch.name, reached)
            elif watch.kind == "import_of":
                from .hooks import imports

                imports.look_out(watch.name, reached)
            elif watch.kind == "signal_received":
                from .hooks import signal_hooks

                signal_hooks.look_out(int(watch.name), reached)
            else:
                from .hooks import calls

                found, failed = partial(self._place_is, "found", watch), partial(self._place_is, "failed", watch)
                main = not self.part.function
                calls.look_out(watch.name, watch.at, reached, found=found, impossible=failed, main=main)
        except (OSError, ValueError) as error:
            self._place_is("failed", watch, f"{type(error).__name__}: {error}")

    def _place_is(self, event: str, watch: Watch, what: str = "") -> None:
        """Journal that the place to watch is resolved, or that it cannot be."""
        self._try_to_write(event, fault=watch.fault, watch=watch.number, what=what)

    def begin(self) -> None:
        """Inject the due faults just before the rank's function is called."""
        if not self._begun:
            self._begin(sys._getframe(1))  # noqa: SLF001 - the journal records the caller's place

    def returned(self, value: object) -> object:
        """Return the value that the rank's function appears to return, given its real ``value``."""
        for change in self.on_return if os.getpid() == self.pid else ():
            value = change(value)
        return value

    def write(self, event: str, **fields: object) -> None:
        """Append one record to the journal; raises OSError if that fails."""
        who = {"by": os.getpid(), "rank": self.part.rank, "job": self.part.job}
        record = {"event": event, "at": round(real_time.monotonic(), 6), **who, **fields}
        with Ours():
            fd = os.open(self.part.journal, os.O_WRONLY | os.O_APPEND | OWN)
            try:
                _check_is_own(fd)
                os.write(fd, (json.dumps(record) + "\n").encode())
            finally:
                os.close(fd)

    def say(self, event: str, task: Task, **fields: object) -> None:
        """Append a record about a fault, ignoring write errors, which only leave the fault without evidence."""
        self._try_to_write(event, fault=task.id, **fields)

    def _try_to_write(self, event: str, **fields: object) -> bool:
        try:
            self.write(event, **fields)
        except OSError:
            return False
        return True

    def start(self, task: Task, frame: FrameType | None, hit: int | None = None) -> Effect:
        """Journal the start of a fault, and return its effect; without a journal record there is no effect.

        The caller raises or calls the effect, so that tracebacks of the rank show as little of derail as possible.
        """
        if os.getpid() != self.pid or task.id in self._acted:
            return _nothing
        self._acted.add(task.id)
        try:
            effect = actions.ACTIONS[task.name](self, task)
            self.write("start", fault=task.id, where=place(frame), **({} if hit is None else {"hit": hit}))
        except ImpossibleError as error:
            self.say("impossible", task, why=str(error))
            return _nothing
        except Exception as error:  # derail's error, not the program's: report it, and let the program run
            self.say("failed", task, what=f"{type(error).__name__}: {error}")
            return _nothing
        return effect

    def _starting(self) -> list[Task]:
        return [
            task
            for task in self.part.tasks
            if task.when == "start" and task.attempt in (None, self._attempt) and task.id not in self._acted
        ]

    def _before_main(self, frame: FrameType, event: str, _: object) -> None:
        """Inject the due faults when the frame of the main module is entered, and remove this profile hook."""
        if event == "call" and frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__":
            sys.setprofile(None)
            main_module_calls.begin(frame)
            self._begin(frame)

    def _begin(self, frame: FrameType) -> None:
        self._begun = True
        self._due[:0] = self._starting()
        self._go(frame)

    def _go(self, frame: FrameType | None) -> None:
        """Run the effects of the due faults one after the other, until one raises or exits."""
        while self._due:
            effect = self.start(self._due.pop(0), frame)
            if self._due:
                self._come_back()
            _happen(effect)

    def _arm_point(self, name: str, reached: Lookout) -> None:
        earlier = self.points.get(name)

        def at_point() -> None:
            if earlier is not None:
                earlier()
            reached(sys._getframe(1))  # noqa: SLF001 - the caller of fail_point

        self.points[name] = at_point

    def _act_here(self, task: Task, n: int, frame: FrameType | None) -> bool:
        """Inject a fault of this rank whose trigger the program has reached; faults act in the main thread."""
        if _thread.get_ident() == self._main:
            _happen(self.start(task, frame, n))
            return True
        self._due.append(task)
        end, nudge = real_time.monotonic() + PATIENCE, 0.0
        while task.id not in self._acted and real_time.monotonic() < end:
            if real_time.monotonic() >= nudge:  # a thread that is about to enter a system call misses the first one
                os.kill(self.pid, self.part.signal)
                nudge = real_time.monotonic() + NUDGE
            real_time.sleep(FIRST_PAUSE)  # without a lock, only polling shows what another thread did
        return True

    def _stay(self, watch: Watch, n: int, frame: FrameType | None) -> bool:
        """Report to the driver that the program is here, wait for its answer, and return whether that was the last."""
        who: dict[str, object] = {"fault": watch.fault, "watch": watch.number, "n": n}
        try:
            offset = os.stat(self.part.journal).st_size
        except OSError:
            return False
        return self._try_to_write("reached", **who, where=place(frame)) and self._wait_to_go_on(watch, who, offset)

    def _wait_to_go_on(self, watch: Watch, who: dict[str, object], offset: int) -> bool:
        """Wait for the driver's answer after ``offset`` in the journal; return whether that was the last wait."""
        pause, end = FIRST_PAUSE, real_time.monotonic() + watch.patience
        while real_time.monotonic() < end:
            records, offset = self._read(offset)
            for record in records:
                if record["event"] == "go_on" and record.get("to") == self.pid and who.items() <= record.items():
                    return bool(record.get("over"))
            real_time.sleep(pause)  # no event announces that a file grows
            pause = min(2 * pause, LONGEST_PAUSE)
        return False

    def _on_signal(self, _: int, frame: FrameType | None) -> None:
        """Read the due faults that the driver has journalled; a forked child of the rank ignores the signal."""
        if os.getpid() != self.pid:
            return
        self._called = True
        if is_within(frame, WORKING, LASTING):
            self._come_back()
            return
        self._called = False
        records, offset = self._read(self._offset)
        mine = [record for record in records if record.get("to") == self.pid]
        due = [record.get("fault") for record in mine if record["event"] == "tell"]
        self._due += [task for task in self.part.tasks if task.id in due]
        self._offset = offset  # last: if a handler of the program interrupts this, it is read again, and acts once
        if self._begun or not (self.part.function or is_starting_up(frame)):
            self._begun = True
            self._go(frame)
        elif not self.part.function:
            sys.setprofile(self._before_main)  # an exception in the middle of `site` would break Python itself

    def _come_back(self) -> None:
        """Have the handler called once more, a moment later: the present effect may raise, exit, or never return.

        A signal sent from here would call the handler inside itself. So this needs a thread, but one that lives for
        milliseconds, and only where two faults are due at the same moment.
        """
        if self._comes_back:
            return
        self._comes_back = True
        try:
            _thread.start_new_thread(self._wake, ())
        except RuntimeError:  # no thread available: the driver signals a rank again that has not acted
            self._comes_back = False

    def _wake(self) -> None:
        """Signal this process until no fault is due any more; runs in its own thread.

        The main thread notes what is due before it looks at ``_comes_back``, and this one clears ``_comes_back`` before
        it looks at what is due: one of the two sees the other. No lock, which a signal handler could not wait for.
        """
        pause = 0.01  # until the present effect has begun
        while self._comes_back:
            while self._is_wanted():
                real_time.sleep(pause)  # until the exception has left the handler
                os.kill(self.pid, self.part.signal)
                pause = NUDGE  # a thread that is about to enter a system call misses the first one
            self._comes_back = False
            if self._is_wanted() and not self._comes_back:
                self._comes_back = True  # never cleared here: it may belong to another thread by now

    def _is_wanted(self) -> bool:
        """Return whether a fault is due and the handler is still installed."""
        return bool(self._due or self._called) and signal.getsignal(self.part.signal) == self._on_signal

    def _read(self, offset: int) -> tuple[list[dict[str, object]], int]:
        """Return the complete records of the journal from an offset on, and the offset after them."""
        records = []
        with Ours():
            try:
                with open(self.part.journal, "rb", opener=lambda path, flags: os.open(path, flags | OWN)) as file:
                    _check_is_own(file.fileno())
                    file.seek(offset)
                    data = file.read()
            except OSError:
                return [], offset
            whole = data[: data.rfind(b"\n") + 1]
            for line in whole.splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict) and "event" in record:
                    records.append(record)
        return records, offset + len(whole)


def _check_is_own(fd: int) -> None:
    """Refuse a journal of another user, since its records cause actions."""
    if os.fstat(fd).st_uid != os.geteuid():
        raise PermissionError(1, "the journal belongs to another user")


def _happen(effect: Effect) -> None:
    if isinstance(effect, BaseException):
        raise effect
    effect()


def _nothing() -> None:
    """Do nothing: the effect of a fault that is not injected."""


WORKING = {function.__code__ for function in (Runtime.start, Runtime.write, Runtime._try_to_write, Runtime._read)}  # noqa: SLF001
LASTING = {Runtime._wait_to_go_on.__code__}  # noqa: SLF001
