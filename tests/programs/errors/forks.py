"""A recorded function forks a child that dies of an exception."""

import os

from derail.errors import record


@record
def main():
    child = os.fork()
    if not child:
        raise ValueError("the child's")
    assert os.waitpid(child, 0)[1] != 0


main()
