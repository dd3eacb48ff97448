"""Unix sockets that only this user's processes can reach, and on which both ends prove that they belong to one job."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from derail.platform.handshake import Endpoint, HandshakeListener, connect, is_own, peer, proves

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
STRANGER = 65534

AS_STRANGER = """
import os, socket, sys
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
{body}
"""


def as_stranger(body):
    """Run a piece of Python as another user; return its exit code and output."""
    source = AS_STRANGER.format(uid=STRANGER, body=body)
    return subprocess.run([sys.executable, "-I", "-S", "-c", source], capture_output=True, text=True, check=False)


@pytest.fixture
def place():
    """Return a directory that every user can enter, outside pytest's own, which each session closes to others."""
    path = Path(tempfile.mkdtemp(prefix="hs-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def listener(place):
    """Return an open listener, and close it after the test."""
    found = HandshakeListener().open(place)
    yield found
    found.close()


def test_the_socket_is_in_a_directory_that_only_this_user_can_enter(listener):
    """Its name cannot be predicted."""
    path = Path(listener.endpoint.path)

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = HandshakeListener().open(path.parent.parent)
    try:
        assert other.endpoint.path != listener.endpoint.path
        assert other.endpoint.call != listener.endpoint.call
    finally:
        other.close()


def test_nothing_is_left_of_a_listener(listener):
    """Neither the socket nor its directory."""
    directory = Path(listener.endpoint.path).parent
    listener.close()
    listener.close()

    assert not directory.exists()


def test_both_ends_identify_each_other_through_the_kernel(listener):
    """Pid and user."""
    with connect(listener.endpoint, seconds=10) as ours:
        theirs = listener.accept()
        assert theirs is not None
        with theirs:
            assert peer(theirs) == (os.getpid(), os.geteuid())
            assert is_own(theirs)
            assert is_own(ours)
    assert listener.accept() is None


def test_an_endpoint_round_trips_as_text():
    """Its path may have colons."""
    endpoint = Endpoint("/a:b/c", "call", "reply")

    assert Endpoint.parse(str(endpoint)) == endpoint
    with pytest.raises(ValueError, match="unpack"):
        Endpoint.parse("elsewhere")


@pytest.mark.parametrize("given", ["", "secre", "secrets", "s\udcffcret", None, 7, b"secret", ["secret"]])
def test_anything_but_the_secret_is_no_proof(given):
    """Whatever a peer sends instead."""
    assert not proves(given, "secret")
    assert proves("secret", "secret")


@pytest.mark.skipif(sys.platform != "linux", reason="a longer path is reached through /proc/self/fd")
def test_the_directory_may_have_a_path_of_any_length(tmp_path):
    """A socket's address has 107 bytes for it."""
    parent = tmp_path / ("a" * 120) / ("b" * 120)
    parent.mkdir(parents=True)
    listener = HandshakeListener().open(parent)
    try:
        with connect(listener.endpoint, seconds=10):
            theirs = listener.accept()
            assert theirs is not None
            theirs.close()
    finally:
        listener.close()


@needs_root
def test_another_user_cannot_reach_the_socket(listener):
    """The directory keeps other users out, though all directories above admit every user."""
    tried = as_stranger(f"socket.socket(socket.AF_UNIX).connect({listener.endpoint.path!r})")

    assert "PermissionError" in tried.stderr
    assert listener.accept() is None


@needs_root
def test_a_connection_of_another_user_is_closed_unread(listener):
    """Even if a process of ours has admitted that user: here by the directory's mode."""
    path = Path(listener.endpoint.path)
    path.chmod(0o777)
    path.parent.chmod(0o755)
    tried = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", AS_STRANGER.format(uid=STRANGER, body=f"""
s = socket.socket(socket.AF_UNIX)
s.connect({str(path)!r})
s.sendall({(listener.endpoint.call + " {}").encode()!r})
print("sent", flush=True)
print(s.recv(100))
""")], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert tried.stdout.readline() == "sent\n"
    assert listener.accept() is None
    said, _ = tried.communicate(timeout=60)

    assert "b'{" not in said


@needs_root
def test_no_byte_is_sent_to_a_listener_of_another_user(place):
    """It listens at our old path: the name is free again after the job."""
    directory = place / "there"
    directory.mkdir()
    directory.chmod(0o777)
    path = str(directory / "s")
    thief = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", AS_STRANGER.format(uid=STRANGER, body=f"""
s = socket.socket(socket.AF_UNIX)
s.bind({path!r}); s.listen(1)
print("listens", flush=True)
print(s.accept()[0].recv(100))
""")], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert thief.stdout.readline() == "listens\n"
    with pytest.raises(PermissionError, match=f"user {STRANGER} listens"):
        connect(Endpoint(path, "call", "reply"), seconds=10)
    said, _ = thief.communicate(timeout=60)

    assert said == "b''\n"


def test_a_forked_copy_leaves_the_directory_to_the_original(tmp_path):
    """It closes only its descriptor."""
    listener = HandshakeListener(socket.SOCK_SEQPACKET).open(tmp_path)
    pid = os.fork()
    if pid == 0:
        listener.close()
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED)
    try:
        assert Path(listener.endpoint.path).exists()
    finally:
        listener.close()
