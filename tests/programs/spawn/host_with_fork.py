"""A host with a rank by a fork server, and a forked child that holds its descriptors: ``TESTS DIRECTORY``."""

import os
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import function_rank
import rank_functions

returns = function_rank.Returns([0])
returns.open()
spec = function_rank.rank_spec(Path(sys.argv[2]), "forkserver", rank_functions.wait_for_ever)
handle = function_rank.start_function(spec, returns)
from derail.spawn import descriptors

with descriptors.kept_by_forks(descriptors.owned()):
    child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
print(handle.pid, flush=True)
os.kill(os.getpid(), 9)
