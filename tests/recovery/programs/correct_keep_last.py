"""Correct counterpart with one file a step, which is deleted once the next is durable; a draft is not read."""

import os

from toy import Training, arguments, number, read, synchronize, write_durably


def save(out, training):
    path = out / f"step_{training.step}.json"
    write_durably(path.with_suffix(".tmp"), training.state())
    os.rename(path.with_suffix(".tmp"), path)
    synchronize(out)
    remove_others(path)


def remove_others(path):
    for other in path.parent.iterdir():
        if other != path:
            other.unlink()


args, training = arguments(), Training()
saved = sorted(args.out.glob("step_*.json"), key=number)
if saved:
    training.restore(read(saved[-1]))
    print(f"resumed at step {training.step}", flush=True)
    remove_others(saved[-1])
while training.step < args.steps:
    training.update(training.gradient())
    print(f"step {training.step}", flush=True)
    if training.step % args.save_every == 0:
        save(args.out, training)
print(f"final loss {training.loss()!r}", flush=True)
