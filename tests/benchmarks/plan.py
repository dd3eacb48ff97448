"""Which measurements make the table, how each row is named, and what derail aims at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FLOOR_FACTOR = 3.0
IDLE_FACTOR = 100.0
IMPORT_FACTOR = 20.0

START_WHY = "each rank gets a mark, a watch of its error file and a place with the keeper"
END_WHY = (
    "each rank is asked whether it was ending, its error file is looked for, and no rank is reaped before all have "
    "ended"
)
SWEEP_WHY = "the process table is read for leftovers, and the keeper ends"


@dataclass(frozen=True, slots=True)
class Row:
    """One number of one measurement.

    Attributes:
        key: which of its numbers.
        text: the row's name in the table.
        unit: of the number.
        aim: "floor x": at most so many times the floor's; "torch /": at most torch's divided by so much; "torch x": at
            least so many times torch's; "exactly": that number; empty: none.
        bound: of the aim.
        why: what the table says of a row that misses its aim.
    """

    key: str
    text: str
    unit: str
    aim: str = ""
    bound: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One order to each launcher, in each round."""

    measure: str
    options: dict[str, Any]
    rows: tuple[Row, ...]
    delays: bool = False
    skip: tuple[str, ...] = field(default=())
    deadline: float = 120.0


def plan(*, short: bool) -> list[Measurement]:
    """The whole table, or small sizes of everything."""
    few, many, most, one_go = ((2, 4), 8, 16, 4) if short else ((2, 8, 64), 64, 256, 32)
    lines = {2: 2_000, 4: 1_000} if short else {4: 60_000, 16: 15_000}
    sizes = (8, 16) if short else (64, 256, 512, 1024)
    found = [  # first what says how much memory a launcher holds
        Measurement(
            "scale",
            {"ranks": ranks},
            (
                Row("start", f"{ranks} ranks: start", "ms", "torch /", 1, START_WHY),
                Row("seen", f"{ranks} ranks, one killed: seen", "ms", "torch /", 1),
                Row("result", f"{ranks} ranks, one killed: wait() returned", "ms", "torch /", 1, END_WHY),
                Row("close", f"{ranks} ranks: close()", "ms", "torch /", 1, END_WHY),
                Row("memory", f"{ranks} ranks: memory of the launcher", "MB", "torch /", 1),
                Row("descriptors", f"{ranks} ranks: descriptors", ""),
            ),
            delays=True,
        )
        for ranks in sizes
    ]
    found += [
        Measurement(
            "all_exit",
            {"ranks": ranks},
            (
                Row("seen", f"{ranks} ranks exit: last exit seen", "ms", "floor x", FLOOR_FACTOR),
                Row("returned", f"{ranks} ranks exit: wait() returned", "ms", "floor x", FLOOR_FACTOR, SWEEP_WHY),
            ),
            delays=True,
        )
        for ranks in few
    ]
    found += [
        Measurement(
            "one_fails",
            {"ranks": ranks},
            (
                Row("seen", f"1 of {ranks} fails: exit seen", "ms", "floor x", FLOOR_FACTOR),
                Row("returned", f"1 of {ranks} fails: others ended, wait() returned", "ms"),
            ),
            delays=True,
        )
        for ranks in few
    ]
    found += [
        Measurement("wait_a_little", {"ranks": 2}, (Row("took", "wait(0.1), all idle", "ms"),)),
        Measurement("close", {"ranks": many}, (Row("took", f"close() of {many} obeying ranks", "ms"),)),
        Measurement(
            "idle",
            {"ranks": many, "seconds": 0.5 if short else 10.0},
            (
                Row("cpu", f"{many} teed idle ranks: CPU", "ms/s", "torch /", IDLE_FACTOR),
                Row("switches", f"{many} teed idle ranks: context switches", "1/s"),
            ),
        ),
        *(
            Measurement(
                "held",
                {"ranks": most, "tee": tee},
                (
                    Row("threads", f"{most} {kind}: threads beyond main", "", "exactly" if not tee else "", 1),
                    Row("descriptors", f"{most} {kind}: descriptors", ""),
                    Row("helpers", f"{most} {kind}: helper processes", ""),
                ),
            )
            for tee, kind in ((False, "ranks"), (True, "teed ranks"))
        ),
        *(
            Measurement(
                "tee",
                {"ranks": ranks, "lines": lines[ranks], "through": through},
                (
                    Row("rate", f"tee of {ranks} ranks to a {through}", "MB/s", "torch x", 1),
                    *(
                        Row(key, f"tee of {ranks} ranks to a {through}: {key} lines", "", "exactly", 0)
                        for key in ("lost", "torn", "doubled")
                    ),
                ),
            )
            for ranks in lines
            for through in ("pipe", "file")
        ),
        Measurement(
            "start",
            {"ranks": one_go},
            (
                Row("returned", f"start of {one_go} programs: call returned", "ms"),
                Row("running", f"start of {one_go} programs: all run", "ms"),
            ),
        ),
        *(
            Measurement(
                "import",
                {"what": what},
                (
                    Row("wall", f"{text}: wall time", "ms", "torch /", IMPORT_FACTOR),
                    Row("cpu", f"{text}: CPU", "ms", "torch /", IMPORT_FACTOR),
                ),
                skip=("floor",),
            )
            for what, text in (
                ("module", "import, minus bare Python"),
                ("start_processes", "import of start_processes"),
            )
        ),
    ]
    return found
