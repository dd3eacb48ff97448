"""Tests that leave shared memory, ports and servers, and a stranger that does."""

import os
import socket
import subprocess
import sys

from derail.platform import snapshot
from pytest_derail.jobs import leaks

NAME = ""
PROGRAMS = ""
leaks.SETTLE_SECONDS = 2
everything = snapshot._own_entries
# Without the entries of whoever else works on this machine.
snapshot._own_entries = lambda directory: [path for path in everything(directory) if NAME in path]
kept = []
LEAVE = ["sh", "-c", f"echo x > /dev/shm/{NAME}-$RANK; echo x > /dev/shm/{NAME}_$$"]


def test_leaves(derail):
    derail.run(LEAVE, ranks=1)


def test_removes(derail):
    derail.run(["sh", "-c", f"rm /dev/shm/{NAME}[_-]*"], ranks=1)


def test_may_leave(derail):
    derail.allow_left("shm")
    derail.run(LEAVE, ranks=1)


def test_uses(derail):
    kept.append(open(f"/dev/shm/{NAME}-test", "w"))
    derail.allow_left("descriptor")


def test_server(derail):
    kept.append(socket.create_server(("127.0.0.1", 0)))
    print("PORT", kept[-1].getsockname()[1], file=sys.__stderr__)


def test_port(derail):
    port = derail.free_port()
    derail.allow_left("process", "descriptor")
    kept.append(subprocess.Popen([sys.executable, f"{PROGRAMS}/serves.py", str(port)], stdin=-1, stdout=-1))
    kept[-1].stdout.readline()


def test_after():
    kept.pop().communicate()
    for each in kept:
        each.close()


def test_registers(derail):
    from multiprocessing.shared_memory import SharedMemory

    SharedMemory(f"{NAME}-mine", create=True, size=1).close()


def test_strangers(derail):
    port = derail.free_port()
    stranger = {"PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, f"{PROGRAMS}/stranger.py", str(port), NAME], env=stranger, check=True)
