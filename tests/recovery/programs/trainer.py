"""Training program on one rank that saves every three steps and resumes; ``--flaw`` plants an error in it."""

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

FLAWS = ("in place", "no fsync", "no rng", "no resume", "keeps temp", "skips", "resume hangs", "prints time", "deaf")
parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--steps", type=int, default=9)
parser.add_argument("--flaw", choices=FLAWS)
args = parser.parse_args()

asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
args.out.mkdir(exist_ok=True)
path, weight, step = args.out / "state.json", 0.0, 0
random.seed(0)


def save() -> None:
    """Write the state to a temporary file, make it durable, and put it into place."""
    state = {"weight": weight, "step": step, "rng": random.getstate()}
    temporary = path if args.flaw == "in place" else path.with_suffix(".tmp")
    if args.flaw == "keeps temp":
        temporary = args.out / f"state{time.monotonic_ns()}.part"
    with temporary.open("w") as file:
        json.dump(state, file)
        file.flush()
        if args.flaw != "no fsync":
            os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(args.out, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


if path.exists() and args.flaw != "no resume":
    state = json.loads(path.read_text())
    weight, step = state["weight"], state["step"]
    if args.flaw != "no rng":
        version, internal, gauss = state["rng"]
        random.setstate((version, tuple(internal), gauss))
    if args.flaw == "skips":
        step += 3
    if args.flaw == "resume hangs":
        signal.pause()
    print("resumed at step", step + 1, flush=True)
while step < args.steps:
    step += 1
    weight += random.random() - 0.1 * weight
    print("step", step, flush=True)
    if step % 3 == 0:
        save()
    if asked and args.flaw == "deaf":
        while True:  # as a rank that waits for another one
            signal.pause()
    if asked:
        save()
        sys.exit(143)
if args.flaw == "prints time":
    print("seconds", time.perf_counter())
print("final loss", repr(weight), flush=True)
