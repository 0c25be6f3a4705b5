"""Writes a report as one HTML page without script or network, or as Markdown.

Everything that is not markup of ours is escaped: titles, notes and formulas are people's.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from html import escape

from api.reporting.blocks import Block, Code, Document, Formula, Picture, Table, Text

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}h2{border-bottom:1px solid #8884;margin-top:2.5rem}
table{border-collapse:collapse;margin:.3rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;border-bottom:1px solid #8883;text-align:right;vertical-align:top}
.l{text-align:left;overflow-wrap:break-word;max-width:34rem}tr.b{font-weight:600}
.scroll{overflow-x:auto}.note{opacity:.75;font-size:.9em;margin:.2rem 0 1rem}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}
pre{background:#8881;padding:.7rem;overflow-x:auto}
figure{margin:1rem 0}figure img{max-width:100%;height:auto;background:#fff}
.i{white-space:nowrap}
.formula{font-size:1.6em;overflow-x:auto;margin:.6rem 0}summary{cursor:pointer}
"""


def to_html(made: Document) -> str:
    """The report as one page that needs nothing else."""
    parts = [
        "<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(made.title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(made.title)}</h1><p>{escape(made.subtitle)}</p>",
    ]  # fmt: skip
    for section in made.sections:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        parts += [_HTML[type(block)](block) for block in section.blocks]
    return "\n".join([*parts, "</body></html>", ""])


def to_markdown(made: Document, parts: str | None = None) -> str:
    """The report as Markdown; pictures are links into the folder ``parts``, else their numbers."""
    lines = [f"# {_inline(made.title)}", "", _inline(made.subtitle), ""]
    for section in made.sections:
        lines += [f"## {_inline(section.title)}", ""]
        for block in section.blocks:
            lines += [*_markdown(block, parts), ""]
    return "\n".join(lines)


# -- HTML -----------------------------------------------------------------------------------------


def _folded(title: str, inner: str, folded: bool) -> str:
    if folded:
        return f"<details><summary>{escape(title)}</summary>{inner}</details>"
    return f"<h3>{escape(title)}</h3>{inner}"


def _text(block: Text) -> str:
    inner = escape(block.text)
    return f"<p><strong>{inner}</strong></p>" if block.strong else f"<p>{inner}</p>"


def _row(block: Table, cells: tuple[str, ...], tag: str, bold: bool = False) -> str:
    made = "".join(
        f'<{tag} class="l">{escape(cell)}</{tag}>' if place in block.left
        else f"<{tag}>{_whole_intervals(cell)}</{tag}>"
        for place, cell in enumerate(cells)
    )  # fmt: skip
    return f'<tr class="b">{made}</tr>' if bold else f"<tr>{made}</tr>"


def _whole_intervals(cell: str) -> str:
    """The cell, whose intervals are never broken between two lines."""
    return re.sub(r"\[[^\]]*\]", r'<span class="i">\g<0></span>', escape(cell))


def _table(block: Table) -> str:
    head = _row(block, block.head, "th")
    body = "".join(
        _row(block, cells, "td", place in block.bold) for place, cells in enumerate(block.on_page())
    )
    caption = f'<p class="note">{escape(block.caption)}</p>' if block.caption else ""
    table = f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    image = f"<figure>{_image(block.svg, block.title)}</figure>" if block.svg else ""
    return _folded(block.title, image + table + caption, block.folded)


def _image(svg: str, title: str) -> str:
    # As an image, for the style rules of one picture must not reach the page or another.
    source = f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"
    return f'<img src="{source}" alt="{escape(title)}">'


def _picture(block: Picture) -> str:
    data = _table(block.data) if block.data is not None else ""
    caption = f'<p class="note">{escape(block.caption)}</p>' if block.caption else ""
    image = _image(block.svg, block.title)
    return f"<h3>{escape(block.title)}</h3><figure>{image}</figure>{caption}{data}"


def _formula(block: Formula) -> str:
    shown = f'<div class="formula">{block.mathml}</div>' if block.mathml else ""
    return f'{shown}<p class="l"><code>{escape(block.text)}</code></p>'


def _code(block: Code) -> str:
    return _folded(block.title, f"<pre>{escape(block.text)}</pre>", block.folded)


_HTML: dict[type[Block], Callable[..., str]] = {
    Text: _text, Table: _table, Picture: _picture, Formula: _formula, Code: _code,
}  # fmt: skip


# -- Markdown -------------------------------------------------------------------------------------


def _inline(text: str) -> str:
    """The text as Markdown shows it: on one line, and none of it markup."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", one_line)


def _markdown(block: Block, parts: str | None) -> list[str]:
    if isinstance(block, Text):
        return [f"**{_inline(block.text)}**" if block.strong else _inline(block.text)]
    if isinstance(block, Formula):
        return [_fence(block.text, "")]
    if isinstance(block, Code):
        return [f"### {_inline(block.title)}", "", _fence(block.text, block.language)]
    if isinstance(block, Table):
        return _markdown_table(block, parts)
    lines = [f"### {_inline(block.title)}", ""]
    if parts is not None:
        lines += [f"![{_inline(block.title)}]({parts}/{block.name}.svg)", ""]
    if block.caption:
        lines += [_inline(block.caption), ""]
    if parts is None and block.data is not None:
        lines += _markdown_table(block.data)
    elif parts is None:
        lines.append("The picture is in the HTML report, and among the files of `--parts`.")
    return lines


def _fence(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    mark = "`" * max(3, longest + 1)
    return f"{mark}{language}\n{text.rstrip()}\n{mark}"


def _markdown_table(block: Table, parts: str | None = None) -> list[str]:
    rule = ["---" if place in block.left else "---:" for place in range(len(block.head))]
    drawn = [f"![{_inline(block.title)}]({parts}/{block.name}.svg)", ""]
    lines = [
        f"### {_inline(block.title)}",
        "",
        *(drawn if block.svg and parts else []),
        _line(block.head),
        f"|{'|'.join(rule)}|",
    ]
    for place, cells in enumerate(block.on_page()):
        shown = [_inline(cell) for cell in cells]
        if place in block.bold:
            shown = [f"**{cell}**" if cell else "" for cell in shown]
        lines.append(f"| {' | '.join(shown)} |")
    return [*lines, "", _inline(block.caption)] if block.caption else lines


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_inline(cell) for cell in cells)} |"
