"""In a rank that is kept: one pytest session, in which the tests run that the controller sends, one after the other."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_derail.protocol import IN_RANK, names_path
from pytest_derail.ranks.pool.process_state import RANDOM, Condition, process_group
from pytest_derail.ranks.process_group import leave_process_group
from pytest_derail.ranks.tracker_names import record
from pytest_derail.ranks.worker.forked_children import children_end
from pytest_derail.ranks.worker.main import Protocol, Teller, become_rank, open_session
from pytest_derail.ranks.worker.session import add_hooks, collect, find

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from pytest_derail.protocol import Order
    from pytest_derail.ranks.worker.session import Problems

LATE = "late"
"""The folder with the records of late tear-downs."""


def serve(order: Order, modules: Sequence[str], ends: Sequence[Connection[Any, Any]]) -> None:
    """Run the tests of ``modules`` that are sent, until None is, or nobody is there any more.

    Args:
        order: a session to have; the test in it is not run.
        modules: the files of all tests that may come.
        ends: one for each rank.
    """
    rank = become_rank()
    record(names_path(order.folder, rank))
    for number, end in enumerate(ends):
        if number != rank:
            end.close()
    line = ends[rank]
    with open_session(order, rank) as session:
        items, problems = collect(session, modules)
        protocol = KeptProtocol(session.config, Sender(order.folder, rank, line), order)
        add_hooks(session.config, protocol)
        while (turn := _receive(line)) is not None:
            protocol.take(session, items, problems, turn)
        protocol.finish(session)


def _receive(line: Connection[Any, Any]) -> Order | None:
    try:
        order: Order | None = line.recv()
    except (EOFError, OSError):
        return None
    return order


def _uses_all(item: pytest.Item, session: pytest.Session) -> bool:
    """Whether a test uses all that is set up: then nothing is torn down before it, and there is nothing to tell."""
    up = list(session._setupstate.stack)  # noqa: SLF001 - which is what ``teardown_exact`` compares
    return up == item.listchain()[: len(up)]


class Sender(Teller):
    """Sends through a connection what others ring by a bell."""

    def __init__(self, folder: Path, rank: int, line: Connection[Any, Any]) -> None:
        super().__init__(folder, rank)
        self.line = line

    def ring(self, what: Literal["begun", "bad", "debug"]) -> None:
        """Send it."""
        self.send(what)

    def send(self, what: str, left: Sequence[tuple[str, str]] = ()) -> None:
        """Send something; a controller that has gone needs nothing, and what was kept is still torn down."""
        with suppress(OSError):
            self.line.send((what, left))


class LateSender(Sender):
    """Says how the tear-down went of what was kept for other tests."""

    def ring(self, what: Literal["begun", "bad", "debug"]) -> None:
        """Report a failure to the controller; it does not wait for the beginning of the tear-down."""
        if what == "bad":
            self.send("late bad")


class KeptProtocol(Protocol):
    """Runs tests, and watches over what they leave."""

    keeps = True

    def __init__(self, config: pytest.Config, teller: Sender, order: Order) -> None:
        super().__init__(config, teller, order)
        self._folder, self._line, self._rank = order.folder, teller.line, teller.rank
        self._handed: dict[int, bytes] = {}
        self._chance: dict[str, Any] = {}
        self._expected: Condition | None = None
        self._last: pytest.Function | None = None

    def take(self, session: pytest.Session, items: Sequence[pytest.Item], problems: Problems, order: Order) -> None:
        """Run a test, and tell how it went, and what it has left."""
        teller = Sender(order.folder, self._rank, self._line)
        self.order = order
        session.config.stash[IN_RANK] = order
        session.shouldstop = session.shouldfail = False
        left: list[tuple[str, str]] = []
        try:
            item = find(items, problems, order.nodeid)
        except (pytest.Collector.CollectError, pytest.skip.Exception) as error:
            teller.tell_not_collected(error)
        else:
            self._tear_down_up_to(session, item)
            self._last, self.teller = item, teller
            item.ihook.pytest_runtest_protocol(item=item, nextitem=item)
            left = self._end()
        teller.finish()
        teller.send("done", left)

    def finish(self, session: pytest.Session) -> None:
        """Tear down all that was kept, and tell how that went: there are no more tests."""
        if self._last is None:
            leave_process_group()
        else:
            self._tear_down_up_to(session, None)

    def _tear_down_up_to(self, session: pytest.Session, item: pytest.Item | None) -> None:
        """Tear down the fixtures that the next test does not use. Report failures in it as errors of the last test."""
        last = self._last
        if last is None or (item is not None and _uses_all(item, session)):
            return
        teller = self.teller = LateSender(self._folder / LATE, self._rank, self._line)

        def tear_down() -> None:
            try:
                with children_end(last, "teardown"):
                    session._setupstate.teardown_exact(item)  # noqa: SLF001 - what pytest does behind the last test
            finally:
                if item is None:
                    leave_process_group()

        teller.enter("teardown")
        self.tell_call(last, pytest.CallInfo.from_call(tear_down, "teardown"))
        teller.finish()

    def prepare(self, item: pytest.Function) -> None:
        """The same; a fixture that is handed another value is set up again, and all that depend on it."""
        for name, data in self.order.handed.items():
            fixture: Any = item._fixtureinfo.name2fixturedefs[name][-1]  # noqa: SLF001
            if self._handed.get(id(fixture)) != data:
                self._handed[id(fixture)] = data
                fixture.finish(item._request)  # noqa: SLF001 - it has another value by now
        super().prepare(item)
        now = Condition.now()
        for name, state in now.settings.items():
            if name.startswith(RANDOM):
                self._chance.setdefault(name, state)
        self._expected = replace(now, settings={**now.settings, **self._chance})

    def _end(self) -> list[tuple[str, str]]:
        expected, self._expected = self._expected, None
        if expected is None:
            return []  # it did not even begin
        expected.restore()
        self._streams.replace_closed()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        return expected.left_since()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """What a fixture does that outlives the test is meant to stay."""
        del request
        joins = fixturedef.argname == "process_group" and process_group() is None
        stays = fixturedef.scope != "function" or joins
        if not stays or self._expected is None or fixturedef.argname in self.order.handed:
            return (yield)
        before = Condition.now()
        value = yield
        if self._expected is not None:
            self._expected = self._expected.with_changes(before, Condition.now())
        return value
