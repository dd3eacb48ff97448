"""Readers of parameter values: from Python, TOML and JSON, into the normal form of plans."""

from __future__ import annotations

import builtins
import re
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Param
from derail.model.exit import signal_name, signal_number
from derail.model.input_error import not_known

if TYPE_CHECKING:
    from collections.abc import Iterable

    from derail.faults.model.plan import Value

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
UNLIMITED = -1
"""Value for "no limit"; also the value of the kernel's ``RLIM_INFINITY`` in Python."""


def read_signal(value: object) -> str:
    """Read a signal, given by name or number, as its name.

    Raises:
        ValueError: if it is no signal of this platform.
    """
    import signal

    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"expected a signal like 'SIGTERM', got {value!r}")  # noqa: TRY004 - callers collect one error type
    try:
        return signal_name(signal_number(value))
    except ValueError:
        if isinstance(value, int) or value.strip().isdigit():
            raise
        word = value.strip().upper()
        raise ValueError(
            not_known(word if word.startswith("SIG") else f"SIG{word}", signal.Signals.__members__, "signal")
        ) from None


def read_signals(value: object) -> tuple[str, ...]:
    """Read a list of signals.

    Raises:
        ValueError: if it is not a list of signals.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list of signals like ['SIGTERM'], got {value!r}")  # noqa: TRY004 - callers collect one error type
    return tuple(dict.fromkeys(read_signal(item) for item in value))


def read_text(value: object) -> str:
    """Read a string.

    Raises:
        ValueError: if it is not a string, or cannot be encoded.
    """
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {value!r}")  # noqa: TRY004 - callers collect one error type
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError(f"{value!r} has half a surrogate pair, which no file can hold")
    return value


def read_flag(value: object) -> bool:
    """Read a boolean.

    Raises:
        ValueError: if it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")  # noqa: TRY004 - callers collect one error type
    return value


def read_seconds(value: object) -> float:
    """Read a number of seconds.

    Raises:
        ValueError: if it is not a number, negative or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"expected a number of seconds, 0 or more, got {value!r}")
    return float(value)


def read_code(value: object) -> Value:
    """Read an argument of ``sys.exit``: an integer or a message.

    Raises:
        ValueError: if it is neither, or an integer outside of 32 bits.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"expected an exit code or a message, got {value!r}")  # noqa: TRY004 - callers collect one error type
    if isinstance(value, int) and not -(2**31) <= value < 2**31:
        raise ValueError(f"expected an exit code from -2147483648 to 2147483647, got {value}")
    return read_text(value) if isinstance(value, str) else value


def read_exception(value: object) -> str:
    """Read an exception type: a builtin one by name, or another as ``package.module:Class``.

    Raises:
        ValueError: if it is no builtin exception and does not have that form.
    """
    text = read_text(value)
    if re.fullmatch(r"[\w.]+:[\w.]+", text):
        return text
    if text in ("SystemExit", "GeneratorExit") or not _is_exception(text):
        known = [name for name in vars(builtins) if _is_exception(name)]
        raise ValueError(f"{not_known(text, known, 'builtin exception')} (others as 'package.module:Class')")
    return text


def _is_exception(name: str) -> bool:
    found = vars(builtins).get(name)
    return isinstance(found, type) and issubclass(found, BaseException)


def signal_param(name: str, meaning: str) -> Param:
    """Return a required signal parameter."""
    return Param(name, read_signal, meaning, "signal", required=True)


def flag_param(name: str, meaning: str) -> Param:
    """Return a boolean parameter with default false."""
    return Param(name, read_flag, meaning, "flag", default=False)


def seconds_param(name: str, meaning: str, *, default: float) -> Param:
    """Return a parameter in seconds."""
    return Param(name, read_seconds, meaning, "seconds", default=default)


def text_param(name: str, meaning: str, *, default: str) -> Param:
    """Return a string parameter."""
    return Param(name, read_text, meaning, "text", default=default)


def choice_param(name: str, choices: Iterable[str], meaning: str, *, default: str | None = None) -> Param:
    """Return a parameter with a set of allowed words; it is required if there is no default."""
    words = tuple(choices)

    def read(value: object) -> str:
        if value not in words:
            raise ValueError(not_known(str(value), words, name))
        return str(value)

    shown = f"one of {', '.join(words)}"
    return Param(name, read, meaning, shown, default=default, required=default is None, choices=words)


def read_size(value: object) -> int:
    """Read a number of bytes: an integer, or a text like "64K", "2M", "1G" (powers of 1024).

    Raises:
        ValueError: if it is not a size.
    """
    found = None if isinstance(value, bool) else re.fullmatch(r"(\d+)\s*([KMGT]?)(?:i?B)?", str(value).strip().upper())
    if found is None or not isinstance(value, int | str):
        raise ValueError(f"expected bytes like 4096, '64K' or '2M', got {value!r}")
    amount = int(found[1]) * UNITS[found[2]]
    if amount >= 2**63:
        raise ValueError(f"expected less than 2**63 bytes, got {value!r}")
    return amount


def read_limit(value: object) -> int:
    """Read an amount, or "unlimited".

    Raises:
        ValueError: if it is neither.
    """
    if value in ("unlimited", UNLIMITED) and not isinstance(value, bool):
        return UNLIMITED
    try:
        return read_size(value)
    except ValueError:
        raise ValueError(f"expected a number, a size like '64M', or 'unlimited', got {value!r}") from None


def size_param(name: str, meaning: str, *, default: int | None = None) -> Param:
    """Return a parameter in bytes; it is required if there is no default."""
    return Param(name, read_size, meaning, "bytes", default=default, required=default is None)


def count_param(name: str, meaning: str, *, default: int, least: int = 0, most: int = 2**31 - 1) -> Param:
    """Return an integer parameter with a range."""

    def read(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"expected a whole number from {least} to {most}, got {value!r}")
        return value

    return Param(name, read, meaning, "count", default=default)


def factor_param(name: str, meaning: str, *, default: float, least: float) -> Param:
    """Return a parameter that is a factor."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
            raise ValueError(f"expected a number, {least:g} or more, got {value!r}")
        return float(value)

    return Param(name, read, meaning, "factor", default=default)


def offset_param(name: str, meaning: str, *, default: float | None = None) -> Param:
    """Return a parameter in seconds, positive or negative; it is required if there is no default."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e10 <= value <= 1e10:
            raise ValueError(f"expected a number of seconds between -1e10 and 1e10, got {value!r}")
        return float(value)

    return Param(name, read, meaning, "seconds", default=default, required=default is None)
