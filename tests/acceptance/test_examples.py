"""The examples of the documentation run, tiny, from a folder of their own, and are short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

from api.anchor_check import check_anchor
from tests.acceptance.command import ROOT, environment
from tests.benchmarks.study_examples import sizes
from tests.support.forked import forked

EXAMPLES = ROOT / "docs" / "examples"
OWN = ("segmentation", "char_transformer", "tabular_mlp")


def run(folder: Path, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, code, *arguments], cwd=folder,
        env=environment() | {"EVOSEARCH_EXAMPLE": "small"}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", OWN)
def test_an_example_searches_and_says_what_came_of_it(tmp_path: Path, name: str) -> None:
    file = EXAMPLES / f"{name}.py"
    assert len(file.read_text().splitlines()) < 80
    lines = run(tmp_path, str(file), "2", "6").strip().splitlines()
    assert lines[-1].startswith(("better: ", "not better: "))
    assert (tmp_path / "evosearch.db").exists()


@pytest.mark.parametrize("name", OWN)
def test_an_example_passes_its_check(name: str) -> None:
    found = check_anchor(str(EXAMPLES / f"{name}.py"), seeds=1, steps=3, start=forked)
    assert found.error == ""
    assert found.failed == []


def test_the_notebook_runs_in_a_kernel_with_its_displays(tmp_path: Path) -> None:
    """A real IPython kernel: the value of a cell is shown in its richest form, and once."""
    book = jupytext.read(EXAMPLES / "notebook.py", fmt="py:percent")
    NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute(env=environment() | {"EVOSEARCH_EXAMPLE": "small"})
    searched, plotted, led, told = [
        cell.outputs for cell in book.cells if cell.cell_type == "code" and cell.outputs
    ]
    progress, front = (one.data["text/html"] for one in searched)
    assert "6 of 6 evaluated" in progress
    assert "spread" in front
    figure = plotted[0].data["application/vnd.plotly.v1+json"]
    assert [trace["name"] for trace in figure["data"]][:3] == ["evaluated", "front", "leader"]
    assert "<svg" in led[0].data["text/html"]
    assert told[0].text.lstrip().startswith("funnel")
    assert "Figure" in told[-1].data["text/plain"]


def test_the_study_of_the_examples_records_what_each_verdict_was(tmp_path: Path) -> None:
    """Tiny; what they come to at their own size is in the committed results."""
    command = [sys.executable, "-m", "tests.benchmarks.study_examples", "--examples", "tabular_mlp",
               "--seeds", "1", "--evaluations", "2", "--steps", "6", "--folder",
               str(tmp_path)]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (one,) = json.loads((tmp_path / "examples.json").read_text())["searches"]["tabular_mlp"]
    assert one["verdict"].startswith("better: " if one["better"] else "not better: ")
    assert (one["evaluations"], one["steps"]) == (2, 6)
    assert all(sizes(name)[0] >= 60 for name in OWN)
