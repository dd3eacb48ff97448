"""Kill this process while a file of it has much memory, which the kernel frees after it has taken all descriptors."""

import os
import sys
import time

SIZE = 512 << 20

file_in_memory = os.memfd_create("much")
for _ in range(SIZE >> 20):
    os.write(file_in_memory, b"x" * (1 << 20))
with open(os.environ["DIR"] + "/draft", "w") as file:
    file.write(str(os.getpid()))
os.rename(os.environ["DIR"] + "/draft", os.environ["DIR"] + "/pid")
while not os.path.exists(os.environ["DIR"] + "/go"):
    time.sleep(0.002)
os.kill(os.getpid(), 9)
sys.exit("it lives on")
