"""Ends its main thread, and runs on in another."""

import ctypes
import os
import threading


def run():
    while open(f"/proc/{os.getpid()}/stat").read().rpartition(")")[2].split()[0] != "Z":
        os.sched_yield()
    print("alone", flush=True)
    threading.Event().wait(600)


input()
threading.Thread(target=run).start()
ctypes.CDLL(None).pthread_exit(None)
