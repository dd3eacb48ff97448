"""Ports that are handed on to ranks."""

import socket

import pytest

ports = []


def serve(sock, port):
    sock.listen()
    return sock.getsockname() == ("127.0.0.1", port)


@pytest.mark.parametrize("method", ["warm", "spawn", "fork", "forkserver"])
def test_handed_on(derail, method):
    port = derail.free_port()
    assert port.socket is port.socket and port.socket.getsockname()[1] == port
    assert derail.run(serve, ranks=1, args=(port.socket, port), start_method=method).return_values == {0: True}


def test_many(derail):
    ports.extend(derail.free_port() for _ in range(50))
    assert len(set(ports)) == 50
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass
    outcome = derail.run(["sh", "-c", "echo $MASTER_PORT"], ranks=1)
    assert int(outcome.log_tail[0, "stdout"][0]) not in ports
