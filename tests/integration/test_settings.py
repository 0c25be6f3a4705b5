"""Settings: each has a variable, a line of a file and a flag, and says where its value is from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from api.cli import app
from api.settings import ServiceSettings, as_variables, export, load_settings, origins
from api.settings_flags import CONTROLLER, PLURAL
from evosearch.errors import ConfigError

NAMES = tuple(ServiceSettings.model_fields)
FLAGS = {name: PLURAL.get(name, "--" + name.replace("_", "-")) for name in NAMES}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"EVOSEARCH_{name.upper()}", raising=False)


def options(command: str) -> set[str]:
    """The long options of a command."""
    found: Any = typer.main.get_command(app)
    return {name for one in found.commands[command].params for name in one.opts}


def test_every_setting_has_a_flag() -> None:
    assert set(FLAGS.values()) <= options("serve")
    assert set(FLAGS.values()) <= options("settings")
    assert {FLAGS[name] for name in CONTROLLER} <= options("controller")
    assert "--host" not in options("controller")


def given(monkeypatch: pytest.MonkeyPatch, name: str, *words: str) -> dict[str, Any]:
    """The flags that a command is called with, of those words."""
    found: dict[str, Any] = {}

    def kept(flags: dict[str, Any], file: Path | None = None) -> Any:
        found.update(flags)
        raise ConfigError("enough")

    monkeypatch.setattr("api.settings.load_settings", kept)
    result = CliRunner().invoke(app, [name, *words])
    assert isinstance(result.exception, ConfigError), result.output
    return found


def test_flags_reach_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--port", "0", "--allowed-host", "a", "--allowed-host", "b", "--no-require-token",
             "--plugin", "one.py", "--plugin", "two", "--data-dir", "data", "--workers", "3",
             "--gpus-per-worker", "0.5", "--log-format", "json")  # fmt: skip
    found = given(monkeypatch, "serve", *words)
    assert found == {
        "port": 0, "allowed_hosts": ("a", "b"), "require_token": False,
        "plugins": ("one.py", "two"), "data_dir": Path("data"), "workers": 3,
        "gpus_per_worker": 0.5, "log_format": "json",
    }  # fmt: skip
    assert load_settings(found).allowed_hosts == ("a", "b")
    assert given(monkeypatch, "controller", "--worker-nice", "4") == {"worker_nice": 4}


def test_a_wrong_flag_is_refused_as_any_setting() -> None:
    with pytest.raises(ConfigError, match="bad setting max_page") as caught:
        load_settings({"max_page": 0})
    assert caught.value.where == "flag"


def test_origins_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('price_per_hour = 2.5\nport = 1\nlog_level = "info"\n')
    monkeypatch.setenv("EVOSEARCH_PORT", "2")
    monkeypatch.setenv("EVOSEARCH_PLUGINS", "a.py:b")
    found = {one.name: (one.value, one.origin) for one in origins({"max_page": 3}, file)}
    assert found["price_per_hour"] == ("2.5", str(file))
    assert found["port"] == ("2", "EVOSEARCH_PORT")
    assert found["max_page"] == ("3", "flag")
    assert found["plugins"] == ("a.py:b", "EVOSEARCH_PLUGINS")
    assert found["host"] == ("127.0.0.1", "default")
    assert set(found) == set(NAMES)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_pages = 9", "unknown setting; expected max_page"),
        ("port = 1\nallowed-hosts = 'a'", "expected allowed_hosts, got 'allowed-hosts'"),
        ("[service]\nport = 1", "unknown setting; got 'service'"),
    ],
)
def test_a_misspelt_line_of_the_file_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings({"max_page": 3}, file)
    message = str(caught.value)
    assert message.startswith(f"{file}: unknown setting; ")
    assert told in message
    assert message.endswith("see: evosearch settings")


def test_a_variable_of_another_program_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOSEARCH_MAX_PAGES", "9")
    assert load_settings().max_page == 500


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("port = = 1")
    with pytest.raises(ConfigError, match="cannot read the settings file"):
        load_settings({}, file)


def test_the_settings_command_shows_flags_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOSEARCH_CACHE", "/kept")
    result = CliRunner().invoke(app, ["settings", "--port", "77"])
    assert result.exit_code == 0, result.output
    for name in NAMES:
        assert name in result.output
    assert "EVOSEARCH_CACHE" in result.output
    assert "flag" in result.output


def test_variables_say_the_same_as_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = {
        "plugins": ("a.py", "b"), "data_dir": Path("data"), "cache": Path("kept"), "port": 0,
        "allowed_hosts": ("x", "y"), "require_token": False, "token_file": Path("t"),
        "gpus_per_worker": 0.0, "workers": 2, "worker_nice": 3, "price_per_hour": 1.5,
        "ray_address": "head:1", "alert_webhook": "https://a/b", "alert_command": "/bin/true",
    }  # fmt: skip
    made = load_settings(flags)
    for name, value in as_variables(made).items():
        monkeypatch.setenv(name, value)
    absolute = {"data_dir": tmp_path / "data", "cache": tmp_path / "kept"}
    assert load_settings() == made.model_copy(update=absolute)


def test_flags_reach_what_reads_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from api.wiring import with_cache
    from evosearch.plugins import registered
    from workers.cache import CachedPool
    from workers.datasets import data_root
    from workers.simulated import SimulatedPool

    for name in ("PLUGINS", "DATA_DIR", "CACHE"):  # set, so that what is set here is undone
        monkeypatch.setenv(f"EVOSEARCH_{name}", "")
    export(load_settings({"plugins": ("a.py", "b"), "data_dir": tmp_path, "cache": tmp_path}))
    assert [*registered()] == ["a.py", "b"]
    assert data_root("this") == tmp_path
    assert isinstance(with_cache(SimulatedPool(lambda job: (0.0, []))), CachedPool)
    assert os.environ["EVOSEARCH_CACHE"] == str(tmp_path)
