"""The schema up and down on both databases: whole or not at all, by one process at a time, keeping what is there."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from core.errors import ConfigError
from core.messages import Platform
from core.ports import Transaction
from storage.keys import KeyRing
from storage.sql import migrate, revision
from storage.sql.models import Table
from tests.databases import (
    LEASE,
    MASTER_KEY,
    NOW,
    Database,
    accept_one,
    answer,
    claim_deliveries,
    deliveries_of,
)
from tests.services import MariaDb

PROCESSES = 4
LATER = NOW + LEASE


@pytest.fixture(params=["sqlite", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without a schema."""
    if request.param == "sqlite":
        yield Database(f"sqlite:///{tmp_path / 'deep' / 'xinyu.db'}", KeyRing(MASTER_KEY))
    else:
        server: MariaDb = request.getfixturevalue("mariadb")
        yield Database(server.fresh_database(), KeyRing(MASTER_KEY), server)


def test_up_down_and_up_again(database: Database) -> None:
    assert revision.current(database.url) is None
    migrate.upgrade(database.url)
    assert revision.current(database.url) == revision.newest()
    assert _tables(database) == {*Table.metadata.tables, "alembic_version"}
    migrate.downgrade(database.url, "base")
    assert revision.current(database.url) is None
    assert _tables(database) == {"alembic_version"}
    migrate.upgrade(database.url)
    migrate.upgrade(database.url)
    assert _tables(database) == {*Table.metadata.tables, "alembic_version"}


def test_each_revision_goes_up_and_down_by_itself(database: Database) -> None:
    scripts = ScriptDirectory(str(revision.MIGRATIONS))
    assert revision.newest() == scripts.get_current_head(), "names and Alembic's chain agree"
    for script in reversed(list(scripts.walk_revisions())):
        migrate.upgrade(database.url, script.revision)
        migrate.downgrade(database.url, script.down_revision or "base")  # type: ignore[arg-type]
        migrate.upgrade(database.url, script.revision)
        assert revision.current(database.url) == script.revision


def test_models_and_migrations_agree(database: Database) -> None:
    migrate.upgrade(database.url)
    engine = revision.blocking_engine(database.url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
    engine.dispose()


async def test_an_upgrade_keeps_what_is_there(database: Database) -> None:
    migrate.upgrade(database.url)
    async with database.opened() as store:
        accepted = await accept_one(store, "e1", "还在吗")
        await answer(store, accepted.conversation_id, "在")
        await deliveries_of(store, "e2", "一")
    before = _rows(database)
    migrate.upgrade(database.url)
    assert _rows(database) == before
    async with database.opened() as store:
        history = await store.read(lambda tx: tx.conversations.history(Platform.TELEGRAM, "room", None, 9))
    assert [one.text for one in history] == ["还在吗", "在"]


async def test_what_rides_on_responses_survives_the_way_back_and_up_again(database: Database) -> None:
    """0003: nothing unsent is stuck in an older program, and no sent words are left that it would never empty."""
    migrate.upgrade(database.url)
    async with database.opened() as store:
        held, riding, arrived, sent = [await deliveries_of(store, event, event) for event in "abcd"]
        await store.write(lambda tx: tx.deliveries.hold(held, "window_closed", NOW))
        for here in (riding, arrived):
            found = await store.read(lambda tx, here=here: tx.deliveries.passable(here, "e", NOW))  # type: ignore[misc]
            ids = [one.id for one in found.deliveries]
            await store.write(partial(_pass_on, here, ids))
        await store.write(lambda tx: tx.deliveries.mark_passed(arrived, "e", NOW, LATER))
        (one,) = await claim_deliveries(store, sent)
        await store.write(lambda tx: tx.deliveries.mark_sent(one.id, "42", NOW, LATER))
        accepted = await accept_one(store, "e")
        await store.write(lambda tx: tx.inbox.try_again(accepted.inbox_id))
    migrate.downgrade(database.url, "0002")
    states = database.rows("SELECT conversation_id, state FROM deliveries")
    assert {row[0]: row[1] for row in states} == {
        held: "pending",
        riding: "pending",
        arrived: "sent",
        sent: "sent",
    }
    kept = database.rows("SELECT conversation_id FROM deliveries WHERE LENGTH(body) > 0")
    assert {row[0] for row in kept} == {held, riding}
    migrate.upgrade(database.url)
    async with database.opened() as store:
        tried = await store.write(lambda tx: tx.inbox.try_again(accepted.inbox_id))
        assert tried is not None and tried.times == 2, "counted from the first again"
        due = await store.read(lambda tx: tx.deliveries.conversations_due("me", LATER, 9))
        assert set(due) == {held, riding}
        for here in (held, riding):
            assert len(await claim_deliveries(store, here, now=LATER)) == 1
        for here in (arrived, sent):
            assert await claim_deliveries(store, here, now=LATER) == []


async def test_how_far_something_got_is_not_known_after_the_way_back(database: Database) -> None:
    """0004: an older program did not look, so a mark from before it would be a lie."""
    migrate.upgrade(database.url)
    async with database.opened() as store:
        await store.write(lambda tx: tx.marks.set("seen", NOW))
        await accept_one(store, "e1", "还在吗")
    before = _rows(database)
    migrate.downgrade(database.url, "0003")
    assert "marks" not in _tables(database)
    migrate.upgrade(database.url)
    async with database.opened() as store:
        assert await store.read(lambda tx: tx.marks.get("seen")) is None
    assert set(_rows(database)) < set(before), "nothing else went with it"
    assert len(_rows(database)) == len(before) - 1


async def test_a_revision_of_a_newer_program_is_refused(database: Database) -> None:
    migrate.upgrade(database.url)
    database.change("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match=r"9999.*newer version"):
        async with database.opened():
            raise AssertionError
    with pytest.raises(ConfigError, match=r"9999.*newer version"):
        migrate.upgrade(database.url)
    with pytest.raises(ConfigError, match=r"9999.*newer version"):
        migrate.downgrade(database.url, "base")
    assert _tables(database) == {*Table.metadata.tables, "alembic_version"}


def test_a_way_back_to_a_revision_that_is_not_there_is_refused(database: Database) -> None:
    migrate.upgrade(database.url)
    with pytest.raises(ConfigError, match="nonsense"):
        migrate.downgrade(database.url, "nonsense")


async def test_a_servers_schema_is_the_operators_to_upgrade(mariadb: MariaDb) -> None:
    database = Database(mariadb.fresh_database(), KeyRing(MASTER_KEY), mariadb)
    with pytest.raises(ConfigError, match="xinyu db upgrade"):
        async with database.opened():
            raise AssertionError
    assert _tables(database) == set()


@pytest.mark.parametrize("_round", range(3))
def test_processes_that_upgrade_at_once_do_not_harm_each_other(database: Database, _round: int) -> None:
    assert _race(_upgrade, database) == [""] * PROCESSES
    assert revision.current(database.url) == revision.newest()
    assert _tables(database) == {*Table.metadata.tables, "alembic_version"}


def test_processes_that_start_on_a_new_file_at_once_all_work(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'xinyu.db'}", KeyRing(MASTER_KEY))
    assert _race(_start, database) == [""] * PROCESSES
    assert len(database.rows("SELECT id FROM inbox")) == PROCESSES


def test_a_migration_that_breaks_leaves_a_file_as_it_was(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'xinyu.db'}", KeyRing(MASTER_KEY))
    database.change("CREATE TABLE model_usage (other INTEGER)")
    with pytest.raises(Exception, match="model_usage"):
        migrate.upgrade(database.url)
    assert _tables(database) == {"model_usage"}


# --- processes of their own ---------------------------------------------------------------------


def _race(what: object, database: Database) -> list[str]:
    """Run it in several processes at the same moment; how each ended: "" or its exception."""
    spawn = multiprocessing.get_context("spawn")
    barrier, ends = spawn.Barrier(PROCESSES), spawn.SimpleQueue()
    racers = [
        spawn.Process(target=_racer, args=(what, database.url, number, barrier, ends), daemon=True)
        for number in range(PROCESSES)
    ]
    for racer in racers:
        racer.start()
    ended = [ends.get() for _ in racers]
    for racer in racers:
        racer.join()
    return ended


def _racer(what, url: str, number: int, barrier: Barrier, ends) -> None:  # type: ignore[no-untyped-def]
    try:
        barrier.wait(60)
        what(url, number)
        ends.put("")
    except BaseException as error:  # noqa: BLE001 - it is the test's to judge
        ends.put(repr(error))


def _upgrade(url: str, _number: int) -> None:
    migrate.upgrade(url)


def _start(url: str, number: int) -> None:
    async def use() -> None:
        async with Database(url, KeyRing(MASTER_KEY)).opened() as store:
            await accept_one(store, f"e{number}")

    asyncio.run(use())


# --- looks --------------------------------------------------------------------------------------


def _pass_on(here: int, ids: list[int], tx: Transaction) -> None:
    tx.deliveries.pass_on(here, "e", ids, NOW, LATER, rest_due=False)


def _tables(database: Database) -> set[str]:
    engine = revision.blocking_engine(database.url)
    with engine.connect() as connection:
        names = set(inspect(connection).get_table_names())
    engine.dispose()
    return names


def _rows(database: Database) -> list[object]:
    return [tuple(row) for name in Table.metadata.tables for row in database.rows(f"SELECT * FROM {name}")]
