"""A launcher without any care: it starts three programs and waits for each."""

import os
import subprocess

SESSION = False


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def start(n):
    try:
        return subprocess.Popen(["/bin/sh", "-c", f"echo rank {n}; exit {n + 3}"], start_new_session=SESSION)
    except OSError as error:
        say("rank", n, type(error).__name__, error.errno)


started = [start(n) for n in range(3)]
say("all started")
say("told", [each and each.wait() for each in started])
