"""Planted bug: LATEST names the new checkpoint before its data is written."""

import os

from toy import Training, arguments, read, synchronize, write_durably


def replace(path, content):
    write_durably(path.with_suffix(".tmp"), content)
    os.rename(path.with_suffix(".tmp"), path)
    synchronize(path.parent)


def save(out, training):
    name = f"step_{training.step}.json"
    replace(out / "LATEST", name)
    replace(out / name, training.state())
    remove_others(out, name)


def remove_others(out, name):
    for path in out.iterdir():
        if path.name not in ("LATEST", name):
            path.unlink()


args, training = arguments(), Training()
if (args.out / "LATEST").exists():
    name = read(args.out / "LATEST")
    training.restore(read(args.out / name))
    print(f"resumed at step {training.step}", flush=True)
    remove_others(args.out, name)
while training.step < args.steps:
    training.update(training.gradient())
    print(f"step {training.step}", flush=True)
    if training.step % args.save_every == 0:
        save(args.out, training)
print(f"final loss {training.loss()!r}", flush=True)
