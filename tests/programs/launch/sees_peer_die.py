"""Record an error as soon as the kernel has taken the files of a peer, before the end of that peer is announced."""

import os
import time

from derail.errors.recorder import ErrorHandler

PF_EXITING = 0x4

while not os.path.exists(os.environ["DIR"] + "/pid"):
    time.sleep(0.002)
with open(os.environ["DIR"] + "/pid") as file:
    pid = int(file.read())
with open(os.environ["DIR"] + "/go", "w"):
    pass
while True:
    with open(f"/proc/{pid}/stat") as file:
        state, *fields = file.read().rpartition(")")[2].split()
    if state == "Z" or (int(fields[5]) & PF_EXITING and not os.listdir(f"/proc/{pid}/fd")):
        break
ErrorHandler().record_exception(ConnectionError("peer is gone"))
time.sleep(600)
