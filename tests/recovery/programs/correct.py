"""Correct counterpart with one rank: a durable new file replaces the old one; SIGTERM saves after the current step."""

import os
import signal
import sys
import time

from toy import Training, arguments, read, synchronize, write_durably

asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))


def save(out, training):
    write_durably(out / "state.tmp", training.state())
    os.rename(out / "state.tmp", out / "state.json")
    synchronize(out)


args, training = arguments(), Training()
if (args.out / "state.json").exists():
    training.restore(read(args.out / "state.json"))
    print(f"resumed at step {training.step}", flush=True)
while training.step < args.steps:
    time.sleep(args.step_seconds)
    training.update(training.gradient())
    print(f"step {training.step}", flush=True)
    if training.step % args.save_every == 0 or asked:
        save(args.out, training)
    if asked:
        sys.exit(128 + signal.SIGTERM)
print(f"final loss {training.loss()!r}", flush=True)
