"""In a rank with ``--derail-debugpy``: wait until the user has attached an IDE, before the test is set up.

debugpy runs in the rank itself, without its separate adapter process, which would outlive the rank.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from derail.agents.invocation import LOOPBACK
from derail.platform.handshake import Endpoint
from pytest_derail.jobs.ports import claimed_port
from pytest_derail.ranks.worker.terminal import call_controller

_claims = ExitStack()  # closed by the kernel, when the process ends
_listens_on: dict[int, int] = {}
"""The port of each process that has begun to listen: of this one, or of its parent before a fork."""


def wait_for_ide(address: str) -> None:
    """Report the port to the controller, and wait for an IDE; return at once if one is attached."""
    server: Any = import_module("debugpy")  # optional
    pid = os.getpid()
    if pid not in _listens_on:
        port = _listens_on[pid] = _claims.enter_context(claimed_port())
        server.listen((LOOPBACK, port), in_process_debug_adapter=True)
    if server.is_client_connected():
        return
    try:
        connection = call_controller(Endpoint.parse(address), "ide", f"{LOOPBACK}:{_listens_on[pid]} pid {pid}")
    except OSError:
        return  # the controller has ended the test
    with connection:  # the clocks of the test stand still meanwhile
        server.wait_for_client()
    if not os.environ.get("PYTHONBREAKPOINT"):
        sys.breakpointhook = server.breakpoint
