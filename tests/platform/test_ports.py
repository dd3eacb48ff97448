"""Ports for jobs: free, and outside the range that the kernel assigns."""

import socket

import pytest

from derail.platform import ports


def test_a_free_port_can_be_bound():
    """Even by a server that does not set SO_REUSEADDR."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", ports.free_port()))
        server.listen()


def test_a_port_that_the_kernel_assigns_is_not_chosen():
    """Another process that asks for any port could get it before the job binds it."""
    low, high = map(int, ports.EPHEMERAL.read_text().split())

    assert not any(low <= ports.free_port() <= high for _ in range(50))


def test_a_bound_port_is_not_chosen(monkeypatch):
    """The next one is."""
    with socket.create_server(("127.0.0.1", ports.free_port())) as taken:
        number = taken.getsockname()[1]
        monkeypatch.setattr(ports, "outside_of_the_ephemeral", lambda: range(number, number + 1))

        assert ports.free_port() != number


@pytest.mark.parametrize("told", [None, "", "1024 65535"], ids=["nothing", "no numbers", "all"])
def test_any_port_is_chosen_where_no_other_is_left(tmp_path, monkeypatch, told):
    """If the kernel reports no range, or its range covers all ports."""
    monkeypatch.setattr(ports, "EPHEMERAL", tmp_path / "range")
    if told is not None:
        ports.EPHEMERAL.write_text(told)

    assert len(ports.outside_of_the_ephemeral()) == 0
    assert ports.free_port() > 0
