"""Rank 1 raises under ``record``, the others wait; with ``bare`` every rank exits with 7."""

import os
import sys
import time

from derail.errors import record


@record
def main():
    if os.environ["RANK"] == "1":
        raise ValueError("rank 1 had enough")
    time.sleep(600)


if sys.argv[1:] == ["bare"]:
    sys.exit(7)
main()
