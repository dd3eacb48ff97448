"""Connects to the master, receives, and sends until the connection breaks."""

import errno
import json
import os
import socket
import time

with socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), timeout=120) as sock:
    print("ready", flush=True)
    try:
        got = sock.recv(10)
        try:
            while True:
                sock.send(b"x")
                time.sleep(0.01)
        except OSError as error:
            print(json.dumps([got.decode(), errno.errorcode[error.errno]]), flush=True)
    except OSError as error:
        print(json.dumps(["no bytes", errno.errorcode[error.errno]]), flush=True)
