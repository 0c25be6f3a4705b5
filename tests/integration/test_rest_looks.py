"""What the page of a candidate shows, and of a layer that is typed."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from api.layer_curves import BATCHES, response_curves
from api.layer_difference import node_changes, text_difference
from api.layer_drawing import drawing_of
from db.sql_store import SqlStore
from primitives.catalog import CATALOG
from primitives.formula import parse
from primitives.graph import Graph, Node
from primitives.properties import properties
from primitives.structure import analyse
from tests.support.events import ANCHORS, graph
from tests.support.service import running
from tests.support.standings import BASELINES, Story

NAME = "k3f9a1c2"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service over a search with a small family: 1 is the parent of 2, 2 of 3 and 4."""
    folder: Path = tmp_path_factory.mktemp("looks")
    store = SqlStore(f"{folder}/store.db")
    story = Story(store, NAME)
    story.baselines()
    story.candidate([0.5, 0.5, 0.5])
    story.candidate([0.8, 0.7, 0.6], parents=(1,))
    story.candidate([0.4, 0.5, 0.3], parents=(2,))
    story.candidate([0.7, 0.6, 0.6], parents=(2,))
    story.others(1)
    story.flush()
    store.close()
    with (
        running(folder) as service,
        httpx.Client(base_url=service.url + "/api/v1", timeout=90) as client,
    ):
        yield client


def of(http: httpx.Client, birth: int, path: str) -> Any:
    """What the service says of a candidate."""
    answer = http.get(f"/searches/{NAME}/candidates/{birth}/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_candidate_is_shown_whole(http: httpx.Client) -> None:
    found = of(http, 2, "about")
    assert parse(found["formula"]) is not None
    assert found["mathml"].startswith("<math")
    assert (found["rank"], found["evaluated"], found["gain_seeds"]) == (1, 4, 1)
    better = np.mean([max(scores[k] for scores in BASELINES.values()) + 0.01 for k in range(3)])
    assert found["gain"]["value"] == pytest.approx(0.7 - better)
    assert [one["anchor"] for one in found["anchors"]] == list(ANCHORS)
    assert found["behaviour"]["live_nodes"] == analyse(graph(2)).live_nodes
    assert [one["scores"] for one in found["scores"]] == [[0.8], [0.7], [0.6]]
    assert found["step_time"] == pytest.approx(0.7)
    rejected = of(http, 5, "about")
    assert (rejected["gain"], rejected["rank"], rejected["anchors"]) == (None, None, [])
    assert rejected["verdict"]["reason"].startswith("signal.loss")


def test_every_format_has_lines_that_are_right(http: httpx.Client) -> None:
    usage = {one["format"]: one for one in of(http, 2, "about")["usage"]}
    assert len(usage) == 10
    for one in usage.values():
        if one["language"] == "python":
            ast.parse(one["snippet"])
        assert "{" not in one["file"]
    answer = http.get(f"/searches/{NAME}/candidates/2/export", params={"format": "python"})
    assert f'filename="{usage["python"]["file"]}"' in answer.headers["content-disposition"]
    assert Path(usage["python"]["file"]).stem in usage["python"]["snippet"]
    space: dict[str, Any] = {}
    exec(usage["formula"]["snippet"], space)  # our own text, as a reader would paste it
    assert sum(one.numel() for one in space["layer"].parameters()) >= 128


def test_trainings_stand_beside_the_baselines(http: httpx.Client) -> None:
    found = of(http, 2, "trainings")
    mine = [one for one in found["curves"] if not one["baseline"]]
    theirs = {(one["label"], one["anchor"]) for one in found["curves"] if one["baseline"]}
    assert [one["score"] for one in mine] == [0.8, 0.7, 0.6]
    assert theirs == {(name, anchor) for name in ("BN-ReLU", "BN-SiLU") for anchor in ANCHORS}
    assert all(len(one["steps"]) == len(one["losses"]) for one in found["curves"])


def test_a_family_shows_what_changed(http: httpx.Client) -> None:
    found = of(http, 2, "family")
    assert [one["birth"] for one in found["parents"]] == [1]
    assert [one["birth"] for one in found["children"]] == [4, 3]  # the better one first
    parent = found["parents"][0]
    assert "".join(part["text"] for part in parent["after"]) == of(http, 2, "about")["formula"]
    assert parent["changes"] == [
        {"node": index, "before": one, "after": other}
        for index, one, other in node_changes(graph(1), graph(2))
    ]
    assert len(of(http, 2, "family?children=1")["children"]) == 1


def test_response_curves_come_from_the_helper(http: httpx.Client) -> None:
    assert of(http, 2, "response") == json.loads(json.dumps(response_curves(graph(2))))
    first = http.get(f"/searches/{NAME}/candidates/2/response")
    again = http.get(first.request.url, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_a_typed_layer_is_looked_at_without_running_it(http: httpx.Client) -> None:
    asked = {"formula": "x * sigmoid(v1 * x) / std_group(x)", "checks": False}
    found = http.post("/layers/check", json=asked).json()
    assert (found["checks"], found["facts"], found["curves"]) == ([], {}, None)
    assert found["known_as"] == "evonorm-s0"
    assert "<msub><mi>std</mi><mi>group</mi></msub>" in found["mathml"]
    assert (
        found["behaviour"]["bytes_moved"]
        == properties(parse("x * sigmoid(v1 * x) / std_group(x)")).bytes_moved
    )
    curves = http.post("/layers/check", json=asked | {"curves": True}).json()["curves"]
    assert [(one["mean"], one["deviation"]) for one in curves["curves"]] == list(BATCHES)


@pytest.mark.parametrize("name", ["bn-relu", "evonorm-b0", "evonorm-s0"])
def test_curves_have_the_slope_of_their_output(name: str) -> None:
    found = response_curves(CATALOG[name].graph)
    x = np.array(found["x"])
    for curve in found["curves"]:
        output, gradient = np.array(curve["output"]), np.array(curve["gradient"])
        slope = np.gradient(output, x)
        smooth = np.abs(np.diff(gradient, prepend=gradient[0], append=gradient[-1])[1:]) < 0.05
        smooth &= np.roll(smooth, 1)
        assert smooth.sum() > 60
        assert np.abs(slope - gradient)[smooth].max() < 0.03


def test_relu_of_a_normalised_batch_looks_like_it() -> None:
    found = response_curves(CATALOG["bn-relu"].graph)
    wide = next(c for c in found["curves"] if (c["mean"], c["deviation"]) == (0.0, 3.0))
    assert max(wide["output"][:48]) == pytest.approx(0.0, abs=0.02)
    assert wide["output"][-1] == pytest.approx(6 / 3, rel=0.1)


def test_a_drawing_has_dead_nodes_and_shapes() -> None:
    nodes = (Node("std", (0,), "batch"), Node("tanh", (0,)), Node("div", (0, 4)))
    drawn = drawing_of(Graph(nodes))
    by_id = {one["id"]: one for one in drawn["nodes"]}
    assert set(by_id) == {0, 4, 5, 6}
    assert (by_id[4]["kind"], by_id[4]["shape"]) == ("aggregation", "1×C×1×1")
    assert (by_id[5]["live"], by_id[6]["live"], by_id[6]["output"]) == (False, True, True)
    assert by_id[0]["shape"] == by_id[6]["shape"] == "N×C×H×W"
    assert [one["side"] for one in drawn["edges"]] == ["", "", "L", "R"]
    for one in drawn["edges"]:
        assert by_id[one["source"]]["level"] < by_id[one["target"]]["level"]
    places = [(one["level"], one["column"]) for one in drawn["nodes"]]
    assert len(set(places)) == len(places)


def test_differences_keep_both_texts() -> None:
    before, after = "x / std_batch(x)", "x * rms_group(x)"
    left, right = text_difference(before, after)
    assert "".join(text for text, _ in left) == before
    assert "".join(text for text, _ in right) == after
    assert [text for text, changed in right if changed] == ["*", "rms_group"]
    assert text_difference(before, before) == ([(before, False)], [(before, False)])
    huge = "x + " * 700 + "x"
    assert text_difference(huge, before)[0] == [(huge, True)]
