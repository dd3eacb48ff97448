"""Planted bug: SIGTERM only sets a flag that is read at the end of an epoch, after the grace period."""

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


args, training = arguments(save_every=6, step_seconds=0.1), Training()
if (args.out / "state.json").exists():
    training.restore(read(args.out / "state.json"))
    print(f"resumed at step {training.step}", flush=True)
while training.step < args.steps:
    for _ in range(args.save_every):
        time.sleep(args.step_seconds)
        training.update(training.gradient())
        print(f"step {training.step}", flush=True)
    save(args.out, training)
    if asked:
        sys.exit(128 + signal.SIGTERM)
print(f"final loss {training.loss()!r}", flush=True)
