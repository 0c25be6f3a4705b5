"""Every form of ``evosearch export``: the file is what the library gives, and says the layer."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import zipfile
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import pytest
import torch

from api.cli import run
from primitives.artefacts import BINARY, FILES, Format, artefact
from primitives.catalog import CATALOG
from primitives.formula import parse
from primitives.graph import Graph
from primitives.module import build_layer
from tests.support.skips import unavailable

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
NAME = "evonorm-b0"
GRAPH = CATALOG[NAME].graph
CHANNELS = 6
FORMS: tuple[Format, ...] = get_args(Format)


def exported(form: str, out: Path) -> bytes:
    """What the command writes."""
    assert run(["export", "--formula", NAME, "--format", form, "--channels", str(CHANNELS),
                "--out", str(out)]) == 0  # fmt: skip
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    return out.read_bytes()


def check_text(form: str, data: bytes) -> None:
    """The text is the library's, and is read as what it says."""
    assert data == artefact(GRAPH, form)  # type: ignore[arg-type]
    text = data.decode()
    if form == "python":
        space: dict[str, Any] = {"__name__": "layer"}
        exec(compile(text, "layer.py", "exec"), space)
        x = torch.randn(3, CHANNELS, 4, 5, generator=torch.manual_seed(0))
        torch.testing.assert_close(space["EvolvedLayer"](CHANNELS)(x), build(x, training=True))
    elif form == "json":
        assert Graph.from_json_text(text) == GRAPH
    elif form == "formula":
        assert parse(text) == GRAPH
    elif form in ("svg", "mathml"):
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("}svg" if form == "svg" else "}math")
    elif form == "dot":
        assert text.startswith("digraph")
        assert text.count("{") == text.count("}")
    else:
        assert form == "latex"
        assert text.startswith(r"\frac{x}{\max")


def build(x: torch.Tensor, training: bool) -> torch.Tensor:
    """What a fresh layer gives."""
    value: torch.Tensor = build_layer(GRAPH, CHANNELS).train(training)(x)
    return value


def check_program(form: str, data: bytes) -> None:
    """The program computes what a fresh layer does in evaluation mode, for any batch."""
    for shape in ((1, CHANNELS, 3, 7), (5, CHANNELS, 4, 4)):
        x = torch.randn(shape, generator=torch.manual_seed(1))
        if form == "onnx":
            import onnxruntime

            session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
            got = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
        else:
            got = torch.export.load(io.BytesIO(data)).module()(x)
        torch.testing.assert_close(got, build(x, training=False), rtol=1e-4, atol=1e-4)


def check_bundle(data: bytes) -> None:
    """Each member is what the command writes by itself; the sums are those of the members."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    left_out = json.loads(files["about.json"])["left_out"]
    assert files.keys() | left_out == {*FILES.values(), "about.json", "SHA256SUMS"}
    assert set(left_out) == (set() if ONNX else {"layer.onnx"})
    sums = dict(line.split("  ")[::-1] for line in files["SHA256SUMS"].decode().splitlines())
    assert sums.keys() == files.keys() - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256(files[name]).hexdigest() == digest
    for form, name in FILES.items():
        if name in files:
            (check_program if form in BINARY else check_text)(form, files[name])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_written_as_the_library_gives_it(form: str, tmp_path: Path) -> None:
    if form == "onnx" and not ONNX:
        unavailable("onnx, onnxscript and onnxruntime are not installed")
    data = exported(form, tmp_path / "layer.file")
    if form == "bundle":
        check_bundle(data)
    elif form in BINARY:
        check_program(form, data)
    else:
        check_text(form, data)


@pytest.mark.parametrize("form", FORMS)
def test_text_goes_to_the_terminal_and_nothing_else_does(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["export", "--formula", NAME, "--format", form])
    told = capsys.readouterr()
    if form in BINARY:
        assert code != 0
        assert told.out == ""
        assert f"{form} is no text" in told.err
    else:
        assert code == 0
        assert told.out.encode() == artefact(GRAPH, form)  # type: ignore[arg-type]


def test_the_forms_are_all_that_are_promised() -> None:
    assert {*FILES, "bundle"} == set(FORMS)
