"""A daemon that is none of the test's: ``PORT NAME``. It makes shared memory, serves, and ends at a connection."""

import os
import socket
import sys

its_end, ready = os.pipe()
if os.fork():
    os.read(its_end, 1)
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
for number in range(3):
    open(f"/dev/shm/{sys.argv[2]}{number}", "w").close()
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    with open("stranger", "w") as file:
        file.write(str(os.getpid()))
    os.write(ready, b"x")
    server.accept()
