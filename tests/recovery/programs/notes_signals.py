"""A launcher, two ranks and a helper without a rank: each notes its signals, and ends by the one named in OBEYS."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

name = sys.argv[1] if len(sys.argv) > 1 else "launcher"


def note(number, _):
    with open("signals", "a") as file:
        file.write(f"{name} {signal.Signals(number).name} {time.monotonic()}\n")
    if signal.Signals(number).name == os.environ["OBEYS"]:
        sys.exit(3)


for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, note)
children = []
if name == "launcher":
    for child, env in (("rank0", {"RANK": "0"}), ("rank1", {"RANK": "1"}), ("helper", {})):
        children.append(subprocess.Popen([sys.executable, __file__, child], env={**os.environ, **env}))
Path(f"ready-{name}").touch()
for child in children:
    child.wait()
while not children:
    signal.pause()
