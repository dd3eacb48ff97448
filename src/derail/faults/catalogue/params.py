"""How the values of parameters are read: from Python, TOML and JSON alike, into the form in which a plan keeps them."""

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
"""How "no limit" is kept; also what the kernel's ``RLIM_INFINITY`` is in Python."""


def read_signal(value: object) -> str:
    """A signal by name or number, as its name.

    Raises:
        ValueError: if it is no signal of this platform.
    """
    import signal

    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"expected a signal like 'SIGTERM', got {value!r}")  # noqa: TRY004 - one kind of error for whoever collects them
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
    """A list of signals.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list of signals like ['SIGTERM'], got {value!r}")  # noqa: TRY004 - one kind of error for whoever collects them
    return tuple(dict.fromkeys(read_signal(item) for item in value))


def read_text(value: object) -> str:
    """A string.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {value!r}")  # noqa: TRY004 - one kind of error for whoever collects them
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError(f"{value!r} has half a surrogate pair, which no file can hold")
    return value


def read_flag(value: object) -> bool:
    """True or false.

    Raises:
        ValueError: if it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")  # noqa: TRY004 - one kind of error for whoever collects them
    return value


def read_seconds(value: object) -> float:
    """A number of seconds.

    Raises:
        ValueError: if it is none, negative or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"expected a number of seconds, 0 or more, got {value!r}")
    return float(value)


def read_code(value: object) -> Value:
    """What is passed to ``sys.exit``: a whole number, or a message.

    Raises:
        ValueError: if it is neither, or a number that no C long holds.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"expected an exit code or a message, got {value!r}")  # noqa: TRY004 - one kind of error for whoever collects them
    if isinstance(value, int) and not -(2**31) <= value < 2**31:
        raise ValueError(f"exit codes are between -2147483648 and 2147483647, got {value}")
    return read_text(value) if isinstance(value, str) else value


def read_exception(value: object) -> str:
    """An exception: a builtin one by name, or another as ``package.module:Class``.

    Raises:
        ValueError: if it is no builtin exception and has not that form.
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
    """A signal that must be given."""
    return Param(name, read_signal, meaning, "signal", required=True)


def flag_param(name: str, meaning: str) -> Param:
    """True or false; false unless given."""
    return Param(name, read_flag, meaning, "flag", default=False)


def seconds_param(name: str, meaning: str, *, default: float) -> Param:
    """A number of seconds."""
    return Param(name, read_seconds, meaning, "seconds", default=default)


def text_param(name: str, meaning: str, *, default: str) -> Param:
    """A string."""
    return Param(name, read_text, meaning, "text", default=default)


def choice_param(name: str, choices: Iterable[str], meaning: str, *, default: str | None = None) -> Param:
    """One of some words; it must be given if there is no default."""
    words = tuple(choices)

    def read(value: object) -> str:
        if value not in words:
            raise ValueError(not_known(str(value), words, name))
        return str(value)

    shown = f"one of {', '.join(words)}"
    return Param(name, read, meaning, shown, default=default, required=default is None, choices=words)


def read_size(value: object) -> int:
    """Bytes: a whole number, or a text like "64K", "2M", "1G" (powers of 1024).

    Raises:
        ValueError: if it is none.
    """
    found = None if isinstance(value, bool) else re.fullmatch(r"(\d+)\s*([KMGT]?)(?:i?B)?", str(value).strip().upper())
    if found is None or not isinstance(value, int | str):
        raise ValueError(f"expected bytes like 4096, '64K' or '2M', got {value!r}")
    amount = int(found[1]) * UNITS[found[2]]
    if amount >= 2**63:
        raise ValueError(f"{value!r} is more than any machine has")
    return amount


def read_limit(value: object) -> int:
    """An amount, or "unlimited".

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
    """Bytes; must be given if there is no default."""
    return Param(name, read_size, meaning, "bytes", default=default, required=default is None)


def count_param(name: str, meaning: str, *, default: int, least: int = 0, most: int = 2**31 - 1) -> Param:
    """A whole number between two others."""

    def read(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"expected a whole number from {least} to {most}, got {value!r}")
        return value

    return Param(name, read, meaning, "count", default=default)


def factor_param(name: str, meaning: str, *, default: float, least: float) -> Param:
    """A number that something is multiplied with."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
            raise ValueError(f"expected a number, {least:g} or more, got {value!r}")
        return float(value)

    return Param(name, read, meaning, "factor", default=default)


def offset_param(name: str, meaning: str, *, default: float | None = None) -> Param:
    """Seconds, forwards or backwards; must be given if there is no default."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e10 <= value <= 1e10:
            raise ValueError(f"expected a number of seconds between -1e10 and 1e10, got {value!r}")
        return float(value)

    return Param(name, read, meaning, "seconds", default=default, required=default is None)
