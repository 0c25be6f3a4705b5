"""What a report is made of: sections of text, tables, pictures, formulas and code.

Plain data. What stands in them is decided in `contents`, how they look in `render` and `parts`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; ``strong`` for a verdict."""

    text: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a head.

    ``name``: of its files. ``left``: columns that hold words, the others are numbers. ``bold``:
    places of rows that stand out. ``folded``: long, and shut at first where a page can do that.
    ``svg``: a picture of its numbers, if there is one. ``shown``: rows on a page, the first ones,
    where all would be too many; files have all.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    left: frozenset[int] = frozenset({0})
    bold: frozenset[int] = frozenset()
    folded: bool = False
    svg: str = ""
    shown: int | None = None

    def on_page(self) -> tuple[tuple[str, ...], ...]:
        """The rows that a page shows."""
        return self.rows[: self.shown]


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG and the numbers that it shows."""

    name: str
    title: str
    svg: str
    data: Table | None = None
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula as text, LaTeX and MathML; the last two are empty where it is too large."""

    name: str
    text: str
    latex: str = ""
    mathml: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """Text that is copied as it is."""

    name: str
    title: str
    text: str
    language: str = ""
    folded: bool = False


Block = Text | Table | Picture | Formula | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """The whole report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
