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
from derail.spawn import payload
from derail.spawn.spawn_error import UnfitError
from derail.spawn.zygote import client, import_scan, inheritance, pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from derail.model.spec import Function, Preload, RankSpec
    from derail.spawn.return_values import Slot

_log = logging.getLogger("derail")
_unfit: dict[pool.Service, str] = {}
_lock = threading.Lock()


def ask(spec: RankSpec, function: Function, slot: Slot) -> client.AskedRank | None:
    """Ask for the rank, which is started later; None if it will not be forked."""
    wanted = service(spec, function)
    return None if _why_not(wanted) else client.ask(spec, function, slot, wanted)


def start(
    spec: RankSpec, function: Function, slot: Slot, asked: client.AskedRank | None = None
) -> client.ServedProcess:
    """Have the rank forked by a resident process that has preloaded what ``function`` asks for, or import_scan.

    Args:
        spec: the rank.
        function: what it runs.
        slot: where its value goes.
        asked: the rank, if it was asked for before.

    Raises:
        UnfitError: if no rank may be forked from such a process; the reason was logged once. Nothing of the rank is
            left, here as in the other cases, which are those of ``client.start``.
    """
    wanted = service(spec, function)
    if asked is None and (reason := _why_not(wanted)):
        _tell(wanted, reason)
        raise UnfitError(reason)
    try:
        try:
            return client.start(spec, function, slot, wanted, asked)
        except pool.ServerGoneError:  # somebody killed it, perhaps: the next one may live
            return client.start(spec, function, slot, wanted)
    except pool.ServerGoneError as error:
        _tell(wanted, f"the process that preloads {_listed(wanted.modules)} ended meanwhile")
        raise UnfitError(_unfit[wanted]) from error
    except UnfitError as error:
        _tell(wanted, str(error))
        raise


def _why_not(wanted: pool.Service) -> str:
    """Why no rank will be forked from such a process, as far as that is known; empty if one may be."""
    return supported.why_not_to_fork() or _unfit.get(wanted, "")


def service(spec: RankSpec, function: Function) -> pool.Service:
    """The resident process that can fork this rank."""
    wanted = import_scan.imports_of(function.target) if function.preload is None else function.preload
    modules = tuple(dict.fromkeys(wanted))
    facts = (import_scan.origins(names(modules)), tuple(payload.command()), inheritance.standing())
    return pool.Service(
        "the warm process",
        modules,
        kept=True,
        cpus=inheritance.cpus(spec),
        variables=inheritance.early_variables(spec.env),
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
    pool.end_kept()


def _tell(wanted: pool.Service, reason: str) -> None:
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
