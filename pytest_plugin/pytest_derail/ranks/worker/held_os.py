"""Functions of ``os`` and ``pickle`` that a rank needs to record its test, saved when this module is imported.

Tests replace functions in those modules (``monkeypatch.setattr(os, "write", ...)``, pyfakefs), and the report of a body
is recorded before that is undone. Libraries that replace names in modules do not find attributes of a class.
"""

from __future__ import annotations

import os
import pickle


class Held:
    """Functions of the real process."""

    getpid = staticmethod(os.getpid)
    open = staticmethod(os.open)
    write = staticmethod(os.write)
    close = staticmethod(os.close)
    exit = staticmethod(os._exit)
    dumps = staticmethod(pickle.dumps)
    loads = staticmethod(pickle.loads)
