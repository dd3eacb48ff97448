"""Program of a rank that another launcher has started: ``python -m pytest_derail.ranks.worker.remote``.

It gives itself the environment that ranks have, enters the door of the controller, and serves as a reused rank. On
another machine than the controller's, a thread answers what the controller cannot read there: the last collectives of
this rank, and its stacks.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from derail.agents.external.variables import missing, named
from derail.agents.invocation import rank_environment
from derail.diagnose.examine import RINGS
from derail.errors.recorder import ErrorHandler
from derail.faults.inrank import recorder
from derail.faults.inrank.bootstrap import record_collectives
from derail.model.clock import SYSTEM_CLOCK
from derail.platform.private_files import make_private
from pytest_derail.ranks.pool.connection import LOOK, STATE, Placement, State
from pytest_derail.ranks.pool.door import DOOR_ENV, enter
from pytest_derail.ranks.pool.worker import serve_through

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class CarryingEnd:
    """End of a connection that also carries the rank's records, which the controller writes to its own files."""

    def __init__(self, end: Connection[Any, Any]) -> None:
        self._end = end
        self._lock = threading.RLock()  # threads of a test may log

    def recv(self) -> Any:
        """Receive the next test."""
        return self._end.recv()

    def send(self, message: tuple[str, Any]) -> None:
        """Send a message."""
        with self._lock:
            self._end.send(message)

    def carry(self, folder: str, data: bytes) -> None:
        """Send entries of the record in a folder of the controller."""
        self.send(("record", (folder, data)))


class AnsweringEnd(CarryingEnd):
    """End of the same kind, through which a thread answers where this rank is, whatever the test does.

    A thread that holds the interpreter's lock keeps it from that.

    Args:
        end: the connection.
    """

    def __init__(self, end: Connection[Any, Any]) -> None:
        super().__init__(end)
        self._turns: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._answer, name="derail: controller", daemon=True).start()

    def recv(self) -> Any:
        """Receive the next test.

        Raises:
            EOFError: if the controller has closed the connection.
        """
        turn = self._turns.get()
        if turn is EOFError:
            raise EOFError
        return turn

    def _answer(self) -> None:
        try:
            while True:
                turn = super().recv()
                if turn == LOOK:
                    self.send((STATE, state_of_this_process()))
                else:
                    self._turns.put(turn)
        except (EOFError, OSError):
            self._turns.put(EOFError)


def state_of_this_process() -> State:
    """Return the content of the ring file of this process, and the stacks of its threads."""
    active = recorder.active
    ring = b"" if active is None or active.ring is None else Path(active.ring.path).read_bytes()
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return State(ring, SYSTEM_CLOCK.now(), file.read().decode(errors="replace"))


def main() -> None:
    """Serve until the controller has no more tests.

    Raises:
        SystemExit: if the launcher has given this process no rank.
    """
    address = os.environ.pop(DOOR_ENV)
    os.environ.update(missing(os.environ, {}, int(os.environ.get("MASTER_PORT") or 0)))
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        raise SystemExit(f"derail: no rank in the environment: none of {named({})} is set by the launcher")
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    whole = rank_environment(
        rank, ranks=ranks, run_id="derail", master_addr=os.environ["MASTER_ADDR"],
        master_port=int(os.environ["MASTER_PORT"]),
    )  # fmt: skip
    os.environ.update({name: value for name, value in whole.items() if name not in os.environ})
    end = enter(address, rank, ranks)
    placement: Placement = end.recv()
    _redirect(placement.logs)
    ErrorHandler().initialize()
    if placement.logs is None:  # another machine: nothing of the controller's folder is here
        with tempfile.TemporaryDirectory(prefix="derail-") as folder:
            _serve(replace(placement, order=replace(placement.order, folder=Path(folder))), AnsweringEnd(end), rank)
    else:
        _serve(placement, CarryingEnd(end), rank)


def _serve(placement: Placement, end: CarryingEnd, rank: int) -> None:
    if placement.records:
        record_collectives(str(make_private(placement.order.folder / RINGS)), rank)
    serve_through(placement.order, placement.modules, end)


def _redirect(logs: tuple[str, str] | None) -> None:
    """Send both streams to the files of this rank; on another machine they stay with the launcher."""
    if logs is None:
        return
    for number, path, stream in zip((1, 2), logs, (sys.stdout, sys.stderr), strict=True):
        stream.flush()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(fd, number)
        os.close(fd)


if __name__ == "__main__":
    main()
