"""Ranks that do each step together: all send rank 0 a number over TCP, and it sends the sum back."""

import argparse
import os
import socket
import time

from derail.errors import record

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--patience", type=float, default=5.0, help="seconds until a rank gives up meeting the others")
options = parser.parse_args()

rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def place():
    """Where they meet: not where the launcher listens itself, if it does."""
    host, port = os.environ.get("MEETING_HOST", os.environ["MASTER_ADDR"]), int(os.environ["MASTER_PORT"])
    return host, port + (os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True")


def wait_for_all():
    """Rank 0: who has said its number is here. It has twice the patience of those that wait for it."""
    server = socket.create_server(place())
    server.settimeout(2 * options.patience)
    found = {}
    while len(found) < size - 1:
        began = time.monotonic()
        peer, _ = server.accept()
        peer.settimeout(2 * options.patience)
        number = receive(peer)
        if number in found:
            raise ValueError(f"two ranks say that they are rank {number}")
        if time.monotonic() - began > 0.5:
            print(f"rank 0: rank {number} came late", flush=True)
        found[number] = peer
        os.dup(peer.fileno())  # closed by the kernel when this rank is gone, so that nobody can fail of that before
        peer.sendall(b"!")
    return found


def go_to_rank_0():
    """The others: say the number, and wait for an answer. Rank 0 may be late, so refusals are tried again."""
    deadline = time.monotonic() + options.patience
    while time.monotonic() < deadline:
        try:
            peer = socket.create_connection(place(), timeout=options.patience)
            peer.sendall(rank.to_bytes(4, "big"))
            if peer.recv(1):  # else rank 0 has closed it again
                peer.settimeout(None)
                return peer
        except ConnectionRefusedError:
            print(f"rank {rank}: nobody is there yet", flush=True)
        except ConnectionError:
            print(f"rank {rank}: was thrown out", flush=True)
        time.sleep(0.05)  # noqa: TID251 - rank 0 may need a moment
    raise TimeoutError("rank 0 does not answer")


def receive(peer):
    data = b""
    while len(data) < 4:
        part = peer.recv(4 - len(data))
        if not part:
            raise ConnectionError("the other side has left")
        data += part
    return int.from_bytes(data, "big")


@record
def main():
    peers = wait_for_all() if rank == 0 else {0: go_to_rank_0()}
    print(f"rank {rank}: all are here", flush=True)
    for step in range(1, options.steps + 1):
        print(f"rank {rank}: step {step}", flush=True)
        time.sleep(0.03)  # noqa: TID251 - this is the work
        if rank == 0:
            total = 0
            for number, peer in sorted(peers.items()):
                began = time.monotonic()
                total += receive(peer)
                if time.monotonic() - began > 0.3:
                    print(f"rank 0: waited long for rank {number}", flush=True)
            for peer in peers.values():
                peer.sendall(total.to_bytes(4, "big"))
        else:
            peers[0].sendall(rank.to_bytes(4, "big"))
            total = receive(peers[0])
    print(f"rank {rank}: sum {total}", flush=True)


if __name__ == "__main__":
    main()
