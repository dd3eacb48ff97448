"""What a rank needs of ``os`` and ``pickle`` to record how its test goes, held as it is when this module is imported.

Tests put others into those modules (``monkeypatch.setattr(os, "write", ...)``, pyfakefs), and the report of a body is
recorded before that is undone. As attributes of a class they are not found by libraries that replace names in modules.
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
