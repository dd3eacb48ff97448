"""A warm rank: forked in milliseconds from a zygote with the rank's modules imported, which is kept for later ranks.

There is one zygote for each set of preloaded modules and of the properties that a process has from its start:
interpreter, owner, CPUs, and the variables that libraries read when they are loaded. An idle one ends when another
takes its place, by ``end_idle``, and with the launcher, however that ends.
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
    """Request the rank, which is started later; None if it will not be forked."""
    requested = service(spec, function)
    return None if _why_not(requested) else client.ask(spec, function, slot, requested)


def start(
    spec: RankSpec, function: Function, slot: Slot, asked: client.AskedRank | None = None
) -> client.ServedProcess:
    """Have the rank forked by a zygote that has preloaded the modules that ``function`` names, or import_scan finds.

    Args:
        spec: the rank.
        function: what it runs.
        slot: descriptors for its value.
        asked: the rank, if it was requested before.

    Raises:
        UnfitError: if no rank may be forked from such a process; the reason was logged once. Nothing of the rank is
            left, here as in the other cases, which are those of ``client.start``.
    """
    requested = service(spec, function)
    if asked is None and (reason := _why_not(requested)):
        _log_refusal(requested, reason)
        raise UnfitError(reason)
    try:
        try:
            return client.start(spec, function, slot, requested, asked)
        except pool.ServerGoneError:  # it may have been killed: the next one may survive
            return client.start(spec, function, slot, requested)
    except pool.ServerGoneError as error:
        _log_refusal(requested, f"the process that preloads {_listed(requested.modules)} ended unexpectedly")
        raise UnfitError(_unfit[requested]) from error
    except UnfitError as error:
        _log_refusal(requested, str(error))
        raise


def _why_not(requested: pool.Service) -> str:
    """Return the known reason why no rank will be forked from such a process; empty if there is none."""
    return supported.why_not_to_fork() or _unfit.get(requested, "")


def service(spec: RankSpec, function: Function) -> pool.Service:
    """Return the zygote that can fork this rank."""
    requested = import_scan.imports_of(function.target) if function.preload is None else function.preload
    modules = tuple(dict.fromkeys(requested))
    facts = (import_scan.origins(names(modules)), tuple(payload.command()), inheritance.standing())
    return pool.Service(
        "the zygote",
        modules,
        kept=True,
        cpus=inheritance.cpus(spec),
        variables=inheritance.early_variables(spec.env),
        facts=facts,
    )


def refusals() -> tuple[str, ...]:
    """Return why requested ranks were not forked, since ``end_idle``: each reason once, the latest last."""
    with _lock:
        return tuple(dict.fromkeys(_unfit.values()))


def end_idle() -> None:
    """End the zygotes that no rank needs, and those in use with the last of their ranks; forget which were unfit."""
    with _lock:
        _unfit.clear()
    pool.end_kept()


def _log_refusal(requested: pool.Service, reason: str) -> None:
    with _lock:
        if requested not in _unfit:
            _unfit[requested] = reason
            _log.warning(
                "start_method='warm' with preload %s falls back to 'spawn': %s", _listed(requested.modules), reason
            )


def names(preload: Iterable[Preload]) -> list[str]:
    """Return the modules among the preloaded parts."""
    return [part for part in preload if isinstance(part, str)]


def _listed(preload: Iterable[Preload]) -> str:
    return ", ".join(names(preload)) or "of nothing"
