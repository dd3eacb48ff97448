"""A rank forked in milliseconds from a resident process that has imported what the rank needs, and is kept for later.

There is one for each set of preloaded modules, as far as its ranks agree in what a process has from its first moment:
interpreter, owner, CPUs, and the variables that libraries read when they are loaded. One that nobody uses ends when
another takes its place, when ``end_idle`` says so, and with the launcher, however that ends.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from derail.platform import supported
from derail.spawn import imports, inherited, payload, served, servers
from derail.spawn.start_error import UnfitError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from derail.model.spec import Function, Preload, RankSpec
    from derail.spawn.values import Slot

_log = logging.getLogger("derail")
_unfit: dict[servers.Service, str] = {}
_lock = threading.Lock()


def ask(spec: RankSpec, function: Function, slot: Slot) -> served.AskedRank | None:
    """Ask for the rank, which is started later; None if it will not be forked."""
    wanted = service(spec, function)
    return None if _why_not(wanted) else served.ask(spec, function, slot, wanted)


def start(
    spec: RankSpec, function: Function, slot: Slot, asked: served.AskedRank | None = None
) -> served.ServedProcess:
    """Have the rank forked by a resident process that has preloaded what ``function`` asks for, or imports.

    Args:
        spec: the rank.
        function: what it runs.
        slot: where its value goes.
        asked: the rank, if it was asked for before.

    Raises:
        UnfitError: if no rank may be forked from such a process; the reason was logged once. Nothing of the rank is
            left, here as in the other cases, which are those of ``served.start``.
    """
    wanted = service(spec, function)
    if asked is None and (reason := _why_not(wanted)):
        _tell(wanted, reason)
        raise UnfitError(reason)
    try:
        try:
            return served.start(spec, function, slot, wanted, asked)
        except servers.ServerGoneError:  # somebody killed it, perhaps: the next one may live
            return served.start(spec, function, slot, wanted)
    except servers.ServerGoneError as error:
        _tell(wanted, f"the process that preloads {_listed(wanted.modules)} ended meanwhile")
        raise UnfitError(_unfit[wanted]) from error
    except UnfitError as error:
        _tell(wanted, str(error))
        raise


def _why_not(wanted: servers.Service) -> str:
    """Why no rank will be forked from such a process, as far as that is known; empty if one may be."""
    return supported.why_not_to_fork() or _unfit.get(wanted, "")


def service(spec: RankSpec, function: Function) -> servers.Service:
    """The resident process that can fork this rank."""
    wanted = imports.imports_of(function.target) if function.preload is None else function.preload
    modules = tuple(dict.fromkeys(wanted))
    facts = (imports.origins(names(modules)), tuple(payload.command()), inherited.standing())
    return servers.Service(
        "the warm process",
        modules,
        kept=True,
        cpus=inherited.cpus(spec),
        variables=inherited.early_variables(spec.env),
        facts=facts,
    )


def refusals() -> tuple[str, ...]:
    """Why ranks were not forked that asked for it, since ``end_idle``: each reason once, the latest last."""
    with _lock:
        return tuple(dict.fromkeys(_unfit.values()))


def end_idle() -> None:
    """End the resident processes that no rank needs, and those in use with the last of their ranks; forget who was
    unfit."""
    with _lock:
        _unfit.clear()
    servers.end_kept()


def _tell(wanted: servers.Service, reason: str) -> None:
    with _lock:
        if wanted not in _unfit:
            _unfit[wanted] = reason
            _log.warning(
                "start_method='warm' with preload %s falls back to 'spawn': %s", _listed(wanted.modules), reason
            )


def names(preload: Iterable[Preload]) -> list[str]:
    """The modules in what is preloaded."""
    return [part for part in preload if isinstance(part, str)]


def _listed(preload: Iterable[Preload]) -> str:
    return ", ".join(names(preload)) or "of nothing"
