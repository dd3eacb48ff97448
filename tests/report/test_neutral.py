"""Reports on a terminal: no text of a rank, a scenario, a plan or an agent has active control characters."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from derail import faults
from derail.cli.progress import Board, Progress
from derail.cli.tableau import Tableau
from derail.errors.text import neutral, printable
from derail.faults.model.results import FaultResult, Injected
from derail.model.events import StopRequested
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, RankOutcome
from derail.report.comparison import changes, render_changes
from derail.report.library import render_list
from derail.report.scorecard_text import render_scorecard
from derail.report.text import render_verdict
from derail.report.timeline_text import render_timeline
from derail.scenario.model import FailureSeen, JobResult, Scenario, Verdict
from report.cards import CARD, SPOILT, spoilt, timeline

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")


def obeyed(text):
    """Return the characters of a text that a terminal would interpret."""
    return OBEYED.findall(text)


@pytest.mark.parametrize("number", [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F),
                                    *range(0x2066, 0x206A)])  # fmt: skip
def test_every_terminal_control_character_is_escaped(number):
    """Tabs and line ends are exceptions."""
    assert neutral(f"a{chr(number)}b") == (f"a{chr(number)}b" if chr(number) in "\t\n" else f"a{_name(number)}b")


def test_the_text_of_an_error_escapes_characters_as_python_does():
    """A character above 255 has four digits; a title sequence without an end hides only the rest of its own line."""
    assert printable("\u202e\x9b\x00", 100) == r"\u202e\x9b\x00"
    assert printable("a \x1b]0;never ended\nthe cause", 100) == "a \nthe cause"


def _name(number):
    return {13: "\\r"}.get(number, f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def test_a_scorecard_a_comparison_and_a_timeline_are_neutral():
    """Every field is checked."""
    card = spoilt(CARD)
    assert SPOILT[:5] in card.rows[0].title
    texts = [
        render_scorecard(card),
        render_changes(card, replace(card, rows=card.rows[:1]), changes(card, replace(card, rows=card.rows[:1]))),
        render_timeline(spoilt(timeline())),
    ]

    assert [obeyed(text) for text in texts] == [[], [], []]
    assert all("onerror" in text for text in texts)


def test_a_verdict_and_a_list_of_scenarios_are_neutral(tmp_path):
    """Title, tails, messages, paths and plan are checked."""
    fault = faults.signal("SIGKILL", rank=0, id="a" + SPOILT.replace("\x00", ""))
    scenario = Scenario(name="n" + SPOILT, title="t" + SPOILT, worker=tmp_path, ranks=1)
    seen = JobResult(
        ranks={0: RankOutcome(0, 1, ExitStatus(code=1), Cause.SELF)},
        root_cause=0,
        started_at=0,
        ended_at=1,
        stop_reason=SPOILT,
        failures={0: FailureSeen(0, SPOILT, problem=SPOILT)},
        log_tail={(0, "stdout"): (SPOILT,)},
        faults=(FaultResult(fault, 0, Injected(SPOILT)),),
        journal=tmp_path / SPOILT.replace("\x00", "").replace("/", ""),
        error=SPOILT,
    )
    text = render_verdict(scenario, seen, Verdict("FAIL", (SPOILT,), (SPOILT,)))

    assert obeyed(text) == obeyed(render_list([scenario])) == []


@pytest.mark.parametrize("live", [False, True])
def test_live_views_are_neutral(live):
    """These are the displays of a running job or campaign; only derail adds colours."""
    stream = io.StringIO()
    board = Board(1, faults=[f"planned {SPOILT}"])
    with Progress(board, stream, live=live, name="derail") as shown:
        shown.watch_faults(lambda: [f"came {SPOILT}"])
        shown.observe(StopRequested(f"because {SPOILT}", 15, 1.0, at=0.0))
    tableau = io.StringIO()
    with Tableau(SPOILT, 1, tableau, live=live) as campaign:
        from derail.campaign.campaign import Judged

        campaign.update(Judged(spoilt(CARD).rows[1]))
        campaign.__exit__(None, None, None)
    hostile = ("\x1b]0;t", "\x07", "\x9b", "\u202e", "\u2066", "\x00", "\x7f", "\x08")

    assert [part for part in hostile if part in stream.getvalue() + tableau.getvalue()] == []
