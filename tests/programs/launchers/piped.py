"""A launcher that reads its ranks through pipes.

It is called ``piped.py RANKS MODE COMMAND``. MODE is what it does with that:

    prints    prints it, each line behind the number of its rank
    glues     prints it without line ends
    keeps     writes it to the files RANK.stdout and RANK.stderr in $KEPT
    drops     reads it, and does no more
    at_end    reads it when the rank has ended: a rank that writes more than its pipe takes waits for ever
    in_turn   reads stdout to its end, then stderr: a rank that writes much to stderr waits for ever
    no_err    prints stdout, and reads stderr without printing it

The first rank that fails ends the others; it leaves with that rank's code.
"""

import os
import subprocess
import sys
import threading
import time

ranks, mode, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
running, readers, failed = {}, [], []


def take(rank, name, stream):
    """Read a stream to its end."""
    for line in stream:
        if mode == "keeps":
            with open(f"{os.environ['KEPT']}/{rank}.{name}", "ab") as file:
                file.write(line)
        elif mode == "glues":
            os.write(1, line.rstrip(b"\n") + b" ")
        elif mode in ("prints", "at_end", "in_turn") or (mode == "no_err" and name == "stdout"):
            os.write(1, b"[%d] " % rank + line)


def watch(rank, process):
    """Read what a rank writes, and end the others if it fails."""
    streams = {"stdout": process.stdout, "stderr": process.stderr}
    if mode == "at_end":
        process.wait()
    if mode in ("at_end", "in_turn"):
        for name, stream in streams.items():
            take(rank, name, stream)
    else:
        for name, stream in streams.items():
            readers.append(threading.Thread(target=take, args=(rank, name, stream), daemon=True))
            readers[-1].start()
    if process.wait():
        failed.append(process.returncode)
        for other in running.values():
            other.terminate()


for rank in range(ranks):
    env = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(ranks)}
    running[rank] = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
watchers = [threading.Thread(target=watch, args=each) for each in running.items()]
for thread in watchers:
    thread.start()
for thread in watchers:
    thread.join()
until = time.monotonic() + 3  # the end of what a rank wrote may be in its pipe, and a helper may hold it open for long
for thread in readers:
    thread.join(max(0, until - time.monotonic()))
sys.exit(failed[0] if failed and failed[0] > 0 else 128 - failed[0] if failed else 0)
