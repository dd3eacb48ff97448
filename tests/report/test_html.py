"""Scorecard as one page: complete, valid, self-contained, and without errors in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from derail.report.html import render_html
from report.cards import CARD, EMPTY, FAST, RIGHT, spoilt, timeline

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta", "link", "input", "br", "wbr"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """Parser that collects elements, ids and links, and checks that all elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append((tag, given))
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def having(self, word: str) -> list[dict[str, str | None]]:
        """Return the attributes of the elements of a class."""
        return [given for _, given in self.elements if word in (given.get("class") or "").split()]


@pytest.mark.parametrize("card", [CARD, EMPTY], ids=["rows", "empty"])
def test_elements_are_closed_ids_are_unique_and_links_have_targets(card: object) -> None:
    """All links are within the page; nothing is fetched."""
    page = Page(render_html(card))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    links = [given["href"] for tag, given in page.elements if tag == "a" and (given["href"] or "").startswith("#")]
    assert {str(link)[1:] for link in links} <= set(page.ids)
    fetched = [given.get("src") or given.get("href") for tag, given in page.elements if tag != "a"]
    assert [where for where in fetched if where and not where.startswith("data:")] == []
    assert not re.search(r"@import|url\(", render_html(card))


def test_output_of_ranks_is_text_and_never_markup() -> None:
    """Titles, reasons, log lines and timelines are checked."""
    text = render_html(CARD)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    text.encode()  # lone surrogates would not go


def test_the_verdict_on_a_hang_is_shown_with_its_run() -> None:
    """Its lines stay lines; a run without one has no such part."""
    text = render_html(
        replace(CARD, rows=(replace(RIGHT, hang=("hang: rank 0 waits in a<b>", "      rank 1 exited")),))
    )

    assert '<pre class="hang">hang: rank 0 waits in a&lt;b&gt;\n      rank 1 exited</pre>' in text
    assert 'class="hang"' not in render_html(replace(CARD, rows=(RIGHT,)))


def test_a_browser_interprets_no_external_text() -> None:
    """No field acts as markup, attribute, address or control character."""
    text = render_html(spoilt(CARD))
    page, plain = Page(text), Page(render_html(CARD))

    assert page.open == []
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    assert [tag for tag, _ in page.elements].count("script") == [tag for tag, _ in plain.elements].count("script")
    assert {name for _, given in page.elements for name in given} <= {
        name for _, given in plain.elements for name in given
    }
    assert [given["href"] for tag, given in page.elements if tag == "a" and "javascript" in str(given["href"])] == []
    assert re.findall("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]", text) == []


def test_the_page_shows_rows_promises_root_causes_times_and_leftovers() -> None:
    """Failed rows are open from the start."""
    text = render_html(CARD)
    page = Page(text)
    runs = {given["data-scenario"]: "open" in given for given in page.having("run")}
    assert runs == {"crash/right": False, "crash/wrong": True, "hang/unknown": True, "node/none": False}
    assert [len(page.having(word)) > 0 for word in ("matrix", "bars", "timeline", "findings")] == [True] * 4
    assert "root_cause: expected root cause rank 1, got rank 0" in text
    assert "process 7 of rank 1: sleep 600 (ended)" in text


def test_an_issue_with_a_known_address_is_a_link() -> None:
    """The issue is a URL or the short form of a repository; anything else is text, never a script."""
    issues = {"https://example.org/1": 1, "pytorch/pytorch#75087": 1, "a list of 2024": 0, "javascript:alert(1)": 0}
    for issue, links in issues.items():
        page = Page(render_html(replace(CARD, rows=(replace(RIGHT, issue=issue),))))
        assert sum(given.get("rel") == "noreferrer" for _, given in page.elements) == links, issue


def test_a_timeline_has_a_lane_for_each_rank_with_events_in_place() -> None:
    """Positions are fractions of the whole, so that any width works."""
    page = Page(render_html(replace(CARD, rows=(replace(RIGHT, timeline=timeline(64)),))))
    assert len(page.having("lane")) == 65
    assert len(page.having("many")) == 1
    (fault,) = (given for given in page.having("fault") if "band" in (given["class"] or "") and given.get("style"))
    assert fault["style"] == "left:66.667%;width:0.000%"
    assert "signal SIGKILL on rank 1 (injected)" in (fault["title"] or "")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("card", [CARD, spoilt(CARD)], ids=["plain", "spoilt"])
def test_a_browser_reports_no_errors(tmp_path: Path, card: object) -> None:
    """Its console has no errors, the script of the page has run, and no script of a rank has."""
    path = tmp_path / "card.html"
    path.write_text(render_html(card), encoding="utf-8")
    shown = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--log-level=0",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri(),
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert '<html lang="en" class="scripts"' in shown.stdout, shown.stderr
    assert "<img" not in shown.stdout
    assert "<script>x()" not in shown.stdout
    assert [line for line in shown.stderr.splitlines() if "CONSOLE" in line] == []


def test_the_page_shows_the_recovery_of_a_run_and_the_medians() -> None:
    """A scorecard without any has no such part."""
    text = render_html(replace(CARD, rows=(replace(RIGHT, recovery=FAST),)))
    page = Page(text)

    assert page.open == []
    assert "<h2>Recovery</h2>" in text
    assert "Recovery: noticed after 0.250 s, stopped after 0.500 s, ran again after 2.00 s, 3 steps lost" in text
    assert len(re.findall(r"<th>(?:(?:noticed|stopped|ran again) after the fault|steps lost)</th>", text)) == 4
    assert "<h2>Recovery</h2>" not in render_html(CARD)
