"""Records an error as ``record`` does, and tells and awaits steps by files."""

import os
import sys  # noqa: F401 - for what tests append
import time

from derail.errors.recorder import ErrorHandler


def step(word):
    with open(os.environ["DIR"] + f"/{word}", "w"):
        pass


def wait_for(word):
    while not os.path.exists(os.environ["DIR"] + f"/{word}"):
        time.sleep(0.002)


def recorded(text):
    ErrorHandler().record_exception(ValueError(text))
