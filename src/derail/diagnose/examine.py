"""Examination of a job that hangs, from outside: rings, states and stacks of its ranks, and the verdict on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from derail.diagnose.rings import mapped_rings, read_rings
from derail.diagnose.stacks import parse_stack
from derail.diagnose.torch_trace import ask, merged
from derail.diagnose.verdict import RankView, judge
from derail.model.clock import SYSTEM_CLOCK
from derail.platform.hang import awaited
from derail.platform.native_stacks import NativeStack, look
from derail.platform.proc_status import read_status
from derail.supervise.hang_report import report_hangs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from derail.diagnose.rings import Ring
    from derail.diagnose.stacks import Stack
    from derail.diagnose.verdict import HangVerdict
    from derail.supervise.hang_report import Hang


RINGS = "rings"
"""Name of the directory of a job's ring files, beside its journal."""
PATIENCE_S = 2.0
"""Seconds for the ranks of a job that hangs to write their stacks."""
ANSWER_S = 2.0
"""Further seconds for them to write what torch's recorder holds."""
QUICK_S, NATIVE_S = 1.0, 2.0
"""Seconds for py-spy to look at all ranks once, without native frames and with them."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What an examination has found.

    Attributes:
        verdict: the verdict.
        hangs: state and stack of each rank that runs.
    """

    verdict: HangVerdict
    hangs: Mapping[int, Hang]


def examine(
    pids: Mapping[int, int],
    stderrs: Mapping[int, Path | None],
    rings: Path | None,
    *,
    ended: Mapping[int, str],
    patience: float = PATIENCE_S,
    elsewhere: Mapping[int, RankView] | None = None,
) -> Examination:
    """Examine the ranks of a job, and return the verdict. It does not change them, except that they write their stacks.

    Args:
        pids: the process of each rank.
        stderrs: the file of the stderr of each rank; None for a rank without one.
        rings: the directory of the ring files; None if nothing was recorded.
        ended: how ranks have ended, in words; those ranks are not asked for their stacks.
        patience: maximum seconds to wait for the stacks.
        elsewhere: what is known of ranks on other machines.
    """
    gone = {rank: "has exited" for rank, pid in pids.items() if rank not in ended and _has_exited(pid)}
    over = {**gone, **ended}
    before = _read(rings, pids)
    # The process of a rank may be a shell that waits for the Python that records.
    inner = {rank: ring.pid for rank, ring in before.items() if rings is not None and _records_in(rings, ring.pid)}
    examined = {rank: inner.get(rank, pid) for rank, pid in pids.items() if rank not in over}
    asked = set() if rings is None else ask(rings, {rank: before[rank] for rank in examined if rank in before})
    at_first = look(examined.values(), native=False, seconds=QUICK_S)
    hangs = report_hangs(examined, stderrs, patience=patience)
    now, after = SYSTEM_CLOCK.now(), _read(rings, pids)
    stacks = {rank: parse_stack(hang.stack()) for rank, hang in hangs.items()}
    progressed = any(before[rank].calls != ring.calls for rank, ring in after.items() if rank in before)
    asleep = [pid for pid, each in at_first.items() if each.sleeps_with_gil]
    held = {pid for pid, each in look(asleep, native=False, seconds=QUICK_S).items() if each.sleeps_with_gil}
    native = look(examined.values(), native=True, seconds=NATIVE_S)
    hangs = {rank: _with_frames(hang, native.get(examined[rank])) for rank, hang in hangs.items()}
    if rings is not None:
        after = merged(rings, after, asked, patience=ANSWER_S, among={*pids, *(elsewhere or {})})
    views = {
        rank: RankView(
            ring=after.get(rank),
            state="" if rank in over else _state(hangs[rank]),
            ended=over.get(rank, ""),
            stack=stacks.get(rank),
            waits="" if rank in over else _waits(hangs[rank], stacks[rank], holds_gil=examined[rank] in held),
            holds_gil=rank not in over and examined[rank] in held,
        )
        for rank in pids
    }
    return Examination(judge({**views, **(elsewhere or {})}, now=now, progressed=progressed), hangs)


def judge_rings(rings: Path, *, ended: Mapping[int, str], until: float) -> HangVerdict:
    """Return the verdict on a job that was ended at a time, from its ring files alone."""
    found = read_rings(rings)
    views = {rank: RankView(ring=found.get(rank), ended=ended.get(rank, "")) for rank in {*found, *ended}}
    return judge(views, now=until)


def _records_in(rings: Path, pid: int) -> bool:
    return any(path.parent == rings.resolve() for path in mapped_rings(pid))


def _read(rings: Path | None, pids: Mapping[int, int]) -> dict[int, Ring]:
    return {} if rings is None else read_rings(rings, pids=dict(pids))


def _has_exited(pid: int) -> bool:
    return read_status(pid).get("State", "")[:1] in ("", "Z", "X")


def _with_frames(hang: Hang, native: NativeStack | None) -> Hang:
    """Return a report of a rank with its native frames."""
    if native is None or not native.frames:
        return hang
    return replace(hang, described=f"{hang.described}\nnative frames: {' < '.join(native.frames)}")


def _waits(hang: Hang, stack: Stack | None, *, holds_gil: bool) -> str:
    """Return in words what a rank waits for: its data loader, or what the kernel reports; and if it has the GIL."""
    if holds_gil:
        return " and ".join(filter(None, (awaited(hang.described), "holds the GIL")))
    if stack is not None and any(frame.file.endswith("torch/utils/data/dataloader.py") for frame in stack.inner):
        return "waits for its data loader"
    return awaited(hang.described)


def _state(hang: Hang) -> str:
    return next((line[7:8] for line in hang.described.splitlines() if line.startswith("state: ")), "")
