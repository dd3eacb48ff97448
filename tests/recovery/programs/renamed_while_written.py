"""Planted bug: rank 0 gives the directory its final name as soon as its own shard is durable; rank 1 still writes."""

import json
import os
import shutil
import time

from collective import RANK, SIZE, all_reduce, barrier
from toy import Training, arguments, number, read, synchronize


def save(out, training):
    draft, final = out / "draft", out / f"step_{training.step}"
    if RANK == 0:
        draft.mkdir()
    barrier()
    text = json.dumps(training.state())
    with open(draft / f"rank_{RANK}.json", "w") as file:
        barrier()
        for begin in range(0, len(text), 4096):
            time.sleep(0.03 * RANK)  # its disk is slow
            file.write(text[begin : begin + 4096])
            file.flush()
        os.fsync(file.fileno())
    if RANK == 0:
        synchronize(draft)
        os.rename(draft, final)
        synchronize(out)
        keep_only(out, final)
    barrier()


def keep_only(out, final):
    for other in out.iterdir():
        if other != final:
            shutil.rmtree(other)


args, training = arguments(), Training(RANK)
newest = max(args.out.glob("step_*"), key=number, default=None)
barrier()
if RANK == 0:
    keep_only(args.out, newest)
if newest is not None:
    training.restore(read(newest / f"rank_{RANK}.json"))
    if RANK == 0:
        print(f"resumed at step {training.step}", flush=True)
barrier()
while training.step < args.steps:
    training.update([value / SIZE for value in all_reduce(training.gradient())])
    if RANK == 0:
        print(f"step {training.step}", flush=True)
    if training.step % args.save_every == 0:
        save(args.out, training)
if RANK == 0:
    print(f"final loss {training.loss()!r}", flush=True)
