"""Wrong clocks: the wall clock inside a rank, the monotonic clock by a time namespace."""

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
"""Maximum difference in seconds of two readings of correct clocks, beyond the duration of the readings."""


def offset(aim: Aim) -> Step:
    """Verify that the rank's clock is wrong by the offset."""
    seconds = aim.number("seconds")
    return _compare(aim, lambda _: seconds)


def step_back(aim: Aim) -> Step:
    """Verify that the rank's clock is behind by the step."""
    seconds = aim.number("seconds")
    return _compare(aim, lambda _: -seconds)


def drift(aim: Aim) -> Step:
    """Verify that the rank's clock is wrong by its drift so far."""
    factor = aim.number("factor")
    return _compare(aim, lambda passed: passed * (factor - 1))


def freeze(aim: Aim) -> Step:
    """Verify that the rank's clock is behind by the time since it stopped."""
    return _compare(aim, lambda passed: -passed)


def _compare(aim: Aim, expected: Callable[[float], float]) -> Step:
    """Compare the rank's wall clock with this process's at the same moment of the shared monotonic clock."""

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
        seen = f"the rank's time.time() was {wrong:+.6f} s wrong (± {unsure:.6f}), measured with derail's clock"
        if abs(wrong - wanted) > unsure + abs(wanted) * 1e-3:
            return Errored(f"{seen}; expected {wanted:+.6f} s")
        if abs(wrong) <= unsure:
            return Errored(f"{seen}; too little to distinguish from a correct clock")
        return Injected(f"{seen}, {(before + after) / 2 - since:.3f} s after the change in {aim.where}")

    return Soon(check, "a reading of the rank's clock", within=FOREVER)


def shift_monotonic(aim: Aim) -> Step:
    """Verify the offsets of the rank's time namespace in /proc."""
    pid, seconds = aim.control.pid(aim.rank) or 0, aim.number("seconds")

    def check() -> Result | None:
        if living(aim) is None or not is_elsewhere(pid, "time"):
            return None
        try:
            lines = (PROC / str(pid) / "timens_offsets").read_text().splitlines()
        except OSError:
            return None
        offsets = {name: int(whole) + int(nano) / 1e9 for name, whole, nano in map(str.split, lines)}
        if abs(offsets.get("monotonic", 0.0) - seconds) > 1e-6:
            return Errored(f"/proc/{pid}/timens_offsets: expected {seconds:g} s, got {offsets}")
        return Injected(
            f"/proc/{pid}/timens_offsets: monotonic {offsets['monotonic']:+g} s, in a separate time namespace"
        )

    def at_exit(status: ExitStatus) -> Result:
        return Errored(f"the rank ended with {status} before its clock was verified; see its stderr")

    return Soon(check, f"an offset in /proc/{pid}/timens_offsets", within=20.0, at_exit=at_exit)


def _prepare_monotonic(rank: RankSpec, fault: Fault) -> RankSpec:
    clocks = {"monotonic": fault.param("seconds"), "boottime": fault.param("seconds")}
    return enter(rank, fault, {"namespaces": ["time"], "clocks": clocks})


def _bent(name: str, summary: str, inject: Callable[[Aim], Step], example: str, param: Param | None) -> Entry:
    """Return the declaration of a fault of the wall clock."""
    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=inject,
        verified="time.time() in the rank, compared with derail's clock at the same monotonic time",
        healed="after `for_` seconds the clock is correct again",
        example=example,
        params=() if param is None else (param,),
        requires=Requires("Python in the rank, started without -S, -I and -E; a program that uses time or datetime"),
        acts=Acts(lasts=True),
        check=lambda values: "0 seconds, or a factor of 1, changes nothing" if _is_right(values) else "",
    )


def _is_right(values: object) -> bool:
    given = values if isinstance(values, dict) else {}
    return given.get("seconds") == 0 or given.get("factor") == 1


ENTRIES = (
    _bent(
        "clock_offset",
        "The rank's wall clock is wrong by a number of seconds: time.time, datetime.now and similar functions.",
        offset,
        "faults.clock_offset(-3600, rank=1)",
        offset_param("seconds", "Seconds that the clock is ahead, or behind if negative."),
    ),
    _bent(
        "clock_drift",
        "The rank's wall clock runs too fast or too slow.",
        drift,
        "faults.clock_drift(1.5, rank=1)",
        factor_param("factor", "Seconds that the clock advances per real second.", default=2.0, least=0.0),
    ),
    _bent("clock_freeze", "The rank's wall clock stops.", freeze, "faults.clock_freeze(rank=1, for_=5)", None),
    _bent(
        "clock_step_back",
        "The rank's wall clock jumps back once, while the program may be measuring a duration.",
        step_back,
        'faults.clock_step_back(60, rank=0, when=when.line("step 2"))',
        Param(
            "seconds", offset_param("seconds", "").read, "Seconds that the clock jumps back.", "seconds", default=60.0
        ),
    ),
    Entry(
        name="monotonic_offset",
        side="before start",
        summary="The rank's monotonic clock and time since boot differ from those of other processes.",
        inject=shift_monotonic,
        verified="/proc/PID/timens_offsets, in a time namespace other than derail's",
        healed="ends with the rank",
        example="faults.monotonic_offset(86400, rank=1)",
        params=(
            offset_param(
                "seconds", "Seconds that the clock is ahead, or behind if negative (at most the time since boot)."
            ),
        ),
        acts=Acts(triggers=("start",)),
        requires=Requires(
            "a rank that is a program; a time namespace, which for users other than root needs a user namespace",
            unavailable=lambda: why_not("time"),
        ),
        check=lambda values: "0 seconds change nothing" if values["seconds"] == 0 else "",
        setup=Setup(prepare=_prepare_monotonic),
    ),
)
