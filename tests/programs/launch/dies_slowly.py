"""Kill this process while it has much memory: the kernel takes tens of milliseconds to tear it down."""

import mmap
import os
import sys
import time

SIZE = 512 << 20

block = mmap.mmap(-1, SIZE)
if hasattr(mmap, "MADV_NOHUGEPAGE"):
    block.madvise(mmap.MADV_NOHUGEPAGE)
for place in range(0, SIZE, 4096):
    block[place] = 1
with open(os.environ["DIR"] + "/draft", "w") as file:
    file.write(str(os.getpid()))
os.rename(os.environ["DIR"] + "/draft", os.environ["DIR"] + "/pid")
while not os.path.exists(os.environ["DIR"] + "/go"):
    time.sleep(0.002)
os.kill(os.getpid(), 9)
sys.exit("it lives on")
