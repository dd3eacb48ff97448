"""Resolves names until they resolve again."""

import socket
import subprocess  # noqa: F401 - for what tests append
import sys  # noqa: F401
import time


def ask(name):
    try:
        return socket.getaddrinfo(name, 80)[0][4][0]
    except socket.gaierror as error:
        return error.errno


print(ask("localhost"), ask("127.0.0.1"), flush=True)
while ask("localhost") == socket.EAI_AGAIN:
    time.sleep(0.05)
print(ask("localhost"), flush=True)
