"""Each service of the compose file, started by hand with its very command line and environment.

No container engine is needed: PostgreSQL, a Ray head, a Ray worker and the controller's raylet are
processes of this machine, so the cluster has three nodes. Names of hosts, ports and secrets are all
that is replaced.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from evosearch.client import Client
from tests.acceptance.command import ROOT, environment
from tests.acceptance.test_serve_kills import overrides
from tests.support.postgres import find_binaries
from tests.support.skips import unavailable

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
COMPOSE = ROOT / "docker-compose.yml"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(true: Callable[[], Any], what: str, seconds: float = 300) -> Any:
    until = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.5)
    return found


class Composed:
    """The services of the compose file as processes, each in a session of its own."""

    def __init__(self, folder: Path) -> None:
        yaml = pytest.importorskip("yaml", reason="PyYAML comes with ray")
        told: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
        self.services: dict[str, Any] = told["services"]
        self.folder, self.running = folder, dict[str, subprocess.Popen[bytes]]()
        self.restarts = 0
        self.ports = {name: free_port() for name in ("postgres", "api", "ray-head")}
        self.secrets = {name: secrets.token_hex(32) for name in told["secrets"]}
        for name, text in self.secrets.items():
            (folder / name).write_text(text + "\n")
        (folder / "bin").mkdir()
        program = folder / "bin/evosearch"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m api.cli "$@"\n')
        program.chmod(0o755)

    def replaced(self, word: str) -> str:
        """A word of the file with this machine's addresses in it."""
        for old, new in (
            ("/run/secrets", str(self.folder)), ("ray-head:6379", f"127.0.0.1:{self.ray}"),
            ("--port=6379", f"--port={self.ray}"), ("8642", str(self.ports["api"])),
            ("${EVOSEARCH_ALLOWED_HOSTS:-}", ""),
        ):  # fmt: skip
            word = word.replace(old, new)
        return word

    @property
    def ray(self) -> int:
        return self.ports["ray-head"]

    def environment(self, name: str) -> dict[str, str]:
        path = os.pathsep.join([f"{self.folder}/bin", str(Path(sys.executable).parent), "/bin",
                                "/usr/bin"])  # fmt: skip
        given = {k: self.replaced(v) for k, v in self.services[name].get("environment", {}).items()}
        if "POSTGRES_HOST" in given:
            given["POSTGRES_HOST"] = f"127.0.0.1:{self.ports['postgres']}"
        here = {"PATH": path, "HOME": str(self.folder), "RAY_USAGE_STATS_ENABLED": "0"}
        return environment() | here | given

    def command(self, name: str, words: list[str] | None = None) -> list[str]:
        """What the container runs: the image's entry point before the service's command."""
        told = words or self.services[name]["command"]
        return ["sh", str(ROOT / "docker/entrypoint.sh"), *map(self.replaced, told)]

    def run(self, name: str, words: list[str] | None = None) -> None:
        done = subprocess.run(
            self.command(name, words), env=self.environment(name), cwd=self.folder,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (name, done.stdout, done.stderr)

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                self.command(name), env=self.environment(name), cwd=self.folder, stdout=log,
                stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports['api']}{path}", timeout=10).is_success
        except httpx.TransportError:
            return False

    def look_after(self) -> None:
        """Start again what has died, as the file's restart rules do, but not for ever."""
        for name, process in [*self.running.items()]:
            if process.poll() is None:
                continue
            log = (self.folder / f"{name}.log").read_text()[-2000:]
            assert self.services[name]["restart"] == "unless-stopped", (name, log)
            self.restarts += 1
            assert self.restarts <= 20, (name, log)
            kill_session(process.pid)  # a container ends with its first process
            time.sleep(2.0)
            self.start(name)

    def wait(self, true: Callable[[], Any], what: str) -> None:
        def found() -> Any:
            self.look_after()
            return true()

        wait(found, what)

    def healthy(self, name: str, words: list[str]) -> bool:
        done = subprocess.run(
            self.command(name, words), env=self.environment(name), cwd=self.folder, check=False,
            capture_output=True, timeout=120,
        )  # fmt: skip
        return done.returncode == 0

    def close(self) -> None:
        for process in reversed(self.running.values()):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.running.values()):
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            kill_session(process.pid)


def kill_session(group: int) -> None:
    """What is left of a service's own session."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Composed]:
    binaries = find_binaries()
    if binaries is None:
        unavailable("no PostgreSQL server binaries on this machine")
        return
    made = Composed(tmp_path)
    data = Path("/tmp") / f"evosearch-pg-{secrets.token_hex(4)}"
    data.mkdir()
    try:
        start_postgres(made, binaries, data)
        yield made
    finally:
        made.close()
        shutil.rmtree(data, ignore_errors=True)


def start_postgres(made: Composed, binaries: Path, data: Path) -> None:
    """As the image does: the user and password of the file, one database, passwords over TCP."""
    user = "postgres" if os.geteuid() == 0 else None
    password = data / "password"
    password.write_text(made.secrets["postgres_password"])
    if user is not None:
        for path in (data, password):
            os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    told = made.services["postgres"]["environment"]
    subprocess.run(
        [binaries / "initdb", "-D", data / "db", "-U", told["POSTGRES_USER"], "-A",
         "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--no-sync"],
        user=user, cwd=data, check=True, capture_output=True,
    )  # fmt: skip
    port = made.ports["postgres"]
    made.running["postgres"] = subprocess.Popen(
        [binaries / "postgres", "-D", data / "db", "-k", data, "-p", str(port), "-c",
         "listen_addresses=127.0.0.1"],
        user=user, cwd=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip

    def create() -> bool:
        try:
            with psycopg.connect(
                host="127.0.0.1", port=port, user=told["POSTGRES_USER"], dbname="postgres",
                password=made.secrets["postgres_password"], autocommit=True,
            ) as connection:  # fmt: skip
                connection.execute(f"CREATE DATABASE {told['POSTGRES_DB']}")
        except psycopg.OperationalError:
            return False
        return True

    wait(create, "PostgreSQL", 60)


def test_the_services_of_the_compose_file_work_together(composed: Composed) -> None:
    composed.run("migrate")
    composed.run("migrate")  # a second start of the stack migrates nothing
    composed.start("ray-head")
    composed.wait(
        lambda: composed.healthy("ray-head", ["ray", "health-check", "--address", "ray-head:6379"]),
        "the Ray head",
    )
    composed.start("ray-worker")
    composed.start("api")
    composed.start("controller")
    composed.wait(lambda: composed.answers("/readyz"), "the web process")
    composed.wait(
        lambda: composed.healthy("controller", ["evosearch", "controller-alive"]), "the controller"
    )
    url = f"http://127.0.0.1:{composed.ports['api']}"
    assert httpx.get(f"{url}/api/v1/searches", timeout=30).status_code == 401
    with Client(url, token=composed.secrets["evosearch_token"], timeout=120) as client:
        made = client.create("quickstart", overrides=overrides(), key="once")
        events = list(client.watch(made.id))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        found = client.search(made.id)
        assert found.status == "finished"
        best = client.front(made.id)[0]
        assert b"class EvolvedLayer" in client.export(made.id, best.birth)
    controller = composed.running["controller"]
    controller.send_signal(signal.SIGTERM)
    assert controller.wait(60) == 0
    kill_session(controller.pid)
    assert composed.running["ray-worker"].poll() is None
    del composed.running["controller"]
