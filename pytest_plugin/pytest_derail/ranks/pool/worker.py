"""Reused rank: one pytest session, in which the rank runs the tests that the controller sends, one after the other."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from typing import Protocol as Protocol_

import pytest

from pytest_derail.protocol import EVERY, IN_RANK, Order, names_path
from pytest_derail.ranks.pool.process_state import GROUP, RANDOM, Condition, process_group
from pytest_derail.ranks.process_group import leave_process_group
from pytest_derail.ranks.spmd import note_tests
from pytest_derail.ranks.tracker_names import record
from pytest_derail.ranks.worker import breakpoints, calls
from pytest_derail.ranks.worker.forked_children import children_end
from pytest_derail.ranks.worker.main import Protocol, RankRecorder, become_rank, open_session
from pytest_derail.ranks.worker.session import add_hooks, collect, find

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from pytest_derail.ranks.worker.session import Problems

JOINING = frozenset({"comm", "jax_distributed"})
"""Fixtures that make the rank a part of something until it exits, as ``process_group`` does."""


class End(Protocol_):
    """Connection to the controller."""

    def recv(self) -> Any:
        """Receive a test, or None."""

    def send(self, message: Any) -> None:
        """Send a message."""


LATE = "late"
"""Folder with the records of late tear-downs."""


def serve(order: Order, modules: Sequence[str], ends: Sequence[Connection[Any, Any]]) -> None:
    """Run tests of ``modules`` as the controller sends them, until it ends that or closes the connection.

    Args:
        order: describes the session; its test is not run.
        modules: the files of all tests that may follow.
        ends: one connection for each rank.
    """
    own = ends[int(os.environ["RANK"])]
    for end in ends:
        if end is not own:
            end.close()
    serve_through(order, modules, own)


def serve_through(order: Order, modules: Sequence[str], line: End) -> None:
    """Do the same through the connection of this rank."""
    rank = become_rank()
    record(names_path(order.folder, rank))
    with open_session(order, rank) as session:
        items, problems = collect(session, modules)
        if EVERY in order.in_ranks:
            note_tests(order.folder, rank, items)
        protocol = KeptProtocol(session.config, Sender(order.folder, rank, line), order)
        add_hooks(session.config, protocol)
        while isinstance(turn := _receive(line), Order):
            protocol.take(session, items, problems, turn)
        breakpoints.take_over(turn)
        protocol.finish(session)


def _receive(line: End) -> Order | str:
    """Return the next test, or the endpoint for debuggers of the last tear-down."""
    try:
        turn: Order | str = line.recv()
    except (EOFError, OSError):
        return ""
    return turn


def _check_world() -> None:
    """Refuse tests with MPI where they would test nothing.

    Raises:
        CollectError: if the ranks are not those of one MPI world.
    """
    mpi: Any = sys.modules.get("mpi4py.MPI")
    ranks = int(os.environ["WORLD_SIZE"])
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized() or mpi.COMM_WORLD.Get_size() == ranks:
        return
    raise pytest.Collector.CollectError(
        f"MPI.COMM_WORLD has {mpi.COMM_WORLD.Get_size()} rank(s), and the test has {ranks}: the ranks were not started "
        'by an MPI launcher, or by that of another MPI. Start them with --derail-launcher "mpiexec -n {ranks}"'
    )


def _uses_all(item: pytest.Item, session: pytest.Session) -> bool:
    """Return whether a test uses all fixtures that are set up: then no tear-down precedes it, and none is reported."""
    up = list(session._setupstate.stack)  # noqa: SLF001 - which is what ``teardown_exact`` compares
    return up == item.listchain()[: len(up)]


class Sender(RankRecorder):
    """RankRecorder that reports through a connection instead of the bell."""

    def __init__(self, folder: Path, rank: int, line: End) -> None:
        carry = getattr(line, "carry", None)  # a connection that also carries the record
        super().__init__(folder, rank, carry and partial(carry, folder.name))
        self.line = line

    def ring(self, what: Literal["begun", "bad"]) -> None:
        """Send the message."""
        self.send(what)

    def send(self, what: str, left: Sequence[tuple[str, str]] = ()) -> None:
        """Send a message. A controller that has exited is ignored: fixtures that were kept are still torn down."""
        with suppress(OSError):
            self.line.send((what, left))


class LateSender(Sender):
    """Sender for the late tear-down of fixtures kept for other tests."""

    def ring(self, what: Literal["begun", "bad"]) -> None:
        """Report a failure; the controller does not wait for the start of the tear-down."""
        if what == "bad":
            self.send("late bad")


class KeptProtocol(Protocol):
    """Protocol of a reused rank, which also checks what tests leave."""

    keeps = True

    def __init__(self, config: pytest.Config, recorder: Sender, order: Order) -> None:
        super().__init__(config, recorder, order)
        self._folder, self._line, self._rank = order.folder, recorder.line, recorder.rank
        self._handed: dict[int, bytes] = {}
        self._chance: dict[str, Any] = {}
        self._expected: Condition | None = None
        self._last: pytest.Function | None = None
        self._joined: frozenset[str] = frozenset()

    def take(self, session: pytest.Session, items: Sequence[pytest.Item], problems: Problems, order: Order) -> None:
        """Run a test, and report its result and what it has left."""
        recorder = Sender(order.folder, self._rank, self._line)
        self.order = order
        session.config.stash[IN_RANK] = order
        breakpoints.take_over(order.debugger)
        session.shouldstop = session.shouldfail = False
        left: list[tuple[str, str]] = []
        try:
            if not order.call:
                _check_world()
            item = find(items, problems, order)
        except (pytest.Collector.CollectError, pytest.skip.Exception) as error:
            recorder.record_not_collected(error)
        else:
            self._tear_down_up_to(session, item)
            self._last, self.recorder = item, recorder
            calls.run_protocol(item, order, nextitem=item)
            left = self._end()
        recorder.finish()
        recorder.send("done", left)

    def finish(self, session: pytest.Session) -> None:
        """After the last test, tear down all that was kept, and report the result."""
        if self._last is None:
            leave_process_group()
        else:
            self._tear_down_up_to(session, None)

    def _tear_down_up_to(self, session: pytest.Session, item: pytest.Item | None) -> None:
        """Tear down the fixtures that the next test does not use; report failures as errors of the last test."""
        last = self._last
        if last is None or (item is not None and _uses_all(item, session)):
            return
        recorder = self.recorder = LateSender(self._folder / LATE, self._rank, self._line)

        def tear_down() -> None:
            try:
                with children_end(last, "teardown"):
                    session._setupstate.teardown_exact(item)  # noqa: SLF001 - what pytest does after the last test
            finally:
                if item is None:
                    leave_process_group()

        recorder.enter("teardown")
        self.record_call(last, pytest.CallInfo.from_call(tear_down, "teardown"))
        recorder.finish()

    def prepare(self, item: pytest.Function) -> None:
        """Prepare the item; a fixture is set up again, with its dependents, if the value handed to it has changed."""
        for name, data in self.order.handed.items():
            fixture: Any = item._fixtureinfo.name2fixturedefs[name][-1]  # noqa: SLF001
            if self._handed.get(id(fixture)) != data:
                self._handed[id(fixture)] = data
                fixture.finish(item._request)  # noqa: SLF001 - its value has changed
        super().prepare(item)
        now = Condition.now()
        for name, state in now.settings.items():
            if name.startswith(RANDOM):
                self._chance.setdefault(name, state)
        self._expected = replace(now, settings={**now.settings, **self._chance})

    def _end(self) -> list[tuple[str, str]]:
        expected, self._expected = self._expected, None
        if expected is not None:
            expected.restore()
            if EVERY in self.order.in_ranks and process_group() not in (None, expected.marks[GROUP]):
                # As without derail, the group that a test has joined stays for the tests after it, with all that it
                # needs.
                expected = expected.with_changes(expected, Condition.now())
        self._streams.replace_closed()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        return [] if expected is None else expected.left_since()  # None: a call, or a test that has not begun

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Keep the changes made by a fixture that outlives the test."""
        del request
        name = fixturedef.argname
        joins = name not in self._joined if name in JOINING else name == "process_group" and process_group() is None
        self._joined |= JOINING & {name}
        stays = fixturedef.scope != "function" or joins
        if not stays or self._expected is None or fixturedef.argname in self.order.handed:
            return (yield)
        before = Condition.now()
        value = yield
        if self._expected is not None:
            self._expected = self._expected.with_changes(before, Condition.now())
        return value
