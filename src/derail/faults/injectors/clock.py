"""Clocks that are wrong: the wall clock inside a rank, the monotonic one by a time namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires, Setup
from derail.faults.catalogue.injector_api import FOREVER, Soon
from derail.faults.catalogue.params import factor_param, offset_param
from derail.faults.injectors.resources import living
from derail.faults.inrank.actions.clock import READINGS
from derail.faults.mechanisms.namespaces import enter, is_elsewhere, why_not
from derail.faults.model.results import Errored, Injected
from derail.model.clock import SYSTEM_CLOCK
from derail.platform.capabilities import PROC

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Fault
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus
    from derail.model.spec import RankSpec

NOISE = 0.002
"""Seconds that two readings of right clocks may differ, besides the time that the readings took."""


def offset(aim: Aim) -> Step:
    """The rank's clock must be wrong by the offset."""
    seconds = aim.number("seconds")
    return _compare(aim, lambda _: seconds)


def step_back(aim: Aim) -> Step:
    """The rank's clock must be behind by the step."""
    seconds = aim.number("seconds")
    return _compare(aim, lambda _: -seconds)


def drift(aim: Aim) -> Step:
    """The rank's clock must be wrong by what it gained since."""
    factor = aim.number("factor")
    return _compare(aim, lambda passed: passed * (factor - 1))


def freeze(aim: Aim) -> Step:
    """The rank's clock must be behind by all the time that has passed since."""
    return _compare(aim, lambda passed: -passed)


def _compare(aim: Aim, expected: Callable[[float], float]) -> Step:
    """What the rank's clock said, against ours: the monotonic clock, which both have, tells when that was."""

    def check() -> Result | None:
        record = next((record for record in aim.records if record["event"] == "clock"), None)
        if record is None:
            return None
        since, before, after, wall = (float(str(record[name])) for name in ("since", "before", "after", "wall"))
        readings = [(SYSTEM_CLOCK.now(), SYSTEM_CLOCK.wall(), SYSTEM_CLOCK.now()) for _ in range(READINGS)]
        now, ours, then = min(readings, key=lambda reading: reading[2] - reading[0])
        right = ours - (now + then) / 2 + (before + after) / 2
        wrong, unsure = wall - right, (after - before) / 2 + (then - now) / 2 + NOISE
        wanted = expected((before + after) / 2 - since)
        seen = f"the rank's time.time() was {wrong:+.6f} s wrong (± {unsure:.6f}), measured with ours"
        if abs(wrong - wanted) > unsure + abs(wanted) * 1e-3:
            return Errored(f"{seen}; it should have been {wanted:+.6f} s")
        if abs(wrong) <= unsure:
            return Errored(f"{seen}; that is too little to be told from a right clock")
        return Injected(f"{seen}, {(before + after) / 2 - since:.3f} s after it was bent in {aim.where}")

    return Soon(check, "a reading of the rank's clock", within=FOREVER)


def shift_monotonic(aim: Aim) -> Step:
    """The rank was started in a time namespace: its offsets are told by the kernel."""
    pid, seconds = aim.control.pid(aim.rank) or 0, aim.number("seconds")

    def check() -> Result | None:
        if living(aim) is None or not is_elsewhere(pid, "time"):
            return None
        try:
            lines = (PROC / str(pid) / "timens_offsets").read_text().splitlines()
        except OSError:
            return None
        told = {name: int(whole) + int(nano) / 1e9 for name, whole, nano in map(str.split, lines)}
        if abs(told.get("monotonic", 0.0) - seconds) > 1e-6:
            return Errored(f"/proc/{pid}/timens_offsets says {told}, not {seconds:g} s")
        return Injected(
            f"/proc/{pid}/timens_offsets: monotonic {told['monotonic']:+g} s, in a time namespace of its own"
        )

    def at_exit(status: ExitStatus) -> Result:
        return Errored(f"the rank ended with {status} before its clock was seen; its stderr may say why")

    return Soon(check, f"an offset in /proc/{pid}/timens_offsets", within=20.0, at_exit=at_exit)


def _prepare_monotonic(rank: RankSpec, fault: Fault) -> RankSpec:
    clocks = {"monotonic": fault.param("seconds"), "boottime": fault.param("seconds")}
    return enter(rank, fault, {"namespaces": ["time"], "clocks": clocks})


def _bent(name: str, summary: str, inject: Callable[[Aim], Step], example: str, param: Param | None) -> Entry:
    """One of the faults of the wall clock, which differ in little."""
    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=inject,
        verified="by what time.time() said in the rank, compared with our clock by means of the monotonic one",
        healed="after `for_` seconds the clock is right again",
        example=example,
        params=() if param is None else (param,),
        requires=Requires("Python in the rank, started without -S, -I and -E; a program that asks time or datetime"),
        acts=Acts(lasts=True),
        check=lambda values: "0 seconds, or a factor of 1, changes nothing" if _is_right(values) else "",
    )


def _is_right(values: object) -> bool:
    told = values if isinstance(values, dict) else {}
    return told.get("seconds") == 0 or told.get("factor") == 1


ENTRIES = (
    _bent(
        "clock_offset",
        "The rank's wall clock is wrong by so many seconds: time.time, datetime.now and their like.",
        offset,
        "faults.clock_offset(-3600, rank=1)",
        offset_param("seconds", "How much later than it is (or, below 0, earlier)."),
    ),
    _bent(
        "clock_drift",
        "The rank's wall clock runs too fast or too slow.",
        drift,
        "faults.clock_drift(1.5, rank=1)",
        factor_param("factor", "Seconds that it counts for each one that passes.", default=2.0, least=0.0),
    ),
    _bent("clock_freeze", "The rank's wall clock stands.", freeze, "faults.clock_freeze(rank=1, for_=5)", None),
    _bent(
        "clock_step_back",
        "The rank's wall clock goes back once, in the middle of whatever it measures.",
        step_back,
        'faults.clock_step_back(60, rank=0, when=when.line("step 2"))',
        Param("seconds", offset_param("seconds", "").read, "By how much.", "seconds", default=60.0),
    ),
    Entry(
        name="monotonic_offset",
        side="before start",
        summary="The rank's monotonic clock and the time since boot are other ones than everybody else's.",
        inject=shift_monotonic,
        verified="/proc/PID/timens_offsets, and another time namespace than ours",
        healed="it ends with the rank",
        example="faults.monotonic_offset(86400, rank=1)",
        params=(offset_param("seconds", "How much more than it is (or, below 0, less; at most since boot)."),),
        acts=Acts(triggers=("start",)),
        requires=Requires(
            "a rank that is a program; a time namespace, as an ordinary user inside a user namespace",
            unavailable=lambda: why_not("time"),
        ),
        check=lambda values: "0 seconds change nothing" if values["seconds"] == 0 else "",
        setup=Setup(prepare=_prepare_monotonic),
    ),
)
