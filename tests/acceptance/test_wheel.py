"""The built wheel, used from a folder whose own packages have the names of our rooms.

Finds what a source tree hides: presets or migrations that are not packed, and imports that would
pick up a user's own ``db`` or ``api``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.acceptance.command import ROOT, TINY

ROOMS = ("api", "db", "workers", "primitives", "evosearch")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; what it depends on is borrowed from this one."""
    source, home = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("home")
    for name in ("pyproject.toml", "README.md", "LICENSE", *ROOMS):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source / name)
    run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(home), str(source))
    (wheel,) = home.glob("evosearch-*.whl")
    environment = home / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    places = environment.glob("lib/python3*/site-packages")
    (place,) = places
    run("pip", "install", "--quiet", "--no-deps", "--target", str(place), str(wheel))
    # Last in the path, so that an editable install of this tree there cannot come first.
    (place / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def run(module: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with packages of a user's own that fail loudly if anybody imports them."""
    for name in ROOMS[:-1]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('decoy {name} imported')\n")
    return tmp_path


def command(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [installed / "bin" / "python", "-P", "-c", "from api.cli import main; main()", *arguments],
        cwd=folder, env=kept | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


def test_the_decoys_would_be_seen(installed: Path, folder: Path) -> None:
    done = subprocess.run(
        [installed / "bin" / "python", "-c", "import db"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert "decoy db imported" in done.stderr


def test_the_command_runs_from_a_folder_of_decoys(installed: Path, folder: Path) -> None:
    place = command(installed, folder, "--version")
    assert place.returncode == 0, place.stderr
    assert place.stdout.startswith("evosearch ")
    listed = command(installed, folder, "catalog")
    assert "evonorm-s0" in listed.stdout, listed.stderr


def test_a_search_runs_from_a_folder_of_decoys(installed: Path, folder: Path) -> None:
    done = command(
        installed, folder, "search", "start", "quickstart", "--pool", "inline", *TINY,
        "--set", "budget.evaluations=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "verdict: " in done.stdout
    assert len(list(folder.glob("leader-*.py"))) == 1


def test_ray_workers_run_from_a_folder_of_decoys(installed: Path, folder: Path) -> None:
    done = command(
        installed, folder, "eval", "evonorm-s0", "--seeds", "1", "--workers", "1",
        "--set", 'task.anchors=[{name="resnet", width=4}]', "--set", "task.steps=4",
        "--set", "checks.quality.steps=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bn-relu" in done.stdout


def test_the_wheel_holds_what_is_no_python(installed: Path) -> None:
    (wheel,) = installed.parent.glob("evosearch-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "evosearch/presets/quickstart.toml" in names
    assert any(name.startswith("db/migrations/versions/") for name in names)
    page = ("index.html", "favicon.svg", "css/tokens.css", "js/main.js", "js/pages/search.js")
    assert {f"api/dashboard/static/{name}" for name in page} <= set(names)
    assert [name for name in names if name.startswith("tests/")] == []
