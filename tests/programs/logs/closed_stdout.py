"""Redirects a closed stdout: ``PATH``."""

import os
import sys

from derail.logs import redirect_stdout

os.close(1)
with redirect_stdout(sys.argv[1]):
    os.write(1, b"inside\n")
try:
    os.write(1, b"after")
except OSError as error:
    print(error.strerror, file=sys.stderr)
sys.stdout = None
