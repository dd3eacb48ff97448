"""A launcher to be signalled; its two ranks ignore what it forwards."""

import json
import signal
import sys

from derail import DefaultLogsSpecs, SignalException, start_processes

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: None)  # what is put back when the job is over: the last signal may be that late
script = 'trap "" TERM INT HUP; echo $$ > "$DIR/r.$RANK"; mv "$DIR/r.$RANK" "$DIR/ready$RANK"; '
script += "while :; do sleep 0.05; done"
envs = {r: {"RANK": str(r)} for r in range(2)}
context = start_processes("job", "/bin/sh", dict.fromkeys(range(2), ("-c", script)), envs, DefaultLogsSpecs())
try:
    print("started", flush=True)
    context.wait()
except SignalException as error:
    print("closing", flush=True)
    context.close(error.sigval, 600)
print(json.dumps(sorted(f.status.signal for f in context.wait(0).ranks.values())), flush=True)
sys.stdin.readline()  # until all signals were sent: an interpreter that is ending has no handlers any more
