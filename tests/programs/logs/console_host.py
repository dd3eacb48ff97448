"""Prints, while many writers share its console: ``DIRECTORY WRITER RANKS LINES NOTIFY``."""

import os
import select
import subprocess
import sys
import threading

from derail.logs import ConsoleSink, Tail

directory, writer, ranks, lines = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
print("<host before>")
keys = [(rank, stream) for rank in range(ranks) for stream in ("stdout", "stderr")]
paths = {key: os.path.join(directory, f"{key[0]}.{key[1]}") for key in keys}
reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
tail = Tail(paths, notify=sys.argv[5] == "True")
consoles = []
for stream in ("stdout", "stderr"):
    console = ConsoleSink(
        getattr(sys, stream), prefix=lambda key: f"[t{key[0]}]:", on_room=lambda: os.write(writing, b"1")
    )
    console.start()
    consoles.append(console)
    tail.add(console.take, keys=[key for key in keys if key[1] == stream], ready=console.ready)
tail.open()
left = {}
for rank in range(ranks):
    streams = {name: open(paths[rank, name], "ab") for name in ("stdout", "stderr")}
    process = subprocess.Popen([sys.executable, "-c", writer, str(rank), str(lines)], **streams)
    left[rank] = process
    for file in streams.values():
        file.close()

done = threading.Event()


def chatter():
    number = 0
    while not done.wait(0.001):
        print(f"<host {number}>")
        print(f"<host err {number}>", file=sys.stderr)
        number += 1


thread = threading.Thread(target=chatter)
thread.start()
poll = select.poll()
poll.register(reading, select.POLLIN)
if tail.fd is not None:
    poll.register(tail.fd, select.POLLIN)
while not tail.done:
    if not tail.poll():
        poll.poll(min(tail.interval, 0.05) * 1000)
        try:
            os.read(reading, 4096)
        except BlockingIOError:
            pass
    for rank, process in list(left.items()):
        if process.poll() is not None:
            assert process.returncode == 0
            del left[rank]
            for name in ("stdout", "stderr"):
                tail.finish((rank, name))
done.set()
thread.join()
missed = [console.close(idle=30.0, limit=60.0) for console in consoles]
tail.close()
print("<host after>")
assert missed == [0, 0], missed
assert threading.active_count() == 1, threading.enumerate()
