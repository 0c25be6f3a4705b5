"""Tables of a report and their pictures: of a long table a page shows the first rows."""

from __future__ import annotations

from xml.etree import ElementTree

from api.reporting.blocks import Document, Section, Table
from api.reporting.contents import _layer
from api.reporting.drawings import panels
from api.reporting.parts import to_csv, to_latex
from api.reporting.render import to_html, to_markdown
from evosearch.stats import Interval
from primitives.formula import parse

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


def test_panels_have_a_scale_each_and_leave_out_what_is_not_known() -> None:
    nan = float("nan")
    columns = [
        ("accuracy", [Interval(0.8, 0.7, 0.9), Interval(0.6, nan, nan), Interval(nan, nan, nan)]),
        ("ms", [Interval(80.0, 70.0, 90.0), Interval(60.0, nan, nan), Interval(50.0, nan, nan)]),
    ]
    drawing = ElementTree.fromstring(panels("Scores & more", ["a", "b", "<c>"], columns))
    dots = [one for one in drawing.iter() if one.tag.endswith("circle")]
    places = [float(one.attrib["cx"]) for one in dots]
    assert len(places) == 5
    assert places[0] > places[1]
    assert places[2] > places[3] > places[4] > places[0]
    assert [one.attrib["cy"] for one in dots[:2]] == [one.attrib["cy"] for one in dots[2:4]]
    lines = [one for one in drawing.iter() if one.tag.endswith("line")]
    assert len(lines) == 2
    for line, place in zip(lines, (places[0], places[2]), strict=True):
        assert float(line.attrib["x1"]) < place < float(line.attrib["x2"])
    words = [one.text for one in drawing.iter() if one.tag.endswith("text")]
    assert {"accuracy", "ms", "<c>"} <= set(words)


def test_panels_of_differences_have_a_line_at_zero() -> None:
    columns = [("mean", [Interval(0.02, 0.01, 0.03), Interval(-0.02, -0.03, -0.01)])]
    drawing = ElementTree.fromstring(panels("Differences", ["a", "b"], columns, zero=True))
    zero = next(one for one in drawing.iter() if one.get("stroke-dasharray"))
    above, below = (float(one.attrib["cx"]) for one in drawing.iter() if one.tag.endswith("circle"))
    assert below < float(zero.attrib["x1"]) < above


def test_the_simplified_form_is_never_longer_than_what_was_found() -> None:
    signs_outward = (
        "a = abs(x); b = std_batch(a); c = a / (b / (a + mean_batch(a)) + b); c / rms_sample(c)"
    )
    for formula in (signs_outward, "max(x, zero) * v1 * v1 / (v1 * std_batch(x))"):
        (table, *_) = _layer(parse(formula)).blocks
        assert isinstance(table, Table)
        found, canonical, simple = (int(row[2]) for row in table.rows)
        assert simple <= min(found, canonical)
        assert (canonical > found) == (formula == signs_outward)
