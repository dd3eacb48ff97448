"""Scorecards with one row of each kind."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

from derail.report.lanes import Band, Lane, Mark, Timeline
from derail.report.scorecard import Injected, Machine, Row, Scorecard
from derail.scenario.model import Finding
from derail.scenario.recovery import Recovery

HOSTILE = "<script>alert('\x1b[31m\x00')</script> & \ud800"
"""What no report may pass on as it is."""


def timeline(ranks: int = 2) -> Timeline:
    """Return the timeline of a run in which a fault hit rank 1."""
    agent = Lane("agent", bands=(Band("running", 0.0, 1.0, "running"), Band("stopping", 1.0, 1.5, "stopping")))
    lanes = [
        Lane(
            f"rank {rank}",
            rank,
            "exit 0, by itself",
            bands=(Band("alive", 0.0, 1.5),),
            marks=(Mark("start", 0.0, "started"),),
        )
        for rank in range(ranks)
    ]
    hit = (Band("alive", 0.0, 1.0), Band("fault", 1.0, 1.0, "signal SIGKILL on rank 1", "injected"))
    marks = (
        Mark("line", 0.9, f"wrote {HOSTILE!r}"),
        Mark("exit", 1.0, "ended: SIGKILL (9)"),
        Mark("left", 1.5, "left behind: sleep"),
    )
    lanes[1] = Lane("rank 1", 1, "SIGKILL (9), by itself", telling=True, failed=True, bands=hit, marks=marks)
    return Timeline(1.5, (agent, *lanes))


ENDS = Finding("ends", True, "the end of the job", "its end")
CAUSE = Finding("root_cause", True, "root cause rank 1", "rank 1")
BLAMED = replace(CAUSE, kept=False, got="rank 0")
CODE = Finding("exit_code", None, "exit code 137 of the launcher", "1")
KILL = Injected("signal SIGKILL", "signal SIGKILL on rank 1 at line 'step 3'", 1, "injected", "gone")
RIGHT = Row(
    "crash/right", "PASS", "crash", "A rank is killed", "It happens.", "https://example.org/1", 2,
    findings=(ENDS, CAUSE, CODE), faults=(KILL,), blame="right", reported="rank 1: SIGKILL (9)", exit_code=1,
    restarts=2, seconds=1.5, teardown_seconds=0.5, elapsed=2.0, tail=("step 3",), timeline=timeline(),
)  # fmt: skip
WRONG = replace(
    RIGHT, scenario="crash/wrong", verdict="FAIL", reasons=(str(BLAMED), HOSTILE), findings=(ENDS, BLAMED, CODE),
    blame="wrong rank", reported="rank 0", leftovers=("process 7 of rank 1: sleep 600 (ended)",), teardown_seconds=1.0,
    title=HOSTILE, hang=(f"hang: rank 0 waits in {HOSTILE}", "      rank 1 never called it   <- look here"),
    tail=(HOSTILE,), evidence="/kept/crash/wrong",
)  # fmt: skip
UNKNOWN = replace(
    RIGHT, scenario="hang/unknown", family="hang", verdict="INCONCLUSIVE", reasons=("not reached",), blame="",
    issue="a list", faults=(replace(KILL, result="not_reached", detail="never due"),), teardown_seconds=None,
)  # fmt: skip
SKIPPED = Row("node/none", "SKIPPED", "node", "There is a second node", reasons=("it has no nodes",))
CARD = Scorecard(
    "planted", "1.2", ("ends", "root_cause"), Machine("Linux 6", "3.12.1", 2, 0), "2026-01-02T03:04:05Z", 12.5, "0.1.0",
    (RIGHT, WRONG, UNKNOWN, SKIPPED),
)  # fmt: skip
EMPTY = replace(CARD, rows=())
FAST = Recovery(notice=0.25, stop=0.5, recover=2.0, lost_steps=3, failed=True, stepped=True)
SLOW = Recovery(notice=0.5, stop=2.0, recover=5.0, lost_steps=8, failed=True, stepped=True)

KINDS = {"verdict", "kind", "promise", "promises", "blame", "cause"}
"""Fields that derail itself fills with one of a few words."""
SPOILT = "\x1b[31m\x1b]0;t\x07\x08\x9b2J\u202e\u2066\x00\x7f\"'>&<img src=x onerror=alert(1)><script>x()</script>"
"""Escapes of a terminal in C0 and C1, changes of direction, and markup for each place in a page."""


def spoilt(value: object, name: str = "") -> object:
    """Return a card in which each external text ends with characters that no report may pass on."""
    if isinstance(value, str):
        return value if name in KINDS else value + SPOILT
    if isinstance(value, tuple):
        return tuple(spoilt(item, name) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: spoilt(getattr(value, field.name), field.name) for field in fields(value)})
    return value
