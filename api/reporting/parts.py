"""Each table of a report as CSV and LaTeX (and as SVG where it has a picture), each picture as SVG,
each formula as LaTeX: files that go into a paper. Numbers in CSV stand as the report shows them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from api.export import write_file
from api.reporting.blocks import Code, Document, Formula, Picture, Table
from evosearch.errors import EvosearchError

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def parts(made: Document) -> Iterator[tuple[str, str]]:
    """(file name, text) of every part."""
    for section in made.sections:
        for block in section.blocks:
            if isinstance(block, Picture):
                yield f"{block.name}.svg", block.svg
                if block.data is not None:
                    yield from _both(block.data)
            elif isinstance(block, Table):
                if block.svg:
                    yield f"{block.name}.svg", block.svg
                yield from _both(block)
            elif isinstance(block, Formula) and block.latex:
                yield f"formula-{block.name}.tex", block.latex + "\n"
            elif isinstance(block, Code) and block.language == "toml":
                yield f"{block.name}.toml", block.text


def write_parts(made: Document, folder: Path) -> int:
    """Write every part into the folder, which is made; returns how many.

    Raises:
        EvosearchError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise EvosearchError(
            "cannot make the folder of the parts", where=str(folder), got=err.strerror or str(err),
            hint="name another one with --parts",
        ) from err  # fmt: skip
    files = list(parts(made))
    for name, text in files:
        write_file(folder / name, text)
    return len(files)


def to_csv(block: Table) -> str:
    """Head and rows, separated by commas."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(block.head)
    writer.writerows(block.rows)
    return out.getvalue()


def to_latex(block: Table) -> str:
    """A ``tabular`` of plain rules, with the caption as a comment."""
    columns = "".join("l" if place in block.left else "r" for place in range(len(block.head)))
    comments = [f"% {' '.join(text.split())}" for text in (block.title, block.caption) if text]
    lines = [*comments, rf"\begin{{tabular}}{{{columns}}}", r"\hline", _line(block.head), r"\hline"]
    for place, cells in enumerate(block.rows):
        bold = r"\bfseries " if place in block.bold else ""
        lines.append(_line(cells, bold))
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def _line(cells: tuple[str, ...], before: str = "") -> str:
    return " & ".join(before + _escaped(cell) for cell in cells) + r" \\"


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(sign, sign) for sign in " ".join(text.split()))


def _both(block: Table) -> Iterator[tuple[str, str]]:
    yield f"{block.name}.csv", to_csv(block)
    yield f"{block.name}.tex", to_latex(block)
