"""Writes down the variables that torchrun gives; rank 0 fails when rank 1 has, in the first attempt: ``PATH``."""

import json
import os
import sys

names = [
    "RANK",
    "LOCAL_RANK",
    "CUDA_VISIBLE_DEVICES",
    "TORCHELASTIC_RESTART_COUNT",
    "TORCHELASTIC_MAX_RESTARTS",
    "TORCHELASTIC_SIGNALS_TO_HANDLE",
    "ROLE_NAME",
    "WORLD_SIZE",
    "GROUP_RANK",
]
told = {name: os.environ.get(name) for name in names}
with open(f"{sys.argv[1]}-{told['RANK']}-{told['TORCHELASTIC_RESTART_COUNT']}", "w") as file:
    json.dump(told, file)
print("as prefixed", flush=True)
if told["RANK"] == "0" and told["TORCHELASTIC_RESTART_COUNT"] == "0":
    while not os.path.exists(f"{sys.argv[1]}-1-0"):
        pass
    sys.exit(3)
if told["RANK"] == "1" and told["TORCHELASTIC_RESTART_COUNT"] == "0":
    import signal

    signal.pause()
