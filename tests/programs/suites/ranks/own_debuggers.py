"""Debuggers in ranks that read and write their own streams."""

import doctest
import io
import pdb

import pytest


class Early(pdb.Pdb):
    def __init__(self, **options):
        pdb.Pdb.__init__(self, **options)


def double(number):
    """Return twice the number.

    >>> double(2)
    4
    """
    return 2 * number


@pytest.mark.ranks(1)
@pytest.mark.parametrize("kind", ["Early", "pdb.Pdb", "type('Late', (pdb.Pdb,), {})"])
def test_it(rank, kind, capsys):
    shown = io.StringIO()
    eval(kind)(stdin=io.StringIO("n\np number\nc\n"), stdout=shown).runcall(double, 21)
    assert "21" in shown.getvalue()
    doctest.run_docstring_examples(double, {"double": double})
    assert "Failed" not in capsys.readouterr().out
