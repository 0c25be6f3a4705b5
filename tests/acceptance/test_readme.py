"""Every command line of the README runs, in its order, as a reader would type it.

Trainings are made tiny by overrides; everything else is as printed.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from db import open_store
from evosearch.events import CandidateEvaluated
from tests.acceptance.command import ROOT, TINY, assert_refused, evosearch, inside

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAM = ".venv/bin/evosearch"
TRAINS = {
    ("search", "start"): ("--pool", "inline", *TINY, "--set", "budget.evaluations=3"),
    ("eval",): ("--pool", "inline", *TINY, "--set", "checks.signal.enabled=false"),
}


def commands() -> list[list[str]]:
    """The README's command lines, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(PROGRAM)]


def test_the_readme_shows_the_commands_that_a_reader_needs() -> None:
    shown = {command[0] for command in commands()}
    assert {"catalog", "layer", "eval", "export", "search"} <= shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def test_every_command_of_the_readme_runs(folder: Path) -> None:
    names: dict[str, str] = {}
    for command in commands():
        extra = next(
            (more for words, more in TRAINS.items() if tuple(command[: len(words)]) == words), ()
        )
        filled = [names.get(word, word) for word in command]
        # The first one and the search start as a reader starts them, the others in this process.
        as_a_reader = command[0] == "catalog" or command[:2] == ["search", "start"]
        done = (evosearch if as_a_reader else inside)(folder, *filled, *extra)
        if command[:2] == ["search", "enqueue"]:  # the tiny search has ended long ago
            assert_refused(done, "is finished")
            continue
        assert done.returncode == 0, (filled, done.stderr)
        assert "Traceback" not in done.stderr
        if command[:2] == ["search", "start"]:
            store = open_store(f"sqlite:///{folder / 'evosearch.db'}")
            (info,) = store.searches()
            births = [
                entry.event.birth
                for entry in store.events(info.id)
                if isinstance(entry.event, CandidateEvaluated)
            ]
            store.close()
            names = {"ID": info.id, "ID-BIRTH": f"{info.id}-{births[0]}"}
    assert (folder / "layer.py").exists()


def test_files_that_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
