"""The scorecard of an agent: what it counts, its exit code, its JSON and its text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from derail.model.input_error import InputError
from derail.report.scorecard_json import decode, decode_row, encode, encode_row
from derail.report.scorecard_text import render_scorecard
from report.cards import CARD, EMPTY, RIGHT, SKIPPED, UNKNOWN, WRONG


def test_each_promise_has_a_cell_in_each_row() -> None:
    """Kept, broken, never made, not proved, not run, or not asked for."""
    rows = (RIGHT, WRONG, UNKNOWN, SKIPPED)
    assert [row.cell("root_cause") for row in rows] == ["PASS", "FAIL", "INCONCLUSIVE", "SKIPPED"]
    assert [row.cell("exit_code") for row in rows] == ["n/a", "n/a", "INCONCLUSIVE", "SKIPPED"]
    assert [row.cell("message") for row in rows] == ["", "", "", "SKIPPED"]


def test_promises_and_verdicts_are_counted() -> None:
    """Only promises that some scenario asks for."""
    assert CARD.counts == {"PASS": 1, "FAIL": 1, "INCONCLUSIVE": 1, "SKIPPED": 1}
    assert CARD.asked == ("ends", "root_cause", "exit_code")
    assert CARD.promise_counts()["root_cause"] == {"PASS": 1, "FAIL": 1, "INCONCLUSIVE": 1, "n/a": 0}
    assert CARD.promise_counts()["exit_code"] == {"PASS": 0, "FAIL": 0, "INCONCLUSIVE": 1, "n/a": 2}


def test_blame_is_counted_by_the_cause_that_was_injected() -> None:
    """Runs that prove nothing are left out."""
    assert CARD.attribution() == {"signal SIGKILL": {"right": ("crash/right",), "wrong rank": ("crash/wrong",)}}


@pytest.mark.parametrize(
    ("rows", "code"),
    [((RIGHT, WRONG, UNKNOWN), 1), ((RIGHT, UNKNOWN), 3), ((RIGHT, SKIPPED), 0), ((SKIPPED,), 4), ((), 4)],
)
def test_the_exit_code_is_that_of_the_worst_verdict(rows: tuple[object, ...], code: int) -> None:
    """4 only if nothing could be run."""
    assert replace(CARD, rows=rows).exit_code == code


def test_a_scorecard_is_the_same_after_json() -> None:
    """Also what JSON and terminals do not like; a lone surrogate is replaced, as no UTF-8 has it."""
    clean = replace(CARD, rows=(RIGHT, UNKNOWN, SKIPPED))
    assert decode(encode(clean)) == clean
    assert decode_row(encode_row(RIGHT)) == RIGHT
    assert decode(encode(CARD)).rows[1].reasons[1].startswith("<script>alert('\x1b[31m\x00')</script> & ")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"{", "not a scorecard: Input data was truncated"),
        (b"[]", "not a scorecard. `derail verify-agent --json` writes one"),
        (b'{"format": 99}', "format: expected 1, got 99. `derail verify-agent --json` writes one"),
        (b'{"format": 1}', "not a scorecard: Object missing required field `agent`"),
    ],
)
def test_what_is_no_scorecard_is_an_error_that_says_so(data: bytes, what: str) -> None:
    """With the name of the file."""
    with pytest.raises(InputError) as raised:
        decode(data, source="a.json")
    assert str(raised.value).startswith(f"a.json: {what}")


def test_the_text_tells_all_of_it() -> None:
    """Table, what went wrong, what was skipped, whom the agent blamed, times, leftovers; no control characters."""
    text = render_scorecard(CARD)
    lines = text.splitlines()
    assert (
        lines[0]
        == "Scorecard of planted 1.2: 2026-01-02T03:04:05Z, Linux 6, Python 3.12.1, 2 cores, uid 0, derail 0.1.0"
    )
    table = [line.split() for line in lines if line.startswith(("PASS", "FAIL", "INCONCLUSIVE", "SKIPPED"))][:4]
    assert table == [
        ["PASS", "crash/right", "+", "+", "-", "1.50", "s"],
        ["FAIL", "crash/wrong", "+", "X", "-", "1.50", "s"],
        ["INCONCLUSIVE", "hang/unknown", "?", "?", "?", "1.50", "s"],
        ["SKIPPED", "node/none"],
    ]
    for told in (
        "  * expected root cause rank 1, got rank 0",
        "    evidence: /kept/crash/wrong",
        "SKIPPED  it has no nodes",
        "  wrong rank: crash/wrong reports rank 0",
        "teardown: median 0.75 s of 2; longest 1.00 s crash/wrong, 0.50 s crash/right",
        "left behind in crash/wrong: process 7 of rank 1: sleep 600 (ended)",
        "4 scenarios: 1 PASS, 1 FAIL, 1 INCONCLUSIVE, 1 SKIPPED (12.5 s)",
    ):
        assert told in lines
    assert all(line.isprintable() for line in lines)


def test_the_columns_stand_under_the_names_of_the_promises() -> None:
    """Which are written from top to bottom."""
    lines = render_scorecard(CARD).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("PASS"))
    column = lines[first].index("+")
    assert "".join(line[column : column + 1].strip() for line in lines[1:first]) == "ends"


def test_a_scorecard_without_rows_has_a_text_too() -> None:
    """Nothing was asked for, say."""
    assert render_scorecard(EMPTY).splitlines()[-1] == "0 scenarios: nothing was run (12.5 s)"


def test_a_few_scenarios_have_words_instead_of_columns() -> None:
    """What is broken stands first."""
    lines = render_scorecard(replace(CARD, rows=(WRONG,))).splitlines()
    first = lines.index("FAIL          crash/wrong  1.50 s")

    assert [line.strip() for line in lines[first + 1 : first + 4]] == [
        "broken: root_cause",
        "kept: ends",
        "never promised: exit_code",
    ]


def test_failures_stand_above_what_proves_nothing() -> None:
    """Whatever the order of their names is."""
    late = replace(WRONG, scenario="teardown/late")
    text = render_scorecard(replace(CARD, rows=(UNKNOWN, RIGHT, SKIPPED, late)))

    assert text.index("FAIL  teardown/late: ") < text.index("INCONCLUSIVE  hang/unknown: ")


def test_what_is_said_of_many_scenarios_is_said_once() -> None:
    """With all their names."""
    rows = tuple(replace(WRONG, scenario=f"crash/{name}", reasons=("it restarts",)) for name in "abcd")
    lines = render_scorecard(replace(CARD, rows=rows)).splitlines()

    assert (lines.count("  * it restarts"), lines.count("    crash/a, crash/b, crash/c, crash/d")) == (1, 1)


def test_a_leftover_that_is_a_reason_is_told_once() -> None:
    """Below the table; others are listed at the end."""
    what = "process 7 of rank 1: sleep 600 (ended)"
    row = replace(WRONG, reasons=(f"expected no leftovers, got {what}",), leftovers=(what, "file /x"))
    text = render_scorecard(replace(CARD, rows=(row,)))

    assert " ".join(text.split()).count(what) == 1
    assert "left behind in crash/wrong: file /x" in text


def test_what_was_never_promised_and_is_otherwise_is_told_as_a_difference() -> None:
    """How often, and the first of them."""
    code = replace(RIGHT.findings[-1], differs=True)
    rows = tuple(replace(RIGHT, scenario=f"crash/{name}", findings=(code,)) for name in "ab")
    text = " ".join(render_scorecard(replace(CARD, rows=rows)).split())

    assert (
        "never promised, and different: exit_code in 2 scenarios; crash/a: "
        "expected exit code 137 of the launcher, got 1" in text
    )
