"""Places in ranks at which they stay until somebody lets them go, or until all of them are there.

A rank that comes to one says so in the journal and stays, as it does for a fault; the driver writes when it may go on.
Nothing is broken by that: a gate is no fault, and decides only in which order things happen.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from derail.faults.engine.rank_plan import watch_at
from derail.faults.engine.trigger_matcher import Inside
from derail.faults.model.occurrences import Hits
from derail.faults.model.triggers import Point
from derail.model.clock import SYSTEM_CLOCK
from derail.model.input_error import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from derail.faults.engine.trigger_matcher import Reached
    from derail.faults.model.triggers import Data

PATIENCE = 3600.0
"""Seconds that a rank stays at most; its job has a shorter timeout, and a rank without a supervisor ends."""


class GateError(RuntimeError):
    """Ranks did not come to a gate, and never will. It says which, and what they did instead."""


class Gate:
    """One place in the ranks of one job. Its methods may be called from any thread.

    Args:
        name: unique among the gates of a job.
        at: the name of a point, or another trigger that only the rank knows of: a call, an import, a signal.
        ranks: who stays there; None for all ranks of the job.
        together: whether they go on by themselves as soon as all are there.

    Raises:
        InputError: if a rank cannot stay at such a thing.
    """

    def __init__(
        self, name: str, at: str | Inside, *, ranks: Collection[int] | None = None, together: bool = False
    ) -> None:
        self.name = name
        self.at = Point(at) if isinstance(at, str) else at
        if not isinstance(self.at, Inside):
            raise InputError(f"a rank cannot stay {self.at}: name a point, or give when.call, when.import_of ...")
        self.together = together
        self._wanted = None if ranks is None else frozenset(ranks)
        self._ranks: frozenset[int] = self._wanted or frozenset()
        self._changed = threading.Condition()
        self._there: set[int] = set()
        self._came: set[int] = set()
        self._free: set[int] = set()
        self._all_free = False
        self._ended: dict[int, str] = {}
        self._over = False

    def __str__(self) -> str:
        """Which it is."""
        return f"{'barrier' if self.together else 'hold'} {self.at}"

    @property
    def came(self) -> frozenset[int]:
        """The ranks that have been there."""
        with self._changed:
            return frozenset(self._came)

    @property
    def over(self) -> bool:
        """Whether nobody will come any more: the job is over."""
        return self._over

    @property
    def missing(self) -> dict[int, str]:
        """The ranks that were to come and did not, and what is known of each."""
        with self._changed:
            return self._missing()

    def aim(self, ranks: Sequence[int]) -> None:
        """Say which ranks the job has.

        Raises:
            InputError: if one of ours is not among them.
        """
        strangers = sorted((self._wanted or frozenset()) - frozenset(ranks))
        if strangers:
            raise InputError(f"{self}: there is no rank {', '.join(map(str, strangers))}")
        self._ranks = frozenset(ranks) if self._wanted is None else self._wanted

    def watch(self, rank: int) -> Data | None:
        """What the runtime in a rank is to look out for; None if it is not concerned."""
        if rank not in self._ranks:
            return None
        hits = [Hits.read(getattr(self.at, "hit", 1))]
        return {"number": 0, "fault": self.name, "patience": PATIENCE, **watch_at(self.at, hits)}

    def wait(self, timeout: float) -> frozenset[int]:
        """Wait until all ranks are there, or have been; which those are.

        Raises:
            GateError: if one ended without coming.
            TimeoutError: if they are not there in time.
        """
        __tracebackhide__ = True
        deadline = SYSTEM_CLOCK.now() + timeout
        with self._changed:
            while not self._ranks or not self._ranks <= self._came:
                missing = self._missing()
                told = f"{self}: " + ", ".join(f"rank {rank} {what}" for rank, what in missing.items())
                if self._over or self._ended.keys() & missing:
                    raise GateError(told if missing else f"{self}: no job was started")
                left = deadline - SYSTEM_CLOCK.now()
                if left <= 0:
                    raise TimeoutError(f"{told} within {timeout:.3g} s")
                self._changed.wait(left)
            return frozenset(self._came)

    def release(self, ranks: Collection[int] | None = None) -> None:
        """Let ranks go on, and do not stop them here again; all if none is named."""
        with self._changed:
            self._all_free |= ranks is None
            self._free.update(ranks or ())

    # ---- the driver's side, in the thread of the job

    def arrive(self, rank: int) -> None:
        """A rank is there."""
        with self._changed:
            self._there.add(rank)
            self._came.add(rank)
            if self.together and self._there >= self._ranks - self._ended.keys():
                self._there.clear()
            self._changed.notify_all()

    def end(self, rank: int, how: str) -> None:
        """A rank has ended, or its function has returned: nobody waits for it any more."""
        with self._changed:
            self._ended.setdefault(rank, how)
            if self.together and self._there >= self._ranks - self._ended.keys():
                self._there.clear()
            self._changed.notify_all()

    def finish(self) -> None:
        """The job is over."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def keeps(self, rank: int) -> bool:
        """Whether a rank must stay there."""
        with self._changed:
            if rank in self._there and not self._is_free(rank):
                return True
            self._there.discard(rank)
            return False

    def is_open(self, rank: int) -> bool:
        """Whether a rank need not stop here any more."""
        with self._changed:
            return self._is_free(rank)

    def _is_free(self, rank: int) -> bool:
        return self._all_free or rank in self._free

    def _missing(self) -> dict[int, str]:
        found = {}
        for rank in sorted(self._ranks - self._came):
            ended = self._ended.get(rank)
            found[rank] = "did not come there" if ended is None else f"{ended} before it came there"
        return found


class Gates:
    """All gates of one job, as its driver asks them."""

    def __init__(self, gates: Collection[Gate]) -> None:
        self._gates = {gate.name: gate for gate in gates}

    def watches(self, rank: int) -> list[Data]:
        """What a rank is to look out for."""
        return [told for gate in self._gates.values() if (told := gate.watch(rank)) is not None]

    def aim(self, ranks: Sequence[int]) -> None:
        """Say which ranks the job has.

        Raises:
            InputError: if a gate is for others.
        """
        for gate in self._gates.values():
            gate.aim(ranks)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._gates)

    def arrive(self, reached: Reached) -> None:
        """A rank has come to something that is watched."""
        if reached.fault in self._gates:
            self._gates[reached.fault].arrive(reached.rank)

    def keep(self, reached: Reached) -> bool:
        """Whether a rank must stay where it is."""
        return reached.fault in self._gates and self._gates[reached.fault].keeps(reached.rank)

    def again(self, reached: Reached) -> bool:
        """Whether a rank is to say when it comes there the next time."""
        return reached.fault in self._gates and not self._gates[reached.fault].is_open(reached.rank)

    def end(self, rank: int, how: str) -> None:
        """A rank has ended, or its function has."""
        for gate in self._gates.values():
            gate.end(rank, how)

    def finish(self) -> None:
        """The job is over."""
        for gate in self._gates.values():
            gate.finish()
