"""Writes lines of all lengths to both streams: ``RANK LINES``."""

import sys

rank, lines = int(sys.argv[1]), int(sys.argv[2])
for number in range(lines):
    width = 20_000 if number % 150 == 149 else number * 7 % 150
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        print(f"<{rank} {name} {number} " + "€" * width + ">", file=stream)
    if number % 50 == 0:
        sys.stdout.write("<" + str(rank) + " part")
        sys.stdout.flush()
        sys.stdout.write(f" {number} >\n")
