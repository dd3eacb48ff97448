"""Messages of ranks with all that a terminal obeys."""

import pytest

BAD = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202ebidi \x08\x00 ]]>"
Hostile = type("Hostile\x1b[31m", (Exception,), {})


@pytest.mark.ranks(2)
def test_message(rank, record_property):
    record_property("name\x1b[31m", 1)
    raise Hostile(BAD)


@pytest.mark.ranks(2)
def test_assertion(rank):
    assert [BAD] == [rank], BAD


@pytest.mark.ranks(2)
def test_skip(rank):
    pytest.skip(BAD)


@pytest.mark.ranks(2)
@pytest.mark.xfail(reason=BAD)
def test_xfail(rank):
    assert 0
