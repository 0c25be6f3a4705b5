"""Layers of a search as files, over REST and from Python: every format, each with its story."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args
from xml.etree import ElementTree

import httpx
import pytest
import torch

from api.export import Format
from api.rest.candidates import MEDIA
from api.run_view import Candidate
from db.sql_store import SqlStore
from evosearch.members import Member
from primitives.artefacts import FILES
from primitives.digest import digest
from primitives.formula import parse
from primitives.graph import Graph
from tests.support.events import ANCHORS, CREATED, graph
from tests.support.service import running
from tests.support.standings import Story

NAME = "k3f9a1c2"
SCORES = dict(zip(ANCHORS, (0.8, 0.7, 0.6), strict=True))
ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
FORMATS = [
    pytest.param(form, marks=pytest.mark.skipif(not ONNX, reason="onnx is not installed"))
    if form == "onnx" else form
    for form in get_args(Format)
]  # fmt: skip


class Made(NamedTuple):
    http: httpx.Client
    candidate: Candidate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A service over a search in which 1 is the parent of 2, and 2 as Python has it."""
    folder: Path = tmp_path_factory.mktemp("exports")
    store = SqlStore(f"{folder}/store.db")
    story = Story(store, NAME)
    story.baselines()
    story.candidate([0.5, 0.5, 0.5])
    story.candidate(list(SCORES.values()), parents=(1,))
    story.flush()
    store.close()
    with (
        running(folder) as service,
        httpx.Client(base_url=service.url + "/api/v1", timeout=90) as client,
    ):
        yield Made(client, candidate())


def candidate() -> Candidate:
    """Candidate 2 as a search in this process has it."""
    members = {
        birth: Member(
            birth, graph(birth), "mutation", "", parents, audit=False, evaluated=True,
            scores={name: [score] for name, score in SCORES.items()},
        )
        for birth, parents in ((1, ()), (2, (1,)))
    }  # fmt: skip
    state: Any = SimpleNamespace(config=CREATED.config, members=members)
    return Candidate(state, 2)


def check_file(form: str, data: bytes, channels: int = 64) -> None:
    """It is what the format says, and says the candidate's layer."""
    wanted = graph(2)
    if form == "python":
        space: dict[str, Any] = {"__name__": "layer"}
        exec(compile(data, "layer", "exec"), space)
        layer = space["EvolvedLayer"](channels)
        assert layer(torch.randn(2, channels, 3, 3)).shape == (2, channels, 3, 3)
        assert f"\nDigest: {digest(wanted)}\n" in space["__doc__"]
        assert "\nCandidate: 2\n" in space["__doc__"]
        shown = ", ".join(f"{name} {score:.3f}" for name, score in SCORES.items())
        assert f"\nScores on select: {shown} (one seed, provisional)\n" in space["__doc__"]
    elif form == "json":
        assert Graph.from_json_text(data.decode()) == wanted
    elif form == "formula":
        assert digest(parse(data.decode())) == digest(wanted)
    elif form in ("svg", "mathml"):
        assert ElementTree.fromstring(data).tag.endswith({"mathml": "math"}.get(form, "svg"))
    elif form == "dot":
        assert data.startswith(b"digraph")
    elif form == "torch-export":
        program = torch.export.load(io.BytesIO(data)).module()
        assert program(torch.randn(5, channels, 4, 6)).shape == (5, channels, 4, 6)
    elif form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        (value,) = session.run(None, {"x": torch.randn(5, channels, 4, 6).numpy()})
        assert value.shape == (5, channels, 4, 6)
    elif form == "bundle":
        check_bundle(data)
    else:
        assert form == "latex"
        assert data.strip()


def check_bundle(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    about = json.loads(files["about.json"])
    assert about["candidate"] == 2
    assert about["scores on select"] == pytest.approx(SCORES)
    assert about["seeds of the scores"] == 1
    assert about["config"] == CREATED.config.model_dump(mode="json")
    assert about["seed of the search"] == CREATED.config.seed
    assert [one["birth"] for one in about["lineage"]] == [2, 1]
    assert [one["parents"] for one in about["lineage"]] == [[1], []]
    assert about["versions"]["torch"]
    missing = {} if ONNX else {"layer.onnx"}
    assert set(about["left_out"]) == set(missing)
    assert files.keys() == {*FILES.values(), "about.json", "SHA256SUMS"} - set(missing)
    for line in files["SHA256SUMS"].decode().splitlines():
        told, name = line.split("  ")
        assert hashlib.sha256(files[name]).hexdigest() == told


@pytest.mark.parametrize("form", FORMATS)
def test_rest_hands_out_every_format_with_its_media_type(made: Made, form: str) -> None:
    answer = made.http.get(
        f"/searches/{NAME}/candidates/2/export", params={"format": form, "channels": 6}
    )
    assert answer.status_code == 200, answer.text
    media, ending = MEDIA[form]
    assert answer.headers["content-type"].partition(";")[0] == media
    assert answer.headers["content-disposition"].endswith(f'.{ending}"')
    check_file(form, answer.content, 6)
    if form == "python":
        assert f"\nSearch: {NAME}\n" in answer.text
    again = made.http.get(
        f"/searches/{NAME}/candidates/2/export", params={"format": form, "channels": 6},
        headers={"If-None-Match": answer.headers["etag"]},
    )  # fmt: skip
    assert again.status_code == 304
    # What says scores is asked for anew, for these change.
    fixed = "max-age" in answer.headers["cache-control"]
    assert fixed is (form not in ("python", "bundle"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_typed_layer_comes_in_every_format(made: Made, form: str) -> None:
    body = {"formula": "evonorm-b0", "format": form, "channels": 6}
    answer = made.http.post("/layers/export", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].partition(";")[0] == MEDIA[form][0]
    assert answer.content


@pytest.mark.parametrize("channels", [0, -1, 5000, "many"])
def test_channels_that_are_no_number_of_channels_are_refused(made: Made, channels: Any) -> None:
    path = f"/searches/{NAME}/candidates/2/export"
    answer = made.http.get(path, params={"format": "onnx", "channels": channels})
    assert answer.status_code == 422
    body = {"formula": "evonorm-b0", "format": "onnx", "channels": channels}
    assert made.http.post("/layers/export", json=body).status_code == 422


@pytest.mark.parametrize("form", FORMATS)
def test_python_writes_every_format(made: Made, form: Any, tmp_path: Path) -> None:
    path = made.candidate.export(tmp_path / "layer.file", form, channels=6)
    check_file(form, path.read_bytes(), 6)
    assert [one.name for one in tmp_path.iterdir()] == ["layer.file"]


def test_parquet_and_csv_hold_the_same_numbers(made: Made) -> None:
    from pyarrow import parquet

    path = f"/searches/{NAME}/candidates"
    rows = list(csv.DictReader(io.StringIO(made.http.get(f"{path}.csv").text)))
    table = parquet.read_table(io.BytesIO(made.http.get(f"{path}.parquet").content))
    assert len(rows) == 2
    for name in ("step_time", "mean_score", "seconds", "birth", "seeds", "live_nodes"):
        told = [float(row[name]) for row in rows]
        assert told == table.column(name).to_pylist(), name
    assert [float(row["step_time"]) for row in rows] == pytest.approx([0.7, 0.7])
