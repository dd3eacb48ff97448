"""``record`` and ``ErrorHandler``: what a rank writes down about its own failure."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from contract.ranks import Hostile
from contract.registry import Facts, Fault, case

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.implementations import Api
    from contract.stage import Stage


def _raise(error: BaseException) -> None:
    raise error


def _caught(act: Callable[[], Any]) -> str | None:
    try:
        act()
    except BaseException as error:  # SystemExit among them
        return type(error).__name__
    return None


def _use_error_file(stage: Stage, name: str = "error.json") -> None:
    os.environ["TORCHELASTIC_ERROR_FILE"] = str(stage.path(name))


def _written(stage: Stage, name: str = "error.json") -> Any:
    path = stage.path(name)
    return json.loads(path.read_text()) if path.exists() else None


@case({"raised": "ValueError", "message": "ValueError: why", "callstack": True, "timestamp": True})
def record_writes_the_exception_and_raises_it_again(api: Api, stage: Stage) -> Facts:
    """The file has type and text, the traceback, and seconds since the epoch as a string."""
    _use_error_file(stage)

    @api.record  # type: ignore[untyped-decorator]
    def main() -> None:
        _raise(ValueError("why"))

    raised = _caught(main)
    message = _written(stage)["message"]
    return {
        "raised": raised,
        "message": message["message"],
        "callstack": "Traceback" in message["extraInfo"]["py_callstack"]
        and "in _raise" in message["extraInfo"]["py_callstack"],
        "timestamp": re.fullmatch(r"\d{10}", message["extraInfo"]["timestamp"]) is not None,
    }


@case({"value": 5, "name": "main", "doc": "Words.", "file": None})
def record_is_transparent_to_success(api: Api, stage: Stage) -> Facts:
    """Arguments and value pass through, the function keeps its name, no file is written."""
    _use_error_file(stage)

    @api.record  # type: ignore[untyped-decorator]
    def main(a: int, *, b: int) -> int:
        """Words."""
        return a + b

    return {"value": main(2, b=3), "name": main.__name__, "doc": main.__doc__, "file": _written(stage)}


@case({"zero": None, "three": "SystemExit"})
def record_takes_exit_zero_for_a_return(api: Api, stage: Stage) -> Facts:
    """``sys.exit(0)`` returns None, any other exit goes on."""
    _use_error_file(stage)
    zero = api.record(sys.exit)(0)
    return {"zero": zero, "three": _caught(lambda: api.record(sys.exit)(3))}


@case({"raised": "ValueError", "files": []})
def record_without_a_file_only_raises(api: Api, stage: Stage) -> Facts:
    """Without TORCHELASTIC_ERROR_FILE nothing is written."""
    os.environ.pop("TORCHELASTIC_ERROR_FILE", None)
    before = set(os.listdir(stage.dir))
    raised = _caught(lambda: api.record(_raise)(ValueError("x")))
    return {"raised": raised, "files": sorted(set(os.listdir(stage.dir)) - before)}


@case(
    {"raised": "Hostile", "file names it": True},
    torch=Fault(
        "seen on 2.13.0: an exception whose __str__ fails is replaced by that failure, and not recorded",
        {"raised": "RuntimeError", "file names it": False},
    ),
)
def a_hostile_exception_is_not_masked(api: Api, stage: Stage) -> Facts:
    """An exception that cannot be printed is recorded by its type, and raised itself."""
    _use_error_file(stage)
    raised = _caught(lambda: api.record(_raise)(Hostile()))
    return {"raised": raised, "file names it": "Hostile" in json.dumps(_written(stage))}


@case(
    {"raised": "ValueError"},
    torch=Fault(
        "seen on 2.13.0: when the error file cannot be written, that replaces the original exception",
        {"raised": "FileNotFoundError"},
    ),
)
def a_missing_directory_does_not_mask_the_exception(api: Api, stage: Stage) -> Facts:
    """The original exception is raised, also when its record cannot be written."""
    os.environ["TORCHELASTIC_ERROR_FILE"] = str(stage.path("missing") / "error.json")
    return {"raised": _caught(lambda: api.record(_raise)(ValueError("x")))}


@case(
    {"raised": "ValueError"},
    torch=Fault("seen on 2.13.0: on a full disk the original exception is replaced by OSError", {"raised": "OSError"}),
)
def a_full_disk_does_not_mask_the_exception(api: Api, stage: Stage) -> Facts:
    """``/dev/full`` as error file costs the record, not the exception."""
    os.environ["TORCHELASTIC_ERROR_FILE"] = "/dev/full"
    return {"raised": _caught(lambda: api.record(_raise)(ValueError("x")))}


@case({"raised": "ChildFailedError", "copied": "ValueError: x", "code": 21})
def a_child_failed_error_passes_the_childs_file_on(api: Api, stage: Stage) -> Facts:
    """``record`` around a launcher copies the root cause's file, with the exit code put in."""
    record = {"message": {"message": "ValueError: x", "extraInfo": {"py_callstack": "s", "timestamp": "1700000000"}}}
    stage.path("child.json").write_text(json.dumps(record))
    _use_error_file(stage)
    failure = api.ProcessFailure(0, 4000, 21, str(stage.path("child.json")))
    raised = _caught(lambda: api.record(_raise)(api.ChildFailedError("job", {0: failure})))
    message = _written(stage)["message"]
    return {"raised": raised, "copied": message["message"], "code": message["errorCode"]}


@case({"raised": "ChildFailedError"})
def a_child_failed_error_without_a_file_is_passed_on(api: Api, stage: Stage) -> Facts:
    """A root cause without an error file is raised on as it is."""
    _use_error_file(stage)
    failure = api.ProcessFailure(0, 4000, 21, str(stage.path("none.json")))
    return {"raised": _caught(lambda: api.record(_raise)(api.ChildFailedError("job", {0: failure})))}


@case({"raised": "ChildFailedError", "outer": "ValueError: from the bottom"})
def failures_pass_through_nested_launchers(api: Api, stage: Stage) -> Facts:
    """A launcher inside a rank passes its rank's failure up: the outermost file has the innermost reason."""
    from contract import ranks

    _use_error_file(stage)

    @api.record  # type: ignore[untyped-decorator]
    def main() -> None:
        result = stage.functions(ranks.raise_value_error, [("from the bottom",)]).wait()
        raise api.ChildFailedError("job", result.failures)

    raised = _caught(main)
    return {"raised": raised, "outer": _written(stage)["message"]["message"]}


@case({"calls": ["initialize", "main", "record ValueError"], "raised": "ValueError"})
def an_error_handler_may_be_subclassed(api: Api, stage: Stage) -> Facts:
    """``record`` calls ``initialize`` before the function and ``record_exception`` after its failure."""
    calls = []

    class Handler(api.ErrorHandler):  # type: ignore[name-defined, misc]
        def initialize(self) -> None:
            calls.append("initialize")

        def record_exception(self, e: BaseException) -> None:
            calls.append(f"record {type(e).__name__}")

    def main() -> None:
        calls.append("main")
        raise ValueError

    raised = _caught(api.record(main, Handler()))
    return {"calls": calls, "raised": raised}


@case({"dumped": [["child.json", 21]]})
def a_subclass_may_take_over_the_childs_file(api: Api, stage: Stage) -> Facts:
    """``record`` calls ``dump_error_file`` with the root cause's file and exit code."""
    dumped = []

    class Handler(api.ErrorHandler):  # type: ignore[name-defined, misc]
        def dump_error_file(self, rootcause_error_file: str, error_code: int = 0) -> None:
            dumped.append([os.path.basename(rootcause_error_file), error_code])

    stage.path("child.json").write_text(json.dumps({"message": "x", "timestamp": 1700000000}))
    failure = api.ProcessFailure(0, 4000, 21, str(stage.path("child.json")))
    _caught(lambda: api.record(_raise, Handler())(api.ChildFailedError("job", {0: failure})))
    return {"dumped": dumped}


@case({"is a handler": True})
def get_error_handler_gives_the_default(api: Api, stage: Stage) -> Facts:
    """The default handler is an ErrorHandler."""
    return {"is a handler": isinstance(api.get_error_handler(), api.ErrorHandler)}


@case({"enabled": True})
def initialize_enables_the_fault_handler(api: Api, stage: Stage) -> Facts:
    """A crash of the interpreter leaves a traceback on stderr."""
    import faulthandler

    faulthandler.disable()
    api.get_error_handler().initialize()
    enabled = faulthandler.is_enabled()
    faulthandler.disable()
    return {"enabled": enabled}


@case({"message": "ValueError: by hand"})
def a_handler_can_record_by_hand(api: Api, stage: Stage) -> Facts:
    """``record_exception`` writes the file of the environment."""
    _use_error_file(stage)
    try:
        raise ValueError("by hand")
    except ValueError as error:
        api.get_error_handler().record_exception(error)
    return {"message": _written(stage)["message"]["message"]}


@case({"replaced": "new", "code absent": True})
def dumping_replaces_what_was_there(api: Api, stage: Stage) -> Facts:
    """``dump_error_file`` overwrites this process's error file, also one that is no JSON."""
    _use_error_file(stage)
    stage.path("error.json").write_text("{ broken")
    stage.path("child.json").write_text(json.dumps({"message": {"message": "new"}}))
    api.get_error_handler().dump_error_file(str(stage.path("child.json")))
    message = _written(stage)["message"]
    return {"replaced": message["message"], "code absent": "errorCode" not in message}


@case({"record": {"message": {"message": "m", "errorCode": 5}}, "text": {"message": "text"}, "none": {"other": 1}})
def the_error_code_is_put_into_records_that_have_room(api: Api, stage: Stage) -> Facts:
    """``override_error_code_in_rootcause_data`` sets ``errorCode`` in a structured message and leaves others alone."""
    records: list[dict[str, Any]] = [{"message": {"message": "m"}}, {"message": "text"}, {"other": 1}]
    for record in records:
        api.get_error_handler().override_error_code_in_rootcause_data("file", record, 5)
    return dict(zip(("record", "text", "none"), records, strict=True))
