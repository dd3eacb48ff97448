"""A forked child drops the handle of a program."""

import gc
import os

from derail.model.spec import Command, RankSpec
from derail.spawn.command import start_command

handle = start_command(RankSpec(0, Command(("sleep", "600")), dict(os.environ)))
number = handle.exit_fd
if (pid := os.fork()) == 0:
    try:
        os.fstat(number)
    except OSError:
        pass
    fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(fd, number)
    del handle
    gc.collect()
    os.fstat(number)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
handle.signal(9)
handle.wait_readable(60)
print(handle.reap())
