"""derail's launcher under torch's own elastic agent: ``derail.torch.install()``, and ``derail torchrun`` with it.

Rendezvous, restarts and nodes stay torch's; starting, watching and ending the ranks of a node become derail's.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from derail.launch.signals import REGISTRY, SignalException
from derail.launch.start import start_processes
from derail.model.spec import Teardown

if TYPE_CHECKING:
    import signal
    from argparse import ArgumentParser
    from collections.abc import Callable, Sequence

    from derail.model.events import Observer

__all__ = ["install", "torchrun"]

_AGENT = "torch.distributed.elastic.agent.server.local_elastic_agent"


def install(*, teardown: Teardown | None = None, observers: Sequence[Observer] = ()) -> Callable[[], None]:
    """Have torch's ``LocalElasticAgent``, and so ``elastic_launch`` and torchrun, start ranks by derail from now on.

    Args:
        teardown: how ranks are ended; by default as ``Teardown.from_env`` says, and remaining processes are ended.
        observers: they get each event of the ranks.

    Returns:
        What puts torch's own launcher back.

    Raises:
        ImportError: if torch is not installed.
        RuntimeError: if this torch takes its launcher from elsewhere.
    """
    from importlib import import_module

    from torch.distributed.elastic.multiprocessing import SignalException as TorchsSignalException

    agent: Any = import_module(_AGENT)
    before = getattr(agent, "start_processes", None)
    if before is None:
        import torch

        raise RuntimeError(f"{_AGENT} of torch {torch.__version__} has no start_processes that could be replaced")
    how = replace(Teardown.from_env(), sweep="all") if teardown is None else teardown

    def start(*args: Any, **options: Any) -> Any:
        return start_processes(*args, teardown=how, observers=observers, **options)

    class Both(TorchsSignalException, SignalException):  # type: ignore[misc]
        """Exception that both torch's agent and users of derail catch."""

        def __init__(self, msg: str, sigval: signal.Signals) -> None:
            Exception.__init__(self, msg)
            self.sigval = sigval

    raised = REGISTRY.exception
    agent.start_processes, REGISTRY.exception = start, Both

    def put_back() -> None:
        if agent.start_processes is start:
            agent.start_processes = before
        REGISTRY.exception = raised

    return put_back


def torchrun(argv: Sequence[str]) -> int:
    """Run torchrun with derail's launcher in this process, and return the exit code.

    After a failure that is the exit code of the root cause, or 128 and its signal, where torchrun always exits with 1.
    Words behind the program belong to the program, where torchrun takes ``--r=16`` for its own option
    (https://github.com/pytorch/pytorch/issues/120601).
    ``--shutdown-timeout`` counts for every end of the ranks, also where one of them fails. Rank 0 keeps the store of
    the ranks (TORCH_DISABLE_SHARE_RDZV_TCP_STORE): the agent's own one still has, after a restart, the addresses that
    the ranks had before it, so that restarted ranks may wait for dead ones
    (https://github.com/pytorch/pytorch/issues/135712).

    Raises:
        SystemExit: as torchrun's own command line does, for ``--help`` or wrong options.
        SignalException: if this process is asked to end; the ranks have been ended.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, main

    parser = get_args_parser()
    words = with_the_program_marked(argv, parser)
    grace = getattr(parser.parse_args(words), "shutdown_timeout", None)
    if grace is not None:
        os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(grace)
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    install()
    try:
        main(words)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        sys.stderr.write(f"{error}\n")
        code = int(failure.exitcode)
        return code if code > 0 else 128 - code
    return 0


def with_the_program_marked(argv: Sequence[str], parser: ArgumentParser) -> list[str]:
    """Return the command line with ``--`` before its first word that is neither an option of ``parser`` nor its value.

    So argparse looks no further. The line is unchanged if it has ``--`` already, or an option that is cut short or
    unknown.
    """
    actions = {name: action for action in parser._actions for name in action.option_strings}  # noqa: SLF001
    place = 0
    while place < len(argv):
        word = argv[place]
        if word == "-" or not word.startswith("-"):
            return [*argv[:place], "--", *argv[place:]]
        name, equals, _ = word.partition("=")
        is_joined = not word.startswith("--") and word[:2] in actions and len(word) > 2  # -r3
        action = actions.get(word[:2] if is_joined else name)
        if action is None:
            break
        place += 1 if action.nargs == 0 or equals or is_joined else 2
    return list(argv)


if __name__ == "__main__":
    sys.exit(torchrun(sys.argv[1:]))
