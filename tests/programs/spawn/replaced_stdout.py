"""A host with unwritten output and a replaced stdout forks ranks: ``DIRECTORY TESTS``."""

import io
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
import function_rank
import rank_functions

sys.stdout.write("held back")


def log(stream=sys.stdout):
    stream.write("rank\n")
    stream.flush()


print("", repr(function_rank.run(Path(sys.argv[1]), "fork", log).stdout), end="")
del log
(Path(sys.argv[1]) / "out-0").unlink()
sys.stdout.write(" held back")
sys.stdout = io.StringIO()
ran = function_rank.run(Path(sys.argv[1]), "fork", rank_functions.give, 3)
sys.stdout = sys.__stdout__
print("", ran.value, repr(ran.stdout))
