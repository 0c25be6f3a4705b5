"""The errors that all rooms share; it must import nothing of the project.

Every error says in one line what was expected, what was got, where, and what to do next.
"""

from __future__ import annotations


class EvosearchError(Exception):
    """Base of every error that evosearch raises on purpose.

    The message is one line: ``where: what; expected ..., got ...; hint``.
    """

    def __init__(
        self,
        what: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        where: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.what, self.expected, self.got, self.where, self.hint = what, expected, got, where, hint
        super().__init__(self._line())

    def _line(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        parts = [head]
        contrast = [
            f"{word} {value}"
            for word, value in (("expected", self.expected), ("got", self.got))
            if value is not None
        ]
        if contrast:
            parts.append(", ".join(contrast))
        if self.hint:
            parts.append(self.hint)
        return " ".join("; ".join(parts).split())


class GraphError(EvosearchError):
    """A graph that breaks the rules of the language; ``position`` is the node's index, if any."""

    def __init__(self, what: str, *, position: int | None = None, **context: str | None) -> None:
        self.position = position
        if position is not None:
            context.setdefault("where", f"node {position}")
        super().__init__(what, **context)


class FormulaError(EvosearchError):
    """Formula text that cannot be read or printed; ``position`` is a 0-based character offset."""

    def __init__(self, what: str, *, position: int | None = None, **context: str | None) -> None:
        self.position = position
        if position is not None:
            context.setdefault("where", f"character {position + 1}")
        super().__init__(what, **context)


class LayerError(EvosearchError):
    """A layer that cannot be built or run as asked (group counts, channel counts, layouts)."""
