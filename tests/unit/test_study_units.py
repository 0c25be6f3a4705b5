"""Reports show values in the objective's unit and with its direction, never internal scores."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from api.reporting.blocks import Table
from api.reporting.studies import LEADER, Study, Trial
from api.reporting.study_tables import study_section
from api.reporting.winners_curve import Point, picture
from evosearch.config import Anchor, Task
from evosearch.objectives import ACCURACY, Objective
from evosearch.records import Job, Run, Subject
from primitives.formula import parse
from primitives.knock_out import knock_outs

BITS = Objective("bpc", "min", "bit/char", worst=8.0)
SHARE = Objective("miou", "max", "%", worst=0.0)
SEEDS = (11, 12)


def trial(row: tuple[str, ...], layer: str, goal: Objective | None) -> Trial:
    """A trial whose anchor is measured in that objective; None: it names none."""
    task = Task(dataset="d", anchors=(Anchor(name="a", objectives=(goal,) if goal else ()),))
    jobs = tuple(
        Job(id=f"{row}{layer}{seed}", purpose="confirm", subject=Subject(baseline="x"), graph=None,
            task=task, runs=(Run(anchor="a", seed=seed, learning_rate=0.1),))
        for seed in SEEDS
    )  # fmt: skip
    return Trial(row, layer, jobs)


def scored(study: Study, row: tuple[str, ...], layer: str, *values: float) -> None:
    for seed, value in zip(SEEDS, values, strict=True):
        study.scores[row, layer][seed]["a"] = value


def table(study: Study) -> Table:
    (found,) = study_section(study).blocks
    assert isinstance(found, Table)
    return found


def drawn(svg: str) -> list[str]:
    return [str(one.text) for one in ElementTree.fromstring(svg).iter() if one.tag.endswith("text")]


@pytest.mark.parametrize(
    ("goal", "scores", "head", "cells"),
    [
        (BITS, (-1.93, -1.95), "score bpc bit/char (lower)", ("1.930", "1.950", "+0.020")),
        (SHARE, (0.5, 0.45), "score miou % (higher)", ("50.000", "45.000", "-5.000")),
        (None, (0.5, 0.45), "score", ("0.500", "0.450", "-0.050")),
    ],
)
def test_a_knock_out_shows_values(
    goal: Objective | None, scores: tuple[float, float], head: str, cells: tuple[str, ...]
) -> None:
    part = next(one for one in knock_outs(parse("x * sigmoid(v1 * x)")) if one.fault is None)
    rows = ("nothing", ""), (part.node, part.by)
    study = Study("knock-out", ("node", "replaced by"), [trial(row, LEADER, goal) for row in rows])
    study.parts[rows[1]] = part
    for row, value in zip(rows, scores, strict=True):
        scored(study, row, LEADER, value, value)
    found = table(study)
    assert found.head[3] == head
    assert (found.rows[0][3], found.rows[1][3]) == cells[:2]
    assert found.rows[1][4] == f"{cells[2]} [{cells[2]}, {cells[2]}]"
    assert found.rows[1][4] in drawn(found.svg)
    assert "of the study's own" in found.caption


def test_a_lower_value_beats_the_rivals_and_its_interval_has_its_ends_in_order() -> None:
    row = ("x 1", "64", "0.1")
    study = Study("robustness", ("depth", "batch size", "learning rate"),
                  [trial(row, name, BITS) for name in (LEADER, "gelu", "relu")])  # fmt: skip
    scored(study, row, LEADER, -1.8, -1.9)
    scored(study, row, "gelu", -2.0, -2.0)
    scored(study, row, "relu", -2.5, -2.5)
    found = table(study)
    (cells,) = found.rows
    assert found.head[3] == "values are"
    assert cells[3:8] == ("bpc, bit/char, lower is better", "1.850", "2.000", "2.500", "gelu")
    value, low, high = map(float, re.findall(r"[-+]?\d+\.\d+", cells[8]))
    assert low < value == -0.15 < high
    assert cells[8] in drawn(found.svg)


def test_rows_in_several_units_each_say_theirs() -> None:
    study = Study("transfer", ("data set", "anchor"),
                  [trial(("d", row), name, goal) for row, goal in (("own", SHARE), ("b", None))
                   for name in (LEADER, "relu")])  # fmt: skip
    for row in (("d", "own"), ("d", "b")):
        scored(study, row, LEADER, 0.5, 0.5)
        scored(study, row, "relu", 0.4, 0.4)
    own, plain = table(study).rows
    assert own[2:5] == ("miou, %, higher is better", "50.000", "40.000")
    assert plain[2:5] == ("accuracy, higher is better", "0.500", "0.400")


def test_accuracies_need_no_column_of_units() -> None:
    row = ("d", "a")
    study = Study("transfer", ("data set", "anchor"),
                  [trial(row, name, None) for name in (LEADER, "relu")])  # fmt: skip
    assert table(study).head == ("data set", "anchor", LEADER, "relu", "better rival",
                                 "leader minus it")  # fmt: skip


def test_the_winners_curve_shows_values_and_worse_ones_stay_to_the_left_and_below() -> None:
    found = [Point(str(k), "candidate", -1.9, -2.0 - 0.02 * k, 0.01, 3) for k in range(3)]
    made = picture(found, BITS)
    assert made.data is not None
    assert made.data.head[2] == "search score bpc bit/char (lower)"
    assert made.data.rows[0][2:6] == ("1.9000", "2.0000", "0.0100", "3")
    assert "candidates changed by +0.120 [" in made.caption
    texts = [one for one in ElementTree.fromstring(made.svg).iter() if one.tag.endswith("text")]
    below = [one for one in texts if one.get("text-anchor") == "middle"]
    ticks = {
        float(str(one.text)): float(str(one.get("x"))) for one in below
        if re.fullmatch(r"[\d.]+", str(one.text))
    }  # fmt: skip
    assert len(ticks) >= 3
    assert sorted(ticks, key=ticks.__getitem__) == sorted(ticks, reverse=True)
    assert "-" not in "".join(str(one.text) for one in texts)
    plain = picture([Point("1", "candidate", 0.9, 0.8, 0.01, 3)], ACCURACY)
    assert plain.data is not None
    assert plain.data.head[2] == "search score"
    assert plain.data.rows[0][2:5] == ("0.9000", "0.8000", "0.0100")
