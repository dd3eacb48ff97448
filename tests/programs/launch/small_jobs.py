"""Jobs of shell commands, and what is left of them."""

import os

from derail import DefaultLogsSpecs, Std, start_processes
from derail.model.spec import Teardown


def job(*scripts):
    args = {rank: ("-c", script) for rank, script in enumerate(scripts)}
    logs, how = DefaultLogsSpecs(redirects=Std.ALL), Teardown(sweep="all", grace=1)
    context = start_processes("j", "sh", args, dict.fromkeys(args, {}), logs, teardown=how)
    yield context
    result = context.wait(60)
    context.close()
    yield [(left.what, left.rank, left.ended) for left in result.leftovers]


def sleepers():
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                found += [entry] * (file.read() == b"sleep\0777\0")
        except OSError:
            pass
    return found
