"""Ranks that do each step together: all send rank 0 a number over TCP, and it sends the sum back."""

import argparse
import os
import signal
import socket
import time
from pathlib import Path

from derail.errors import record

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--patience", type=float, default=10.0, help="seconds until a rank gives up to look for rank 0")
parser.add_argument("--answer", type=float, default=10.0, help="seconds until it gives up to wait for its answer")
parser.add_argument("--next", type=float, default=20.0, help="seconds that rank 0 waits for the next one to come")
parser.add_argument("--there", type=Path, help="a file that rank 0 makes when it is; nobody looks for it before")
options = parser.parse_args()

rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def place():
    """Where they meet: not where the launcher listens itself, if it does."""
    port = int(os.environ["MASTER_PORT"]) + (os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True")
    return os.environ.get("MEETING_HOST", os.environ["MASTER_ADDR"]), port


def wait_for_all():
    """Rank 0: who has said its number is here."""
    server = socket.create_server(place())
    server.settimeout(20.0)
    if options.there:
        options.there.touch()
    found = {}
    while len(found) < size - 1:
        peer, _ = server.accept()
        server.settimeout(options.next)
        peer.settimeout(20.0)
        number = receive(peer)
        if number in found:
            raise ValueError(f"two ranks say that they are rank {number}")
        found[number] = peer
        os.dup(peer.fileno())  # closed by the kernel when this rank is gone, so that nobody can fail of that before
        peer.sendall(b"!")
    return found


def go_to_rank_0():
    """The others: say the number, and wait for an answer. Rank 0 may be late, so refusals are tried again."""
    while options.there and not options.there.exists():
        work()
    deadline = time.monotonic() + options.patience
    while time.monotonic() < deadline:
        try:
            began = time.monotonic()
            peer = socket.create_connection(place(), timeout=options.answer)
            if time.monotonic() - began > 0.8:
                print(f"rank {rank}: came late", flush=True)
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


def work():
    time.sleep(0.03)  # noqa: TID251 - in short


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
    signal.signal(signal.SIGCONT, lambda *_: os.write(1, f"rank {rank}: was stopped, and goes on\n".encode()))
    peers = wait_for_all() if rank == 0 else {0: go_to_rank_0()}
    print(f"rank {rank}: all are here", flush=True)
    for step in range(1, options.steps + 1):
        began = time.monotonic()
        print(f"rank {rank}: step {step}", flush=True)
        if time.monotonic() - began > 0.5:
            print(f"rank {rank}: wrote for long", flush=True)
        work()
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
