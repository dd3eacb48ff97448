"""Scorecard of an agent: counts, exit code, JSON and text."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from derail.model.input_error import InputError
from derail.report.scorecard_json import decode, decode_row, encode, encode_row
from derail.report.scorecard_text import render_scorecard
from derail.scenario.model import Finding
from derail.scenario.recovery import Recovery
from report.cards import CARD, EMPTY, ENDS, FAST, RIGHT, SKIPPED, SLOW, UNKNOWN, WRONG


def test_each_promise_has_a_cell_in_each_row() -> None:
    """It is kept, broken, never made, not proved, not run, or not asked for."""
    rows = (RIGHT, WRONG, UNKNOWN, SKIPPED)
    assert [row.cell("root_cause") for row in rows] == ["PASS", "FAIL", "INCONCLUSIVE", "SKIPPED"]
    assert [row.cell("exit_code") for row in rows] == ["n/a", "n/a", "INCONCLUSIVE", "SKIPPED"]
    assert [row.cell("message") for row in rows] == ["", "", "", "SKIPPED"]


def test_promises_and_verdicts_are_counted() -> None:
    """Only promises that a scenario asks for are listed."""
    assert CARD.counts == {"PASS": 1, "FAIL": 1, "INCONCLUSIVE": 1, "SKIPPED": 1}
    assert CARD.asked == ("ends", "root_cause", "exit_code")
    assert CARD.promise_counts()["root_cause"] == {"PASS": 1, "FAIL": 1, "INCONCLUSIVE": 1, "n/a": 0}
    assert CARD.promise_counts()["exit_code"] == {"PASS": 0, "FAIL": 0, "INCONCLUSIVE": 1, "n/a": 2}


def test_root_causes_are_counted_by_injected_cause() -> None:
    """Runs that prove nothing are left out."""
    assert CARD.attribution() == {"signal SIGKILL": {"right": ("crash/right",), "wrong rank": ("crash/wrong",)}}


@pytest.mark.parametrize(
    ("rows", "code"),
    [((RIGHT, WRONG, UNKNOWN), 1), ((RIGHT, UNKNOWN), 3), ((RIGHT, SKIPPED), 0), ((SKIPPED,), 4), ((), 4)],
)
def test_the_exit_code_is_that_of_the_worst_verdict(rows: tuple[object, ...], code: int) -> None:
    """It is 4 only if nothing could be run."""
    assert replace(CARD, rows=rows).exit_code == code


def test_a_scorecard_survives_json() -> None:
    """Texts may have control characters; a lone surrogate is replaced, because UTF-8 lacks it."""
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
def test_data_that_are_no_scorecard_are_an_error(data: bytes, what: str) -> None:
    """The error names the file."""
    with pytest.raises(InputError) as raised:
        decode(data, source="a.json")
    assert str(raised.value).startswith(f"a.json: {what}")


def test_the_text_is_complete() -> None:
    """It has the table, failures, skips, root causes, times and leftovers, without control characters."""
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


def test_columns_are_aligned_with_the_names_of_the_promises() -> None:
    """The names are written vertically."""
    lines = render_scorecard(CARD).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("PASS"))
    column = lines[first].index("+")
    assert "".join(line[column : column + 1].strip() for line in lines[1:first]) == "ends"


def test_a_scorecard_without_rows_has_a_text() -> None:
    """No scenario was chosen."""
    assert render_scorecard(EMPTY).splitlines()[-1] == "0 scenarios: nothing was run (12.5 s)"


def test_a_few_scenarios_have_words_instead_of_columns() -> None:
    """Broken promises come first."""
    lines = render_scorecard(replace(CARD, rows=(WRONG,))).splitlines()
    first = lines.index("FAIL          crash/wrong  1.50 s")

    assert [line.strip() for line in lines[first + 1 : first + 4]] == [
        "broken: root_cause",
        "kept: ends",
        "never promised: exit_code",
    ]


def test_failures_come_before_inconclusive_rows() -> None:
    """The order does not depend on their names."""
    late = replace(WRONG, scenario="teardown/late")
    text = render_scorecard(replace(CARD, rows=(UNKNOWN, RIGHT, SKIPPED, late)))

    assert text.index("FAIL  teardown/late: ") < text.index("INCONCLUSIVE  hang/unknown: ")


def test_a_shared_reason_appears_once() -> None:
    """It is followed by all their names."""
    rows = tuple(replace(WRONG, scenario=f"crash/{name}", reasons=("it restarts",)) for name in "abcd")
    lines = render_scorecard(replace(CARD, rows=rows)).splitlines()

    assert (lines.count("  * it restarts"), lines.count("    crash/a, crash/b, crash/c, crash/d")) == (1, 1)


def test_a_leftover_among_the_reasons_is_not_repeated() -> None:
    """It appears below the table; others are listed at the end."""
    what = "process 7 of rank 1: sleep 600 (ended)"
    row = replace(WRONG, reasons=(f"expected no leftovers, got {what}",), leftovers=(what, "file /x"))
    text = render_scorecard(replace(CARD, rows=(row,)))

    assert " ".join(text.split()).count(what) == 1
    assert "left behind in crash/wrong: file /x" in text


def test_a_deviation_without_a_promise_is_a_difference() -> None:
    """The number of cases is shown, and the first of them."""
    code = replace(RIGHT.findings[-1], differs=True)
    rows = tuple(replace(RIGHT, scenario=f"crash/{name}", findings=(code,)) for name in "ab")
    text = " ".join(render_scorecard(replace(CARD, rows=rows)).split())

    assert (
        "never promised, and different: exit_code in 2 scenarios; crash/a: "
        "expected exit code 137 of the launcher, got 1" in text
    )


SLOWER = replace(SLOW, recover=None, lost_steps=None)
RECOVERED = replace(CARD, rows=(replace(RIGHT, recovery=FAST), replace(WRONG, recovery=SLOWER), UNKNOWN, SKIPPED))


def test_the_recovery_has_a_median_and_a_largest_value() -> None:
    """Of the rows that have one; a measure that no row has is not mentioned."""
    lines = render_scorecard(RECOVERED).splitlines()
    assert [line for line in lines if "median" in line][1:] == [
        "noticed after the fault: median 0.375 s of 2; most 0.500 s crash/wrong",
        "stopped after the fault: median 1.25 s of 2; most 2.00 s crash/wrong",
        "ran again after the fault: median 2.00 s of 1; most 2.00 s crash/right",
        "steps lost: median 3 steps of 1; most 3 steps crash/right",
    ]
    assert "after the fault" not in render_scorecard(CARD)


def test_a_scorecard_without_recovery_is_read() -> None:
    """Files of a derail that did not measure it remain comparable; what they do not have is unknown, never 0."""
    written = msgspec.json.decode(encode(replace(CARD, rows=(replace(RIGHT, recovery=FAST), UNKNOWN))))
    assert written["rows"][0].pop("recovery") == {
        "notice": 0.25, "stop": 0.5, "recover": 2.0, "lost_steps": 3, "failed": True, "stepped": True,
    }  # fmt: skip
    old = decode(msgspec.json.encode(written))

    assert old.rows[0].recovery == Recovery()
    assert old.measured("recover") == []


def test_a_limit_of_the_caller_is_no_column() -> None:
    """It is a finding of the row, and counts as one of its reasons."""
    over = Finding("budget", False, "at most 2 steps run again (budget lost-steps=2)", "3 steps")
    card = replace(CARD, rows=(replace(RIGHT, verdict="FAIL", findings=(ENDS, over), reasons=(str(over),)),))

    assert card.asked == ("ends",)
    assert "  * expected at most 2 steps run again (budget lost-steps=2), got 3 steps" in render_scorecard(card)
    assert decode(encode(card)) == card
