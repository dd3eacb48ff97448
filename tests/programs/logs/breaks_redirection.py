"""Spoils stdout inside a redirection: ``PATH MISDEED``."""

import os
import sys

from derail.logs import redirect_stdout

try:
    with redirect_stdout(sys.argv[1]):
        if sys.argv[2] == "exception":
            raise KeyError
        elif sys.argv[2] == "close":
            os.close(1)
        else:
            sys.stdout = open(os.devnull, "w")
            sys.stdout.close()
except KeyError:
    pass
os.write(1, b"back\n")
