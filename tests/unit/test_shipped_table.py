"""The table that comes with the package is whole, of today's quickstart, and answers searches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evosearch.presets import load_preset
from evosearch.records import Job, Run, Subject
from primitives.catalog import CATALOG
from tests.benchmarks import study_table
from workers.evaluate import Context
from workers.layers import layer_factory
from workers.table.figures import figures
from workers.table.form import SHIPPED, Table

FIGURES = Path(__file__).parents[1] / "benchmarks" / "results" / "table_figures.json"


@pytest.fixture(scope="module")
def shipped() -> Table:
    return study_table._loaded(str(SHIPPED))  # which the searches below read too


def test_it_is_whole_and_of_the_quickstart_as_it_is_now(shipped: Table) -> None:
    assert shipped.complete
    now, then = load_preset("quickstart"), shipped.header.config
    assert then.task == now.task
    assert then.checks.signal == now.checks.signal
    assert then.checks.quality == now.checks.quality
    assert {*now.baselines} <= {*shipped.header.baselines}
    assert len(shipped.header.seeds) == 5
    for name in ("relu-rms-batch", "power-norm", "squared-relu"):
        assert shipped.find(CATALOG[name].graph) is not None


def test_its_page_tells_what_it_holds(shipped: Table) -> None:
    assert json.loads(json.dumps(figures(shipped))) == json.loads(FIGURES.read_text())


def test_a_training_gives_what_it_holds(shipped: Table) -> None:
    """Up to what another processor rounds otherwise."""
    config, seed = shipped.header.config, shipped.header.seeds[1]
    graph = CATALOG["relu-rms-batch"].graph
    row = shipped.find(graph)
    assert row is not None
    run = Run(anchor="resnet", seed=seed, learning_rate=config.task.learning_rate)
    job = Job(
        id="row", purpose="search", subject=Subject(birth=0), graph=graph, runs=(run,),
        task=config.task,
    )  # fmt: skip
    training = Context(device="cpu").training(run, config.task, layer_factory(job))
    training.advance(40)
    stored = shipped.rows[row].runs[1][0]
    assert training.score("select").accuracy == pytest.approx(stored.scores[40], abs=0.06)
    assert training.curve[0] == pytest.approx(stored.curve[0], rel=1e-3)


def test_searches_on_it_differ_by_what_they_do(shipped: Table) -> None:
    options = {"steps": 3000, "workers": 1, "held_out": 2, "set": []}
    rows = {
        variant: study_table.search((str(SHIPPED), variant, 1, options))
        for variant in ("default", "random with hurdles")
    }
    for row in rows.values():
        assert row["outside"] == 0
        assert row["steps"] >= 3000
        assert row["evaluated"] > 0
        assert np.isfinite([point[2] for point in row["path"]]).all()
    assert rows["default"]["path"] != rows["random with hurdles"]["path"]
