"""Correct counterpart with several ranks: all shards are durable before the directory gets its name; ranks agree."""

import os
import shutil
import signal
import sys

from collective import RANK, SIZE, all_reduce, barrier
from toy import Training, arguments, number, read, synchronize, write_durably

asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))


def save(out, training):
    draft, final = out / "draft", out / f"step_{training.step}"
    if RANK == 0:
        draft.mkdir()
    barrier()
    write_durably(draft / f"rank_{RANK}.json", training.state())
    barrier()
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
    *gradient, ends = all_reduce([*training.gradient(), len(asked)])
    training.update([value / SIZE for value in gradient])
    if RANK == 0:
        print(f"step {training.step}", flush=True)
    if training.step % args.save_every == 0 or ends:
        save(args.out, training)
    if ends:
        sys.exit(128 + signal.SIGTERM)
if RANK == 0:
    print(f"final loss {training.loss()!r}", flush=True)
