"""The rank's part of a plan, as it arrives in the environment: read once, into plain typed objects.

Written by ``derail.faults.engine.prepare``. Standard library only, for any Python from 3.9 on; no dataclasses, whose
import costs more than all of this.
"""

from __future__ import annotations

import json
import os

VARIABLE = "DERAIL_INRANK"
"""The environment variable that holds it, as JSON."""


class ImpossibleError(Exception):
    """Raised by an action: this process cannot be broken in that way. Its text says why."""


class Watch:
    """A place in the program that somebody waits for: a fault of this rank, or the driver."""

    __slots__ = ("at", "fault", "hits", "kind", "name", "number", "patience")

    def __init__(self, told: dict[str, object], fault: str) -> None:
        hits = told["hits"]
        self.fault = fault
        self.kind = str(told["kind"])
        self.name = str(told["name"])
        self.at = str(told["at"])
        self.number = int(str(told.get("number", 0)))
        self.patience = float(str(told.get("patience", 0.0)))
        self.hits: list[tuple[int, int | None, int]] = [tuple(hit) for hit in hits] if isinstance(hits, list) else []

    def has(self, n: int) -> bool:
        """Whether the ``n``-th time counts."""
        return any(
            n >= first and (last is None or n <= last) and (n - first) % step == 0 for first, last, step in self.hits
        )

    def over(self, n: int) -> bool:
        """Whether no time after the ``n``-th counts."""
        return all(last is not None and last <= n for _, last, _ in self.hits)


class Task:
    """One fault that acts in this rank."""

    __slots__ = ("attempt", "id", "name", "numbers", "params", "seconds", "watch", "when")

    def __init__(self, told: dict[str, object]) -> None:
        params, numbers, seconds, watch = told["params"], told["numbers"], told["for"], told.get("watch")
        self.id = str(told["id"])
        self.name = str(told["name"])
        self.when = str(told["when"])
        self.attempt = None if told.get("attempt") is None else str(told["attempt"])
        self.watch = Watch(watch, self.id) if isinstance(watch, dict) else None
        self.seconds = float(seconds) if isinstance(seconds, (int, float)) else None
        self.params: dict[str, object] = params if isinstance(params, dict) else {}
        self.numbers = [int(number) for number in numbers] if isinstance(numbers, list) else []

    def flag(self, name: str) -> bool:
        """A parameter that is true or false."""
        return bool(self.params.get(name))

    def text(self, name: str) -> str:
        """A parameter as a string."""
        return str(self.params.get(name, ""))


class Part:
    """What concerns this process: who it is, where the journal is, what to do, and what to look out for."""

    __slots__ = ("attempt", "function", "job", "journal", "meet", "rank", "signal", "tasks", "text", "watches")

    def __init__(self, text: str, own_rank: int | None) -> None:
        told = json.loads(text)
        self.text = text
        self.job = str(told["job"])
        self.journal = str(told["journal"])
        self.signal = int(told["signal"])
        self.function = bool(told["function"])
        self.meet = str(told.get("meet", ""))
        self.attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.rank = own_rank if told["rank"] is None else int(told["rank"])
        self.tasks = [Task(fault) for fault in told["faults"] if self.rank in fault["ranks"]]
        self.watches = [
            Watch(watch, str(watch["fault"]))
            for watch in told.get("watches", ())
            if self.rank in watch.get("ranks", (self.rank,))
        ]
