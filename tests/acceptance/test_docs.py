"""The documentation holds: every page's snippets run, links lead somewhere, nothing is left out."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from api.cli import run
from docs.make_reference import TARGET
from tests.acceptance.command import ROOT, TINY, environment

PAGES = ("concepts", "your-network", "proxy", "report", "primitives", "faq", "table")
WITH_PYTHON = ("concepts", "your-network", "report", "primitives")
WITH_COMMANDS = ("your-network", "proxy", "report", "primitives", "table")
SMALL = """
import api.run
_search = api.run.search
def small(*args, **kwargs):
    settings = {"task.steps": 4, "task.batch_size": 16, "checks.stability.steps": 1,
                "checks.quality.accuracy": -9.0, "confirmation.top": 1, "confirmation.seeds": 1,
                "confirmation.tune_seeds": 1, "confirmation.final_seeds": 3,
                "confirmation.learning_rates": [0.2]}
    kwargs |= {"budget": 2, "show": False, "settings": settings | kwargs.get("settings", {})}
    return _search(*args, **kwargs)
api.run.search = small
_extend = api.run.Run.extend
api.run.Run.extend = lambda self, evaluations, enqueue=(): _extend(self, 1, enqueue)
"""
EXTRA = {
    ("search", "start", "--dry-run"): (),
    ("search", "start"): ("--pool", "inline", *TINY, "--set", "budget.evaluations=2"),
    ("anchor", "check"): ("--seeds", "1", "--steps", "4"),
    ("preset", "calibrate"): ("--pool", "inline", "--set", "task.steps=3", "--set",
                              'task.anchors=[{name="resnet", width=4}]', "--set",
                              "checks.quality.steps=2"),
    ("bench", "table", "build"): ("--limit", "2", "--seeds", "1", "--live", "2", *TINY),
}  # fmt: skip


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / "docs" / f"{name}.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_the_pages_python_runs(tmp_path: Path, name: str) -> None:
    code = blocks(name, "python")
    assert code
    (tmp_path / "page.py").write_text("\n".join(code))
    (tmp_path / "small.py").write_text(
        SMALL + "import runpy\nrunpy.run_path('page.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "small.py"], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_the_pages_commands_run(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which has torch loaded; that commands start by themselves others test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVOSEARCH_DB", raising=False)
    shutil.copy(ROOT / "tests" / "support" / "my_task.py", tmp_path)
    lines = [line for block in blocks(name, "bash") for line in block.splitlines() if line]
    assert lines
    for line in lines:
        program, *words = shlex.split(line, comments=True)
        assert program == "evosearch"
        extra = next((more for start, more in EXTRA.items() if set(start) <= set(words)), ())
        assert run([*words, *extra]) == 0, line


def test_the_reference_is_what_the_code_says() -> None:
    # A process of its own: plug-ins of other tests would be in it.
    command = [sys.executable, "-c", "from docs.make_reference import page; print(page(), end='')"]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert TARGET.read_text() == told, "run: make reference"


def test_the_reference_names_what_there_is() -> None:
    text = TARGET.read_text()
    words = ("evosearch search diff A B", "`task.steps`", "`EVOSEARCH_PLUGINS`", "`too_slow`",
             "`GET /api/v1/searches`", "`sigmoid`", "`evosearch.evaluator`")  # fmt: skip
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("name", [*PAGES, "layers", "glossary", "deploy"])
def test_links_lead_somewhere(name: str) -> None:
    file = ROOT / "docs" / f"{name}.md"
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text()):
        assert (file.parent / link).exists(), link
