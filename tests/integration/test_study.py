"""What looks back on a finished search: numbers trained again, and its report."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from api.cli import run
from api.reporting.blocks import Document, Table
from api.reporting.contents import document
from api.reporting.gather import Facts, gather
from api.reporting.render import to_html, to_markdown
from api.reporting.winners_curve import Point, flattery, picture, points, unit
from api.rerun import Number, matching, retrain, script_of, stored_numbers
from db import open_store
from evosearch.errors import ConfigError, NotFound
from evosearch.events import Created
from evosearch.objectives import ACCURACY
from evosearch.presets import config_from, load_preset
from evosearch.report import final_rights, final_tests
from evosearch.streams import evaluation_seed
from tests.acceptance.command import environment, start_tiny


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Database URL and id of a tiny search that has run to its end, baselines and all."""
    folder = tmp_path_factory.mktemp("study")
    url = f"sqlite:///{folder}/evosearch.db"
    more = ('baselines=["bn-relu", "gn-silu"]', "confirmation.resamples=500",
            'task.objectives=["parameters"]')  # fmt: skip
    extra = [word for setting in more for word in ("--set", setting)]
    assert run([*start_tiny(4), *extra, "--out", str(folder / "leader.py"), "--db", url]) == 0
    store = open_store(url)
    (info,) = store.searches()
    store.close()
    return url, info.id


def numbers(finished: tuple[str, str], name: str = "") -> list[Number]:
    store = open_store(finished[0])
    try:
        return stored_numbers(store, f"{finished[1]}{name}")
    finally:
        store.close()


@pytest.mark.parametrize(("name", "split"), [("", "select"), ("", "final"), ("-bn-relu", "final")])
def test_a_number_comes_out_again_to_the_last_bit(
    finished: tuple[str, str], name: str, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url, search = finished
    assert run(["rerun", f"{search}{name}", "--split", split, "--db", url]) == 0
    said = capsys.readouterr().out
    assert "the same score" in said
    assert ("images judged otherwise: 0 of 697" in said) == (split == "final")


def test_a_stored_number_that_is_wrong_is_told(
    finished: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    true = numbers(finished)[0]
    wrong = true._replace(
        stored=true.stored.model_copy(update={"score": true.stored.score + 0.01}),
        versions={**true.versions, "torch": "1.0"},
    )
    assert retrain(wrong) == 1
    said = capsys.readouterr().out
    assert "differ by 0.01, more than 0" in said
    assert "torch 1.0 then and" in said
    assert retrain(wrong, within=0.02) == 0


def test_another_seed_is_another_number(finished: tuple[str, str]) -> None:
    """The comparison is of trainings: with another seed it does not come out the same."""
    true = numbers(finished, "-bn-relu")[-1]
    other = true.job.runs[0].model_copy(update={"seed": true.stored.seed + 1})
    changed = true._replace(job=true.job.model_copy(update={"runs": (other,)}))
    assert retrain(changed, say=lambda line: None) == 1


def test_the_script_needs_no_database(finished: tuple[str, str], tmp_path: Path) -> None:
    number = matching(numbers(finished), anchor=None, seed=None, rate=None, split="final")[-1]
    script = tmp_path / "again.py"
    script.write_text(script_of(number, script.name))
    assert Number.from_data(number.to_data()).job == number.job
    assert "and the data set polarity-digits: python again.py" in script.read_text()
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the same score" in done.stdout
    score = repr(number.stored.score)
    script.write_text(script.read_text().replace(score, repr(number.stored.score + 0.25)))
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr


def test_numbers_that_are_not_there_are_refused(finished: tuple[str, str]) -> None:
    with pytest.raises(NotFound, match="no number of ln-relu"):
        numbers(finished, "-ln-relu")
    with pytest.raises(NotFound, match="of anchor vgg"):
        matching(numbers(finished), anchor="vgg", seed=None, rate=None, split=None)
    with pytest.raises(ConfigError, match="no number"):
        retrain({"search": "x"})


@pytest.fixture(scope="module")
def facts(finished: tuple[str, str]) -> Facts:
    store = open_store(finished[0])
    try:
        return gather(store, finished[1])
    finally:
        store.close()


def table_of(made: Document, name: str) -> Table:
    return next(
        block for section in made.sections for block in section.blocks
        if isinstance(block, Table) and block.name == name
    )  # fmt: skip


def read(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def made(facts: Facts) -> Document:
    return document(facts)


def test_the_reports_numbers_are_the_stores(facts: Facts, made: Document) -> None:
    state, final = facts.state, table_of(made, "final")
    assert state.report is not None
    (anchor,) = state.report["final"]["anchors"]
    assert final.rows[0][1].startswith(f"{anchor['leader']:.3f} [")
    assert final.rows[1][0] == "bn-relu"
    low, high = re.findall(r"[\d.]+", final.rows[0][1])[1:]
    assert float(low) < anchor["leader"] < float(high)
    difference, tested = final.rows[-2:]
    assert f"{anchor['difference']['value']:+.3f}" in difference[1]
    rights = final_rights(state)
    assert rights is not None
    assert float(tested[1]) == pytest.approx(final_tests(state, rights).mean, abs=5e-5)
    select = {row[0]: row for row in table_of(made, "select").rows}
    assert {"bn-relu", "gn-silu"} <= select.keys()
    leader = state.report["leader"]
    assert select[f"{leader['birth']} (leader)"][2].startswith(
        f"{leader['confirmed']['resnet']:.3f}"
    )
    fresh = evaluation_seed(state.config.seed, "confirm", 0)
    for name in ("bn-relu", "gn-silu"):  # the candidates' seed alone, as theirs
        (seeds,) = facts.samples.baselines[name]
        assert fresh in seeds
        assert len(seeds) > 1
        assert select[name][2].startswith(f"{seeds[fresh]:.3f}")
        assert select[name][-1] == "1"
    cost = {row[0]: row for row in table_of(made, "cost").rows}
    assert int(cost["search"][2]) == state.train_steps["search"] == 4 * 6
    assert cost["all"][1] == str(sum(facts.trainings.values()))


def test_the_operators_table_counts_the_candidates_of_each(facts: Facts, made: Document) -> None:
    state, table = facts.state, table_of(made, "operators")
    rows = {row[0]: dict(zip(table.head, row, strict=True)) for row in table.rows}
    told = {birth: one.label.split("+") for birth, one in state.members.items()}
    assert {name for names in told.values() for name in names} <= rows.keys()
    for name, row in rows.items():
        mine = {birth for birth, names in told.items() if name in names}
        evaluated = sum(state.members[birth].evaluated for birth in mine)
        proposals, new = (
            int(row[column].replace(",", "")) for column in ("proposals", "new functions")
        )
        assert int(row["evaluated"]) == evaluated
        assert int(row["on the front"]) == len(mine & {*state.front.members})
        assert row["new functions per proposal"] == f"{new / proposals:.3f}"
        assert row["survivors per proposal"] == f"{evaluated / proposals:.4f}"
        assert proposals >= new >= evaluated
    assert state.evaluated == 4 <= sum(int(row["evaluated"]) for row in rows.values())
    assert sum(int(row["proposals"].replace(",", "")) for row in rows.values()) >= state.next_birth


def test_the_commands_of_the_report_train_its_numbers(
    finished: tuple[str, str], made: Document, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = table_of(made, "numbers").rows
    finals = [row for row in rows if row[1] == "final"]
    assert len({row[-1] for row in rows}) == len(rows)  # each command means one number
    for _, _, _, value, command in (finals[0], finals[-1]):
        program, *words = command.split()
        assert program == "evosearch"
        assert run([*words, "--db", finished[0]]) == 0
        said = capsys.readouterr().out
        assert "the first of" not in said
        assert f"{float(said.split('accuracy')[1].split()[1]):.4f}" == value


def test_a_page_needs_nothing_else_and_shows_what_people_wrote_as_text(made: Document) -> None:
    title = "<script>alert(1)</script> | `x` & *y*"
    page = to_html(replace(made, title=title))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert "url(" not in page
    assert "@import" not in page
    told = HTMLParser()
    told.feed(page)  # and every tag that opens is closed
    for tag in ("table", "details", "figure", "div", "h2", "math"):
        assert page.count(f"<{tag}") == page.count(f"</{tag}>") > 0, tag
    assert r"\<script\>alert(1)\</script\> \| \`x\` & \*y\*" in to_markdown(
        replace(made, title=title)
    )


def test_markdown_tables_have_as_many_cells_as_heads(made: Document) -> None:
    lines = to_markdown(made).splitlines()
    rules = [place for place, line in enumerate(lines) if re.fullmatch(r"(\|-+:?)+\|", line)]
    assert len(rules) > 8
    for place in rules:
        columns = lines[place].count("|")
        until = next(k for k in range(place, len(lines)) if not lines[k].startswith("|"))
        for line in (lines[place - 1], *lines[place + 1 : until]):
            assert len(re.findall(r"(?<!\\)\|", line)) == columns, line


def test_the_parts_are_files_for_a_paper(
    finished: tuple[str, str],
    facts: Facts,
    made: Document,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, folder = tmp_path / "report.md", tmp_path / "parts"
    words = ["--out", str(out), "--parts", str(folder), "--db", finished[0]]
    assert run(["report", finished[1], *words]) == 0
    for link in re.findall(r"\]\((.*?)\)", out.read_text()):
        ElementTree.fromstring((tmp_path / link).read_text())
    drawn = ("final", "select", "front", "operators", "relatives", "lineage", "anchors", "funnel",
             "cost", "winners-curve", "graph")  # fmt: skip
    for name in drawn:
        assert (folder / f"{name}.csv").exists()
        assert (folder / f"{name}.tex").exists()
        drawing = ElementTree.fromstring((folder / f"{name}.svg").read_text())
        words = len([one for one in drawing.iter() if one.tag.endswith("text")])
        assert words >= len(read(folder / f"{name}.csv")), name
    assert read(folder / "anchors.csv")[1][0] == "resnet"
    assert read(folder / "graph.csv")[1] == ["0", "x", ""]
    operators = table_of(made, "operators")
    assert read(folder / "operators.csv") == [[*row] for row in (operators.head, *operators.rows)]
    for name in ("final", "select", "winners-curve", "numbers"):
        rows = read(folder / f"{name}.csv")
        assert len({len(row) for row in rows}) == 1
        assert len(rows) > 1
    assert read(folder / "final.csv")[1:] == [list(row) for row in table_of(made, "final").rows]
    latex = (folder / "select.tex").read_text()
    assert latex.count(r" \\") == 1 + len(table_of(made, "select").rows)
    assert not re.search(r"(?<!\\)[_#$]", latex)
    assert config_from(tomllib.loads((folder / "config.toml").read_text())) == facts.state.config
    capsys.readouterr()
    assert run(["report", finished[1], "--out", "a.pdf", "--db", finished[0]]) == 2
    assert "expected .html or .md" in capsys.readouterr().err
    assert run(["report", finished[1], "--out", "no/a.md", "--knock-out", "--db", finished[0]]) == 2
    assert "a folder that exists" in capsys.readouterr().err


def test_the_front_stands_in_all_its_coordinates(facts: Facts, made: Document) -> None:
    front = table_of(made, "front")
    head = "resnet#parameters x BN-ReLU (lower)"
    assert front.head == ("layer", "formula", "resnet", head, "seeds")
    state = facts.state
    shown = {row[0].removesuffix(" (leader)"): row for row in front.rows}
    assert {name for name in shown if name.isdigit()} == set(map(str, state.front.members))
    for name, row in shown.items():
        if name.isdigit():
            scores = state.members[int(name)].scores
            accuracy, parameters = scores["resnet"], scores["resnet#parameters"]
            assert float(row[2]) == pytest.approx(sum(accuracy) / len(accuracy), abs=1e-4)
            times = state.config.objective("resnet#parameters").value(parameters[0])
            assert float(row[3]) == pytest.approx(times, abs=1e-4)
            assert times > 0.5
    assert float(shown["gn-silu"][3]) > 0
    dots = [one for one in ElementTree.fromstring(front.svg).iter() if one.tag.endswith("circle")]
    assert len(dots) == 2 * len(front.rows)


def test_the_winners_curve_tells_flattery(facts: Facts) -> None:
    found = points(facts, facts.state.chosen[0])
    assert {one.kind for one in found} == {"candidate", "leader", "baseline"}
    assert {one.label for one in found if one.kind == "baseline"} == {"bn-relu", "gn-silu"}
    assert unit(facts) == ACCURACY
    begun = evaluation_seed(facts.state.config.seed, "search", 0)
    for one in found:
        if one.kind == "baseline":
            (seeds,) = facts.samples.baselines[one.label]
            others = [score for seed, score in seeds.items() if seed != begun]
            mean = sum(others) / len(others)
            assert (one.first, one.fresh) == pytest.approx((seeds[begun], mean))
        if one.kind != "baseline":
            first, *fresh = facts.state.members[int(one.label)].scores["resnet"]
            assert (one.first, one.fresh) == pytest.approx((first, sum(fresh) / len(fresh)))
    lucky = [Point(str(k), "candidate", 0.9, 0.8 - 0.01 * k, 0.01, 3) for k in range(4)]
    fall = flattery(lucky)
    assert fall is not None
    assert fall.value == pytest.approx(0.115)
    assert 0.1 <= fall.low < 0.115 < fall.high <= 0.13
    drawing = ElementTree.fromstring(picture(lucky, ACCURACY).svg)
    dots = [one for one in drawing.iter() if one.tag.endswith("circle")]
    assert len(dots) == 4
    assert "candidates changed by -0.115 [" in picture(lucky, ACCURACY).caption
    crowd = [Point(str(k), "candidate", 0.9, 0.8 + 1e-4 * k, 0.01, 3) for k in range(60)]
    crowd.append(Point("bn-relu", "baseline", 0.7, 0.7, 0.01, 3))
    crowded = ElementTree.fromstring(picture(crowd, ACCURACY).svg)
    texts = [one for one in crowded.iter() if one.tag.endswith("text") and one.get("fill")]
    heights = sorted(float(str(one.get("y"))) for one in texts)
    assert all(above + 12 < below for above, below in pairwise(heights))
    assert heights[0] > 0
    assert heights[-1] <= float(str(crowded.get("height")))
    assert "bn-relu" in {one.text for one in texts}


def test_an_interval_is_never_broken_between_lines(finished: tuple[str, str]) -> None:
    page = to_html(document(gather(open_store(finished[0]), finished[1])))
    intervals = re.findall(r"\[-?[+\d.]+, [-+\d.]+\]</(\w+)>", page)
    assert len(intervals) > 5
    assert set(intervals) == {"span"}


def test_a_search_without_a_candidate_has_a_report(tmp_path: Path) -> None:
    store = open_store("memory:")
    store.create("nothing", "nothing yet", Created(config=load_preset("quickstart")))
    page = to_html(document(gather(store, "nothing")))
    assert "nothing is confirmed yet" in page
    assert "no winner" in page


def test_a_report_is_written_without_torch(finished: tuple[str, str]) -> None:
    """The web process writes it too, and loads neither torch nor ray."""
    code = (
        "import sys\n"
        "from api.reporting.contents import document\n"
        "from api.reporting.gather import gather\n"
        "from api.reporting.render import to_html\n"
        "from db import open_store\n"
        f"page = to_html(document(gather(open_store({finished[0]!r}), {finished[1]!r})))\n"
        "assert 'Relatives in the catalog' in page\n"
        "assert not {'torch', 'ray', 'workers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True,
                          text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
