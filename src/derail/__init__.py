"""Break multi-rank jobs on purpose, and know for certain what happened.

This module is only a door: each name is imported from the file that defines it when it is first asked for, so that
``import derail`` costs next to nothing and pulls in the standard library alone.
"""

from derail.platform.supported import refuse_unsupported

TYPE_CHECKING = not __name__  # False, which editors must not evaluate; typing's own costs as much as starting Python
if TYPE_CHECKING:
    from derail import faults, when
    from derail.errors.failure import ProcessFailure
    from derail.errors.recorder import ErrorHandler, get_error_handler, record
    from derail.errors.summary import ChildFailedError
    from derail.faults.inrank.recorder import record_collective
    from derail.launch.context import MultiprocessContext, PContext, SubprocessContext
    from derail.launch.signals import SignalException
    from derail.launch.start import start_processes
    from derail.logs.redirect import get_std_cm, redirect, redirect_stderr, redirect_stdout
    from derail.logs.specs import DefaultLogsSpecs, LogsDest, LogsSpecs
    from derail.logs.tail_log import TailLog, tail_logfile
    from derail.model.exit import ExitStatus
    from derail.model.input_error import InputError
    from derail.model.outcome import Cause, JobOutcome, RankOutcome, RunProcsResult
    from derail.model.spec import Teardown
    from derail.model.std import Std, to_map
    from derail.platform.topology import AffinityMode, NumaOptions
    from derail.spawn.command import SubprocessHandler, get_subprocess_handler

refuse_unsupported()

__all__ = [
    "AffinityMode",
    "Cause",
    "ChildFailedError",
    "DefaultLogsSpecs",
    "ErrorHandler",
    "ExitStatus",
    "InputError",
    "JobOutcome",
    "LogsDest",
    "LogsSpecs",
    "MultiprocessContext",
    "NumaOptions",
    "PContext",
    "ProcessFailure",
    "RankOutcome",
    "RunProcsResult",
    "SignalException",
    "Std",
    "SubprocessContext",
    "SubprocessHandler",
    "TailLog",
    "Teardown",
    "faults",
    "get_error_handler",
    "get_std_cm",
    "get_subprocess_handler",
    "record",
    "record_collective",
    "redirect",
    "redirect_stderr",
    "redirect_stdout",
    "start_processes",
    "tail_logfile",
    "to_map",
    "when",
]

_MODULES = {
    "derail.errors.failure": ("ProcessFailure",),
    "derail.errors.recorder": ("ErrorHandler", "get_error_handler", "record"),
    "derail.errors.summary": ("ChildFailedError",),
    "derail.faults.inrank.recorder": ("record_collective",),
    "derail.launch.context": ("MultiprocessContext", "PContext", "SubprocessContext"),
    "derail.launch.signals": ("SignalException",),
    "derail.launch.start": ("start_processes",),
    "derail.logs.redirect": ("get_std_cm", "redirect", "redirect_stderr", "redirect_stdout"),
    "derail.logs.specs": ("DefaultLogsSpecs", "LogsDest", "LogsSpecs"),
    "derail.logs.tail_log": ("TailLog", "tail_logfile"),
    "derail.model.exit": ("ExitStatus",),
    "derail.model.input_error": ("InputError",),
    "derail.model.outcome": ("Cause", "JobOutcome", "RankOutcome", "RunProcsResult"),
    "derail.model.spec": ("Teardown",),
    "derail.model.std": ("Std", "to_map"),
    "derail.platform.topology": ("AffinityMode", "NumaOptions"),
    "derail.spawn.command": ("SubprocessHandler", "get_subprocess_handler"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
_SUBMODULES = ("faults", "when")


if not TYPE_CHECKING:  # a type checker must not take a misspelt name for a lazy one

    def __getattr__(name: str) -> object:
        """Import a public name from where it lives, and keep it."""
        if name not in _HOME and name not in _SUBMODULES:
            raise AttributeError(f"module 'derail' has no attribute {name!r}")
        from importlib import import_module

        module = import_module(_HOME.get(name, f"derail.{name}"))
        value = module if name in _SUBMODULES else getattr(module, name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """All public names, whether they were asked for or not."""
    return sorted({*globals(), *__all__})
