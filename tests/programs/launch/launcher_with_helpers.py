"""A launcher to be killed: ``KIND``; each of its two ranks has a helper."""

import os
import sys
import threading

from derail import DefaultLogsSpecs, start_processes


def nap():
    with open(os.environ["DIR"] + f"/rank{os.environ['RANK']}", "w") as file:
        file.write(f"{os.getpid()}\n")
    threading.Event().wait()


def main(kind):
    method = kind if kind != "program" else "spawn"
    script = 'echo $$ > "$DIR/rank$RANK.tmp"; mv "$DIR/rank$RANK.tmp" "$DIR/rank$RANK"; '
    script += "setsid sh -c 'echo $$ > \"$DIR/helper$RANK\"; exec sleep 600' & sleep 600"
    entry, args = ("/bin/sh", ("-c", script)) if kind == "program" else (nap, ())
    envs = {r: {"RANK": str(r)} for r in range(2)}
    specs = DefaultLogsSpecs(os.environ["DIR"] + "/logs")
    context = start_processes("job", entry, {0: args, 1: args}, envs, specs, start_method=method)
    print("started", flush=True)
    context.wait()


if __name__ == "__main__":
    main(sys.argv[1])
