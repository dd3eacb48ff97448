"""What a process finds itself to be, by name: the facts in which a warm rank and a spawned one are compared."""

# ruff: noqa: D103 - their names say what they do

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import rank_functions


def facts(*, with_torch: bool = False) -> dict[str, Any]:
    found = {**_of_the_process(), **_of_the_interpreter()}
    return {**found, **_of_torch()} if with_torch else found


def chances() -> dict[str, Any]:
    """What must differ from rank to rank."""
    import random
    import secrets
    import tempfile
    import uuid

    drawn = {
        "random": random.random(),
        "secrets": secrets.token_hex(8),
        "uuid": uuid.uuid4().hex,
        "names of temporary files": next(tempfile._get_candidate_names()),
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        drawn |= {"numpy, legacy": float(numpy.random.random()), "numpy": float(numpy.random.default_rng().random())}
    torch = sys.modules.get("torch")
    if torch is not None:
        drawn |= {"torch": float(torch.rand(())), "torch: seed": torch.initial_seed()}
    return drawn


def _of_the_process() -> dict[str, Any]:
    import resource

    status = {name: value.strip() for name, _, value in (
        line.partition(":") for line in Path("/proc/self/status").read_text().splitlines()
    )}  # fmt: skip
    limits = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
    kinds = [link.split(":")[0].rpartition("/")[2] for fd, (link, *_) in rank_functions.descriptors().items() if fd > 2]
    return {
        "environment": dict(os.environ),
        "environment, as C has it": {name: rank_functions.c_environment(name) for name in ("RANK", "HOME")},
        "working directory": os.getcwd(),
        "leads its session and group": (os.getsid(0), os.getpgrp()) == (os.getpid(), os.getpid()),
        "threads of the process": len(os.listdir("/proc/self/task")),
        "signals: handlers, caught, ignored, blocked, pending": rank_functions.dispositions(),
        "umask": status["Umask"],
        "resource limits": {number: resource.getrlimit(number) for number in limits},
        "CPUs": sorted(os.sched_getaffinity(0)),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "owner": (os.getresuid(), os.getresgid(), sorted(os.getgroups())),
        "capabilities": (status["CapEff"], status["NoNewPrivs"], status["Seccomp"]),
        "control group": Path("/proc/self/cgroup").read_text(),
        "readiness to be killed": Path("/proc/self/oom_score_adj").read_text(),
        "descriptors": sorted(kinds),
        "inheritable descriptors": sorted(rank_functions.inheritable_descriptors()),
        "stdin": sys.stdin.read(),
    }


def _of_the_interpreter() -> dict[str, Any]:
    import asyncio
    import faulthandler
    import gc
    import locale
    import multiprocessing
    import threading
    import time
    import warnings
    from multiprocessing import process

    own: Any = process.current_process()
    parent = process.parent_process()
    # Python 3.12 freezes what it makes when it starts, and no part of that can be frozen again.
    frozen = gc.get_freeze_count() if sys.version_info[:2] != (3, 12) else gc.get_freeze_count() > 1000
    return {
        "argv": sys.argv,
        "sys.path": sys.path,
        "interpreter and flags": (sys.executable, tuple(sys.flags), sys._xoptions),
        "hash of a text": hash("derail") if os.environ.get("PYTHONHASHSEED", "random") != "random" else "by chance",
        "main module": (sys.modules["__main__"].__name__, "__mp_main__" in sys.modules),
        "stream objects": rank_functions.stream_facts(),
        "name to multiprocessing": own.name,
        "parent to multiprocessing": parent.pid if parent is not None else None,
        "authkey": bytes(own.authkey),
        "daemon": own.daemon,
        "children": multiprocessing.active_children(),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "threads of Python": [thread.name for thread in threading.enumerate()],
        "stack of new threads": threading.stack_size(),
        "event loop": asyncio._get_running_loop(),
        "locale": (locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(do_setlocale=False)),
        "time zone": time.tzname,
        "garbage collection": (gc.isenabled(), gc.get_threshold(), gc.get_debug(), frozen),
        "faulthandler": faulthandler.is_enabled(),
        "hooks": (sys.excepthook is sys.__excepthook__, sys.gettrace(), sys.getprofile()),
        "recursion limit": sys.getrecursionlimit(),
        "warning filters": [str(each) for each in warnings.filters],
    }


def _of_torch() -> dict[str, Any]:
    import torch

    return {
        "torch: threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch: defaults": (str(torch.get_default_dtype()), torch.is_grad_enabled()),
        "torch: threads of the process": len(os.listdir("/proc/self/task")),
    }


def facts_with_torch() -> dict[str, Any]:
    import torch  # noqa: F401 - it changes some facts

    multiply(300)  # starts the threads of OpenBLAS, which are there from the beginning in a spawned rank only
    return facts(with_torch=True)


def traces() -> dict[str, Any]:
    """What the module ``busybody`` has changed."""
    import signal

    handler = signal.getsignal(signal.SIGUSR1)
    names = ("SET_BY_MODULE", "ALSO_SET", "REMOVED")
    return {"handler": getattr(handler, "__name__", handler), **{name: os.environ.get(name) for name in names}}


def leave_something_to_the_exit(path: str) -> str:
    """A directory that Python removes at exit, and a line that logging writes there."""
    import logging.handlers
    import tempfile

    target = logging.FileHandler(path)
    held = logging.handlers.MemoryHandler(10, target=target)
    held.handle(logging.makeLogRecord({"msg": "held back", "levelno": logging.INFO}))
    _kept.append(directory := tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    _kept.append(held)
    return directory.name


_kept: list[object] = []


def attribute(module: str, name: str) -> Any:
    """An attribute of a module."""
    return getattr(__import__(module), name)


def multiply(size: int) -> float:
    """Something that OpenBLAS does in its threads."""
    import numpy as np

    ones = np.ones((size, size))
    return float((ones @ ones).sum())
