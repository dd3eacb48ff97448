"""Answers to a signal with its stacks, unless it blocks the signal."""

import faulthandler
import signal
import sys

number = int(sys.argv[1])
faulthandler.register(number, file=sys.stderr, all_threads=True)
print("ready", flush=True)
sys.stdin.readline()
signal.pthread_sigmask(signal.SIG_BLOCK, {number})
print("busy", flush=True)
sys.stdin.readline()
signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
print("free", flush=True)
sys.stdin.readline()
signal.pthread_sigmask(signal.SIG_BLOCK, {number})
print("deaf", flush=True)
sys.stdin.readline()
