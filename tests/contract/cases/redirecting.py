"""``redirect_stdout`` and ``redirect_stderr`` inside a running process."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from contract.registry import Facts, Fault, case

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage


@case({"file": ["C", "child", "descriptor", "python"], "console": "before\nafter\n"})
def stdout_is_redirected_by_descriptor(api: Api, stage: Stage) -> Facts:
    """Python, C, child processes and bare writes all go to the file, and to the console again afterwards."""
    path = str(stage.path("file"))
    print("before")
    with api.redirect_stdout(path):
        print("python")
        os.write(1, b"descriptor\n")
        libc = ctypes.CDLL(None)
        libc.puts(b"C")
        subprocess.run(["echo", "child"], check=True)
    print("after")
    return {"file": sorted(stage.path("file").read_text().split()), "console": stage.console()}


@case({"file": "err\n", "console": "after\n"})
def stderr_is_redirected(api: Api, stage: Stage) -> Facts:
    """``redirect_stderr`` does the same for stderr."""
    with api.redirect_stderr(str(stage.path("file"))):
        print("err", file=sys.stderr)
    print("after", file=sys.stderr)
    return {"file": stage.path("file").read_text(), "console": stage.console("stderr")}


@case({"raised": "ValueError"})
def an_unknown_stream_is_refused(api: Api, stage: Stage) -> Facts:
    """``redirect`` knows stdout and stderr."""
    try:
        with api.redirect("stdin", str(stage.path("file"))):
            pass
    except ValueError:
        return {"raised": "ValueError"}
    return {"raised": None}


@case({"file": "new\n"})
def an_existing_file_is_overwritten(api: Api, stage: Stage) -> Facts:
    """The file has only what was written under the redirection."""
    stage.path("file").write_text("something old and long\n")
    with api.redirect("stdout", str(stage.path("file"))):
        print("new")
    return {"file": stage.path("file").read_text()}


@case({"outer": "a\nc\n", "inner": "b\n", "console": "d\n"})
def redirections_can_be_nested(api: Api, stage: Stage) -> Facts:
    """Each level goes back to the one around it."""
    with api.redirect_stdout(str(stage.path("outer"))):
        print("a")
        with api.redirect_stdout(str(stage.path("inner"))):
            print("b")
        print("c")
    print("d")
    return {
        "outer": stage.path("outer").read_text(),
        "inner": stage.path("inner").read_text(),
        "console": stage.console(),
    }


@case({"raised": "KeyError", "console": "after\n"})
def an_exception_ends_the_redirection(api: Api, stage: Stage) -> Facts:
    """The stream is put back whatever happens inside."""
    raised = None
    try:
        with api.redirect_stdout(str(stage.path("file"))):
            raise KeyError
    except KeyError:
        raised = "KeyError"
    print("after")
    return {"raised": raised, "console": stage.console()}


@case({"raised": "FileNotFoundError", "console": "after\n"})
def a_missing_directory_is_told(api: Api, stage: Stage) -> Facts:
    """The directory of the file must exist."""
    raised = None
    try:
        with api.redirect_stdout(str(stage.path("no") / "file")):
            pass
    except FileNotFoundError:
        raised = "FileNotFoundError"
    print("after")
    return {"raised": raised, "console": stage.console()}


@case({"descriptors": 0})
def a_redirection_leaves_no_descriptors(api: Api, stage: Stage) -> Facts:
    """As many are open afterwards as before."""
    before = len(os.listdir("/proc/self/fd"))
    with api.redirect_stdout(str(stage.path("file"))):
        pass
    return {"descriptors": len(os.listdir("/proc/self/fd")) - before}


@case(
    {"file": "from the descriptor\n"},
    torch=Fault(
        "seen on 2.13.0: redirection needs sys.stdout to have a descriptor, which it has not under pytest's capture",
        {"raised": "UnsupportedOperation"},
    ),
)
def a_replaced_sys_stdout_does_not_matter(api: Api, stage: Stage) -> Facts:
    """Descriptors 1 and 2 are redirected, whatever object ``sys.stdout`` is."""
    real, sys.stdout = sys.stdout, io.StringIO()
    try:
        with api.redirect_stdout(str(stage.path("file"))):
            os.write(1, b"from the descriptor\n")
    finally:
        sys.stdout = real
    return {"file": stage.path("file").read_text()}


@case({"no file": "console", "file": "in the file\n"})
def get_std_cm_redirects_if_there_is_a_file(api: Api, stage: Stage) -> Facts:
    """Without a path it is a context that does nothing."""
    with api.get_std_cm("", api.redirect_stdout):
        print("on the console")
    with api.get_std_cm(str(stage.path("file")), api.redirect_stdout):
        print("in the file")
    with contextlib.suppress(FileNotFoundError):
        return {
            "no file": "console" if stage.console() == "on the console\n" else "elsewhere",
            "file": stage.path("file").read_text(),
        }
    return {"no file": "lost"}
