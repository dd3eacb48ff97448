"""Handshake server for ranks of an external agent: only for peers with the secret, in bounded work."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from derail.agents.external import handshake_server
from derail.agents.external.handshake_server import HandshakeServer
from derail.model.clock import SYSTEM_CLOCK
from derail.platform.handshake import Endpoint, connect
from derail.supervise.loop import Loop

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="external agents are watched by pidfds")


class Answers:
    """Answer function that records the questions."""

    def __init__(self):
        self.asked = []
        self.signals = b""

    def __call__(self, visitor, introduction, pid):
        """Keep the connection."""
        self.asked.append((introduction, pid))
        visitor.tell = self.take
        return {"acts": True}

    def take(self, numbers):
        """Record signals of the rank."""
        self.signals += numbers


@pytest.fixture
def opened(tmp_path):
    """Yield a loop, an open server in it, the questions, and the endpoint."""
    loop = Loop(SYSTEM_CLOCK)
    loop.open()
    answers = Answers()
    server = HandshakeServer(loop, answers)
    endpoint = Endpoint.parse(server.open(tmp_path))
    yield loop, answers, endpoint
    server.close()
    loop.close()


def turn(loop, until):
    """Run the loop until a condition is true."""
    end = SYSTEM_CLOCK.now() + 60
    while not until() and SYSTEM_CLOCK.now() < end:
        loop.run_once(0.05)
    assert until()


def ended(connection):
    """Return whether the other end has closed the connection without an answer."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_a_rank_with_the_secret_is_answered_and_its_signals_are_read(opened):
    """However its introduction is cut into pieces; the bytes after it are signals."""
    loop, answers, endpoint = opened
    with connect(endpoint, seconds=10) as rank:
        line = f"{endpoint.call} {json.dumps({'rank': 1, 'argv': ['x' * 300_000]})}\n".encode() + b"\x0f"
        rank.setblocking(False)
        sent = 0
        while sent < len(line):
            try:
                sent += rank.send(line[sent : sent + 50_000])
            except BlockingIOError:
                pass
            loop.run_once(0)
        turn(loop, lambda: answers.signals == b"\x0f")
        rank.settimeout(10)
        secret, _, answer = rank.recv(1000).partition(b" ")

    assert secret.decode() == endpoint.reply
    assert json.loads(answer) == {"acts": True}
    assert [introduction["rank"] for introduction, _ in answers.asked] == [1]


@pytest.mark.parametrize(
    "said", ["{}", " {}", "wrong {}", "{call}x {}", "{reply} {}", "{call}", "{call} []", "{call} 7"]
)
def test_a_peer_without_the_secret_gets_no_answer(opened, said):
    """It gets no answer: the connection is closed."""
    loop, answers, endpoint = opened
    with connect(endpoint, seconds=10) as stranger:
        text = said.replace("{call}", endpoint.call).replace("{reply}", endpoint.reply)
        stranger.sendall(text.encode() + b"\n")
        turn(loop, lambda: ended(stranger))

    assert answers.asked == []


def test_an_introduction_has_a_maximum_length(opened, monkeypatch):
    """A peer that keeps sending is dropped, and no more of it is stored than a long command line."""
    monkeypatch.setattr(handshake_server, "LONGEST", 100_000)
    loop, answers, endpoint = opened
    with connect(endpoint, seconds=10) as stranger:
        stranger.setblocking(False)
        sent = 0

        def flood():
            nonlocal sent
            try:
                sent += stranger.send(b"x" * 50_000)
            except BlockingIOError:
                pass
            except OSError:
                return True
            return False

        turn(loop, flood)

    assert answers.asked == []
    assert sent < 1_000_000


def test_silent_peers_delay_no_rank(opened, monkeypatch):
    """Of a thousand peers the oldest are dropped, and a rank after them is answered at once."""
    monkeypatch.setattr(handshake_server, "MOST", 20)
    loop, answers, endpoint = opened
    silent = []
    try:
        for _ in range(1000):
            silent.append(connect(endpoint, seconds=10))
            loop.run_once(0)
            if len(silent) > 100:
                silent.pop(0).close()
        with connect(endpoint, seconds=10) as rank:
            rank.sendall(f'{endpoint.call} {{"rank": 0}}\n'.encode())
            turn(loop, lambda: bool(answers.asked))
        open_ones = sum(not ended(each) for each in silent)
    finally:
        for each in silent:
            each.close()

    assert open_ones <= 20


def test_a_silent_peer_is_dropped_in_time(opened, monkeypatch):
    """A peer with an introduction is not."""
    monkeypatch.setattr(handshake_server, "PATIENCE", 0.2)
    loop, answers, endpoint = opened
    with connect(endpoint, seconds=10) as rank, connect(endpoint, seconds=10) as silent:
        rank.sendall(f'{endpoint.call} {{"rank": 0}}\n'.encode())
        turn(loop, lambda: bool(answers.asked))
        turn(loop, lambda: ended(silent))
        rank.sendall(b"\x0f")
        turn(loop, lambda: answers.signals == b"\x0f")


def test_no_descriptor_left_makes_no_busy_loop(opened, monkeypatch):
    """A peer that cannot be accepted waits, and is answered when a descriptor is free."""
    loop, answers, endpoint = opened
    attempts, real = [], socket.socket.accept

    def full(self):
        attempts.append(self)
        raise OSError(24, "Too many open files")

    with connect(endpoint, seconds=10) as rank:
        rank.sendall(f'{endpoint.call} {{"rank": 0}}\n'.encode())
        monkeypatch.setattr(socket.socket, "accept", full)
        end = SYSTEM_CLOCK.now() + 0.5
        while SYSTEM_CLOCK.now() < end:
            loop.run_once(0.05)
        monkeypatch.setattr(socket.socket, "accept", real)
        turn(loop, lambda: bool(answers.asked))

    assert 1 <= len(attempts) <= 10
