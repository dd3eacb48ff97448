"""Functions, partials and methods of a test module, run by ranks."""

import functools
from dataclasses import dataclass

from derail import faults


@dataclass(frozen=True)
class Size:
    n: int

    def double(self):
        return Size(2 * self.n)


def double(size, by=2):
    return Size(size.n * by)


def test_functions_and_classes_of_this_module(derail):
    assert dict(derail.run(double, ranks=1, args=(Size(3),)).return_values) == {0: Size(6)}


def test_partials_and_methods(derail):
    assert dict(derail.run(functools.partial(double, by=5), ranks=1, args=(Size(3),)).return_values) == {0: Size(15)}
    assert dict(derail.run(Size(4).double, ranks=1).return_values) == {0: Size(8)}
