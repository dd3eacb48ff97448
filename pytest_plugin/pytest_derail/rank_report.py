"""What one rank of a test tells: a file that is whole after each phase, so that a rank that dies has told the rest."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

When: TypeAlias = Literal["collect", "setup", "call", "teardown", "done"]
Result: TypeAlias = Literal["passed", "failed", "skipped", "xfailed"]


@dataclass(slots=True)
class PhaseTold:
    """How one phase of the test went in a rank.

    Attributes:
        when: which.
        result: how.
        at: monotonic seconds at its end.
        reason: of a skip or an xfail.
        report: pytest's own report, as plain data, if it did not pass.
        exception: the exception, pickled; empty if it cannot be.
    """

    when: When
    result: Result
    at: float
    reason: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    exception: bytes = b""


@dataclass(slots=True)
class RankTold:
    """All that a rank has told.

    Attributes:
        phase: what it is in, or was in when it died; "done" if the test is over in it.
        phases: those that are over.
    """

    phase: When = "collect"
    phases: list[PhaseTold] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether the test is over in this rank."""
        return self.phase == "done"

    def first(self, result: Result) -> PhaseTold | None:
        """The first phase that ended so."""
        return next((told for told in self.phases if told.result == result), None)


def write(path: Path, told: RankTold) -> None:
    """In the rank: replace the file by a newer one, as a whole."""
    names = PhaseTold.__slots__
    phases = [{name: getattr(phase, name) for name in names} for phase in told.phases]
    for phase in phases:
        phase["exception"] = base64.b64encode(phase["exception"]).decode()
    data = json.dumps({"phase": told.phase, "phases": phases}, default=str).encode()
    new = f"{path}.new"
    with open(new, "wb", buffering=0) as file:
        file.write(data)
    os.replace(new, path)


def read(path: Path) -> RankTold:
    """In the controller: what a rank has told; nothing if it has not come so far, or its file was damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        phases = [PhaseTold(**{**told, "exception": base64.b64decode(told["exception"])}) for told in data["phases"]]
        return RankTold(data["phase"], phases)
    except (OSError, ValueError, TypeError, KeyError):
        return RankTold()
