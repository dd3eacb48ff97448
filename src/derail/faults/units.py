"""Amounts as people write them: ``"64K"``, ``"2M"``, 4096, "unlimited"; read into whole numbers."""

from __future__ import annotations

import re

from derail.faults.catalogue import Param

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
UNLIMITED = -1
"""How "no limit" is kept; also what the kernel's ``RLIM_INFINITY`` is in Python."""


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
