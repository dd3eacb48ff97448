"""Records collectives by hand, then does what its argument says."""

import ctypes
import os
import sys

import derail

for step in range(200):
    with derail.record_collective("exchange", group="halo", ranks=(0, 1), shapes="float32[8]"):
        pass
with derail.record_collective("exchange", group="halo", ranks=(0, 1), shapes="float32[8]"):
    print("inside", flush=True)
    match sys.argv[1]:
        case "waits":
            sys.stdin.read()
        case "holds the GIL":
            ctypes.PyDLL(None).sleep(600)
        case "forks":
            child = os.fork()
            if child == 0:
                for step in range(1000):
                    with derail.record_collective("of the child"):
                        pass
                os._exit(0)
            os.waitpid(child, 0)
