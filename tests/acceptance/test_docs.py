"""The documentation holds: every page's snippets run, links lead somewhere, nothing is left out."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer

from api.cli import app, run
from api.wiring import load_state, open_database
from docs import make_measured, make_search_efficiency
from docs.make_concepts import FOLDER, flow, layer
from docs.make_reference import TARGET, search_settings
from evosearch.confirm import leader
from evosearch.presets import load_preset, preset_names
from tests.acceptance.command import ROOT, TINY, environment

PAGES = (
    "quickstart", "concepts", "your-network", "proxy", "report", "primitives", "faq", "deploy",
    "store", "rest", "layers", "glossary", "paper-settings", "table", "measured",
    "search-efficiency",
)  # fmt: skip
WITH_PYTHON = ("quickstart", "concepts", "your-network", "report", "primitives")
WITH_COMMANDS = ("quickstart", "your-network", "proxy", "report", "primitives", "store", "deploy",
                 "table", "layers")  # fmt: skip
ELSEWHERE = {
    ("table", "python"): "tests/unit/test_table_search.py",
    ("rest", "python"): "tests/acceptance/test_readme_service.py",
    ("rest", "bash"): "tests/acceptance/test_readme_service.py",
}
"""Whose snippets another test runs."""
STAYS = ("serve", "controller")
"""Commands that do not end: their words are read, and nothing is started."""
ELSEWHERE_PROGRAMS = {
    "ssh": "another machine",
    "curl": "a service with a token; tests/acceptance/test_readme_service.py runs what needs none",
    "mkdir": "secrets of the containers; tests/acceptance/test_compose_by_hand.py",
    "openssl": "secrets of the containers; tests/acceptance/test_compose_by_hand.py",
    "docker": "no daemon; tests/acceptance/test_compose_by_hand.py starts what it would start",
    "sbatch": "a Slurm cluster",
    "ray": "a Ray cluster; tests/acceptance/test_compose_by_hand.py starts one",
}  # fmt: skip
"""Programs whose lines are not run here -> why."""
NOT_RUN = {
    ("README", "python", "import evosearch as es\n\n\n@es.anchor"):
        "a sketch whose methods are left out; docs/your-network.md has a whole one",
    ("README", "", " propose ──>"): "a picture",
    ("README", "", "primitives/   the"): "a list of folders",
    ("README", "bash", "make run"): "it installs; .ci/run and the Makefile's targets do",
}  # fmt: skip
"""Page, language and beginning of a block that no test runs -> why."""
BY_OTHER_TESTS = {
    ("README", "bash", ".venv/bin/evosearch catalog"): "tests/acceptance/test_readme.py",
    ("README", "bash", ".venv/bin/evosearch search"): "tests/acceptance/test_readme.py",
    ("README", "bash", "curl"): "tests/acceptance/test_readme_service.py",
    ("README", "python", "from evosearch import Client"):
        "tests/acceptance/test_readme_service.py",
}  # fmt: skip
INSTEAD = {
    "postgresql://evosearch@server/evosearch": "sqlite:///other.db", "cifar10-cpu": "quickstart",
    "1200": "3", "fashion-mnist": "mobilenetv2", "2000": "6", "resnet:small,mobilenetv2": "resnet",
}  # fmt: skip
"""What is not here in a test -> what stands for it."""
SMALL = """
import api.run
_search = api.run.search
def small(*args, **kwargs):
    settings = {"task.steps": 4, "task.batch_size": 16, "task.select_rows": 60,
                "checks.stability.steps": 1, "checks.quality.accuracy": -9.0,
                "confirmation.top": 1, "confirmation.seeds": 1,
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
    ("report", "--knock-out"): ("--pool", "inline"),
    ("report", "--robustness"): ("--pool", "inline", "--seeds", "1"),
    ("rerank",): ("--pool", "inline", "--seeds", "2", "--rates", "0.2"),
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
    return [words for words in found if words and words[0] not in ELSEWHERE_PROGRAMS]


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


@pytest.mark.usefixtures("clean_folder")
@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_the_pages_commands_run(name: str) -> None:
    """In this process, which has torch loaded; that commands start by themselves others test."""
    lines = commands(name)
    assert lines
    if name in ("store", "layers"):  # their pages begin with a database that has a search
        tiny = EXTRA["search", "start"]
        assert run(["search", "start", "quickstart", *tiny]) == 0
    for program, *words in lines:
        assert program == "evosearch"
        if words[0] in STAYS:
            assert_read(words)
            continue
        filled = [fill(word) for word in words]
        extra = next((more for start, more in EXTRA.items() if set(start) <= set(filled)), ())
        assert run([*filled, *extra]) == 0, filled


def fill(word: str) -> str:
    """The word with what is here in place of what the reader has."""
    if word in ("ID", "abcd2345"):
        return newest()
    if word in ("ID-17", "CANDIDATE"):
        return f"{newest()}-{told_of_newest()[0]}"
    if word == "ID-bn-relu":
        return f"{newest()}-bn-relu"
    return told_of_newest()[1] if word == "353818658" else INSTEAD.get(word, word)


def told_of_newest() -> tuple[str, str]:
    """The leader of that search, and a seed that its BN-ReLU was trained with."""
    store = open_database(None)
    try:
        state = load_state(store, newest())
    finally:
        store.close()
    return str(leader(state)), str(state.results["bn-relu"][0][1].seed)


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


def fences(page: str) -> list[tuple[str, str]]:
    """Language and text of every fenced block of a page."""
    file = ROOT / "README.md" if page == "README" else ROOT / "docs" / f"{page}.md"
    return re.findall(
        r"^[ ]*```([^\n`]*)\n(.*?)^[ ]*```", file.read_text(), re.DOTALL | re.MULTILINE
    )


def unlisted(page: str, language: str, text: str) -> bool:
    """Whether no test runs this block, and nobody says why."""
    if language == "toml":
        return page != "your-network"
    if language == "python" and page in WITH_PYTHON:
        return False
    if language == "bash" and page in WITH_COMMANDS:
        return False
    if (page, language) in ELSEWHERE:
        return page not in (ROOT / ELSEWHERE[page, language]).read_text()
    listed = [*NOT_RUN, *BY_OTHER_TESTS]
    return not any((page, language) == key[:2] and text.startswith(key[2]) for key in listed)


def test_every_block_of_every_page_runs_or_says_why_not() -> None:
    pages = {file.stem for file in (ROOT / "docs").glob("*.md")}
    assert pages == {*PAGES, "reference"}, "a page that no test reads"
    found = [(page, language, text) for page in (*PAGES, "README")
             for language, text in fences(page)]  # fmt: skip
    assert [(page, text[:60]) for page, language, text in found
            if unlisted(page, language, text)] == []  # fmt: skip
    for page, language, start in (*NOT_RUN, *BY_OTHER_TESTS):
        assert any((page, language) == one[:2] and one[2].startswith(start) for one in found), start
    for name in PAGES:
        assert not commands(name) or name in WITH_COMMANDS or (name, "bash") in ELSEWHERE, name
    every = "\n".join((ROOT / "docs" / f"{name}.md").read_text() for name in PAGES)
    assert [one for one in ELSEWHERE_PROGRAMS if not re.search(rf"^ *{one} ", every, re.M)] == []


@pytest.mark.parametrize("language", ["python", "bash", "text", "", "toml"])
def test_a_new_block_is_noticed(language: str) -> None:
    assert unlisted("glossary", language, "evosearch search list\n")
    assert unlisted("README", language, "print('new')\n")


def test_the_page_of_the_search_is_what_the_results_say() -> None:
    assert make_search_efficiency.TARGET.read_text() == make_search_efficiency.page()


def test_the_measured_page_is_what_the_results_say() -> None:
    assert make_measured.TARGET.read_text() == make_measured.page()


@pytest.mark.usefixtures("clean_folder")
def test_the_pages_settings_are_a_config() -> None:
    texts = blocks("your-network", "toml")
    assert len(texts) == 2
    for text in texts:
        Path("mine.toml").write_text(text)
        more = [] if "anchors" in text else ["--set", 'task.anchors=["resnet"]']
        assert run(["search", "start", "mine.toml", "--dry-run", *more]) == 0


@pytest.fixture
def clean_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder at hand with the plug-in that pages name, and no database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVOSEARCH_DB", raising=False)
    shutil.copy(ROOT / "tests" / "support" / "my_task.py", tmp_path)


def test_the_reference_is_what_the_code_says() -> None:
    # A process of its own: plug-ins of other tests would be in it.
    command = [sys.executable, "-c", "from docs.make_reference import page; print(page(), end='')"]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert TARGET.read_text() == told, "run: make reference"


def test_the_reference_names_what_there_is() -> None:
    text = TARGET.read_text()
    words = ("evosearch search diff A B", "`task.steps`", "`EVOSEARCH_PLUGINS`", "`too_slow`",
             "`GET /api/v1/searches`", "`sigmoid`", "`evosearch.evaluator`",
             "| `rewire` |")  # fmt: skip
    assert [word for word in words if word not in text] == []


def test_every_setting_says_what_it_is() -> None:
    described = re.compile(r"- `[^`]+`( \((required|default `[^`]*`)\))?: \S.*")
    assert [row for row in search_settings() if not described.fullmatch(row)] == []


@pytest.mark.parametrize("preset", [name for name in preset_names() if "paper" not in name])
def test_what_concepts_calls_off_is_off_and_can_be_switched_on(preset: str) -> None:
    text = (ROOT / "docs" / "concepts.md").read_text().partition("### What is off")[2]
    settings = re.findall(r"^\| .* \| `([a-z_.]+=[^`]+)` \|$", text.partition("\n## ")[0], re.M)
    assert len(settings) == 9
    plain = load_preset(preset)
    assert [one for one in settings if load_preset(preset, [one]) == plain] == []
    assert plain.evolution.operators.keys() == {"paper", "branch", "cross"}


def test_the_pictures_of_concepts_are_what_the_code_draws() -> None:
    assert (FOLDER / "layer.svg").read_text() == layer()
    assert (FOLDER / "flow.svg").read_text() == flow()
    pages = [*(ROOT / "docs").glob("*.md")]
    for file in FOLDER.glob("*.svg"):
        assert ElementTree.parse(file).getroot().tag.endswith("svg"), file
        assert any(f"pictures/{file.name}" in page.read_text() for page in pages), file


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    file = ROOT / "docs" / f"{name}.md"
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text()):
        assert (file.parent / link).exists(), link
