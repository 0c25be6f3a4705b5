"""The README's curl lines and its Python example, as printed, against a real service.

The trainings are simulated, so that each preset runs to its end; nothing else is changed but the
address, the ids that the reader fills in, and the size of the search.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.offers import offers
from db.controllers import Controllers
from db.sql_store import SqlStore
from evosearch.presets import preset_names
from tests.acceptance.command import ROOT, environment
from tests.support.service import running
from tests.support.skips import unavailable

README = (ROOT / "README.md").read_text(encoding="utf-8")
REST = (ROOT / "docs" / "rest.md").read_text(encoding="utf-8")


def curls(text: str) -> list[list[str]]:
    """Words of a page's curl lines."""
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    return [
        shlex.split(line, comments=True)
        for block in blocks for line in block.splitlines() if line.startswith("curl ")
    ]  # fmt: skip


LINES = curls(README)
STEERS = ("/enqueue", "/extend", "/pause", "/resume", "/stop")
SMALL: dict[str, Any] = {
    "budget.evaluations": 3, "confirmation.resamples": 50, "confirmation.final_seeds": 3,
    "confirmation.top": 2, "evolution.choose_of": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service whose controller offers what this installation has; its workers are simulated."""
    folder: Path = tmp_path_factory.mktemp("readme")
    database = f"sqlite:///{folder}/store.db"
    store = SqlStore(database)
    Controllers(store).register("first", "here", 1, "inline", offers())
    store.close()
    command = [sys.executable, "-m", "tests.support.simulated_controller", database, "me", "0"]
    with running(folder) as service:
        controller = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE)
        try:
            yield service.url
        finally:
            controller.terminate()
            controller.communicate(timeout=60)


def curl(words: list[str], folder: Path) -> str:
    if shutil.which("curl") is None:
        unavailable("curl is not installed")
    done = subprocess.run(
        [*words, "--max-time", "120", "--fail-with-body"], cwd=folder, capture_output=True,
        text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def small(text: str, preset: str) -> str:
    body = json.loads(text) | {"preset": preset, "overrides": SMALL}
    return json.dumps(body)


@pytest.mark.parametrize("preset", preset_names())
def test_each_preset_is_created_watched_and_exported_with_curl_alone(
    preset: str, url: str, tmp_path: Path
) -> None:
    assert len(LINES) == 5
    known = {"localhost:8642": url.removeprefix("http://"), "monday": f"monday-{preset}"}
    told = ""
    for words in LINES:
        filled = []
        for word in words:
            for old, new in known.items():
                word = re.sub(rf"(?<![\w]){re.escape(old)}(?![\w])", new, word)
            filled.append(small(word, preset) if word.startswith("{") else word)
        told = curl(filled, tmp_path)
        if filled[2].endswith("/dry-run"):
            assert json.loads(told)["evaluations"] >= 3
        elif filled[2].endswith("/searches"):
            known["ID"] = json.loads(told)["id"]
        elif filled[2].endswith("until=end"):
            events = [json.loads(one[6:]) for one in told.splitlines() if one.startswith("data: ")]
            assert [one["seq"] for one in events] == list(range(1, len(events) + 1))
            assert events[-1]["event"]["status"] == "finished"
        elif filled[2].endswith("/front"):
            known["BIRTH"] = str(json.loads(told)["candidates"][0]["birth"])
    assert "class EvolvedLayer" in (tmp_path / "layer.py").read_text()


def test_every_line_of_the_rest_page_is_answered(url: str, tmp_path: Path) -> None:
    """In the page's order; steering comes too late for so small a search, and is told so."""
    known = {"localhost:8642": url.removeprefix("http://")}
    lines = curls(REST)
    assert len(lines) == REST.count("\ncurl ") > 10
    for words in lines:
        filled = []
        for word in words:
            for old, new in known.items():
                word = re.sub(rf"(?<![\w]){re.escape(old)}(?![\w])", new, word)
            filled.append(small(word, "quickstart") if '"preset"' in word else word)
        address = next(word for word in filled if "/api/v1" in word)
        if address.endswith(STEERS) or "PATCH" in filled:
            code = ["-o", "answer.json", "-w", "%{http_code}"]
            done = subprocess.run([*filled, *code], cwd=tmp_path, capture_output=True, text=True,
                                  check=True)  # fmt: skip
            assert done.stdout in ("202", "409"), (words, (tmp_path / "answer.json").read_text())
            continue
        told = curl(filled, tmp_path)
        if address.endswith("/searches"):
            known["ID"] = json.loads(told)["id"]
        elif address.endswith("/front"):
            known["BIRTH"] = str(json.loads(told)["candidates"][0]["birth"])
        elif address.endswith(("/anchors", "/datasets")):
            assert json.loads(told)
    assert "class EvolvedLayer" in (tmp_path / "layer.py").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/rest.md"])
def test_the_python_example_runs(page: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (code,) = (
        one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Client" in one
    )
    filled = code.replace("http://localhost:8642", url).replace(
        '"quickstart",', f'"quickstart", overrides={SMALL!r},'
    )
    assert filled.count(url) == 1
    assert "overrides" in filled
    names: dict[str, Any] = {}
    exec(compile(filled, "README.md", "exec"), names)
    import torch

    assert names["layer"](torch.ones(2, 64, 4, 4)).shape == (2, 64, 4, 4)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "1 created"
    assert printed[-1].endswith("status_changed")
