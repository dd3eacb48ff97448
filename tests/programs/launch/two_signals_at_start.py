"""A launcher that gets a second signal while it ends the job of its start."""

import os
import signal

from derail import DefaultLogsSpecs, SignalException, start_processes
from derail.supervise.supervisor import Supervisor


def ask():
    os.kill(os.getpid(), signal.SIGTERM)


class Ask:
    """Sends the first signal when a rank starts."""

    wants_lines = False

    def attach(self, control):
        pass

    def observe(self, event):
        if type(event).__name__ == "Started":
            ask()


join, joined = Supervisor.join, []


def join_and_ask(self):
    join(self)
    if self.done.is_set() and not joined:
        joined.append(self)
        ask()


Supervisor.join = join_and_ask
try:
    start_processes("job", "sleep", {0: ("600",)}, {0: {}}, DefaultLogsSpecs(), observers=[Ask()])
except SignalException as error:
    print("raised", error.sigval.name, flush=True)
ask()
