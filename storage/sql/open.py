"""Open the database that a URL names, if its revision and its key are ours."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from core.errors import ConfigError, StoreUnavailable
from storage.keys import KeyRing
from storage.sql import migrate
from storage.sql.mysql import MysqlStore
from storage.sql.sqlite import SqliteStore

SqlStore: TypeAlias = SqliteStore | MysqlStore


async def open_store(url: str, keys: KeyRing) -> SqlStore:
    """A ready store. SQLite is brought to the newest revision; a server's schema is the operator's to upgrade.

    Raises ConfigError for a schema of another revision, KeyMismatch when rows exist that the key
    does not open, StoreUnavailable when the database does not answer.
    """
    if url.startswith("sqlite"):
        await asyncio.to_thread(migrate.upgrade, url)
        store: SqlStore = SqliteStore(url, keys)
    else:
        current, newest = await asyncio.to_thread(lambda: (migrate.current(url), migrate.newest()))
        if current != newest:
            raise ConfigError(
                f"the database is at revision {current or 'none'}, this program needs {newest}: "
                "run `xinyu db upgrade`"
            )
        store = MysqlStore(url, keys)
    try:
        data_key = await store.read(lambda tx: tx.any_data_key())
        if data_key is not None:
            keys.check(data_key)
    except (ConfigError, StoreUnavailable):
        await store.close()
        raise
    return store
