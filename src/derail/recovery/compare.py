"""Comparison of the end of a run with the end of the quiet run: values in the output, and files."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MISSING = ""


def values_of(text: str, patterns: Sequence[str]) -> dict[str, str]:
    """Return the last match of each pattern: its first group, or the whole match; empty where nothing matches."""
    values = {}
    for pattern in patterns:
        matches = list(re.finditer(pattern, text))
        values[pattern] = (matches[-1][1] if matches[-1].re.groups else matches[-1][0]) if matches else MISSING
    return values


def differing_value(value: str, quiet: str, close: float | None) -> bool:
    """Return whether a value differs: as text, or by more than ``close`` if both are numbers."""
    if value == quiet:
        return False
    try:
        return close is None or not math.isclose(float(value), float(quiet), rel_tol=close, abs_tol=close)
    except ValueError:
        return True


def files_in(root: Path, folders: Sequence[str], is_watched: Callable[[str], bool]) -> dict[str, Path]:
    """Return the watched files below a directory, by path relative to it. Links to directories are not followed."""
    found = {}
    for folder in folders or ("",):
        top = root / folder if folder else root
        walk = os.walk(top) if folder else [(os.fspath(root), [], os.listdir(root))]
        for base, _, names in walk:
            for name in names:
                path = Path(base, name)
                relative = os.path.relpath(path, root)
                if is_watched(relative) and (path.is_symlink() or path.is_file()):
                    found[relative] = path
    return found


def file_difference(ours: Path, quiet: Path, close: float | None = None) -> str:
    """Return how a file differs from that of the quiet run; empty if it does not.

    Files of tensors whose bytes differ are compared by their tensors, if the library that reads them is installed.
    """
    if not ours.exists():
        return "is missing"
    data, expected = ours.read_bytes(), quiet.read_bytes()
    if data == expected:
        return ""
    reader = _READERS.get(quiet.suffix)
    if reader is not None:
        try:
            return _difference(reader(ours), reader(quiet), close)
        except ImportError:
            pass
        except Exception as error:  # a damaged file may raise anything
            return f"cannot be read: {type(error).__name__}: {error}"
    first = next((i for i, pair in enumerate(zip(data, expected, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(data), len(expected)) if first is None else first
    return f"has {len(data)} bytes, expected {len(expected)}; the first difference is at byte {at}"


def _difference(value: Any, expected: Any, close: float | None, where: str = "") -> str:
    """Return the first difference of two loaded values; empty if there is none."""
    if type(value) is not type(expected):
        return f"{where or 'value'}: is {type(value).__name__}, expected {type(expected).__name__}"
    if isinstance(expected, dict):
        if value.keys() != expected.keys():
            return f"{where or 'value'}: has other keys: {sorted(map(str, value.keys() ^ expected.keys()))[:5]}"
        parts = ((value[key], expected[key], f"{where}.{key}".lstrip(".")) for key in expected)
    elif isinstance(expected, list | tuple):
        if len(value) != len(expected):
            return f"{where or 'value'}: has {len(value)} items, expected {len(expected)}"
        parts = ((a, b, f"{where}[{index}]") for index, (a, b) in enumerate(zip(value, expected, strict=True)))
    elif hasattr(expected, "shape"):
        return _tensor_difference(value, expected, close, where)
    else:
        same = not differing_value(str(value), str(expected), close)
        return "" if same else f"{where or 'value'}: is {value!r:.80}, expected {expected!r:.80}"
    return next((text for a, b, name in parts if (text := _difference(a, b, close, name))), "")


def _tensor_difference(value: Any, expected: Any, close: float | None, where: str) -> str:
    import numpy as np

    ours, theirs = np.asarray(value), np.asarray(expected)
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return f"{where}: is {ours.dtype}{list(ours.shape)}, expected {theirs.dtype}{list(theirs.shape)}"
    numeric = np.issubdtype(theirs.dtype, np.inexact)
    if np.array_equal(ours, theirs, equal_nan=numeric):
        return ""
    if close is not None and numeric and np.allclose(ours, theirs, rtol=close, atol=close, equal_nan=True):
        return ""
    many = int((ours != theirs).sum())
    most = f", by at most {float(np.nanmax(np.abs(ours - theirs))):g}" if numeric else ""
    return f"{where}: {many} of {theirs.size} elements differ{most}"


def _load_torch(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _load_safetensors(path: Path) -> Any:
    import importlib

    return importlib.import_module("safetensors.numpy").load_file(path)


def _load_numpy(path: Path) -> Any:
    import numpy as np

    with np.load(path) as loaded:
        return {name: loaded[name] for name in loaded.files}


_READERS: dict[str, Callable[[Path], Any]] = {
    ".pt": _load_torch,
    ".pth": _load_torch,
    ".safetensors": _load_safetensors,
    ".npz": _load_numpy,
}
