"""A host with unwritten output forks a rank: ``DIRECTORY TESTS``."""

import atexit
import os
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
import function_rank
import rank_functions


def note():
    os.write(2, b"host ends")


atexit.register(note)
sys.stdout.write("held back ")
ran = function_rank.run(Path(sys.argv[1]), "fork", rank_functions.give, 3)
print(ran.value, repr(ran.stdout + ran.stderr))
