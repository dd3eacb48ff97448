"""Python, C and a child write before, inside and after a redirection: ``STDOUT STDERR``."""

import ctypes
import subprocess
import sys

from derail.logs import redirect_stderr, redirect_stdout

libc = ctypes.CDLL(None)


def say(what):
    print("python", what)
    libc.printf(b"c %s\n", what.encode())
    sys.stdout.flush()
    libc.fflush(None)
    subprocess.run(["echo", "child " + what])
    print("python err", what, file=sys.stderr)


say("before")
with redirect_stdout(sys.argv[1]), redirect_stderr(sys.argv[2]):
    say("inside")
    print("unflushed")
    libc.printf(b"c unflushed\n")
say("after")
