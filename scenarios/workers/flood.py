"""Each rank writes 20000 numbered lines as fast as it can, then a last one."""

import os
import sys

rank = os.environ["RANK"]
for number in range(20000):
    sys.stdout.write(f"rank {rank}: line {number} {'x' * 60}\n")
print(f"rank {rank}: last line", flush=True)
sys.exit(int(sys.argv[1]) if rank == "0" and len(sys.argv) > 1 else 0)
