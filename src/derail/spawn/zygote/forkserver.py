"""A rank forked by a fork server: a zygote that lives as long as handles of its ranks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from derail.spawn import payload
from derail.spawn.zygote import client, pool

if TYPE_CHECKING:
    from derail.model.spec import Function, RankSpec
    from derail.spawn.return_values import Slot


def start(spec: RankSpec, function: Function, slot: Slot) -> client.ServedProcess:
    """Have the rank forked by the fork server; see ``client.start`` for its errors."""
    service = pool.Service("the fork server", preloaded_modules(), facts=tuple(payload.command()))
    return client.start(spec, function, slot, service)


def preloaded_modules() -> tuple[str, ...]:
    """Return the modules of ``multiprocessing.set_forkserver_preload`` without the main module, which ranks run."""
    module: Any = sys.modules.get("multiprocessing.forkserver")
    names = () if module is None else module._forkserver._preload_modules  # noqa: SLF001
    return tuple(name for name in names if name != "__main__")
