"""Follows a line of 100 MiB: ``PATH NOTIFY``; prints its size and how much memory grew."""

import resource
import sys

from derail.logs.tail import Tail

path, notify = sys.argv[1], sys.argv[2] == "True"
open(path, "wb").close()
tail = Tail({0: path}, notify=notify).open()
sizes = []
tail.add(lambda key, lines: sizes.append(len(lines.data)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(path, "ab") as out:
    for _ in range(1600):
        out.write(b"x" * 65536)
        out.flush()
        tail.poll()
    out.write(b"\n")
while tail.poll():
    pass
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
tail.close()
print(sum(sizes), grown // 1024)
