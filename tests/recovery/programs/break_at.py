"""Run a program, and kill it before the n-th operation on its checkpoints: ``break_at.py N kill|power PROGRAM ...``.

Operations are what Python audits (opened for writing, renamed, deleted, made, pauses), and the first write to a file.
After "power", files whose data was not synchronized are empty. With N = 0 a rank only notes what it synchronizes. An
independent, coarse oracle: it uses nothing of derail.
"""

import builtins
import os
import runpy
import signal
import sys
from pathlib import Path

left, kind, program = int(sys.argv[1]), sys.argv[2], sys.argv[3]
sys.argv = sys.argv[3:]
out = os.path.abspath(sys.argv[sys.argv.index("--out") + 1])
sys.path.insert(0, os.path.dirname(os.path.abspath(program)))
notes = Path(out).with_name("synchronized")
notes.mkdir(exist_ok=True)
fsync, open_file = os.fsync, open
CHANGES = os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY


def note_of(info):
    return notes / f"{info.st_ino}-{info.st_size}"


def noting_fsync(descriptor):
    fsync(descriptor)
    note_of(os.fstat(descriptor)).touch()


def opened(path, mode="r", *arguments, **named):
    file = open_file(path, mode, *arguments, **named)
    if "w" in mode and is_watched(path):
        count()
    return file


def hook(event, arguments):
    if event == "time.sleep" and arguments[0]:
        count()
    elif event == "open" and arguments[2] & CHANGES and is_watched(arguments[0]):
        count()
    elif event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") and is_watched(arguments[0]):
        count()


def is_watched(path):
    return not isinstance(path, int) and os.path.abspath(os.fsdecode(path)).startswith(out)


def count():
    global left
    left -= 1
    if left == 0:
        if kind == "power":
            lose_power()
        os.kill(os.getpid(), signal.SIGKILL)


def lose_power():
    for path in Path(out).rglob("*"):
        if path.is_file() and not note_of(path.stat()).exists():
            os.truncate(path, 0)


os.fsync, builtins.open = noting_fsync, opened
sys.addaudithook(hook)
runpy.run_path(program, run_name="__main__")
