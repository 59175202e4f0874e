"""Open the database that a URL names, if its revision and its key are ours."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from sqlalchemy.exc import SQLAlchemyError

from core.errors import ConfigError, StoreUnavailable
from storage.keys import KeyRing
from storage.sql import revision
from storage.sql.errors import translate
from storage.sql.mysql import MysqlStore
from storage.sql.sqlite import SqliteStore

SqlStore: TypeAlias = SqliteStore | MysqlStore


async def open_store(url: str, keys: KeyRing) -> SqlStore:
    """A ready store. SQLite is brought to the newest revision; a server's schema is the operator's to upgrade.

    Raises ConfigError for a schema of another revision, KeyMismatch when rows exist that the key
    does not open, StoreUnavailable when the database does not answer.
    """
    try:
        await asyncio.to_thread(_make_current if url.startswith("sqlite") else _check_current, url)
    except SQLAlchemyError as error:
        raise translate(error) from error
    store: SqlStore = SqliteStore(url, keys) if url.startswith("sqlite") else MysqlStore(url, keys)
    try:
        data_key = await store.read(lambda tx: tx.any_data_key())
        if data_key is not None:
            keys.check(data_key)
    except (ConfigError, StoreUnavailable):
        await store.close()
        raise
    return store


def _make_current(url: str) -> None:
    found = revision.current(url)
    if found != revision.newest():
        from storage.sql import migrate  # Alembic: 10 MiB that an up-to-date start does without

        migrate.upgrade(url)


def _check_current(url: str) -> None:
    found, newest = revision.current(url), revision.newest()
    revision.refuse_unknown(found)
    if found != newest:
        raise ConfigError(
            f"the database is at revision {found or 'none'}, this program needs {newest}: run `xinyu db upgrade`"
        )
