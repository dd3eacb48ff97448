"""``Std`` and ``to_map``: which streams, for which ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.registry import Facts, Fault, add, case

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(rank): int(std) for rank, std in value.items()}
    return int(value)  # type: ignore[call-overload]


@case({"values": [0, 1, 2, 3], "all": True, "member": True})
def std_is_a_bit_mask(api: Api, stage: Stage) -> Facts:
    """NONE, OUT, ERR and ALL are 0 to 3."""
    std = api.Std
    return {
        "values": [int(value) for value in (std.NONE, std.OUT, std.ERR, std.ALL)],
        "all": std.OUT | std.ERR == std.ALL,
        "member": bool(std.ALL & std.OUT) and not std.ERR & std.OUT,
    }


def _reads(name: str, text: str, value: object, fault: Fault | None = None) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        try:
            return {"value": _plain(api.Std.from_str(text))}
        except ValueError:
            return {"value": "ValueError"}

    add(f"std_from_str_{name}", run, expect={"value": value}, torch=fault, doc=f"Std.from_str({text!r})")


def _seen(value: object, why: str) -> Fault:
    return Fault(f"seen on 2.13.0: {why}", {"value": value})


_reads("none", "0", 0)
_reads("out", "1", 1)
_reads("all", "3", 3)
_reads("map", "0:3,1:0,2:1,3:2", {"0": 3, "1": 0, "2": 1, "3": 2})
_reads("map_of_one", "0:1", {"0": 1})
_reads("four", "4", "ValueError")
_reads("words", "out", "ValueError")
_reads("nothing", "", "ValueError")
_reads("map_with_a_hole", "0:1,,1:1", "ValueError")
_reads("map_with_an_unknown_stream", "0:7", "ValueError")
_reads("negative_rank", "-1:1", "ValueError")
_reads("rank_ten", "0:3,10:1", {"0": 3, "10": 1}, _seen("ValueError", "ranks from 10 on cannot be named"))
_reads("range", "0-2:3,12:1", {"0": 3, "1": 3, "2": 3, "12": 1}, _seen("ValueError", "there are no ranges of ranks"))
_reads("line_end", "1\n", "ValueError", _seen(1, "a line end is passed over"))
_reads(
    "rank_twice", "0:1,0:2", "ValueError", _seen({"0": 2}, "of two entries for one rank the first is lost in silence")
)


@case({"value": {"0": 1, "1": 1}, "map": {"0": 0, "1": 1}, "full": {"0": 1, "1": 2}, "empty": {"0": 0}})
def to_map_gives_each_rank_its_streams(api: Api, stage: Stage) -> Facts:
    """One value is for all ranks; ranks that a map leaves out have none."""
    std = api.Std
    return {
        "value": _plain(api.to_map(std.OUT, 2)),
        "map": _plain(api.to_map({1: std.OUT}, local_world_size=2)),
        "full": _plain(api.to_map({0: std.OUT, 1: std.ERR}, local_world_size=2)),
        "empty": _plain(api.to_map({}, 1)),
    }


@case(
    {"raised": "ValueError"},
    torch=Fault(
        "seen on 2.13.0: streams for a rank that the job does not have are passed over in silence",
        {"finished": True, "raised": None},
    ),
)
def to_map_refuses_ranks_that_do_not_exist(api: Api, stage: Stage) -> Facts:
    """A map that names rank 5 of 2 is a mistake."""
    try:
        api.to_map({5: api.Std.OUT}, 2)
    except ValueError:
        return {"raised": "ValueError"}
    return {"raised": None}
