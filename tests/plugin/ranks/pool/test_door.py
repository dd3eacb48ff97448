"""The TCP door of ranks: those with the secret come through; others are refused, and cost little."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from pytest_derail.ranks.pool import door as door_module
from pytest_derail.ranks.pool.door import MOST_STRANGERS, Door, enter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_derail.ranks.pool.door import Arrival

PATIENCE = 60.0


class Bomb:
    """Object that leaves a trace if it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        """Set a variable."""
        return os.putenv, ("DERAIL_TEST_BOMB", "exploded")


@pytest.fixture
def door() -> Iterator[Door]:
    """An open door on loopback."""
    with Door("127.0.0.1") as opened:
        yield opened


def come(door: Door) -> Arrival:
    """Have rank 1 of 2 come through the door, and return it."""

    def answer() -> None:
        end = enter(door.address, 1, 2)
        end.send(end.recv())

    rank = threading.Thread(target=answer)
    rank.start()
    arrival = next(door.arrivals(PATIENCE, lambda: False))
    arrival.end.send("hello")
    rank.join(PATIENCE)
    return arrival


def knock(door: Door) -> socket.socket:
    """Return a connection of a stranger."""
    host, port, _ = door.address.split()
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def test_a_rank_comes_through_and_says_what_it_is(door: Door) -> None:
    """Its number, its world, its process, and that it is on this machine."""
    arrival = come(door)

    assert (arrival.rank, arrival.world_size, arrival.pid, arrival.is_here) == (1, 2, os.getpid(), True)
    assert arrival.end.recv() == "hello"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(5000),
        pickle.dumps(Bomb()),
        b"\0" * 64 + b"{}\n",
        b"\0" * 64 + b"[]\n",
    ],
    ids=["nothing", "HTTP", "garbage", "a pickle", "a proof of zeros", "no table"],
)
def test_a_stranger_does_not_come_through_and_is_no_obstacle(door: Door, said: bytes) -> None:
    """Its connection is closed as soon as it has said something wrong."""
    with knock(door) as stranger:
        stranger.sendall(said)
        arrival = come(door)

        assert arrival.rank == 1
        assert "DERAIL_TEST_BOMB" not in os.environ


def test_a_rank_with_a_wrong_secret_is_refused_and_refuses(door: Door) -> None:
    """It notices that this is not its controller, before it says what it is."""
    host, port, _ = door.address.split()
    errors: list[OSError] = []

    def try_to_enter() -> None:
        try:
            enter(f"{host} {port} {'00' * 32}", 1, 2)
        except OSError as error:
            errors.append(error)

    rank = threading.Thread(target=try_to_enter)
    rank.start()
    arrivals = list(door.arrivals(PATIENCE, lambda: not rank.is_alive()))
    rank.join(PATIENCE)

    assert arrivals == []
    assert "does not know the secret of the controller" in str(errors[0])


def test_a_thousand_silent_connections_are_bounded(door: Door) -> None:
    """The oldest are closed for new ones, and a rank still comes through."""
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(knock(door))
        arrival = come(door)

        assert arrival.rank == 1
        assert len(door._strangers) <= MOST_STRANGERS


def test_a_silent_connection_is_closed_after_a_time(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not be pushed out by others."""
    monkeypatch.setattr(door_module, "PROOF_SECONDS", 0.01)
    with knock(door) as stranger:
        list(
            door.arrivals(PATIENCE, lambda: bool(door._selector.get_map()) and not door._strangers and closed(stranger))
        )


def closed(stranger: socket.socket) -> bool:
    """Return whether the other end has closed a connection."""
    stranger.settimeout(0.01)
    try:
        return stranger.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
