"""Rank 1 goes elsewhere; the others wait for it in a collective of their own."""

import os
import threading

import derail


def evaluate():
    threading.Event().wait()


for _ in range(5):
    with derail.record_collective("exchange"):
        pass
print("begun", flush=True)
if os.environ["RANK"] == "1":
    evaluate()
with derail.record_collective("exchange"):
    threading.Event().wait()
