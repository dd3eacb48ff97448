"""The data that a rank gets which does not share the launcher's memory: function, arguments, descriptors, modules.

It is sent as a file in memory, which is complete before the rank starts: neither side waits, and any size is possible.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from derail.spawn.return_values import create_memory_file, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

    from derail.model.spec import Function, RankSpec
    from derail.spawn.return_values import Slot

_BOOTSTRAP = (
    "import sys,marshal;f=open({fd},'rb');sys.path[:]=marshal.load(f);from derail.spawn.{module} import main;main(f)"
)

_inherited: list[int] = []


class Head(NamedTuple):
    """The part of a payload that the worker needs before any user code runs.

    Attributes:
        rank: local rank.
        launcher_pid: the process that started the job.
        fds: numbers in the launcher: the slot's three, the resource tracker's if any, then those of the arguments.
        has_tracker: whether the fourth is that of the resource tracker.
    """

    rank: int
    launcher_pid: int
    fds: tuple[int, ...]
    has_tracker: bool


@dataclass(slots=True)
class Payload:
    """A payload that is ready to be sent. Owns its file and its copies of the arguments' descriptors."""

    file_fd: int
    fds: tuple[int, ...]
    _copies: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Close the owned descriptors; the rank has copies by then."""
        for fd in (self.file_fd, *self._copies):
            os.close(fd)


class InheritedFd:
    """A descriptor among the arguments, by its index among the descriptors that the rank gets."""

    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        """Return its number in the rank; called there."""
        return _inherited[self.index]


class _Spawning:
    """A stand-in for multiprocessing's spawning ``Popen``, which lets its reducers pass descriptors on."""

    DupFd = InheritedFd

    def __init__(self) -> None:
        self.copies: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        # A copy each time: a reduced object may be collected before the rank starts, and a tensor closes its own.
        self.copies.append(os.dup(fd))
        return len(self.copies) - 1


def interpreter(file_fd: int, module: str, name: str) -> list[str]:
    """Return the command of a fresh interpreter, with this one's flags, that calls ``main`` of ``module`` with a file.

    The file begins with ``path_front()``, so that derail is imported from the same place as in this process, even if
    this process has edited ``sys.path``. ``name`` is shown in the process list.
    """
    return [*command(), "-c", _BOOTSTRAP.format(fd=file_fd, module=module), name]


def command() -> list[str]:
    """Return the interpreter for ranks, and this one's flags."""
    from multiprocessing import spawn, util

    inner: Any = util
    flags: list[str] = inner._args_from_interpreter_flags()  # noqa: SLF001 - what multiprocessing itself passes on
    return [os.fsdecode(spawn.get_executable()), *flags]


def path_front() -> bytes:
    """Return the first part of a file for ``interpreter``."""
    import marshal

    return marshal.dumps([str(entry) for entry in sys.path])


def create_payload(spec: RankSpec, function: Function, slot: Slot, *, front: bytes | None = None) -> Payload:
    """Pickle everything that the rank of ``spec`` needs to run ``function``; ``front`` precedes it.

    Raises:
        pickle.PicklingError: if the function or an argument cannot be sent; the message names it.
    """
    import pickle
    from io import BytesIO

    spawning = _Spawning()
    prepared, work = BytesIO(), BytesIO()
    try:
        _dump(_preparation(spec), prepared, spawning)
        try:
            _dump((function.target, function.args), work, spawning)
        except Exception as error:  # reducers are third-party code
            raise pickle.PicklingError(_explain(spec.rank, function, error)) from error
        tracker = _tracker_fd()
        fds = (*slot.fds, *(() if tracker is None else (tracker,)), *spawning.copies)
        head = Head(spec.rank, os.getpid(), fds, has_tracker=tracker is not None)
        file_fd = create_memory_file(f"derail-rank-{spec.rank}")
        spawning.copies.append(file_fd)
        with open(file_fd, "wb", closefd=False) as file:
            file.write(path_front() if front is None else front)
            file.write(pickle.dumps(tuple(head)))
            file.write(prepared.getbuffer())
            file.write(work.getbuffer())
        os.lseek(file_fd, 0, os.SEEK_SET)
        spawning.copies.pop()
        return Payload(file_fd, fds, spawning.copies)
    except BaseException:
        for fd in spawning.copies:
            os.close(fd)
        raise


def read_head(file: BinaryIO) -> Head:
    """Read the first part of the payload behind its front; called in the rank."""
    import pickle

    return Head(*pickle.load(file))


def first_argument_fd(head: Head) -> int:
    """Return the index of the first descriptor of the arguments."""
    return 4 if head.has_tracker else 3


def take_over(fds: Sequence[int], tracker_fd: int | None) -> None:
    """Store the descriptors of the arguments, and use the launcher's resource tracker; called in the rank."""
    _inherited[:] = fds
    if tracker_fd is not None:
        from multiprocessing import resource_tracker

        tracker: Any = resource_tracker
        tracker._resource_tracker._fd = tracker_fd  # noqa: SLF001 - as multiprocessing.spawn does


def read_work(file: BinaryIO) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Set up modules, path and main module as in the launcher, then load function and arguments; called in the rank."""
    import pickle
    from multiprocessing import process, spawn

    own: Any = process.current_process()
    # While this is set, a main module without the __main__ guard gets an explanation instead of a fork bomb.
    own._inheriting = True  # noqa: SLF001
    try:
        name = own.name
        spawn.prepare(pickle.load(file))
        own.name = name
        target, args = pickle.load(file)
    finally:
        del own._inheriting  # noqa: SLF001
    return target, args


def _preparation(spec: RankSpec) -> dict[str, Any]:
    import multiprocessing
    from multiprocessing import spawn

    chosen = multiprocessing.get_start_method(allow_none=True)
    data: dict[str, Any] = spawn.get_preparation_data(f"Rank-{spec.rank}")
    if chosen is None:
        # The call above fixes the start method permanently; the host process has not requested that.
        multiprocessing.set_start_method(None, force=True)
    if spec.cwd is not None:
        data["dir"] = str(spec.cwd)
    path = data["sys_path"]
    path[1:1] = [entry for entry in _added_path(spec.env) if entry not in path]
    return data


def _added_path(env: Mapping[str, str]) -> list[str]:
    """Return the entries that only the rank's PYTHONPATH has: the ``sys.path`` that is sent would undo them."""
    if sys.flags.ignore_environment:
        return []
    mine = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry and entry not in mine]


def _dump(value: object, file: Any, spawning: _Spawning) -> None:
    from multiprocessing import context
    from multiprocessing.reduction import ForkingPickler

    inner: Any = context
    outer = inner.get_spawning_popen()
    inner.set_spawning_popen(spawning)
    try:
        ForkingPickler(file).dump(value)
    finally:
        inner.set_spawning_popen(outer)


def _tracker_fd() -> int | None:
    """Return the descriptor of the resource tracker if one runs; none is started for this."""
    module: Any = sys.modules.get("multiprocessing.resource_tracker")
    return None if module is None else module._resource_tracker._fd  # noqa: SLF001


def _explain(rank: int, function: Function, error: Exception) -> str:
    from io import BytesIO

    name = getattr(function.target, "__qualname__", repr(function.target))
    what = "its arguments together"
    parts = [("the function itself", function.target)]
    parts += [(f"argument {i} (a {type(arg).__qualname__})", arg) for i, arg in enumerate(function.args)]
    for label, part in parts:
        trial = _Spawning()
        try:
            _dump(part, BytesIO(), trial)
        except Exception as own:  # the culprit
            what, error = label, own
            break
        finally:
            for fd in trial.copies:
                os.close(fd)
    return (
        f"rank {rank} cannot be started by {function.start_method!r}: {what} of {name} cannot be pickled: "
        f"{describe(error)}; use functions and classes that can be imported by name, or start_method='fork'"
    )
