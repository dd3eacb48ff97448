"""A program starts while stdout and stderr are closed."""

import os

from derail.model.spec import Command, RankSpec
from derail.spawn.command import start_command

out = os.dup(1)
os.close(1)
os.close(2)
handle = start_command(RankSpec(0, Command(("sh", "-c", "echo lost; echo lost >&2")), dict(os.environ)))
code = handle.proc.wait()
os.write(out, str(code).encode())
