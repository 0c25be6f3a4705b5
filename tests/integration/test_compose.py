"""The compose file is one, and its commands are commands of ours."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = (["docker-compose.yml"], ["docker-compose.yml", "docker/gpu.yml"])


@pytest.mark.parametrize("files", FILES, ids=["plain", "gpu"])
def test_the_compose_file_is_valid(files: list[str]) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        from tests.support.postgres import unavailable

        unavailable("docker-compose is not installed")
    named = [word for file in files for word in ("-f", file)]
    done = subprocess.run(
        [str(program), *named, "config", "-q"], cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def services() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with ray")
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


def test_every_command_of_ours_is_understood() -> None:
    from typer.main import get_command

    from api.cli import app

    ours = {
        name: one["command"][1:] for name, one in services().items()
        if one.get("command", [""])[0] == "evosearch"
    }  # fmt: skip
    assert set(ours) == {"migrate", "api", "controller"}
    root: Any = get_command(app)
    for words in ours.values():
        command, rest = root, list(words)
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        command.make_context("evosearch", rest)  # parses, and raises where it cannot


def test_every_long_running_service_has_limits_and_a_restart_rule() -> None:
    for name, one in services().items():
        assert one["deploy"]["resources"]["limits"]["memory"], name
        assert "restart" in one, name
        if name not in ("postgres", "migrate"):
            assert one["cap_drop"] == ["ALL"], name
