"""A look at the database for `xinyu doctor`: it is neither made nor upgraded nor written to."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from core.errors import StoreUnavailable
from storage.sql.people import any_data_key
from storage.sql.revision import MIGRATIONS

BUSY_SECONDS = 2.0
OLDEST_MYSQL, OLDEST_MARIADB = (8, 0), (10, 6)
_SQLITE_HEADER = b"SQLite format 3\0"
_WAL_VERSIONS = b"\x02\x02"
"""Bytes 18 and 19 of the file, sqlite.org/fileformat.html: a database in WAL mode."""
_STEPS_BETWEEN_LOOKS = 10_000
_LOGIN_REFUSED, _NO_DATABASE = frozenset({1044, 1045, 1698}), 1049


class Revision(StrEnum):
    NONE = "none"
    CURRENT = "current"
    OLDER = "older"
    UNKNOWN = "unknown"
    """Of a newer program, or of another one."""


class Remark(StrEnum):
    NOT_WAL = "not_wal"
    BUSY = "busy"
    READ_ONLY = "read_only"
    UNFINISHED = "unfinished"
    """The integrity check would have taken longer."""
    OLD_SERVER = "old_server"
    NOT_UTF8MB4 = "not_utf8mb4"


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    version: str
    """Such as `SQLite 3.40.1`."""
    revision: Revision
    revision_name: str
    remarks: tuple[Remark, ...]


def look_at(url: str, seconds: float) -> DatabaseFacts | None:
    """The facts; None for a SQLite file that is not there yet. Blocking, for about so many seconds at the most.

    Raises StoreUnavailable with a fixed word: bad_url, unreachable, refused_login, no_such_database,
    cannot_open, damaged.
    """
    path = _sqlite_file(url)
    if path is None:
        with _mysql(url, seconds) as connection:
            return _facts_of_mysql(connection)
    with _sqlite(path, seconds) as reading:
        return _facts_of_sqlite(path, reading) if reading else None


def some_data_key(url: str, seconds: float) -> bytes | None:
    """Some person's wrapped data key, if there is one. Raises StoreUnavailable, as `look_at`. Blocking."""
    path = _sqlite_file(url)
    if path is None:
        with _mysql(url, seconds) as connection:
            return any_data_key(connection) if inspect(connection).has_table("users") else None
    with _sqlite(path, seconds) as reading:
        if reading is None or not _has_table(reading, "users"):
            return None
        row = reading.execute("SELECT data_key FROM users LIMIT 1").fetchone()
        return row[0] if row else None


def _revision(name: str | None) -> Revision:
    scripts = ScriptDirectory(str(MIGRATIONS))
    if name is None:
        return Revision.NONE
    if name == scripts.get_current_head():
        return Revision.CURRENT
    known = {script.revision for script in scripts.walk_revisions()}
    return Revision.OLDER if name in known else Revision.UNKNOWN


# --- SQLite -----------------------------------------------------------------------------------


def _sqlite_file(url: str) -> Path | None:
    """Where the file is or would be; None for a database server."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreUnavailable("bad_url") from None
    return Path(parsed.database or ":memory:") if parsed.get_backend_name() == "sqlite" else None


@contextmanager
def _sqlite(path: Path, seconds: float) -> Iterator[sqlite3.Connection | None]:
    """A connection that only reads and gives up after so many seconds; None without a database."""
    try:
        if not path.exists() or path.stat().st_size == 0:
            yield None
            return
        with path.open("rb") as file:
            header = file.read(len(_SQLITE_HEADER))
    except OSError:
        raise StoreUnavailable("cannot_open") from None
    if header != _SQLITE_HEADER:
        raise StoreUnavailable("damaged")
    # Even reading makes files beside a WAL database that nobody has open, unless it is called immutable.
    how = "mode=ro" if _has_companion(path) else "immutable=1"
    give_up_at = time.monotonic() + seconds
    try:
        with closing(_connect(path, how)) as reading:
            reading.set_progress_handler(lambda: time.monotonic() > give_up_at, _STEPS_BETWEEN_LOOKS)
            yield reading
    except sqlite3.OperationalError:
        raise StoreUnavailable("cannot_open") from None
    except sqlite3.DatabaseError:
        raise StoreUnavailable("damaged") from None


def _connect(path: Path, how: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _has_companion(path: Path) -> bool:
    """Whether a process has the database open, or died while it had."""
    return any(path.with_name(path.name + ending).exists() for ending in ("-wal", "-journal"))


def _facts_of_sqlite(path: Path, reading: sqlite3.Connection) -> DatabaseFacts:
    row = None
    if _has_table(reading, "alembic_version"):
        row = reading.execute("SELECT version_num FROM alembic_version").fetchone()
    with path.open("rb") as file:
        wal = file.read(20)[18:20] == _WAL_VERSIONS
    remarks = [] if wal else [Remark.NOT_WAL]
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)):
        remarks.append(Remark.READ_ONLY)
    elif _has_companion(path) and (trouble := _trouble_with_writing(path)):
        remarks.append(trouble)
    if not _checked(reading):
        remarks.append(Remark.UNFINISHED)
    name = str(row[0]) if row else None
    return DatabaseFacts(f"SQLite {sqlite3.sqlite_version}", _revision(name), name or "", tuple(remarks))


def _has_table(reading: sqlite3.Connection, name: str) -> bool:
    found = reading.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    return found.fetchone() is not None


def _trouble_with_writing(path: Path) -> Remark | None:
    """Take the one write lock and give it back. The reading connection is still open, so that closing
    this one does not copy the log into the file."""
    try:
        with closing(_connect(path, "mode=rw")) as writing:
            writing.execute("BEGIN IMMEDIATE")
            writing.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        locked = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        return Remark.BUSY if locked else Remark.READ_ONLY
    return None


def _checked(reading: sqlite3.Connection) -> bool:
    """Whether the integrity check came to its end in time. Raises StoreUnavailable if it found damage."""
    try:
        answer = reading.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return False
        raise
    if answer != [("ok",)]:
        raise StoreUnavailable("damaged")
    return True


# --- MySQL and MariaDB ------------------------------------------------------------------------


@contextmanager
def _mysql(url: str, seconds: float) -> Iterator[Connection]:
    engine = create_engine(
        make_url(url).set(drivername="mysql+pymysql"),
        poolclass=NullPool,
        connect_args={"connect_timeout": seconds, "read_timeout": seconds},
    )
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise StoreUnavailable(_word_for(error)) from None


def _word_for(error: DBAPIError) -> str:
    code: Any = error.orig.args[0] if error.orig is not None and error.orig.args else None
    if code in _LOGIN_REFUSED:
        return "refused_login"
    if code == _NO_DATABASE:
        return "no_such_database"
    return "unreachable" if isinstance(error, OperationalError) else "cannot_open"


def _facts_of_mysql(connection: Connection) -> DatabaseFacts:
    version = str(connection.exec_driver_sql("SELECT VERSION()").scalar())
    charset = connection.exec_driver_sql("SELECT @@character_set_database").scalar()
    revision = MigrationContext.configure(connection).get_current_revision()
    maria = "mariadb" in version.lower()
    # MariaDB may put 5.5.5- before its version, for old clients.
    match = re.search(r"(\d+)\.(\d+)\.\d+", version.removeprefix("5.5.5-"))
    numbers = (int(match[1]), int(match[2])) if match else (0, 0)
    remarks = []
    if numbers < (OLDEST_MARIADB if maria else OLDEST_MYSQL):
        remarks.append(Remark.OLD_SERVER)
    if charset != "utf8mb4":
        remarks.append(Remark.NOT_UTF8MB4)
    name = f"{'MariaDB' if maria else 'MySQL'} {match[0] if match else version}"
    return DatabaseFacts(name, _revision(revision), revision or "", tuple(remarks))
