"""A host that has had a warm rank: ``DIRECTORY HOW TESTS``; prints the process of its zygote, and ends."""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[3])
import function_rank
import rank_functions


def main(directory, how):
    from derail.spawn.zygote import pool

    function_rank.run(Path(directory), "warm", rank_functions.give, 1)
    (pid,) = pool.kept()
    print(pid, flush=True)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raises":
        raise SystemExit(3)


main(*sys.argv[1:3])
