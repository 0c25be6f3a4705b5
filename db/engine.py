"""Opens databases and turns their errors into ours; the only place that knows drivers.

It must not know tables.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from evosearch.errors import StateConflict, StoreError

RETRY_SECONDS = 0.25
"""Between two looks whether a server is back."""
SCHEMES = "memory:, a path, sqlite:///PATH or postgresql://USER@HOST/DATABASE"


def parse_url(url: str) -> URL:
    """The database that the text names: a path, ``sqlite:///PATH`` or ``postgresql://...``.

    Raises:
        StoreError: it names none.
    """
    if url.startswith("sqlite:") or "://" not in url:
        path = url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else url
        if not path or path.startswith(("sqlite:", ":memory:")) or path.endswith("/"):
            raise StoreError("no database file", expected=SCHEMES, got=repr(url))
        return URL.create("sqlite", database=path)
    scheme = url.split("://", 1)[0]
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise StoreError("unknown kind of database", expected=SCHEMES, got=f"{scheme}://")
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as err:
        raise StoreError("bad database URL", expected=SCHEMES, got=f"{scheme}://...") from err


def shown(url: URL) -> str:
    """The URL as messages show it: a path, or a server without the password."""
    return str(url.database) if is_sqlite(url) else url.render_as_string(hide_password=True)


def is_sqlite(url: URL) -> bool:
    """Whether the database is a file."""
    return url.drivername == "sqlite"


class ConnectionLost(StoreError):
    """The connection to the server broke; what was being committed may stand there or not."""


class Retrying(Protocol):
    """What works with a server that may go away for a while."""

    tries: int
    """How often a task is begun whose connection breaks."""


P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound=Retrying)


def again(method: Callable[Concatenate[R, P], T]) -> Callable[Concatenate[R, P], T]:
    """The method, once more if the connection broke in it; opening the next one is patient.

    A method that writes must know its own commit again, for the answer to it may be what was lost.
    """

    @wraps(method)
    def patient(owner: R, /, *args: P.args, **options: P.kwargs) -> T:
        for _ in range(owner.tries - 1):
            try:
                return method(owner, *args, **options)
            except ConnectionLost:
                continue
        return method(owner, *args, **options)

    return patient


def open_engine(url: URL, busy_seconds: float, patience: float = 0.0) -> Engine:
    """An engine whose transactions are durable; SQLite writes begin with ``BEGIN IMMEDIATE``.

    ``patience``: seconds to wait for a database server that is away.
    """
    if not is_sqlite(url):
        try:
            engine = create_engine(url, pool_pre_ping=True)
        except ImportError as err:
            raise StoreError(
                "PostgreSQL needs a driver", hint="run: pip install 'evosearch[postgres]'"
            ) from err
        event.listen(engine, "do_connect", _Patient(patience))
        return engine
    _expect_place(Path(str(url.database)))
    engine = create_engine(url, connect_args={"timeout": busy_seconds})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _expect_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise StoreError(
            "no folder for the database", expected="an existing folder", got=str(path.parent),
            hint=f"run: mkdir -p {path.parent}",
        )  # fmt: skip
    if path.is_dir():
        raise StoreError("a folder is no database", expected="a file", got=str(path))


class _Patient:
    """Connects, and waits for a server that has gone away; one that was never there is told."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._met = seconds, False

    def __call__(self, dialect: Any, _record: Any, args: Any, options: Any) -> Any:
        deadline = time.monotonic() + (self._seconds if self._met else 0.0)
        while True:
            try:
                connection = dialect.connect(*args, **options)
            except dialect.loaded_dbapi.OperationalError:
                if time.monotonic() >= deadline:
                    raise
            else:
                self._met = True
                return connection
            time.sleep(RETRY_SECONDS)


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def use_wal(engine: Engine) -> None:
    """Switches a SQLite file to write-ahead logging; it stays so."""
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("PRAGMA journal_mode")
        if cursor.fetchone() != ("wal",):
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()
    finally:
        raw.close()


def database_clock(engine: Engine) -> str:
    """SQL for seconds since 1970 by the database's clock."""
    if engine.dialect.name == "sqlite":
        return "((julianday('now') - 2440587.5) * 86400.0)"
    return "extract(epoch from clock_timestamp())::double precision"


@contextmanager
def begin(engine: Engine, *, write: bool = False, snapshot: bool = False) -> Iterator[Connection]:
    """A transaction, committed at the end; errors of the database come out as ours.

    With ``snapshot`` all its reads see one moment, as they always do on SQLite.
    """
    options: dict[str, Any] = {"write": write}
    if snapshot and engine.dialect.name != "sqlite":
        options["isolation_level"] = "REPEATABLE READ"
    with wrapped(engine.url), engine.connect() as plain:
        connection = plain.execution_options(**options)
        with connection.begin():
            yield connection


@contextmanager
def wrapped(url: URL) -> Iterator[None]:
    """Turns the errors of SQLAlchemy and its drivers into `StoreError`."""
    try:
        yield
    except IntegrityError as err:
        raise StateConflict(
            "the events break a rule of the database", got=_first_line(err.orig),
            where=shown(url), hint="nothing was written",
        ) from err  # fmt: skip
    except DBAPIError as err:
        told = translate(err.orig, url)
        if not is_sqlite(url) and (err.connection_invalidated or _is_away(err.orig)):
            told = ConnectionLost(told.what, got=told.got, where=told.where, hint=told.hint)
        raise told from err
    except (SQLAlchemyError, sqlite3.Error, OverflowError) as err:
        raise translate(err, url) from err


def _is_away(err: BaseException | None) -> bool:
    """Whether the driver's error says that the server, not the statement, is in trouble."""
    kinds = {kind.__name__ for kind in type(err).__mro__}
    code = str(getattr(err, "sqlstate", "") or "")
    return "OperationalError" in kinds and (not code or code.startswith(("57P", "08")))


def translate(err: BaseException | None, url: URL) -> StoreError:
    """The error of a driver as one line that says what to do."""
    code = str(getattr(err, "sqlite_errorname", "") or getattr(err, "sqlstate", "") or "")
    for prefix, what, hint in _KNOWN:
        if code.startswith(prefix):
            return StoreError(what, got=_first_line(err), where=shown(url), hint=hint)
    if not is_sqlite(url) and not code:
        return StoreError(
            "the database server cannot be reached", got=_first_line(err), where=shown(url),
            hint="is it running, and is the URL right? what was committed is safe",
        )  # fmt: skip
    return StoreError(
        "the database refused", got=_first_line(err), where=shown(url), hint="nothing was written"
    )


_KNOWN = (
    ("SQLITE_BUSY", "the database is locked by another program", "close it, then try again"),
    ("SQLITE_LOCKED", "the database is locked by another program", "close it, then try again"),
    ("SQLITE_FULL", "the disk is full", "make room; what was committed is safe"),
    ("SQLITE_IOERR", "the disk cannot be written or read", "check disk space and quota"),
    ("SQLITE_READONLY", "the database is read-only", "check the rights on the file and its folder"),
    ("SQLITE_CANTOPEN", "the database cannot be opened", "check the rights on the file and folder"),
    ("SQLITE_PERM", "the database cannot be opened", "check the rights on the file and its folder"),
    ("SQLITE_NOTADB", "this file is no SQLite database", "choose another file"),
    ("SQLITE_CORRUPT", "the database file is damaged", "restore a backup; copy the file first"),
    ("53100", "the disk of the database server is full", "make room; what was committed is safe"),
    ("53", "the database server is out of resources", "see the log of the server"),
    ("25006", "the database is read-only", "connect to the primary server"),
    ("55P03", "a row is locked by another program", "close it, then try again"),
    ("57P", "the database server is shutting down", "start it again; what was committed is safe"),
    ("08", "the connection to the database is lost", "what was committed is safe; try again"),
    ("28", "the database server refused the user", "check user and password in the URL"),
    ("3D000", "there is no such database", "create it: createdb NAME"),
    ("42501", "the user may not do this in the database", "grant the rights on the database"),
)


def _first_line(err: BaseException | None) -> str:
    return (str(err).strip().splitlines() or ["no reason given"])[0][:200]
