"""Rank's part of a plan, as read once from the environment into plain typed objects.

``derail.faults.engine.prepare`` writes it. Standard library only, for any Python from 3.9 on. No dataclasses: importing
them costs more than all of this.
"""

from __future__ import annotations

import json
import os

VARIABLE = "DERAIL_INRANK"
"""Environment variable with the rank's part of the plan, as JSON."""
RECORDER = "DERAIL_RECORDER"
"""Environment variable with the directory for the ring files of all ranks (``recorder``)."""


class ImpossibleError(Exception):
    """Failure of an action: this fault is impossible in this process. The text is the reason."""


class Watch:
    """Place in the program that a fault of this rank, or the driver, waits for."""

    __slots__ = ("at", "fault", "hits", "kind", "name", "number", "patience")

    def __init__(self, data: dict[str, object], fault: str) -> None:
        hits = data["hits"]
        self.fault = fault
        self.kind = str(data["kind"])
        self.name = str(data["name"])
        self.at = str(data["at"])
        self.number = int(str(data.get("number", 0)))
        self.patience = float(str(data.get("patience", 0.0)))
        self.hits: list[tuple[int, int | None, int]] = [tuple(hit) for hit in hits] if isinstance(hits, list) else []

    def has(self, n: int) -> bool:
        """Return whether the ``n``-th occurrence counts."""
        return any(
            n >= first and (last is None or n <= last) and (n - first) % step == 0 for first, last, step in self.hits
        )

    def over(self, n: int) -> bool:
        """Return whether no occurrence after the ``n``-th counts."""
        return all(last is not None and last <= n for _, last, _ in self.hits)


class Task:
    """Fault that acts in this rank."""

    __slots__ = ("attempt", "id", "name", "numbers", "params", "seconds", "watch", "when")

    def __init__(self, data: dict[str, object]) -> None:
        params, numbers, seconds, watch = data["params"], data["numbers"], data["for"], data.get("watch")
        self.id = str(data["id"])
        self.name = str(data["name"])
        self.when = str(data["when"])
        self.attempt = None if data.get("attempt") is None else str(data["attempt"])
        self.watch = Watch(watch, self.id) if isinstance(watch, dict) else None
        self.seconds = float(seconds) if isinstance(seconds, (int, float)) else None
        self.params: dict[str, object] = params if isinstance(params, dict) else {}
        self.numbers = [int(number) for number in numbers] if isinstance(numbers, list) else []

    def flag(self, name: str) -> bool:
        """Return a boolean parameter."""
        return bool(self.params.get(name))

    def text(self, name: str) -> str:
        """Return a parameter as a string."""
        return str(self.params.get(name, ""))


class Part:
    """Part of the plan for this process: its rank, the journal, the faults to inject, and the places to watch."""

    __slots__ = ("attempt", "function", "job", "journal", "meet", "rank", "signal", "tasks", "text", "watches")

    def __init__(self, text: str, own_rank: int | None) -> None:
        data = json.loads(text)
        self.text = text
        self.job = str(data["job"])
        self.journal = str(data["journal"])
        self.signal = int(data["signal"])
        self.function = bool(data["function"])
        self.meet = str(data.get("meet", ""))
        self.attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.rank = own_rank if data["rank"] is None else int(data["rank"])
        self.tasks = [Task(fault) for fault in data["faults"] if self.rank in fault["ranks"]]
        self.watches = [
            Watch(watch, str(watch["fault"]))
            for watch in data.get("watches", ())
            if self.rank in watch.get("ranks", (self.rank,))
        ]
