"""Traces a process: ``PID``."""

import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE = 0x4206
if libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) != 0:
    print("refused", os.strerror(ctypes.get_errno()), flush=True)
    os._exit(77)
print("tracing", flush=True)
sys.stdin.readline()
os._exit(0)
