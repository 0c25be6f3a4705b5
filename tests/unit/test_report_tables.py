"""Tables of a report: a page shows the first rows of a long one, files have them all."""

from __future__ import annotations

from api.reporting.blocks import Document, Section, Table
from api.reporting.parts import to_csv, to_latex
from api.reporting.render import to_html, to_markdown

ROWS = tuple((f"layer{number}", str(number)) for number in range(9))
LONG = Table("numbers", "Numbers", ("layer", "value"), ROWS, shown=4)


def test_a_page_shows_the_first_rows_and_files_have_all() -> None:
    made = Document("A report", "", (Section("Reproduce", (LONG,)),))
    for page in (to_html(made), to_markdown(made)):
        assert "layer3" in page
        assert "layer4" not in page
    for text in (to_csv(LONG), to_latex(LONG)):
        assert all(name in text for name, _ in ROWS)


def test_a_short_table_is_shown_whole() -> None:
    whole = Table("numbers", "Numbers", ("layer", "value"), ROWS)
    assert whole.on_page() == ROWS
