"""Random faults and plans, drawn from the whole catalogue with valid parameters.

``@given(plan=fault_plans(ranks=4))`` needs nothing else: a fault that is added to the catalogue is drawn as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from derail import faults, when
from derail.faults.registry import entries, make
from derail.model.input_error import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy

    from derail.faults.catalogue.entry import Entry, Param
    from derail.faults.model.plan import Fault, Plan
    from derail.faults.model.triggers import Trigger

LINES = ("step 1", "step 2$", "step 3", "step 5", "done", "never")
"""Default lines for triggers; ``workers/step_loop.py`` writes all but the last."""
USUAL = ("start", "after", "line")
"""Triggers that fire in most jobs; they are drawn more often, so that faults overlap."""
_SIGNALS = st.sampled_from(["SIGTERM", "SIGINT", "SIGUSR1", "SIGKILL", "SIGSEGV", "SIGSTOP", "SIGWINCH"])
_VALUES: dict[str, SearchStrategy[Any]] = {
    "amount": st.sampled_from([64, 4096, "64M", "unlimited"]),
    "bytes": st.sampled_from([1, 4096, "64K"]),
    "calls": st.sampled_from(["1", "3", "2..4", "2.."]),
    "code": st.integers(0, 255) | st.just("injected"),
    "count": st.integers(1, 8),
    "errno": st.sampled_from(["EIO", "ENOSPC", "EINTR", "EACCES"]),
    "exception": st.sampled_from(["RuntimeError", "KeyError", "KeyboardInterrupt", "MemoryError"]),
    "factor": st.floats(1.5, 4.0),
    "flag": st.booleans(),
    "seconds": st.floats(0.01, 0.3),
    "signal": _SIGNALS,
    "signals": st.lists(_SIGNALS, max_size=3),
    "system call": st.sampled_from(["write", "openat", "clock_nanosleep", "close", "read"]),
}
"""Values by type of parameter; small ones, so that a job ends soon. Others keep the value of the entry's example."""


def available_faults(
    without: Sequence[str] = ("supervisor",), families: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the names of the faults that are available on this machine, of some families, or without some.

    Faults of the family ``supervisor`` break the process that launches the job; they are included only if named.

    Raises:
        InputError: if a family does not exist, or has no fault that is available here.
    """
    every = {entry.family for entry in entries().values()}
    chosen = every - set(without) if families is None else set(families)
    if not chosen <= every:
        unknown, existing = ", ".join(sorted(chosen - every)), ", ".join(sorted(every))
        raise InputError(f"families: unknown: {unknown}. Choose from {existing}")
    names = tuple(
        name for name, entry in entries().items() if entry.family in chosen and not entry.requires.unavailable()
    )
    if not names:
        raise InputError(f"families: no fault of {', '.join(sorted(chosen))} is available on this machine")
    return names


def triggers(words: Sequence[str], *, ranks: int, lines: Sequence[str] = LINES) -> SearchStrategy[Trigger]:
    """Return a strategy for triggers of some kinds, by the names that create them, for a job of ``ranks`` ranks."""
    rank = st.integers(0, ranks - 1)
    simple: dict[str, SearchStrategy[Trigger]] = {
        "start": st.just(when.start()),
        "after": st.floats(0, 0.3).map(when.after),
        "line": st.builds(when.line, st.sampled_from(lines), hit=st.integers(1, 2), rank=st.none() | rank),
        "point": st.just(when.point("after_step")),
        "call": st.builds(when.call, st.sampled_from(["time:sleep", "json:dumps"]), hit=st.integers(1, 3)),
        "import_of": st.sampled_from(["argparse", "json"]).map(when.import_of),
        "signal_received": st.sampled_from(["SIGTERM", "SIGUSR1"]).map(when.signal_received),
        "own_exit": st.just(when.own_exit()),
        "exit_of": rank.map(when.exit_of),
        "restart": st.just(when.restart(1)),
        "phase": st.sampled_from(["starting rank 1", "running", "stopping", "killing"]).map(when.phase),
    }
    single = st.one_of(*(simple[word] for word in words if word in simple))
    both = st.tuples(single, single)
    combined: dict[str, SearchStrategy[Trigger]] = {
        "barrier": single.map(when.barrier),
        "probability": st.builds(when.probability, st.floats(0, 1), single),
        "all_of": both.map(lambda pair: when.all_of(*pair)),
        "any_of": both.map(lambda pair: when.any_of(*pair)),
        "then": both.map(lambda pair: when.then(*pair)),
    }
    usual = st.one_of(*(simple[word] for word in USUAL if word in words)) if set(USUAL) & set(words) else single
    return st.one_of(usual, usual, usual, single, *(combined[word] for word in words if word in combined))


@st.composite
def random_faults(
    draw: DrawFn, *, ranks: int, names: Sequence[str] | None = None, lines: Sequence[str] = LINES
) -> Fault:
    """Draw a fault for a job of ``ranks`` ranks: any of ``names`` (default: ``available_faults()``), at any time."""
    entry = entries()[draw(st.sampled_from(list(names if names is not None else available_faults())))]
    given = dict(_example(entry).params)
    for param in entry.params:
        chosen = _value_of(draw, param)
        if chosen is not None:
            given[param.name] = chosen
    options: dict[str, Any] = {
        "rank": draw(st.integers(0, ranks - 1) | st.sampled_from(["all", "one"]) | st.just(list(range(0, ranks, 2)))),
        "when": draw(_trigger(entry, ranks, lines)),
        "times": draw(st.integers(1, 3)) if entry.acts.repeats else None,
        "for_": draw(st.none() | st.floats(0, 0.3)) if entry.acts.lasts else None,
    }
    for params in (given, dict(_example(entry).params)):
        for times in (options["times"], None):
            fault = make(entry.name, params, [], **{**options, "times": times})
            if fault is not None:
                return fault
    return make(entry.name, dict(_example(entry).params), [], rank=options["rank"]) or _example(entry)


def fault_plans(
    *,
    ranks: int,
    families: Sequence[str] | None = None,
    min_size: int = 1,
    max_size: int = 4,
    names: Sequence[str] | None = None,
    lines: Sequence[str] = LINES,
) -> SearchStrategy[Plan]:
    """Return a strategy for plans, with a seed, for a job of ``ranks`` ranks.

    Args:
        ranks: the number of ranks of the job.
        families: the families of which faults are drawn; by default all but ``supervisor``.
        min_size: the minimum number of faults.
        max_size: the maximum number of faults.
        names: the faults to draw from, whatever their family.
        lines: regular expressions of lines for triggers.

    Raises:
        InputError: if a family does not exist.
    """
    if names is None and families is not None:
        names = available_faults(families=families)
    drawn = st.lists(random_faults(ranks=ranks, names=names, lines=lines), min_size=min_size, max_size=max_size)
    return st.builds(faults.plan, drawn, seed=st.integers(0, 999))


def _trigger(entry: Entry, ranks: int, lines: Sequence[str]) -> SearchStrategy[Trigger]:
    return triggers(entry.acts.triggers, ranks=ranks, lines=lines)


def _value_of(draw: DrawFn, param: Param) -> Any:
    """Return a value that the parameter accepts; None to keep the example's."""
    values = st.sampled_from(param.choices) if param.choices else _VALUES.get(param.type)
    if values is None or not draw(st.booleans()):
        return None
    chosen = draw(values)
    try:
        param.read(chosen)
    except ValueError:
        return None
    return chosen


def _example(entry: Entry) -> Fault:
    """Return the example of the entry, which is known to be valid."""
    read: Callable[[str, dict[str, Any]], Fault] = eval
    return read(entry.example, {"faults": faults, "when": when})
