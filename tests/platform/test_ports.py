"""Ports for jobs: free, and out of the way of whoever asks the kernel for any."""

import socket

import pytest

from derail.platform import ports


def test_a_free_port_can_be_bound():
    """Also by a server that does not set SO_REUSEADDR."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", ports.free_port()))
        server.listen()


def test_a_port_that_the_kernel_hands_out_is_not_chosen():
    """Somebody else who asks for any would get it before its job binds it."""
    low, high = map(int, ports.EPHEMERAL.read_text().split())

    assert not any(low <= ports.free_port() <= high for _ in range(50))


def test_a_port_that_somebody_has_is_not_chosen(monkeypatch):
    """The next one is."""
    with socket.create_server(("127.0.0.1", ports.free_port())) as taken:
        number = taken.getsockname()[1]
        monkeypatch.setattr(ports, "outside_of_the_ephemeral", lambda: range(number, number + 1))

        assert ports.free_port() != number


@pytest.mark.parametrize("told", [None, "", "1024 65535"], ids=["nothing", "no numbers", "all"])
def test_where_no_others_are_left_any_port_is_taken(tmp_path, monkeypatch, told):
    """A kernel that tells nothing, or that hands them all out."""
    monkeypatch.setattr(ports, "EPHEMERAL", tmp_path / "range")
    if told is not None:
        ports.EPHEMERAL.write_text(told)

    assert len(ports.outside_of_the_ephemeral()) == 0
    assert ports.free_port() > 0
