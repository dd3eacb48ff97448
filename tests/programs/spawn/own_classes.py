"""Functions and values of the main program, by each start method: ``DIRECTORY TESTS``."""

import sys
from pathlib import Path


class Point:
    """A value whose class only this program has."""

    def __init__(self, x):
        self.x = x


def work(point):
    return Point(point.x + 1)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[2])
    import function_rank

    for method in function_rank.METHODS:
        value = function_rank.run(Path(sys.argv[1]), method, work, Point(1)).value
        print(method, type(value) is Point, value.x)
