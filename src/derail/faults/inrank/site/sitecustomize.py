"""Entry into a rank's interpreter: it starts runtime and recorder if they are asked for, then runs the sitecustomize
that it hides.

Without either it costs one look into the environment. It must work in any Python from 3.9 on, and never break the
program.

The reasons are in docs/adr/sitecustomize.md.
"""

from __future__ import annotations

import os
import sys


def _enter() -> None:
    """Start the runtime, loaded by path under a private name: derail need not be installed in this Python."""
    from importlib import import_module
    from importlib.machinery import ModuleSpec
    from importlib.util import module_from_spec

    package = ModuleSpec("_derail_inrank", None, is_package=True)
    package.submodule_search_locations = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    sys.modules["_derail_inrank"] = module_from_spec(package)
    import_module("_derail_inrank.bootstrap").enter()


def _chain() -> None:
    """Run the sitecustomize that this one hides, and restore ``sys.path``.

    It is a plain import of the same name, which now finds the next one: ``importlib.util`` would cost more than all of
    this.
    """
    here = os.path.dirname(__file__)
    sys.path[:] = [path for path in sys.path if path != here]
    ours = sys.modules.pop(__name__)
    try:
        __import__(__name__)
    except ImportError as error:
        if error.name != __name__:
            raise
    finally:
        sys.modules.setdefault(__name__, ours)


if "DERAIL_INRANK" in os.environ or "DERAIL_RECORDER" in os.environ:
    try:
        _enter()
    except Exception as error:  # an error of derail: the program must run as if derail were absent
        sys.stderr.write(f"derail: the in-rank runtime did not start: {type(error).__name__}: {error}\n")
_chain()
