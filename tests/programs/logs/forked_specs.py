"""A log directory, and a forked child that has it too."""

import os

from derail.logs import DefaultLogsSpecs

specs = DefaultLogsSpecs()
root = specs.root_log_dir
print(root, flush=True)
child = os.fork()
if child == 0:
    raise SystemExit
os.waitpid(child, 0)
print(os.path.isdir(root))
