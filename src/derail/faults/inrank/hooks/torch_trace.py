"""torch's own flight recorder, where it is on: a thread of the rank writes down what it holds whenever derail asks.

It knows what is called from C++ and from compiled code as well. Somebody asks by opening a FIFO; the answer is a file
beside the ring file, which ``derail.diagnose.torch_trace`` reads. A rank that holds the GIL does not answer.
"""

from __future__ import annotations

import os
import sys
from _thread import start_new_thread

from ..real_time import COARSE_STEP_S, monotonic, wall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

VARIABLES = ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE")
"""Variables of torch that switch its recorder on: the number of its entries. The second is an older name."""
MOST_ENTRIES = 512
"""Entries that are written at most, the last ones."""
VERSION = 1
COMPILED = "<eval_with_key>"
"""Beginning of the names of files of code that torch has compiled."""
KINDS = {
    "BFloat16": "bfloat16", "Bool": "bool", "Byte": "uint8", "Char": "int8", "Double": "float64", "Float": "float32",
    "Half": "float16", "Int": "int32", "Long": "int64", "Short": "int16",
}  # fmt: skip
"""Names of types of elements in C++, and those that programs use."""
OF_COLLECTIVES = ("_dump_fr_trace", "_dump_nccl_trace")
"""Functions of ``torch._C._distributed_c10d`` that return the entries, the newer name first."""


def trace_names(rank: int, pid: int) -> tuple[str, str]:
    """Return the names of a rank's FIFO and of the file with the answer."""
    return f"torch-{rank}.{pid}.ask", f"torch-{rank}.{pid}.json"


def is_on() -> bool:
    """Return whether the environment switches torch's recorder on."""
    return any(os.environ.get(name, "0").strip() not in ("", "0") for name in VARIABLES)


def answer(directory: str, rank: int, c10d: Any, is_hidden: Callable[[str], bool]) -> None:
    """Answer from now on, in a thread, if torch's recorder is on.

    Args:
        directory: where the ring file is.
        rank: this rank.
        c10d: ``torch.distributed.distributed_c10d``.
        is_hidden: tells whether a file is no part of the program.
    """
    module = sys.modules.get("torch._C._distributed_c10d")
    dump = next((function for name in OF_COLLECTIVES if (function := getattr(module, name, None))), None)
    if dump is None or not is_on():
        return
    ask, file = (os.path.join(directory, name) for name in trace_names(rank, os.getpid()))
    try:
        os.mkfifo(ask, 0o600)
    except OSError:
        return  # a thread answers already, or the directory is gone
    start_new_thread(_serve, (ask, file, lambda: _entries(dump, c10d, is_hidden)))


def _serve(ask: str, file: str, entries: Callable[[], list[dict[str, object]]]) -> None:
    import json  # torch has imported it

    try:
        while True:
            with open(ask, "rb") as asking:  # waits, without the GIL, until somebody opens it
                asking.read()
            content = {"version": VERSION, "offset": _offset(), "entries": entries()}
            fd = os.open(f"{file}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "w") as out:
                json.dump(content, out)
            os.replace(f"{file}.new", file)
    except OSError:
        pass  # the directory is gone: the job is over
    except Exception as error:  # another torch than is known: its recorder is not read
        sys.stderr.write(f"derail: torch's flight recorder is not read: {type(error).__name__}: {error}\n")


def _offset() -> float:
    """Return the seconds from the monotonic clock to the wall clock, which may lag by up to a tick at each reading."""
    now = begin = monotonic()
    offset = wall() - now
    while now < begin + COARSE_STEP_S:
        now = monotonic()
        offset = max(offset, wall() - now)
    return offset


def _entries(dump: Callable[..., bytes], c10d: Any, is_hidden: Callable[[str], bool]) -> list[dict[str, object]]:
    import pickle

    found = pickle.loads(dump(True, True, False))["entries"]  # torch has just made it in this process
    ranks = dict(_ranks(c10d))
    return [_entry(each, ranks, is_hidden) for each in found[-MOST_ENTRIES:]]


def _ranks(c10d: Any) -> Iterator[tuple[str, list[int]]]:
    """Yield the name of each group of this process, and its ranks."""
    world = c10d._world  # noqa: SLF001 - torch has no public list of groups
    for group, name in list(world.pg_names.items()):
        yield name, sorted(world.pg_group_ranks[group])


def _entry(each: dict[str, Any], ranks: dict[str, list[int]], is_hidden: Callable[[str], bool]) -> dict[str, object]:
    name, label = each["process_group"]
    program = (frame for frame in each["frames"] if not is_hidden(frame["filename"]))
    frame: dict[str, Any] = next((frame for frame in program if not frame["filename"].startswith(COMPILED)), {})
    sizes = [",".join(map(str, size)) for size in each["input_sizes"]]
    shapes = [f"{KINDS.get(kind, kind)}[{size}]" for kind, size in zip(each["input_dtypes"], sizes, strict=False)]
    return {
        "number": each["record_id"],
        "place": each["collective_seq_id"],
        "operation": each["profiling_name"].rpartition(":")[2],
        "group": name,
        "label": "" if label in ("undefined", "default_pg") else label,
        "ranks": ranks.get(name),
        "shapes": shapes[0] if len(shapes) == 1 else f"{len(shapes)} x {shapes[0]}" if shapes else "",
        "file": frame.get("filename", ""),
        "line": frame.get("line", 0),
        "function": frame.get("name", ""),
        "created": each["time_created_ns"] / 1e9,
        "done": bool(each["retired"]),
        "to_peer": bool(each["is_p2p"]),
    }
