"""Facts in a text, whatever the words between them."""

from __future__ import annotations


class Tells:
    """Equals a text that has these facts in it, in any order; one that is given twice, twice.

    Tests compare with facts (a rank, a signal, a path) and not with sentences: the words may be improved. How a whole
    report reads is in one test per renderer.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *facts: object) -> None:
        self.facts = [str(fact) for fact in facts]

    def __eq__(self, text: object) -> bool:
        if not isinstance(text, str):
            return NotImplemented
        return all(text.count(fact) >= self.facts.count(fact) for fact in self.facts)

    def __repr__(self) -> str:
        return f"Tells({', '.join(map(repr, self.facts))})"
