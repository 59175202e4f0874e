"""The store on both databases: every test of this folder that asks for `store` runs on SQLite and on MariaDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from core.ports import Store
from tests.databases import Database, mariadb_database, sqlite_database
from tests.services import MariaDb


@pytest.fixture(scope="session")
def migrated_mariadb(mariadb: MariaDb) -> Database:
    return mariadb_database(mariadb)


@pytest.fixture(params=["sqlite", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database of the newest revision."""
    if request.param == "sqlite":
        yield sqlite_database(request.getfixturevalue("tmp_path"))
    else:
        database: Database = request.getfixturevalue("migrated_mariadb")
        database.empty()
        yield database


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with database.opened() as store:
        yield store


@pytest.fixture
async def other_store(database: Database, store: Store) -> AsyncIterator[Store]:
    """The same database as a second process has it open."""
    async with database.opened() as other:
        yield other
