"""A search with a primitive of a user's own, looked back on by processes that never loaded it."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from api.rerun import Number, stored_numbers
from db import open_store
from evosearch.errors import ConfigError
from evosearch.plugins import read_source
from tests.acceptance.command import TINY, environment, evosearch, inside

ROW = """
import numpy as np
import evosearch as es

es.primitive(es.Primitive(
    "arsinh", 1, "torch.asinh(a)", "sympy.asinh(a)", "arsinh({a})",
    forward=lambda a, eps: np.arcsinh(a), vjp=lambda g, y, a, eps: (g / np.sqrt(1.0 + a * a),),
    properties=frozenset({"odd"}), cost=10,
))
"""
TEXT = ROW + "# of these tests alone, whatever else this process has loaded\n"
DRAWN = '--set=space.primitives=["arsinh"]'
START = (
    "search", "start", "quickstart", "--pool", "inline", *TINY, "--plugin", "row.py", DRAWN,
    "--set", 'space.start_from=["arsinh(x)"]', "--set", "checks.signal.enabled=false",
    "--set", "budget.evaluations=1",
)  # fmt: skip
UNCONFIRMED = ("--set", "confirmation.enabled=false")
RERANK = (
    "--top", "1", "--steps", "4", "--seeds", "2", "--rates", "0.2", "--no-transfer",
    "--pool", "inline",
)  # fmt: skip
SELECT, OUT = ("--split", "select"), ("--out", "again.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and id of a search and a re-ranking of it, with a script of one number.

    The folder was moved since: where the plug-in was found first there is none.
    """
    before = tmp_path_factory.mktemp("before")
    folder = before.with_name("own-folder")
    (before / "row.py").write_text(TEXT)
    search = ""
    for command in (START, ("rerank", "ID", *RERANK), ("rerun", "ID-0", *SELECT, *OUT)):
        done = inside(before, *(word.replace("ID", search) for word in command))
        assert done.returncode == 0, done.stderr
        search = search_in(before)
    before.rename(folder)
    return folder, search


def search_in(folder: Path) -> str:
    store = open_store(str(folder / "evosearch.db"))
    try:
        return store.searches()[0].id
    finally:
        store.close()


def again(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, called from another folder."""
    return subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment(), capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture
def home(made: tuple[Path, str], tmp_path: Path) -> Path:
    """A folder with the script and nothing else."""
    (tmp_path / "home").mkdir()
    (tmp_path / "away").mkdir()
    shutil.copy(made[0] / "again.py", tmp_path / "home")
    return tmp_path / "home"


def test_the_script_needs_the_plugin_beside_it_and_no_database(home: Path) -> None:
    (home / "row.py").write_text(TEXT)
    told = (home / "again.py").read_text()
    assert "this file, row.py beside it with what it imports of yours and the data set" in told
    done = again(home / "again.py", home.parent / "away")
    assert done.returncode == 0, done.stderr
    assert "arsinh(x)" in done.stdout
    assert done.stdout.endswith("the same score\n")


def test_without_the_plugin_it_says_what_to_do(home: Path) -> None:
    done = again(home / "again.py", home.parent / "away")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("evosearch: the plug-in row.py is not here; expected sha256 ")
    assert f"nothing in {home}/row.py, " in done.stderr
    assert f"put it in {home} with what it imports of yours, or name its" in done.stderr


def test_another_version_of_the_plugin_is_refused(home: Path) -> None:
    (home / "row.py").write_text(TEXT + "# changed\n")
    done = again(home / "again.py", home.parent / "away")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{home}/row.py: the plug-in row.py has changed since the search was made" in done.stderr
    assert done.stderr.endswith("the number was trained with the old text: bring that back\n")


def test_a_primitive_that_nobody_brings_is_no_number(made: tuple[Path, str]) -> None:
    store = open_store(str(made[0] / "evosearch.db"))
    data = stored_numbers(store, f"{made[1]}-0")[0].to_data()
    store.close()
    assert Number.from_data(data).to_data() == data
    (node,) = data["job"]["graph"]["nodes"]
    node["op"] = "arsinhh"
    with pytest.raises(ConfigError, match=r"no number of a search.*unknown primitive 'arsinhh'"):
        Number.from_data(data)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("rerun", "ID-0", *SELECT), "the same score"),
        (("export", "ID-0"), "torch.asinh("),
        (("search", "replay", "ID"), "are the same"),
        (("search", "report", "ID"), "arsinh(x)"),
    ],
)  # fmt: skip
def test_a_command_loads_the_plugin(
    made: tuple[Path, str], command: tuple[str, ...], words: str
) -> None:
    folder, search = made
    done = evosearch(folder, *(word.replace("ID", search) for word in command))
    assert done.returncode == 0, done.stderr
    assert words in done.stdout


def test_a_primitive_that_is_not_drawn_may_stand_in_layers_to_start_from(tmp_path: Path) -> None:
    (tmp_path / "row.py").write_text(TEXT)
    done = inside(tmp_path, *(word for word in START if word != DRAWN), *UNCONFIRMED)
    assert done.returncode == 0, done.stderr
    search = search_in(tmp_path)
    for command in (("export", f"{search}-0", "--format", "formula"), ("search", "front", search)):
        done = evosearch(tmp_path, *command)
        assert done.returncode == 0, done.stderr
        assert "arsinh(x)" in done.stdout


def test_a_report_has_numbers_of_its_rerankings_that_come_out_again(
    made: tuple[Path, str], tmp_path: Path
) -> None:
    folder, search = made
    out = ("--out", str(tmp_path / "report.md"), "--parts", str(tmp_path))
    done = evosearch(folder, "report", search, *out)
    assert done.returncode == 0, done.stderr
    assert "arsinh(x)" in (tmp_path / "report.md").read_text()
    rows = [*csv.reader((tmp_path / "numbers.csv").read_text().splitlines())]
    reread = [row for row in rows if row[0] == "c0" and row[1].startswith("re-ranking ")]
    assert len(reread) == 2  # seeds
    *_, value, command = reread[0]
    done = evosearch(folder, *command.split()[1:])
    assert done.returncode == 0, done.stderr
    assert "the same score" in done.stdout
    assert f"{float(done.stdout.split('accuracy')[1].split()[1]):.4f}" == value


WORKER = """
import json, sys
from workers.ray_actor import Worker
asked = json.load(sys.stdin)
settings = {"nice": 0, "data_dir": "", "device": "cpu", "checkpoints": None, "gpu_share": 0.0,
            "gpu_memory_share": 0.0, "memory_limit": None}
*_, last = Worker("w", settings).run(1, asked["job"], asked["sources"])
print(last)
"""
TRIAL = """
import json, sys
from workers.rerank_tune import Trial
asked = json.load(sys.stdin)
trial = object.__new__(Trial)
trial.setup({"place": 0}, work=[asked["job"]], rungs=[3, 6], sources=asked["sources"])
print(json.dumps(trial.step()))
"""


@pytest.mark.parametrize("worker", [WORKER, TRIAL])
@pytest.mark.parametrize("sent", [True, False])
def test_a_worker_whose_first_job_has_the_primitive_trains_it(
    made: tuple[Path, str], tmp_path: Path, worker: str, sent: bool
) -> None:
    """Jobs go to Ray's processes as text; one that cannot have the plug-in says so."""
    folder, search = made
    store = open_store(str(folder / "evosearch.db"))
    job = stored_numbers(store, f"{search}-0")[0].job
    store.close()
    sources = [read_source(str(folder / "row.py")).to_json()] if sent else []
    asked = json.dumps({"job": job.model_dump_json(), "sources": sources})
    done = subprocess.run(
        [sys.executable, "-c", worker], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, timeout=120, input=asked,
    )  # fmt: skip
    if worker is TRIAL and not sent:
        assert "PluginError: the plug-in row.py is not here" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    if worker is TRIAL:
        assert (told["trained_to"], told["done"]) == (3, False)
    elif sent:
        assert told["failure"] is None
    else:
        assert told["failure"]["cause"] == "error"
        assert "the plug-in row.py is not here" in told["failure"]["detail"]
