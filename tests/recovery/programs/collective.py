"""Collectives of the ranks on one machine: a barrier and a sum, through rank 0.

The socket has another name than MASTER_PORT, on which torchrun itself listens.
"""

import json
import os
import socket
import time

RANK, SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
_NAME = f"\0toy-{os.getuid()}-{os.environ['MASTER_ADDR']}-{os.environ['MASTER_PORT']}"


def _connect():
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(_NAME)
        except ConnectionRefusedError:
            connection.close()
            time.sleep(0.005)
        else:
            return connection.makefile("rw")


def _accept():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(_NAME)
    listener.listen(SIZE)
    return [listener.accept()[0].makefile("rw") for _ in range(SIZE - 1)]


_peers = _accept() if RANK == 0 else [_connect()]


def _receive(peer):
    line = peer.readline()
    if not line:
        raise ConnectionError(f"rank {RANK}: a peer has left")
    return json.loads(line)


def _send(peer, values):
    peer.write(json.dumps(values) + "\n")
    peer.flush()


def all_reduce(values):
    """Return the sums of the values of all ranks."""
    if RANK == 0:
        all_values = [values, *(_receive(peer) for peer in _peers)]
        values = [sum(column) for column in zip(*all_values, strict=True)]
    for peer in _peers:
        _send(peer, values)
    return values if RANK == 0 else _receive(_peers[0])


def barrier():
    """Wait for all ranks."""
    all_reduce([0])
