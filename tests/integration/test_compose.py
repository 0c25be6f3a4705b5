"""The compose file is one, and its commands are commands of ours."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.skips import unavailable

ROOT = Path(__file__).resolve().parents[2]
FILES = (["docker-compose.yml"], ["docker-compose.yml", "docker/gpu.yml"])


@pytest.mark.parametrize("files", FILES, ids=["plain", "gpu"])
def test_the_compose_file_is_valid(files: list[str]) -> None:
    program = shutil.which("docker-compose")
    if program is None:
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


def commands(service: dict[str, Any]) -> list[list[str]]:
    """What the service runs, one after the other; a shell's line taken apart."""
    told = service.get("command", [])
    if told[:2] != ["sh", "-c"]:
        return [told]
    parts = [shlex.split(part) for part in told[2].split(" && ")]
    assert parts[-1][0] == "exec", "signals reach the last one only without a shell around it"
    return [*parts[:-1], parts[-1][1:]]


def test_every_command_of_ours_is_understood() -> None:
    from typer.main import get_command

    from api.cli import app

    ours = {
        name: words[1:] for name, one in services().items()
        for words in commands(one) if words[:1] == ["evosearch"]
    }  # fmt: skip
    assert set(ours) == {"migrate", "api", "controller"}
    root: Any = get_command(app)
    for words in ours.values():
        command, rest = root, list(words)
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        command.make_context("evosearch", rest)  # parses, and raises where it cannot


def test_the_controller_is_a_node_of_the_cluster_that_takes_no_workers() -> None:
    first, second = commands(services()["controller"])
    address = second[second.index("--ray-address") + 1]
    assert first == ["ray", "start", f"--address={address}", "--num-cpus=0"]


def test_every_node_of_the_cluster_has_a_token_and_shared_memory() -> None:
    nodes = {
        name: one for name, one in services().items()
        if any(words[:2] == ["ray", "start"] for words in commands(one))
    }  # fmt: skip
    assert set(nodes) == {"ray-head", "ray-worker", "controller"}
    for name, one in nodes.items():
        assert one["environment"]["RAY_AUTH_MODE"] == "token", name
        assert one["shm_size"] == "1gb", name


def test_every_long_running_service_has_limits_and_a_restart_rule() -> None:
    for name, one in services().items():
        assert one["deploy"]["resources"]["limits"]["memory"], name
        assert "restart" in one, name
        if name not in ("postgres", "migrate"):
            assert one["cap_drop"] == ["ALL"], name
