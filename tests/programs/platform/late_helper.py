"""Looks as if it had no command, then like a helper of multiprocessing, as long as a file is there: ``FILE``."""

import ctypes
import os
import struct
import sys
import time


def show(words):
    kept.append(ctypes.create_string_buffer(words))
    with open("/proc/self/stat") as file:
        fields = [0, 0, 0, *file.read().rpartition(")")[2].split()]  # numbered as in proc_pid_stat(5)
    start, libc = ctypes.addressof(kept[-1]), ctypes.CDLL(None)
    libc.sbrk.restype = ctypes.c_void_p
    code, stack, environ = map(int, fields[26:28]), int(fields[28]), map(int, fields[50:52])
    data = map(int, fields[45:48])
    numbers = (*code, *data, libc.sbrk(0), stack, start, start + len(words), *environ, 0, 0, 0xFFFFFFFF)
    layout = struct.pack("=12Q2I", *numbers)
    assert libc.prctl(35, 14, layout, len(layout), 0) == 0  # PR_SET_MM, PR_SET_MM_MAP


kept, rank = [], os.getppid()
show(b"")
print("here", flush=True)
while os.getppid() == rank:
    time.sleep(0.001)
show(b"from multiprocessing.resource" + b"_tracker import main;main(5)" + bytes(1))
while os.path.exists(sys.argv[1]):
    time.sleep(0.001)
