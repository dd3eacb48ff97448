"""A module counts how often it is imported; nothing of this is the rank's own."""

import os

import pytest


def mark(name):
    with open(os.path.join(os.path.dirname(__file__), name), "a") as file:
        file.write("x")
