"""A host with a rank by a fork server: ``TESTS DIRECTORY``; prints the rank's process id."""

import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import function_rank
import rank_functions

returns = function_rank.Returns([0])
returns.open()
spec = function_rank.rank_spec(Path(sys.argv[2]), "forkserver", rank_functions.wait_for_ever)
handle = function_rank.start_function(spec, returns)
print(handle.pid, flush=True)
sys.stdin.read()
