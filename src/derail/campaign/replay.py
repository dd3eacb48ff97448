"""Replay of a job from the journal of its first run, with the same program, ranks and plan; and the differences."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from derail.errors.text import short
from derail.faults import codec
from derail.faults.engine import journal
from derail.faults.serialization.table_reader import Fields
from derail.model.input_error import InputError
from derail.model.spec import Sweep, Teardown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from derail.agents.invocation import Run
    from derail.agents.native_job import NativeJob
    from derail.faults.engine.journal import Record
    from derail.faults.model.plan import Plan
    from derail.model.events import Observer

Key = tuple[str, int]
_LAST_SECOND = 1e15
"""Upper limit in seconds for CLOCK_MONOTONIC: no machine has been up that long."""
SAME, DIFFERS, INCONCLUSIVE, SKIPPED = 0, 1, 3, 4
"""Exit codes of a replay, the same as those of a scenario."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Run of one job according to its journal.

    Attributes:
        plan: the planned faults.
        program: what the ranks ran: an argv, or the path of a script; None for a function.
        how: the other arguments of ``start_job``.
        stopped_after: seconds until a stop was requested; None if it was not.
        results: the result of each fault on each rank.
        hits: the occurrences at which each fault acted; None for what is not counted.
        order: the faults in the order in which they acted.
        root_cause: the rank that failed first; None if none did.
        fates: how each rank ended.
    """

    plan: Plan
    program: Run | None
    how: dict[str, Any]
    stopped_after: float | None
    results: dict[Key, str] = field(default_factory=dict)
    hits: dict[Key, tuple[int | None, ...]] = field(default_factory=dict)
    order: tuple[Key, ...] = ()
    root_cause: int | None = None
    fates: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between two runs.

    Attributes:
        text: the values before and now.
        matters: whether the plan determines it. The order of events in different ranks, and the exit status of ranks
            stopped because of another, depend on the machine.
    """

    text: str
    matters: bool = True


def read(path: Path) -> Recorded:
    """Return the last run in a journal.

    Raises:
        InputError: if the file is no journal, or that run cannot be replayed from it; in at most 1000 characters.
    """
    try:
        return _read(path)
    except InputError as error:
        text = str(error)
        raise InputError(text if len(text) <= 1000 else f"{text[:996]} ...") from None


def _read(path: Path) -> Recorded:
    try:
        records = journal.read_strictly(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except InputError as error:
        raise InputError(f"{error}; the file is damaged, or not a journal of a run") from None
    plans = [place for place, (_, record) in enumerate(records) if record["event"] == "plan"]
    if not plans:
        raise InputError(f"{path}: not a journal of a run: it contains no plan")
    (line, head), body = records[plans[-1]], records[plans[-1] + 1 :]
    where = f"{path}:{line}"
    if head.get("version") != journal.VERSION:
        raise InputError(f"{where}: version: expected {journal.VERSION}, got {short(head.get('version'))}")
    try:
        plan = codec.from_data(head.get("plan"), source=where)
    except InputError as error:
        raise InputError(str(error).splitlines()[0]) from None
    run = head.get("run")
    if not isinstance(run, dict):
        raise InputError(f"{where}: run: does not name the program of the ranks")
    if head.get("hash") != plan.hash:
        raise InputError(f"{where}: hash: expected {plan.hash!r}, got {short(head.get('hash'))}: the plan was changed")
    program, how = _what_ran(run, head.get("ranks"), where)
    for number, record in body:
        problem = _problem(record)
        if problem:
            raise InputError(f"{path}:{number}: {problem}")
    return _recorded(plan, program, how, [record for _, record in body])


def _what_ran(run: dict[str, object], ranks: object, where: str) -> tuple[Run | None, dict[str, Any]]:
    """Return the program of the ranks, None for a function; and the other arguments of ``start_job``.

    Raises:
        InputError: at the first value that is missing or has the wrong type.
    """
    if "agent" in run:
        raise InputError(
            f"{where}: run.agent: only runs of derail's own launcher are replayed, got {short(run['agent'])}"
        )
    problems: list[str] = []
    fields = Fields(run, "run", problems)
    fields.need("ranks", "cwd")
    count = fields.whole("ranks", 1, least=1)
    if not isinstance(ranks, list) or count != len(ranks):
        fields.note("ranks", f"expected as many as the journal lists ranks, got {count}")
    elif any(type(rank) is not int or rank != place for place, rank in enumerate(ranks)):
        fields.note("ranks", f"expected the journal to list ranks 0 to {count - 1}, got {short(ranks)}")
    env = fields.table_at("env")
    function = fields.text("function", "")
    script, argv = fields.text("script", ""), fields.texts("argv")
    if not (function or script or argv):
        fields.note("", "expected one of function, script and argv")
    variables = {name: None if value is None else env.text(name, "") for name, value in env.table.items()}
    how: dict[str, Any] = {
        "ranks": count,
        "restarts": fields.whole("restarts", 0),
        "virtual_local_rank": fields.flag("virtual_local_rank", default=False),
        "args": fields.texts("args"),
        "env": variables,
        "cwd": Path(fields.text("cwd", "")),
        "name": function or fields.text("name", ""),
        "teardown": _teardown(fields.table_at("teardown")) if fields.has("teardown") else None,
    }
    words = (script, *argv, *how["args"], *variables, *variables.values(), str(how["cwd"]))
    if any(word and not _can_be_given(word) for word in words) or any("=" in name or not name for name in variables):
        fields.note("", "expected words and variables that a process can receive: without NUL, names without '='")
    if problems:
        raise InputError(f"{where}: {problems[0]}")
    return (None if function else script or list(argv)), how


def _can_be_given(word: str) -> bool:
    """Return whether a word can be passed to a process: bytes without NUL."""
    try:
        return b"\0" not in os.fsencode(word)
    except UnicodeEncodeError:  # a lone surrogate that represents no byte
        return False


def _teardown(fields: Fields) -> Teardown:
    usual = Teardown()
    sweep = fields.text("sweep", usual.sweep)
    number = fields.whole("signal", usual.signal, least=1)
    if number not in signal.valid_signals():
        fields.note("signal", f"expected the number of a signal, got {number}")
    if sweep not in get_args(Sweep):
        fields.note("sweep", f"expected one of {', '.join(get_args(Sweep))}, got {sweep!r}")
    grace, kill_wait = fields.seconds("grace", usual.grace), fields.seconds("kill_wait", usual.kill_wait)
    return Teardown(number, grace, kill_wait, cast("Sweep", sweep))


def _problem(record: Record) -> str:
    """Return the problem of a record that a replay reads; empty if there is none."""
    event, rank, hit, at = record["event"], record.get("rank"), record.get("hit"), record.get("at")
    if event in ("started", "stop_requested"):
        finite = isinstance(at, int | float) and not isinstance(at, bool) and abs(at) < _LAST_SECOND
        return "" if finite else f"{event}.at: expected a number of seconds, got {short(at)}"
    if event in ("start", "again", "tell", "end"):
        if not isinstance(record.get("fault"), str):
            return f"{event}.fault: expected a string, got {short(record.get('fault'))}"
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 0:
            return f"{event}.rank: expected a rank, got {short(rank)}"
        if hit is not None and (not isinstance(hit, int) or isinstance(hit, bool)):
            return f"{event}.hit: expected a whole number, got {short(hit)}"
    if event == "end" and not isinstance(record.get("result"), str):
        return f"end.result: expected a string, got {short(record.get('result'))}"
    if event == "finished":
        cause, fates = record.get("root_cause"), record.get("ranks")
        if cause is not None and (not isinstance(cause, int) or isinstance(cause, bool)):
            return f"finished.root_cause: expected a rank or null, got {short(cause)}"
        if not isinstance(fates, dict) or not all(key.isdecimal() and len(key) < 10 for key in fates):
            return "finished.ranks: expected an object with a key for each rank"
        if not all(isinstance(fate, str) for fate in fates.values()):
            return "finished.ranks: expected a string for each rank"
    return ""


def _recorded(plan: Plan, program: Run | None, how: dict[str, Any], records: Sequence[Record]) -> Recorded:
    hits: dict[Key, tuple[int | None, ...]] = {}
    for record in records:
        if record["event"] in ("start", "again", "tell"):
            hit = record.get("hit")
            earlier = hits.get(_key(record), ())
            if record["event"] == "start" and earlier:
                continue  # the instructed rank performs the fault itself
            hits[_key(record)] = (*earlier, hit if isinstance(hit, int) else None)
    finished = next((record for record in reversed(records) if record["event"] == "finished"), {})
    cause, fates = finished.get("root_cause"), finished.get("ranks")
    return Recorded(
        plan=plan,
        program=program,
        how=how,
        stopped_after=_stopped_after(records),
        results={_key(record): str(record["result"]) for record in records if record["event"] == "end"},
        hits=hits,
        order=tuple(_key(record) for record in records if record["event"] == "start"),
        root_cause=cause if isinstance(cause, int) else None,
        fates=fates if isinstance(fates, dict) else {},
    )


def _key(record: Record) -> Key:
    return str(record.get("fault")), int(str(record.get("rank")))


def _stopped_after(records: Sequence[Record]) -> float | None:
    started = [float(str(record["at"])) for record in records if record["event"] == "started"]
    stopped = [float(str(record["at"])) for record in records if record["event"] == "stop_requested"]
    return max(0.0, stopped[0] - started[0]) if started and stopped else None


def start(recorded: Recorded, *, workdir: Path, observers: Sequence[Observer] = ()) -> NativeJob:
    """Start the same job again; the caller must stop it after ``stopped_after`` seconds, if that is given.

    Raises:
        InputError: if its ranks were functions, or had variables that are not set here.
        OSError, InputError, ValueError: as ``start_job`` does.
    """
    from derail.agents.invocation import LocalJob
    from derail.agents.native_job import start_job

    if recorded.program is None:
        raise InputError(
            f"the ranks ran the function {recorded.how['name']}, which cannot be called from the command line. "
            "Run the code that called it, with the plan of the journal"
        )
    env: dict[str, str | None] = recorded.how["env"]
    missing = [name for name, value in env.items() if value is None and name not in os.environ]
    if missing:
        raise InputError(
            f"the ranks had the variables {', '.join(missing)}, and a journal holds no values of such variables. Set "
            "them and replay again"
        )
    given = {name: os.environ[name] if value is None else value for name, value in env.items()}
    how = {**recorded.how, "name": recorded.how["name"] or "", "env": given}
    return start_job(
        LocalJob(recorded.program, plan=recorded.plan, **how), workdir, observers=observers, handle_signals=True
    )


def differences(before: Recorded, now: Recorded) -> tuple[Difference, ...]:
    """Return the differences, fault by fault; then in the order of the faults, and in the end of the job."""
    listed = []
    for key in sorted({*before.results, *now.results}):
        was, then = before.results.get(key, "not aimed at"), now.results.get(key, "not aimed at")
        if was != then:
            listed.append(Difference(f"{key[0]} on rank {key[1]}: {was} then, {then} now"))
        elif before.hits.get(key) != now.hits.get(key):
            listed.append(
                Difference(f"{key[0]} on rank {key[1]}: acted {_times(before, key)} then, {_times(now, key)} now")
            )
    if before.order != now.order and sorted(before.order) == sorted(now.order):
        listed.append(Difference(f"the order was {_row(before)} then, {_row(now)} now", matters=False))
    if before.root_cause != now.root_cause:
        was, then = ("none" if run.root_cause is None else f"rank {run.root_cause}" for run in (before, now))
        listed.append(Difference(f"the root cause was {was} then, {then} now"))
    for rank in sorted({*before.fates, *now.fates}, key=int):
        was, then = before.fates.get(rank, "was not started"), now.fates.get(rank, "was not started")
        if was != then:
            listed.append(Difference(f"{was} then; {then} now", matters=False))
    return tuple(listed)


def _times(run: Recorded, key: Key) -> str:
    hits = run.hits.get(key, ())
    return "at hit " + ", ".join("?" if hit is None else str(hit) for hit in hits) if hits else "never"


def _row(run: Recorded) -> str:
    return ", ".join(f"{fault} on rank {rank}" for fault, rank in run.order)


def exit_code(before: Recorded, now: Recorded) -> int:
    """Return the exit code of a replay.

    It is 0 if the run was the same; 4 if a fault is unavailable that was injected before; 3 if one does not verifiably
    happen that did before; 1 for any other difference that matters.
    """
    lost = {now.results.get(key, "") for key, was in before.results.items() if was == "injected"} - {"injected"}
    if lost:
        return SKIPPED if lost == {"unavailable"} else INCONCLUSIVE
    return DIFFERS if any(difference.matters for difference in differences(before, now)) else SAME
