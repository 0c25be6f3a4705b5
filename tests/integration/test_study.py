"""What looks back on a finished search: numbers trained again, and its report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from api.cli import run
from api.rerun import Number, matching, retrain, script_of, stored_numbers
from db import open_store
from evosearch.errors import ConfigError, NotFound
from tests.acceptance.command import environment, start_tiny


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Database URL and id of a tiny search that has run to its end, baselines and all."""
    folder = tmp_path_factory.mktemp("study")
    url = f"sqlite:///{folder}/evosearch.db"
    extra = ["--set", 'baselines=["bn-relu", "gn-silu"]', "--out", str(folder / "leader.py")]
    assert run([*start_tiny(4), *extra, "--db", url]) == 0
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
