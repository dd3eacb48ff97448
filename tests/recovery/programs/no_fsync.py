"""Planted bug: the new file gets its name by a rename, but its data is never synchronized."""

import json
import os

from toy import Training, arguments, read, synchronize


def save(out, training):
    with open(out / "state.tmp", "w") as file:
        file.write(json.dumps(training.state()))
    os.rename(out / "state.tmp", out / "state.json")
    synchronize(out)


args, training = arguments(), Training()
if (args.out / "state.json").exists():
    training.restore(read(args.out / "state.json"))
    print(f"resumed at step {training.step}", flush=True)
while training.step < args.steps:
    training.update(training.gradient())
    print(f"step {training.step}", flush=True)
    if training.step % args.save_every == 0:
        save(args.out, training)
print(f"final loss {training.loss()!r}", flush=True)
