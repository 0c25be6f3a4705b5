"""The documentation holds: every page's snippets run, links lead somewhere, nothing is left out."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from api.cli import app, run
from api.wiring import open_database
from docs.make_reference import TARGET, search_settings
from tests.acceptance.command import ROOT, TINY, environment

PAGES = (
    "quickstart", "concepts", "your-network", "proxy", "report", "primitives", "faq", "deploy",
    "store", "rest", "layers", "glossary", "paper-settings", "table",
)  # fmt: skip
WITH_PYTHON = ("quickstart", "concepts", "your-network", "report", "primitives")
WITH_COMMANDS = ("quickstart", "your-network", "proxy", "report", "primitives", "store", "deploy",
                 "table")  # fmt: skip
ELSEWHERE = {
    ("layers", "python"): "tests/unit/test_docs_layers.py",
    ("layers", "bash"): "tests/unit/test_docs_layers.py",
    ("rest", "python"): "tests/acceptance/test_readme_service.py",
    ("rest", "bash"): "tests/acceptance/test_readme_service.py",
}
"""Whose snippets another test runs."""
STAYS = ("serve", "controller")
"""Commands that do not end: their words are read, and nothing is started."""
CONTAINERS = ("ssh", "curl", "mkdir", "openssl", "docker", "sbatch", "ray")
"""Programs of other machines and services; `tests/acceptance/test_compose_by_hand.py` has some."""
INSTEAD = {
    "postgresql://evosearch@server/evosearch": "sqlite:///other.db", "cifar10-cpu": "quickstart",
    "1200": "3",
}  # fmt: skip
"""What is not here in a test -> what stands for it."""
SMALL = """
import api.run
_search = api.run.search
def small(*args, **kwargs):
    settings = {"task.steps": 4, "task.batch_size": 16, "checks.stability.steps": 1,
                "checks.quality.accuracy": -9.0, "confirmation.top": 1, "confirmation.seeds": 1,
                "confirmation.tune_seeds": 1, "confirmation.final_seeds": 3,
                "confirmation.resamples": 50,
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
    ("search", "delete"): ("--yes",),
    ("anchor", "check"): ("--seeds", "1", "--steps", "4"),
    ("preset", "calibrate"): ("--pool", "inline", "--set", "task.steps=3", "--set",
                              'task.anchors=[{name="resnet", width=4}]', "--set",
                              "checks.quality.steps=2"),
    ("bench", "table", "build"): ("--limit", "2", "--seeds", "1", "--live", "2", *TINY),
}  # fmt: skip


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / "docs" / f"{name}.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(name: str) -> list[list[str]]:
    """Words of the page's command lines, in fences and indented ones, without other programs'."""
    text = (ROOT / "docs" / f"{name}.md").read_text().replace("\\\n", " ")
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = [line for block in blocks(name, "bash") for line in block.splitlines()]
    lines += re.findall(r"^    (\S.*)$", plain, flags=re.MULTILINE)
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words and words[0] not in CONTAINERS]


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
    lines = commands(name)
    assert lines
    if name == "store":  # its page begins with a database that has a search
        tiny = EXTRA["search", "start"]
        assert run(["search", "start", "quickstart", *tiny]) == 0
    for program, *words in lines:
        assert program == "evosearch"
        if words[0] in STAYS:
            assert_read(words)
            continue
        filled = [INSTEAD.get(word, newest() if word in ("ID", "abcd2345") else word)
                  for word in words]  # fmt: skip
        extra = next((more for start, more in EXTRA.items() if set(start) <= set(filled)), ())
        assert run([*filled, *extra]) == 0, filled


def newest() -> str:
    """The id of the first search that was made here, which has ended."""
    store = open_database(None)
    try:
        ended = [one.id for one in store.searches() if one.status == "finished"]
    finally:
        store.close()
    return ended[-1]


def assert_read(words: list[str]) -> None:
    """Fail unless the command line is one that the program understands."""
    group = typer.main.get_command(app)
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], words[1:])


def test_a_command_line_of_no_such_option_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        assert_read(["serve", "--nothing"])


def test_every_pages_snippets_are_run_somewhere() -> None:
    for file in sorted((ROOT / "docs").glob("*.md")):
        name = file.stem
        if name == "reference":
            continue
        assert name in PAGES, "a page that no test reads"
        if blocks(name, "python") and name not in WITH_PYTHON:
            assert name in (ROOT / ELSEWHERE[name, "python"]).read_text(), name
        if (blocks(name, "bash") or commands(name)) and name not in WITH_COMMANDS:
            assert name in (ROOT / ELSEWHERE[name, "bash"]).read_text(), name


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


def test_every_setting_says_what_it_is() -> None:
    described = re.compile(r"- `[^`]+`( \((required|default `[^`]*`)\))?: \S.*")
    assert [row for row in search_settings() if not described.fullmatch(row)] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    file = ROOT / "docs" / f"{name}.md"
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text()):
        assert (file.parent / link).exists(), link
