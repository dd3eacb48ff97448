"""Ranks that record an error in one of many ways, or wait to be the victim of that."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import threading
from pathlib import Path

kept: list[object] = []
"""Files that a rank holds open until it ends."""


def document(message: str = "", *, size: int = 0) -> bytes:
    """An error file as torch writes it: without the process that wrote it."""
    text = {
        "message": message or os.environ.get("MESSAGE", "the cause"),
        "extraInfo": {"py_callstack": "x" * size, "timestamp": "1"},
    }
    return json.dumps({"message": text}).encode()


def keep_open(path: Path, data: bytes, mode: str = "wb") -> None:
    """Write, flush, and hold the file open."""
    file = path.open(mode)
    file.write(data)
    file.flush()
    kept.append(file)


def aside(path: Path, data: bytes) -> Path:
    """Write a file beside the error file, under another name."""
    path.with_name("aside").write_bytes(data)
    return path.with_name("aside")


def in_halves(path: Path) -> None:
    """Write the first half, and the second one later; hold the file open."""
    data = document()
    keep_open(path, data[:20])
    threading.Event().wait(0.05)
    kept[0].write(data[20:])
    kept[0].flush()


def byte_by_byte(path: Path) -> None:
    """Write a large record in 20,000 pieces."""
    keep_open(path, b"", "wb")
    for byte in document(size=20_000):
        os.write(kept[0].fileno(), bytes((byte,)))


def in_place(path: Path) -> None:
    """Write something else, and rewrite the open file."""
    keep_open(path, b"x" * 1000)
    kept[0].seek(0)
    kept[0].truncate()
    kept[0].write(document())
    kept[0].flush()


def from_nowhere(path: Path) -> None:
    """Give a name to a complete file without one."""
    fd = os.open(path.parent, os.O_TMPFILE | os.O_RDWR)
    os.write(fd, document())
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)  # with a dir_fd, it is linkat(2)


def mapped(path: Path) -> None:
    """Write through a memory map, which announces nothing."""
    data = document()
    with path.open("w+b") as file:
        file.truncate(len(data))
        kept.append(mmap.mmap(file.fileno(), len(data)))
    threading.Event().wait(0.05)  # the launcher looks at the empty file
    kept[0][:] = data


def through_a_link(path: Path, directory: Path) -> None:
    """Make the name a link to a file elsewhere, and write that."""
    target = directory / "elsewhere"
    target.touch()
    path.symlink_to(target)
    threading.Event().wait(0.02)
    keep_open(target, document())


def through_a_dangling_link(path: Path, directory: Path) -> None:
    """Do the same with a file that does not exist when the link is made."""
    path.symlink_to(directory / "elsewhere")
    threading.Event().wait(0.02)
    keep_open(directory / "elsewhere", document())


def on_another_file_system(path: Path) -> None:
    """Link to a file in memory."""
    through_a_link(path, Path(os.environ["SHM"]))


def sent(path: Path) -> None:
    """Let the kernel copy the bytes, and hold the file open."""
    keep_open(path, b"")
    with aside(path, document()).open("rb") as source:
        os.sendfile(kept[0].fileno(), source.fileno(), 0, 1 << 20)


def in_a_thread(path: Path) -> None:
    """Write in a thread that does not end."""

    def write() -> None:
        keep_open(path, document())
        written.set()
        threading.Event().wait(600)

    written = threading.Event()
    threading.Thread(target=write, daemon=True).start()
    written.wait()


def after_many(path: Path) -> None:
    """Record and survive 600 errors of 20 kB before."""
    for number in range(600):
        aside(path, document(f"survived {number}", size=20_000)).rename(path)
        threading.Event().wait(0.001)  # the launcher sees each
    aside(path, document()).rename(path)


def after_large_ones(path: Path) -> None:
    """Record and survive three errors of 3 MB before, in one file that is held open."""
    for number in range(3):
        keep_open(path, document(f"survived {number}", size=3_000_000))
    keep_open(path, document(size=3_000_000))


def changed_all_the_time(path: Path) -> None:
    """Write garbage 40,000 times before."""
    keep_open(path, b"")
    for number in range(40_000):
        os.pwrite(kept[0].fileno(), b"%d" % number, 0)
    aside(path, document()).rename(path)


def directory_moved(path: Path) -> None:
    """Rename the log directory, make it anew, and record in the new one."""
    path.parent.rename(path.parent.with_name(f"moved{os.getpid()}"))
    threading.Event().wait(0.02)
    path.parent.mkdir()
    threading.Event().wait(0.02)
    keep_open(path, document())


def directory_replaced(path: Path) -> None:
    """Put another directory in its place, with a complete record."""
    other = path.parent.with_name(f"other{os.getpid()}")
    other.mkdir()
    (other / path.name).write_bytes(document())
    path.parent.rename(path.parent.with_name(f"moved{os.getpid()}"))
    other.rename(path.parent)


def directory_removed(path: Path) -> None:
    """Remove the log directory, and make it anew."""
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    path.write_bytes(document())


def directory_above_moved(path: Path) -> None:
    """Rename the directory above, of which the kernel announces nothing to watchers of the one below."""
    above = path.parent.parent
    above.rename(above.with_name(f"moved{os.getpid()}"))
    path.parent.mkdir(parents=True)
    path.write_bytes(document())


def long_ago(path: Path) -> None:
    """Set the time of the file to 1970."""
    aside(path, document())
    os.utime(path.with_name("aside"), (0, 0))
    path.with_name("aside").rename(path)


def long_ago_afterwards(path: Path) -> None:
    """Do the same for a file that has its name already."""
    keep_open(path, document())
    os.utime(path, (0, 0))


def over_an_old_one(path: Path) -> None:
    """Write as many bytes in place as an earlier attempt had left, and set the time back to that attempt's."""
    before = path.stat()
    keep_open(path, document("the cause".ljust(len("of an earlier attempt"))), "r+b")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def by_a_child(path: Path) -> None:
    """Have a child write, without its pid: that counts as the rank's own."""
    if os.fork() == 0:
        path.write_bytes(document())
        os._exit(0)
    os.wait()


def elsewhere(name: str) -> Path:
    """Return a new directory of the test's own."""
    directory = Path(os.environ["DIR"]) / f"{name}{os.getpid()}"
    directory.mkdir()
    return directory


WAYS = {
    "written": lambda path: path.write_bytes(document()),
    "held open": lambda path: keep_open(path, document()),
    "renamed over": lambda path: (path.write_bytes(b"{"), aside(path, document()).rename(path)),
    "linked": lambda path: os.link(aside(path, document()), path),
    "through a link": lambda path: through_a_link(path, elsewhere("target")),
    "through a dangling link": lambda path: through_a_dangling_link(path, elsewhere("target")),
} | {
    way.__name__.replace("_", " "): way
    for way in (
        in_halves, byte_by_byte, in_place, from_nowhere, mapped, on_another_file_system, sent, in_a_thread, after_many,
        after_large_ones, changed_all_the_time, directory_moved, directory_replaced, directory_removed,
        directory_above_moved, long_ago, long_ago_afterwards, over_an_old_one, by_a_child,
    )
}  # fmt: skip

_SPECIAL = ("on another file system", "over an old one", "directory above moved")
FOR_ANY_RANK = sorted(way for way in WAYS if way not in _SPECIAL)
"""Ways that need nothing but the rank's own directory, and take no other rank's log away."""

UNANNOUNCED = {"mapped", "through a dangling link", "changed all the time", "directory above moved"}
"""Ways for which the kernel gives no time of completion, or the launcher does not watch the file any more."""


def rank(way: str = "") -> None:
    """Wait for ``go`` and record in some way, then wait for the end; or, without a way, wait for ``fail`` and exit."""
    directory = Path(os.environ["DIR"])
    if not way:
        wait_for(directory / "fail")
        os._exit(4)
    if way == "answers":
        signal.signal(signal.SIGTERM, lambda *_: (WAYS["held open"](path), os._exit(1)))
    path = Path(os.environ["TORCHELASTIC_ERROR_FILE"])
    wait_for(directory / "go")
    if way in WAYS:
        WAYS[way](path)
    (directory / "recorded").touch()
    threading.Event().wait(600)


def wait_for(path: Path) -> None:
    """Wait until a file exists."""
    while not path.exists():
        threading.Event().wait(0.002)
