"""The public names of torch 2.13's launcher, and how each is called: written down, so that torch is not needed."""

# ruff: noqa: E501 - one call, one line

from __future__ import annotations

import inspect

CALLS: dict[str, str] = {
    "ChildFailedError": "name, failures",
    "ChildFailedError.format_msg": "self, boarder_delim='=', section_delim='-'",
    "ChildFailedError.get_first_failure": "self",
    "DefaultLogsSpecs": "log_dir=None, redirects=..., tee=..., local_ranks_filter=None",
    "DefaultLogsSpecs.reify": "self, envs",
    "ErrorHandler": "",
    "ErrorHandler.dump_error_file": "self, rootcause_error_file, error_code=0",
    "ErrorHandler.initialize": "self",
    "ErrorHandler.override_error_code_in_rootcause_data": "self, rootcause_error_file, rootcause_error, error_code=0",
    "ErrorHandler.record_exception": "self, e",
    "LogsDest": "stdouts=..., stderrs=..., tee_stdouts=..., tee_stderrs=..., error_files=..., filtered_stdout=..., filtered_stderr=...",
    "LogsSpecs": "log_dir=None, redirects=..., tee=..., local_ranks_filter=None",
    "LogsSpecs.reify": "self, envs",
    "MultiprocessContext": "name, entrypoint, args, envs, start_method, logs_specs, log_line_prefixes=None, numa_options=None, duplicate_stdout_filters=None, duplicate_stderr_filters=None",
    "MultiprocessContext.close": "self, death_sig=None, timeout=30",
    "MultiprocessContext.pids": "self",
    "MultiprocessContext.start": "self",
    "MultiprocessContext.wait": "self, timeout=-1, period=1",
    "PContext": "name, entrypoint, args, envs, logs_specs, log_line_prefixes=None, duplicate_stdout_filters=None, duplicate_stderr_filters=None",
    "PContext.close": "self, death_sig=None, timeout=30",
    "PContext.pids": "self",
    "PContext.start": "self",
    "PContext.wait": "self, timeout=-1, period=1",
    "ProcessFailure": "local_rank, pid, exitcode, error_file",
    "ProcessFailure.signal_name": "self",
    "ProcessFailure.timestamp_isoformat": "self",
    "RunProcsResult": "return_values=..., failures=..., stdouts=..., stderrs=...",
    "RunProcsResult.is_failed": "self",
    "SignalException": "msg, sigval",
    "Std.from_str": "vm",
    "SubprocessContext": "name, entrypoint, args, envs, logs_specs, log_line_prefixes=None, numa_options=None, duplicate_stdout_filters=None, duplicate_stderr_filters=None",
    "SubprocessContext.close": "self, death_sig=None, timeout=30",
    "SubprocessContext.pids": "self",
    "SubprocessContext.start": "self",
    "SubprocessContext.wait": "self, timeout=-1, period=1",
    "SubprocessHandler": "entrypoint, args, env, stdout, stderr, local_rank_id, numa_options",
    "SubprocessHandler.close": "self, death_sig=None",
    "TailLog": "name, log_files, dst, log_line_prefixes=None, interval_sec=0.1, log_line_filter=...",
    "TailLog.start": "self",
    "TailLog.stop": "self",
    "TailLog.stopped": "self",
    "get_error_handler": "",
    "get_std_cm": "std_rd, redirect_fn",
    "get_subprocess_handler": "entrypoint, args, env, stdout, stderr, local_rank_id, numa_options=None",
    "record": "fn, error_handler=None",
    "redirect": "std, to_file",
    "redirect_stderr": "to_file",
    "redirect_stdout": "to_file",
    "start_processes": "name, entrypoint, args, envs, logs_specs, log_line_prefixes=None, start_method='spawn', numa_options=None, duplicate_stdout_filters=None, duplicate_stderr_filters=None",
    "tail_logfile": "header, file, dst, finished, interval_sec, log_line_filter=None",
    "to_map": "val_or_map, local_world_size",
}
"""Parameters by public name, in order. A default that has no plain text is ``...``."""

CALLS_SINCE_2_14: dict[str, str] = {
    "ErrorHandler.maybe_enrich_signal_failure_message": "self, message, error_file",
}
"""What torch 2.14 adds (pytorch#187098); tested on derail alone, as the torch of the tests is 2.13."""


def spelled(call: object) -> str:
    """Write down how something is called, as in CALLS."""
    signature = inspect.signature(call)  # type: ignore[arg-type]
    return ", ".join(map(_spell, signature.parameters.values()))


def _spell(parameter: inspect.Parameter) -> str:
    name = f"*, {parameter.name}" if parameter.kind is parameter.KEYWORD_ONLY else parameter.name
    if parameter.default is parameter.empty:
        return name
    default = repr(parameter.default)
    return f"{name}=..." if default.startswith("<") else f"{name}={default}"
