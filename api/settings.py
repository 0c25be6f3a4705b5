"""The service's settings: flags, then ``EVOSEARCH_*`` variables, then a TOML file, then defaults.

Secrets are named by file and never printed. What code is loaded or run (plug-ins, alert commands)
can be set here only, never by a request.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from evosearch.errors import ConfigError

Seconds = Annotated[float, Field(gt=0.0, le=86_400.0)]
SECRET = "(set)"


class ServiceSettings(BaseSettings):
    """Every setting of the service; its description is the help."""

    model_config = SettingsConfigDict(
        env_prefix="EVOSEARCH_", extra="ignore", frozen=True, toml_file=None
    )

    db: str = Field("sqlite:///evosearch.db", description="database URL or SQLite file")
    host: str = Field("127.0.0.1", description="address to listen on; others than loopback "
                      "need a token")  # fmt: skip
    port: int = Field(8642, ge=0, le=65535, description="port; 0 takes a free one")
    root_path: str = Field("", pattern=r"^(/[A-Za-z0-9_.~-]+)*$",
                           description="path prefix that a proxy in front strips")  # fmt: skip
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="further names that the Host header may carry, comma-separated"
    )
    require_token: bool | None = Field(
        None, description="ask for a token; unset: only where the address is no loopback"
    )
    token_file: Path | None = Field(
        None, description="file whose text is a token of scope write, beside those of the database"
    )
    max_body_bytes: int = Field(262_144, ge=1024, le=2**26, description="longest request body")
    max_depth: int = Field(32, ge=4, le=200, description="deepest nesting of a JSON body")
    max_page: int = Field(500, ge=1, le=500, description="most rows of a page")
    rate_per_minute: int = Field(3000, ge=1, description="requests a minute of one client")
    rate_burst: int = Field(300, ge=1, description="requests that a client may send at once")
    max_streams: int = Field(1000, ge=1, description="event streams open at once")
    heartbeat_seconds: Seconds = Field(15.0, description="silence before a stream's heartbeat")
    poll_seconds: Seconds = Field(0.25, description="how often the store is asked for new events")
    slow_seconds: Seconds = Field(20.0, description="a stream that takes longer is dropped")
    helper_seconds: Seconds = Field(60.0, description="time limit of checking or exporting a layer")
    pool: Literal["ray", "inline"] = Field("ray", description="where candidates are trained")
    workers: int | None = Field(None, ge=1, description="Ray workers; unset: one for each CPU")
    worker_nice: int = Field(10, ge=0, le=19, description="how far Ray workers stand back for "
                             "other processes, as nice counts it")  # fmt: skip
    ray_address: str | None = Field(None, description="an existing Ray cluster, host:port")
    gpus_per_worker: float | None = Field(
        None, ge=0.0, le=1.0,
        description="part of a GPU that a worker holds; unset: what a short measurement finds best "
        "where there are GPUs",
    )  # fmt: skip
    hang_seconds: Seconds = Field(600.0, description="how long a job may stand still, without a "
                                  "training step, before its worker is replaced")  # fmt: skip
    checkpoints: Path | None = Field(None, description="folder that all workers see, for trainings "
                                     "of workers that are told to go")  # fmt: skip
    worker_memory: int | None = Field(None, ge=64, description="megabytes that a Ray worker may "
                                      "take beyond what it has when it starts")  # fmt: skip
    gpu_memory_share: float = Field(0.9, gt=0.0, le=1.0, description="of a GPU's memory, what all "
                                    "its workers may take together")  # fmt: skip
    price_per_hour: float | None = Field(None, ge=0.0, description="price of a worker-hour")
    max_searches: int = Field(4, ge=1, description="searches that a controller runs at once")
    plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="files and entry points of plug-ins, separated by colons"
    )
    data_dir: Path | None = Field(None, description="folder of data files")
    cache: Path | None = Field(
        None, description="folder in which evaluations are kept across searches"
    )
    alert_webhook: str | None = Field(None, pattern=r"^https?://", description="URL that alerts "
                                      "are posted to as JSON")  # fmt: skip
    alert_command: str | None = Field(None, description="program that gets each alert as JSON on "
                                      "its standard input")  # fmt: skip
    stalled_minutes: float = Field(30.0, gt=0.0, description="silence of a search that is an alert")
    log_format: Literal["json", "text"] = Field("text", description="how log lines are written")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="log level")

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("plugins", mode="before")
    @classmethod
    def _split_plugins(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part for part in value.split(os.pathsep) if part)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags win over variables, variables over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def needs_token(self) -> bool:
        """Whether requests must carry a token."""
        return not self.loopback if self.require_token is None else self.require_token

    def static_token(self) -> str | None:
        """The text of the token file.

        Raises:
            ConfigError: the file cannot be read, or holds no token of at least 16 characters.
        """
        if self.token_file is None:
            return None
        try:
            text = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as err:
            raise ConfigError("cannot read the token file", where=str(self.token_file)) from err
        if len(text) < 16:
            raise ConfigError(
                "the token is too short", expected="at least 16 characters",
                where=str(self.token_file), hint="openssl rand -hex 32 makes one",
            )  # fmt: skip
        return text


@dataclass(frozen=True, slots=True)
class Origin:
    """A setting as `evosearch settings` shows it."""

    name: str
    value: str
    origin: str
    help: str


def load_settings(
    flags: Mapping[str, Any] | None = None, file: Path | None = None
) -> ServiceSettings:
    """The settings that count now; flags that are None are not given.

    Raises:
        ConfigError: a value is wrong, or the file has a key that is no setting; the error names
            where it came from.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    if file is not None and not file.is_file():
        raise ConfigError("no such settings file", got=str(file))
    made = _with_file(file)
    try:
        _check_keys(file)
        return made(**given)
    except ValidationError as err:
        first = err.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise ConfigError(
            f"bad setting {name}: {first['msg']}", got=repr(first["input"])[:80],
            where=_origin(name, given, file), hint="see: evosearch settings",
        ) from err  # fmt: skip
    except ValueError as err:  # the file is no TOML
        raise ConfigError("cannot read the settings file", got=str(err), where=str(file)) from err


def origins(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> list[Origin]:
    """Every setting with its value and where that came from; secrets are not shown."""
    settings = load_settings(flags, file)
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    return [
        Origin(name, _shown(name, getattr(settings, name)), _origin(name, given, file),
               str(field.description))
        for name, field in ServiceSettings.model_fields.items()
    ]  # fmt: skip


def as_variables(settings: ServiceSettings) -> dict[str, str]:
    """The settings as ``EVOSEARCH_*`` variables that say the same, for processes elsewhere."""
    found = {}
    for name, value in settings:
        if value is None or value == ():
            continue
        if isinstance(value, tuple):
            text = (os.pathsep if name == "plugins" else ",").join(value)
        elif name in ("data_dir", "cache"):
            text = str(value.absolute())  # workers have a folder of their own at hand
        else:
            text = str(value)
        found[f"EVOSEARCH_{name.upper()}"] = text
    return found


def export(settings: ServiceSettings) -> None:
    """Tells those parts of this process that read variables: plug-ins, data files, the cache."""
    told = as_variables(settings)
    for name in ("plugins", "data_dir", "cache"):
        variable = f"EVOSEARCH_{name.upper()}"
        if variable in told:
            os.environ[variable] = told[variable]


def _with_file(file: Path | None) -> type[ServiceSettings]:
    if file is None:
        return ServiceSettings

    class FromFile(ServiceSettings):
        model_config = SettingsConfigDict(toml_file=file)

    return FromFile


def _keys(file: Path | None) -> list[str]:
    """What the file sets; as with variables, capitals are no matter."""
    if file is None:
        return []
    return [key.lower() for key in tomllib.loads(file.read_text(encoding="utf-8"))]


def _check_keys(file: Path | None) -> None:
    """Refuse a misspelt key, which would else be a setting that does nothing."""
    known = [*ServiceSettings.model_fields]
    for key in _keys(file):
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            raise ConfigError(
                "unknown setting", expected=" or ".join(near) or None, got=repr(key)[:80],
                where=str(file), hint="see: evosearch settings",
            )  # fmt: skip


def _origin(name: str, given: Mapping[str, Any], file: Path | None) -> str:
    if name in given:
        return "flag"
    if any(key.upper() == f"EVOSEARCH_{name.upper()}" for key in os.environ):
        return f"EVOSEARCH_{name.upper()}"
    if name in _keys(file):
        return str(file)
    return "default"


def _shown(name: str, value: Any) -> str:
    if name == "db" and isinstance(value, str) and "@" in value:
        scheme, separator, rest = value.partition("://")
        user, _, place = rest.rpartition("@")
        return f"{scheme}{separator}{user.partition(':')[0]}:***@{place}"
    if name == "alert_webhook" and value:
        return SECRET  # such addresses carry their secret in the path
    if value is None:
        return ""
    if name == "plugins":
        return os.pathsep.join(value)
    return ", ".join(value) if isinstance(value, tuple) else str(value)
