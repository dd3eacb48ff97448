"""Sets of standard streams: the text form, and one value per local rank."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.model.std import Std, to_map

STREAMS = st.sampled_from(list(Std))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", Std.NONE), ("1", Std.OUT), ("2", Std.ERR), ("3", Std.ALL)],
)
def test_one_digit_means_every_rank(text, expected):
    """A single number is the same for all ranks."""
    assert Std.from_str(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:3", {0: Std.ALL}),
        ("0:3,1:0", {0: Std.ALL, 1: Std.NONE}),
        ("0:3,10:1", {0: Std.ALL, 10: Std.OUT}),
        ("127:2", {127: Std.ERR}),
        ("0-2:3,12:1", {0: Std.ALL, 1: Std.ALL, 2: Std.ALL, 12: Std.OUT}),
        ("5-5:1", {5: Std.OUT}),
    ],
)
def test_a_list_names_ranks_of_any_number_and_ranges(text, expected):
    """A list names ranks one by one or by range, and local ranks may have any number of digits."""
    assert Std.from_str(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "-1",
        "33",
        "0:4",
        "0:",
        ":3",
        "a:1",
        "0:3,",
        ",0:3",
        "0:3;1:0",
        " 3",
        "3\n",
        "0:3\n",
        "1-:3",
        "-2:3",
        "0x1:1",
    ],
)
def test_another_form_is_refused_with_the_valid_forms(text):
    """Text of another form is refused, repeated, and followed by the valid forms."""
    with pytest.raises(ValueError, match="does not select streams") as raised:
        Std.from_str(text)

    assert repr(text) in str(raised.value)
    assert "'0:3,4-7:1'" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3-1:2", "'3-1:2' has the range 3-1, which runs backwards"),
        ("0:1,0:2", "'0:1,0:2' names local rank 0 twice"),
        ("0-4:1,3:2", "'0-4:1,3:2' names local rank 3 twice"),
        ("0-99999999:1", "'0-99999999:1' has the range 0-99999999, which no machine has ranks for"),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(text, message):
    """A backward range, a rank that is named twice and an endless range are refused, with the reason."""
    with pytest.raises(ValueError) as raised:
        Std.from_str(text)

    assert str(raised.value) == message


@given(st.dictionaries(st.integers(0, 10_000), STREAMS, min_size=1))
def test_every_list_round_trips(chosen):
    """Whatever map is written as a list is read back as that map."""
    text = ",".join(f"{rank}:{int(std)}" for rank, std in chosen.items())

    assert Std.from_str(text) == chosen


@given(st.text())
def test_any_text_is_read_or_refused_as_a_value_error(text):
    """No text raises anything but ValueError."""
    try:
        read = Std.from_str(text)
    except ValueError:
        return
    assert isinstance(read, Std) or all(isinstance(std, Std) for std in read.values())


@given(STREAMS, st.integers(0, 100))
def test_one_value_is_given_to_every_rank(std, ranks):
    """A single value becomes the value of each local rank."""
    assert to_map(std, ranks) == dict.fromkeys(range(ranks), std)


def test_ranks_that_a_map_leaves_out_get_none():
    """A map need not name every rank; the others keep the console."""
    assert to_map({1: Std.OUT}, 3) == {0: Std.NONE, 1: Std.OUT, 2: Std.NONE}


def test_a_map_is_copied_in_the_order_of_the_ranks():
    """The result is in rank order, and the caller's map is not changed."""
    given_map = {1: Std.OUT, 0: Std.ERR}

    assert list(to_map(given_map, 2).items()) == [(0, Std.ERR), (1, Std.OUT)]
    assert given_map == {1: Std.OUT, 0: Std.ERR}


def test_a_map_with_unknown_ranks_is_refused_by_their_names():
    """Ranks that the job does not have are named, not ignored."""
    with pytest.raises(ValueError) as raised:
        to_map({0: Std.OUT, 4: Std.ALL, 2: Std.ERR, -1: Std.ERR}, 2)

    assert str(raised.value) == "streams are given for local rank(s) [-1, 2, 4], but the job has local ranks 0 to 1"
