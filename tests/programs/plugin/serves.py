"""A server: ``PORT``; it ends with its stdin."""

import socket
import sys

with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    print("serves", flush=True)
    sys.stdin.read()
