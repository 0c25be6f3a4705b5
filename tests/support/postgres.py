"""A PostgreSQL server of the tests' own, started from the installed binaries.

`initdb` refuses root, so as root it runs as the user ``postgres``. Without binaries the tests are
skipped with a reason, unless EVOSEARCH_FORBID_SKIPS is 1.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.skips import unavailable

_SETTINGS = {
    "listen_addresses": "", "fsync": "off",
    "full_page_writes": "off", "max_connections": "60",
}  # fmt: skip


def find_binaries() -> Path | None:
    """The folder of the newest server binaries on this machine."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = sorted(found, key=lambda path: int(path.parent.parent.name))
    return newest[-1].parent if newest else None


class Server:
    """A running server; ``new_database`` gives URLs of empty databases."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        self._count = 0
        data = str(folder / "data")
        self._run("initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def _command(self, name: str, *args: str) -> list[str]:
        return [str(self._binaries / name), *args]

    def _run(self, name: str, *args: str) -> None:
        done = subprocess.run(
            self._command(name, *args), user=self._user, cwd=self._folder,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr or done.stdout}")

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        options = [word for item in _SETTINGS.items() for word in ("-c", "=".join(item))]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", "data", "-k", str(self._folder), *options),
                user=self._user, cwd=self._folder, stdout=log, stderr=log,
            )  # fmt: skip
        for _ in range(300):
            try:
                self._connect().close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.1)
        raise RuntimeError("PostgreSQL did not start: " + (self._folder / "log").read_text())

    def stop(self, sign: signal.Signals = signal.SIGINT) -> None:
        """Stops the server: SIGINT drops all connections, SIGQUIT is a crash."""
        self._process.send_signal(sign)
        self._process.wait(60)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self._folder), user="tester", dbname="postgres", autocommit=True
        )

    def new_database(self) -> str:
        """The URL of an empty database: a schema of its own, which is cheaper than a database."""
        self._count += 1
        name = f"test{self._count}"
        with self._connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{self.url}&options=-csearch_path%3D{name}"

    @property
    def url(self) -> str:
        """The URL of the server's own database."""
        return f"postgresql://tester@/postgres?host={self._folder}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The server, one for the whole test session."""
    binaries = find_binaries()
    if binaries is None:
        unavailable("no PostgreSQL server binaries on this machine")
    folder = Path(tempfile.mkdtemp(prefix="evosearch-pg-"))
    try:
        server = Server(binaries, folder)
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)  # nothing is kept
    finally:
        shutil.rmtree(folder, ignore_errors=True)
