"""An error file as torch writes it."""

import json
import os
import time


def write(text):
    extra = {"py_callstack": text, "timestamp": str(int(time.time())), "wall_ns": time.time_ns()}
    with open(os.environ["TORCHELASTIC_ERROR_FILE"], "w") as file:
        json.dump({"message": {"message": text, "extraInfo": extra}}, file)
