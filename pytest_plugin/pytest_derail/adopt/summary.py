"""Last lines of a session about adoption. The facts travel on reports, so that those of xdist's workers arrive too."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail.shapes import shape_of, why_not_adopted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

KEY = "derail_adopted"


def note(report: pytest.TestReport, cls: str, methods: Sequence[str], reasons: Sequence[str]) -> None:
    """Put on the last report of a test what ran on ranks, and what did not.

    Args:
        report: the report.
        cls: the name of the adopted class; empty for functions.
        methods: the start methods of the ranks that the test had; empty if it had none.
        reasons: why processes of the test were not replaced.
    """
    if methods or reasons:
        vars(report)[KEY] = {"class": cls, "methods": list(methods), "reasons": list(reasons)}


def lines(reports: Iterable[Any]) -> Iterator[str]:
    """Yield how many classes and tests were adopted, and what was not, with the reasons."""
    by_test = {each.nodeid: vars(each)[KEY] for each in reports if KEY in getattr(each, "__dict__", {})}
    noted = list(by_test.values())  # once for each test, however often it was rerun
    adopted = [each for each in noted if each["methods"]]
    if adopted:
        classes = {each["class"] for each in adopted} - {""}
        methods = " and ".join(sorted({method for each in adopted for method in each["methods"]}))
        yield f"derail adopted {_classes(classes)}{_tests(len(adopted))} on {methods} ranks"
    yield from _reasons("derail did not adopt", Counter(reason for each in noted for reason in each["reasons"]))


def forecast(items: Iterable[pytest.Item], method: str) -> Iterator[str]:
    """Yield what would be adopted, and what would not, with the reasons."""
    adopted: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for item in items:
        cls: Any = item.cls if isinstance(item, pytest.Function) else None
        shape = shape_of(cls)
        if shape is not None:
            why = why_not_adopted(cls, shape)
            counts, name = (
                (reasons, f"{cls.__qualname__}: {why}") if why else (adopted, f"{cls.__qualname__} ({shape})")
            )
            counts[name] += 1
    total = sum(adopted.values())
    yield f"derail would adopt {_classes(adopted)}{_tests(total)} on {method} ranks{':' if adopted else ''}"
    yield from (f"  {name}: {_tests(count)}" for name, count in adopted.items())
    yield from _reasons("derail would not adopt", reasons)


def _reasons(title: str, reasons: Counter[str]) -> Iterator[str]:
    if reasons:
        yield f"{title}:"
        yield from (f"  {reason}: {_tests(count)}" for reason, count in reasons.items())


def _classes(names: Iterable[str]) -> str:
    count = len(set(names))
    return f"{count} class{'es' if count > 1 else ''}, " if count else ""


def _tests(count: int) -> str:
    return f"{count} test{'' if count == 1 else 's'}"
