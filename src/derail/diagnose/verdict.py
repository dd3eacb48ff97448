"""Verdict on a hang: the rank that the others wait for, from the last collectives, stacks and states of the ranks.

A rank is named only if the evidence says so. The evidence is: it has exited or is stopped; it has not called what the
others wait in, and waits for none of them; it has called something else at the same place; it waits in another group.
Otherwise the verdict names none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Literal, TypeAlias

from derail.faults.inrank.ring import as_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from derail.diagnose.rings import Collective, Ring
    from derail.diagnose.stacks import Stack

Reason: TypeAlias = Literal[
    "exited", "stopped", "missing call", "has not returned", "other operation", "other shape", "other group",
    "extra call", "GIL held",
]  # fmt: skip

FEWEST_GAPS = 4
"""Gaps between collectives from which a job's pace is known."""
LATEST_GAPS = 16
"""Gaps of each rank that count for the pace."""
STILL_ALIVE = 3.0
"""Multiple of the usual gap between collectives for which a job may be silent without being called hung."""
SHOWN = 8
"""Positions of ranks, and culprits, that are shown; ranks that are listed one by one."""


@dataclass(frozen=True, slots=True)
class RankView:
    """What is known of a rank of a job that hangs.

    Attributes:
        ring: its last collectives; None if it has recorded none, or cannot.
        state: letter of its process's state according to the kernel; empty if unknown.
        ended: how it ended, in words; empty while it runs.
        stack: its stack, if it has written one.
        waits: what its main thread waits for, in words: a lock, I/O; empty if unknown.
        holds_gil: whether its main thread has held the GIL while it waited, each time that it was looked at.
    """

    ring: Ring | None = None
    state: str = ""
    ended: str = ""
    stack: Stack | None = None
    waits: str = ""
    holds_gil: bool = False

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped by a signal, or by a debugger."""
        return self.state in ("T", "t")

    @property
    def blocking(self) -> Collective | None:
        """The collective in which it waits."""
        return None if self.ring is None or self.ended else self.ring.blocking


@dataclass(frozen=True, slots=True)
class Culprit:
    """Rank that the others wait for.

    Attributes:
        rank: its number.
        reason: the evidence, in one of a few words.
        words: the same as part of a sentence after the rank.
    """

    rank: int
    reason: Reason
    words: str


@dataclass(frozen=True, slots=True)
class HangVerdict:
    """Verdict on a hang.

    Attributes:
        culprits: the ranks to look at; empty if the evidence names none.
        lines: the verdict in a few lines for people.
        why_none: why it names no culprit; empty if it does.
    """

    culprits: tuple[Culprit, ...] = ()
    lines: tuple[str, ...] = ()
    why_none: str = ""

    @property
    def ranks(self) -> tuple[int, ...]:
        """Numbers of the culprits."""
        return tuple(culprit.rank for culprit in self.culprits)

    def data(self) -> dict[str, object]:
        """Return culprits and lines as plain data."""
        culprits = [{"rank": each.rank, "reason": each.reason, "words": each.words} for each in self.culprits]
        return {"culprits": culprits, "lines": list(self.lines)}

    def __str__(self) -> str:
        """Return the lines."""
        return "\n".join(self.lines)


def judge(views: Mapping[int, RankView], *, now: float, progressed: bool = False) -> HangVerdict:
    """Return the verdict on a job.

    Args:
        views: what is known of each rank.
        now: monotonic seconds at which the rings were read.
        progressed: whether ranks called or finished collectives while they were examined.
    """
    return _Judge(views, now).judge(progressed=progressed)


class _Judge:
    def __init__(self, views: Mapping[int, RankView], now: float) -> None:
        self._views = dict(sorted(views.items()))
        self._now = now
        self._at: dict[tuple[str, int], dict[int, Collective]] = {}
        """The calls of all ranks at each place of each group."""
        self._furthest: dict[int, dict[str, int]] = {rank: {} for rank in self._views}
        """By rank and group, the place of the last call."""
        for rank, view in self._views.items():
            for each in () if view.ring is None else view.ring.calls:
                if not each.to_peer:
                    self._at.setdefault((each.group, each.place), {})[rank] = each
                    reached = self._furthest[rank]
                    reached[each.group] = max(reached.get(each.group, 0), each.place)
        self._blocked = {rank: call for rank, view in self._views.items() if (call := view.blocking) is not None}
        self._waits_for = {rank: self._targets(rank, call) for rank, call in self._blocked.items()}

    def judge(self, *, progressed: bool) -> HangVerdict:
        running = [rank for rank, view in self._views.items() if not view.ended]
        if running and all(self._views[rank].is_stopped for rank in running):
            return self._none(f"{_ranks(running, len(self._views))} stopped (state T)")
        found = tuple(self._stopped()) or self._mismatched() or self._sinks()
        if found and all(culprit.reason in ("missing call", "has not returned", "GIL held") for culprit in found):
            pace = "collectives ended while the ranks were examined" if progressed else self._is_alive()
            if pace:
                return self._none(f"the job makes progress: {pace}")
        if not found and not progressed:
            found = self._minority()
        if not found:
            return self._none(self._why_none(progressed=progressed))
        return HangVerdict(found, tuple(self._lines(found)))

    # ---- evidence

    def _stopped(self) -> Iterator[Culprit]:
        """Yield the ranks that are stopped while others run and wait."""
        others_wait = any(not self._views[rank].is_stopped for rank in self._blocked)
        for rank, view in self._views.items():
            if view.is_stopped and others_wait:
                inside = self._blocked.get(rank)
                where = f"in {self._named(inside)}" if inside is not None else self._after(rank)
                yield Culprit(rank, "stopped", f"is stopped (state {view.state}) {where}".rstrip())

    def _mismatched(self) -> tuple[Culprit, ...]:
        """Return the ranks that called something else than most, at a place where ranks wait or have failed."""
        kinds: tuple[tuple[Reason, Callable[[Collective], object]], ...] = (
            ("other operation", _operation_of),
            ("other shape", _shape_of),
        )
        for group, place in self._open_places():
            calls = self._at.get((group, place), {})
            for reason, of in kinds:
                usual = _majority({rank: of(call) for rank, call in calls.items()})
                if usual is not None:
                    return tuple(
                        Culprit(rank, reason, f"called {_operation(call)} instead, as #{place}{_site(call)}")
                        for rank, call in calls.items()
                        if of(call) != usual
                    )
        return ()

    def _open_places(self) -> list[tuple[str, int]]:
        """Return the places in groups at which ranks wait, or of which the last call has raised; oldest call first."""
        calls = [call for call in self._blocked.values() if not call.to_peer and not call.of_store]
        last = [view.ring.calls[-1] for view in self._views.values() if view.ring is not None and view.ring.calls]
        calls += [call for call in last if call.raised]
        return list(dict.fromkeys((call.group, call.place) for call in sorted(calls, key=lambda call: call.entered)))

    def _sinks(self) -> tuple[Culprit, ...]:
        """Return the ranks that others wait for, and that wait for no rank themselves."""
        awaited = {target for rank, targets in self._waits_for.items() for target in targets if target != rank}
        sinks = sorted(rank for rank in awaited if not self._waits_for.get(rank))
        waiting = [rank for rank in self._blocked if rank not in sinks]
        if not sinks:
            return ()
        if len(sinks) <= len(waiting):
            return tuple(self._missing(rank, waiting) for rank in sinks)
        if all(self._views[rank].ended for rank in sinks):
            return tuple(
                Culprit(rank, "extra call", f"alone called {self._named(call)}{_site(call)}")
                for rank, call in self._blocked.items()
                if rank in waiting
            )
        return ()

    def _missing(self, rank: int, waiting: Iterable[int]) -> Culprit:
        view, inside = self._views[rank], self._blocked.get(rank)
        if view.ended:
            return Culprit(rank, "exited", f"{view.ended} {self._after(rank)}".rstrip())
        if inside is not None and not inside.of_store:
            words = f"has not returned from {self._named(inside)}{_site(inside)}"
            return Culprit(rank, "has not returned", words + _of(view.waits))
        calls = [self._blocked[each] for each in waiting if rank in self._waits_for.get(each, ())]
        verb = "never set it" if calls and all(call.of_store for call in calls) else "never called it"
        where = f"it waits in {self._named(inside)}{_site(inside)}" if inside is not None else self._went_to(rank)
        after = self._after(rank)
        words = " ".join(filter(None, (f"{verb}:", after, where))) if where or after else verb
        idle = inside is None and not (view.stack is not None and view.stack.has_returned)
        reason: Reason = "GIL held" if idle and view.holds_gil else "missing call"
        return Culprit(rank, reason, words + (_of(view.waits) if idle else ""))

    def _minority(self) -> tuple[Culprit, ...]:
        """Return, of ranks that wait for each other, those that wait elsewhere than most."""
        cycle = {rank: call for rank, call in self._blocked.items() if self._waits_for[rank]}
        usual = _majority({rank: _position(call) for rank, call in cycle.items()})
        if usual is None:
            return ()
        most = next(call for call in cycle.values() if _position(call) == usual)
        culprits = []
        for rank, call in cycle.items():
            if _position(call) != usual:
                same_group = (call.group, call.to_peer, call.of_store) == (most.group, most.to_peer, most.of_store)
                reason: Reason = "other operation" if same_group or most.of_store or call.of_store else "other group"
                culprits.append(Culprit(rank, reason, f"waits in {self._named(call)}{_site(call)} instead"))
        return tuple(culprits)

    def _targets(self, rank: int, call: Collective) -> frozenset[int]:
        """Return the ranks that a rank waits for in a call."""
        if call.of_store:
            return frozenset(
                other
                for other in self._views
                if other != rank and not self._is_at_key(other, call.subject) and not self._is_unknown(other)
            )
        if call.to_peer:
            peers = self._views if call.peer is None else (call.peer,)
            return frozenset(
                peer
                for peer in peers
                if peer in self._views and peer != rank and not self._has_answered(peer, rank, call)
            )
        members = self._views if call.ranks is None else call.ranks
        return frozenset(
            other for other in members if other != rank and other in self._views and self._has_not_called(other, call)
        )

    def _is_at_key(self, rank: int, key: str) -> bool:
        call = self._blocked.get(rank)
        return call is not None and call.of_store and call.subject == key

    def _is_unknown(self, rank: int) -> bool:
        """Return whether there is no evidence of what a rank has called."""
        view = self._views[rank]
        if view.ring is not None or view.ended or view.is_stopped:
            return False
        # A rank without a record whose stack is in a library may be in any collective.
        return view.stack is None or any("torch/distributed" in frame.file for frame in view.stack.inner)

    def _has_not_called(self, rank: int, call: Collective) -> bool:
        ring = self._views[rank].ring
        if ring is None:
            return not self._is_unknown(rank)
        furthest = self._furthest[rank].get(call.group)
        if furthest is None and ring.calls and ring.calls[0].number > 1:
            return bool(self._views[rank].ended)  # its calls in this group may have been overwritten
        return (furthest or 0) < call.place

    def _has_answered(self, peer: int, rank: int, call: Collective) -> bool:
        """Return whether a peer has made the call that corresponds to this one, or is known to be in it."""
        ring = self._views[peer].ring
        if ring is None:
            return self._is_unknown(peer)
        direction = "recv" if "send" in call.operation.lower() else "send"
        answers = [
            each
            for each in ring.calls
            if each.to_peer and direction in each.operation.lower() and each.peer in (rank, None)
        ]
        return any(each.left is None or each.place >= call.place for each in answers)

    # ---- no culprit

    def _is_alive(self) -> str:
        """Return the pace of a job that is not silent for longer than usual; empty if it is."""
        gaps, last = [], 0.0
        for view in self._views.values():
            calls = () if view.ring is None else view.ring.calls
            entered = [call.entered for call in calls[-LATEST_GAPS - 1 :]]
            gaps += [after - before for before, after in pairwise(entered)]
            last = max([last, *(max(call.entered, call.left or 0.0) for call in calls)])
        if len(gaps) < FEWEST_GAPS:
            return ""
        usual, silent = median(gaps), self._now - last
        if not 0 <= silent < STILL_ALIVE * usual:
            return ""
        return f"the last collective was {silent:.1f} s ago, and they are usually {usual:.1f} s apart"

    def _none(self, why: str) -> HangVerdict:
        return HangVerdict((), tuple(self._lines((), why)), why)

    def _why_none(self, *, progressed: bool) -> str:
        if progressed:
            return "the job makes progress: collectives ended while the ranks were examined"
        if not self._blocked:
            unknown = [rank for rank, view in self._views.items() if view.ring is None and not view.ended]
            if len(unknown) == len(self._views):
                return "no rank has recorded a collective"
            return "no rank waits in a recorded collective"
        positions = {_position(call) for call in self._blocked.values()}
        if len(positions) == 1 and len(self._blocked) == len(self._views):
            return f"all ranks wait in {next(iter(self._blocked.values())).operation}"
        if any(not self._waits_for.get(rank) for targets in self._waits_for.values() for rank in targets):
            return "most ranks have not called what the others wait in"
        unknown = [rank for rank in self._views if rank not in self._blocked and self._is_unknown(rank)]
        if unknown:
            return f"{_numbers(unknown)} {'has' if len(unknown) == 1 else 'have'} recorded nothing and gave no stack"
        return "the ranks wait for each other, and no position is that of most"

    # ---- words

    def _lines(self, culprits: tuple[Culprit, ...], why_none: str = "") -> Iterator[str]:
        texts = [f"no rank stands out: {why_none}"] if why_none else []
        named = {culprit.rank for culprit in culprits}
        texts += list(self._positions(named))[:SHOWN]
        texts += [f"rank {culprit.rank} {culprit.words}   <- look here" for culprit in culprits[:SHOWN]]
        texts += [f"and {len(culprits) - SHOWN} more ranks"] * (len(culprits) > SHOWN)
        for index, text in enumerate(texts):
            yield f"{'hang: ' if index == 0 else '      '}{text}"

    def _positions(self, without: set[int]) -> Iterator[str]:
        """Yield the positions of the ranks that are not named, most ranks first."""
        words: dict[str, list[int]] = {}
        for rank, view in self._views.items():
            if rank not in without:
                call = self._blocked.get(rank)
                text = f"in {self._named(call)}{_called(call)}" if call is not None else self._idle(rank, view)
                words.setdefault(text, []).append(rank)
        for text, ranks in sorted(words.items(), key=lambda item: -len(item[1])):
            verb = "waits" if len(ranks) == 1 else "wait"
            shown = f"{verb} {text}" if text.startswith("in ") else text
            shown = f"have {shown.removeprefix('has ')}" if len(ranks) > 1 and shown.startswith("has ") else shown
            yield f"{_numbers(ranks)} {shown}"

    def _idle(self, rank: int, view: RankView) -> str:
        if view.ended:
            return view.ended
        where = self._went_to(rank).removeprefix("it went to ")
        failed = (
            f", {self._after(rank)}".rstrip(",") if view.ring and view.ring.calls and view.ring.calls[-1].raised else ""
        )
        return (f"at {where}{_of(view.waits)}" if where else "gave no stack") + failed

    def _named(self, call: Collective) -> str:
        """Return ``all_reduce #17 (group 'dp', float32[1024])``."""
        if call.of_store:
            return f"{call.operation} of key {call.subject!r}"
        facts = [f"group {call.label!r}"] if call.label else []
        facts += [f"peer {call.peer}"] if call.peer is not None else []
        facts += [call.shapes] if call.shapes else []
        return f"{call.operation} #{call.place}{_in_brackets(facts)}"

    def _after(self, rank: int) -> str:
        """Return ``after all_reduce #16``, the last collective that a rank has finished."""
        ring = self._views[rank].ring
        if ring is None:
            return ""
        done = [call for call in ring.calls if call.left is not None]
        if not done:
            return "before any collective" if not ring.calls else ""
        last = max(done, key=lambda call: call.left or 0.0)
        failed = ", which raised an error," if last.raised else ""
        return f"after {last.operation} #{last.place}{f' of group {last.label!r}' if last.label else ''}{failed}"

    def _went_to(self, rank: int) -> str:
        stack = self._views[rank].stack
        if stack is None:
            return ""
        if stack.has_returned:
            return "its function returned"
        return f"it went to {stack.place}" if stack.place is not None else ""


def _position(call: Collective) -> tuple[object, ...]:
    """Return where a rank waits, the same for ranks that wait in the same thing."""
    if call.of_store:
        return ("store", call.subject)
    if call.to_peer:
        return ("peer", call.operation)  # a ring of ranks that wait for each other has no odd one
    return (call.group, call.place, call.operation)


def _operation_of(call: Collective) -> object:
    return call.operation, call.subject


def _shape_of(call: Collective) -> object:
    return call.shapes if call.compared else ""


def _majority(values: Mapping[int, object]) -> object | None:
    """Return the value that more than half of the ranks have, if others have another one; None otherwise."""
    if len(set(values.values())) < 2:
        return None
    value, count = Counter(values.values()).most_common(1)[0]
    return value if 2 * count > len(values) else None


def _operation(call: Collective) -> str:
    facts = [fact for fact in (call.shapes, call.subject) if fact]
    return f"{call.operation}{_in_brackets(facts)}"


def _in_brackets(facts: list[str]) -> str:
    return f" ({', '.join(facts)})" if facts else ""


def _site(call: Collective) -> str:
    name = call.file.replace("\\", "/").rpartition("/")[2]
    return f" at {name}:{call.line}" if name else ""


def _called(call: Collective) -> str:
    site = _site(call)
    return f" called{site}" if site else ""


def _of(waits: str) -> str:
    return f" ({waits})" if waits else ""


def _numbers(ranks: Iterable[int]) -> str:
    numbers = [str(rank) for rank in ranks]
    if len(numbers) == 1:
        return f"rank {numbers[0]}"
    shown = numbers if len(numbers) <= SHOWN else as_ranges(map(int, numbers)).decode().split(",")
    return f"ranks {', '.join(shown)}"


def _ranks(ranks: list[int], of: int) -> str:
    if len(ranks) == of:
        return "all ranks are"
    return f"{_numbers(ranks)} {'is' if len(ranks) == 1 else 'are'}"
