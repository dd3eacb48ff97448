"""Sets of standard streams: ``Std``, its text form, and one value per local rank."""

from __future__ import annotations

import re
from enum import IntFlag

_ENTRY = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+))?:(?P<std>[0-3])")
_FORMS = "one of 0 (none), 1 (stdout), 2 (stderr), 3 (both), or a list of them by local rank such as '0:3,4-7:1'"


class Std(IntFlag):
    """Standard streams of a rank, as a bit mask."""

    NONE = 0
    OUT = 1
    ERR = 2
    ALL = OUT | ERR

    @classmethod
    def from_str(cls, vm: str) -> Std | dict[int, Std]:
        """Parse ``"3"``, ``"0:3,1:0"`` or, with ranges, ``"0-7:3,12:1"``.

        Returns:
            One ``Std`` for every rank, or a map from local rank to ``Std``.

        Raises:
            ValueError: if the text has another form, a range runs backwards, or a rank is named twice.
        """
        if re.fullmatch(r"[0-3]", vm):
            return cls(int(vm))
        chosen: dict[int, Std] = {}
        for entry in vm.split(","):
            match = _ENTRY.fullmatch(entry)
            if match is None:
                raise ValueError(f"{vm!r} does not select streams: {entry!r} is not {_FORMS}")
            first = int(match["first"])
            last = first if match["last"] is None else int(match["last"])
            if last < first:
                raise ValueError(f"{vm!r} has the range {first}-{last}, which runs backwards")
            if last - first >= 1 << 20:
                raise ValueError(f"{vm!r} has the range {first}-{last}, which no machine has ranks for")
            for rank in range(first, last + 1):
                if rank in chosen:
                    raise ValueError(f"{vm!r} names local rank {rank} twice")
                chosen[rank] = cls(int(match["std"]))
        return chosen


def to_map(val_or_map: Std | dict[int, Std], local_world_size: int) -> dict[int, Std]:
    """Return the ``Std`` of each local rank; ranks that a map leaves out get ``Std.NONE``.

    Raises:
        ValueError: if a map names a local rank that the job does not have.
    """
    if isinstance(val_or_map, int):
        return dict.fromkeys(range(local_world_size), Std(val_or_map))
    unknown = sorted(set(val_or_map) - set(range(local_world_size)))
    if unknown:
        raise ValueError(
            f"streams are given for local rank(s) {unknown}, but the job has local ranks 0 to {local_world_size - 1}"
        )
    return {rank: val_or_map.get(rank, Std.NONE) for rank in range(local_world_size)}
