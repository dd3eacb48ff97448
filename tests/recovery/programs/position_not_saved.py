"""Planted bug: the position in the data is not saved, and a resumed run begins with the first sample again."""

import os

from toy import Training, arguments, read, synchronize, write_durably


def save(out, training):
    state = training.state()
    del state["position"]
    write_durably(out / "state.tmp", state)
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
