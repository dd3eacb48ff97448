"""Content of a parsed error file: message, traceback, time and exit code, in the shapes of torch and of others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from derail.errors.damage import Malformed
from derail.errors.text import clean, short

Json: TypeAlias = dict[str, object]

MAX_SECONDS = 4_102_444_800  # the year 2100 in seconds since the epoch: a larger number is milliseconds, or nonsense
_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """The content of a readable error file.

    Attributes:
        message: the short text; empty if the file has an empty one.
        traceback: the long text, if there is one.
        timestamp: seconds since the epoch, as the file claims; None if it has none or an absurd one.
        monotonic: CLOCK_MONOTONIC of the writer's machine, if the writer was derail.
        error_code: the exit code, if the file has one.
        data: the whole document, sanitised so that JSON and UTF-8 can express it.
        remarks: oddities that were tolerated.
        torch_can_read: whether torch, which tolerates less, can read the file as well.
        pid: the process that wrote it, if the writer was derail.
    """

    message: str
    traceback: str | None = None
    timestamp: float | None = None
    monotonic: float | None = None
    error_code: int | None = None
    data: Json = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    torch_can_read: bool = True
    pid: int | None = None


def understand(document: object, remarks: list[str], *, torch_can_read: bool) -> ErrorRecord | Malformed:
    """Extract message, traceback and time from a document, as torch and others write them."""
    if not isinstance(document, dict):
        text = document if isinstance(document, str) else ""
        return Malformed(f"top level is {_kind(document)}, not an object", message=text)
    if "message" not in document:
        keys = ", ".join(short(key) for key in list(document)[:8])
        return Malformed(f'no key "message" (it has {keys})' if keys else "an object without keys")
    message_value = document["message"]
    if isinstance(message_value, str):
        return ErrorRecord(
            message=message_value,
            timestamp=_seconds(document.get("timestamp"), remarks),
            error_code=_code(document.get("errorCode")),
            data=document,
            remarks=(*remarks, *(() if message_value.strip() else ("the message is empty",))),
            torch_can_read=torch_can_read,
        )
    if not isinstance(message_value, dict):
        return Malformed(f'"message" is {_kind(message_value)}, not a text or an object')
    extra = _extra_info(message_value, remarks)
    traceback = _traceback(extra.get("py_callstack"), remarks)
    message = message_value.get("message")
    if not isinstance(message, str):
        remarks.append(f'the inner "message" is {_kind(message)}')
        message = traceback.strip().rpartition("\n")[2] if traceback else ""
    if not message.strip() and not traceback:
        return Malformed('"message" is an object that has no text')
    timestamp = _seconds(extra.get("timestamp"), remarks)
    wall, monotonic = _nanoseconds(extra.get("wall_ns")), _nanoseconds(extra.get("monotonic_ns"))
    if timestamp is not None and wall is not None and int(wall) == int(timestamp):
        timestamp = wall
    code = _code(message_value.get("errorCode"))
    pid = _code(extra.get("pid"))
    return ErrorRecord(message, traceback, timestamp, monotonic, code, document, tuple(remarks), torch_can_read, pid)


def _extra_info(message_value: Json, remarks: list[str]) -> Json:
    extra = message_value.get("extraInfo")
    if isinstance(extra, dict):
        return extra
    remarks.append(f"extraInfo is {_kind(extra)}")
    return {}


def _traceback(value: object, remarks: list[str]) -> str | None:
    """Return the call stack as one text: some writers store a list of lines."""
    if isinstance(value, str):
        return value if value.strip() else None
    remarks.append(f"py_callstack is {_kind(value)}")
    if isinstance(value, list):
        lines = [str(line).rstrip("\n") for line in value if isinstance(line, str)]
        return "\n".join(lines) or None
    return None


def _seconds(value: object, remarks: list[str]) -> float | None:
    """Return a timestamp in seconds, or None, with a remark on the reason."""
    if value is None:
        remarks.append("no timestamp")
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or len(str(value)) > 40:
        remarks.append(f"timestamp {short(value)} is not a time")
        return None
    try:
        seconds = float(value)
    except ValueError:
        remarks.append(f"timestamp {short(value)} is not a number")
        return None
    if 1 <= seconds < MAX_SECONDS:
        return seconds
    milliseconds = MAX_SECONDS <= seconds < MAX_SECONDS * 1000
    why = "looks like milliseconds, not seconds" if milliseconds else "is no time of this century"
    remarks.append(f"timestamp {short(value)} {why}")
    return None


def _nanoseconds(value: object) -> float | None:
    plausible = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_SECONDS * 10**9
    return value / 10**9 if plausible and isinstance(value, int) else None


def _code(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31 else None


def tidy(value: object, remarks: list[str]) -> object:
    """Copy a document so that strict JSON and UTF-8 can express it; the caller has checked its depth."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        if value - value == 0:
            return value
        if "a number is not finite" not in remarks:
            remarks.append("a number is not finite")
        return None
    if isinstance(value, dict):
        return {clean(key): tidy(item, remarks) for key, item in value.items()}
    if isinstance(value, list):
        return [tidy(item, remarks) for item in value]
    return value


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")
