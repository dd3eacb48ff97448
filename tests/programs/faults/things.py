"""Functions and methods of every kind, to be watched."""

import functools


def counted(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@counted
def first(n):
    return n


@counted
def second(n):
    return n


class Base:
    """A method of a base class."""

    def step(self):
        return "base"


class Child(Base):
    """Methods of every kind, one of which calls its base."""

    def step(self):
        return super().step() + "child"

    @classmethod
    def made(cls, n):
        return n

    @staticmethod
    def still(n):
        return n


def fails(n):
    raise KeyError(n)


def numbers(n):
    yield n


SIZE = 3
