"""A launcher whose ranks a daemon starts, as Slurm does: ``RANKS SOCKET COMMAND``; ``serve SOCKET`` is the daemon.

The launcher sends the daemon its environment and the command, prints what the daemon sends, and leaves with the code
that comes last. The daemon gives the ranks Slurm's variables and no others, and ends them with the first that fails;
their helpers it does not know, and it does not notice when the launcher is gone.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading


def run_job(connection):
    """Run the ranks of one launcher."""
    job = json.loads(connection.makefile("rb").readline())
    lock = threading.Lock()
    running = {}

    def send(line):
        with lock:
            try:
                connection.sendall(line)
            except OSError:
                pass  # the launcher is gone

    def relay(process):
        for line in process.stdout:
            send(line)

    def watch(process):
        reader = threading.Thread(target=relay, args=(process,), daemon=True)
        reader.start()
        code = process.wait()
        reader.join(0.5)  # a helper of the rank may hold its pipe open for long
        if code:
            for other in running.values():
                other.terminate()

    for rank in range(job["ranks"]):
        numbers = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NTASKS": job["ranks"]}
        running[rank] = subprocess.Popen(
            job["command"],
            env={**job["env"], **{name: str(number) for name, number in numbers.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    threads = [threading.Thread(target=watch, args=(process,)) for process in running.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = [process.returncode for process in running.values()]
    code = next((code for code in codes if code > 0), next((128 - code for code in codes if code), 0))
    send(b"\0%d\n" % code)
    connection.close()


if sys.argv[1] == "serve":
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[2])
        listener.listen()
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        print("ready", flush=True)
        while True:
            threading.Thread(target=run_job, args=(listener.accept()[0],), daemon=True).start()

with socket.socket(socket.AF_UNIX) as daemon:
    daemon.connect(sys.argv[2])
    order = {"ranks": int(sys.argv[1]), "env": dict(os.environ), "command": sys.argv[3:]}
    daemon.sendall(json.dumps(order).encode() + b"\n")
    code = 1
    for line in daemon.makefile("rb"):
        if line.startswith(b"\0"):
            code = int(line[1:])
        else:
            os.write(1, line)
sys.exit(code)
