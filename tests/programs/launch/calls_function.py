"""A launcher whose rank calls a function of ``rank_functions``: ``METHOD``."""

import os
import sys

PATH = sys.path
NAME = ""
HOW = ""
sys.path[:] = PATH
import rank_functions
from derail import DefaultLogsSpecs, start_processes

if __name__ == "__main__":
    method = sys.argv[1]
    source = f"import sys; sys.path[:] = {sys.path!r}; import rank_functions; rank_functions.{NAME}"
    call = (os.environ["DIR"], HOW)
    entry, args = (getattr(rank_functions, NAME), call)
    if method == "program":
        entry, args = sys.executable, ("-c", source + repr(call))
    specs = DefaultLogsSpecs(os.environ["DIR"] + "/logs")
    how = {} if method == "program" else {"start_method": method}
    start_processes("job", entry, {0: args}, {0: {}}, specs, **how).wait()
