"""A launcher whose start is broken off at its third rank."""

import threading

from derail import DefaultLogsSpecs, SignalException, start_processes
from derail.supervise.supervisor import Supervisor

ask, asked = Supervisor.request_stop, threading.Event()


def ask_and_tell(*args, **options):
    ask(*args, **options)
    asked.set()


Supervisor.request_stop = ask_and_tell


class Announce:
    """Says that the start is under way, and holds it until a stop was asked for."""

    wants_lines = False

    def attach(self, control):
        pass

    def observe(self, event):
        if type(event).__name__ == "Started" and event.rank == 2:
            print("starting", flush=True)
            asked.wait(60)


n = 50
envs = {r: {"RANK": str(r)} for r in range(n)}
args = dict.fromkeys(range(n), ("-c", 'echo $$ >> "$DIR/pids"; exec sleep 600'))
try:
    start_processes("job", "/bin/sh", args, envs, DefaultLogsSpecs(), observers=[Announce()])
except SignalException as error:
    print("raised", error.sigval.name, flush=True)
