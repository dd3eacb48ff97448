"""Planted bug: ranks save in turn, to spare the disk, outside any collective: their shards are of different steps."""

import os

from collective import RANK, SIZE, all_reduce
from toy import Training, arguments, read, synchronize, write_durably


def save(out, training):
    path = out / f"rank_{RANK}.json"
    write_durably(path.with_suffix(".tmp"), training.state())
    os.rename(path.with_suffix(".tmp"), path)
    synchronize(out)


args, training = arguments(), Training(RANK)
path = args.out / f"rank_{RANK}.json"
if path.exists():
    training.restore(read(path))
    if RANK == 0:
        print(f"resumed at step {training.step}", flush=True)
while training.step < args.steps:
    training.update([value / SIZE for value in all_reduce(training.gradient())])
    if RANK == 0:
        print(f"step {training.step}", flush=True)
    if (training.step + RANK) % args.save_every == 0:
        save(args.out, training)
if RANK == 0:
    print(f"final loss {training.loss()!r}", flush=True)
