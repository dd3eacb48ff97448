"""Exceptions without a text, a pickle, a class or an end."""

import pytest

pytestmark = pytest.mark.ranks(2)


class NoText(Exception):
    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


class NoPickle(Exception):
    def __reduce__(self):
        raise SystemExit(0)


class NoLoad(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.text = text

    def __setstate__(self, state):
        raise KeyboardInterrupt


class NoClass(Exception):
    @property
    def __class__(self):
        raise ValueError("no class")


@pytest.mark.parametrize("kind", [NoText, NoPickle, NoLoad, NoClass])
def test_kinds(kind):
    raise kind("told")


def test_many_lines():
    raise ValueError("told\n" * 210_000)


def test_cyclic():
    class Local(Exception):
        pass

    first, second = Local("told"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def test_group():
    raise BaseExceptionGroup("told", [NoText(1), ExceptionGroup("inner", [KeyError(2)]), SystemExit(0)])


def test_after():
    pass
