"""Planted bug: of the checkpoints only the last is kept, and the old one is deleted before the new one is durable."""

import os

from toy import Training, arguments, number, read, synchronize, write_durably


def save(out, training):
    for old in out.iterdir():
        old.unlink()
    path = out / f"step_{training.step}.json"
    write_durably(path.with_suffix(".tmp"), training.state())
    os.rename(path.with_suffix(".tmp"), path)
    synchronize(out)


args, training = arguments(), Training()
saved = sorted(args.out.glob("step_*.json"), key=number)
if saved:
    training.restore(read(saved[-1]))
    print(f"resumed at step {training.step}", flush=True)
while training.step < args.steps:
    training.update(training.gradient())
    print(f"step {training.step}", flush=True)
    if training.step % args.save_every == 0:
        save(args.out, training)
print(f"final loss {training.loss()!r}", flush=True)
