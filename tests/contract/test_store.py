"""core.ports.Store on both databases: a unit of work is stored whole or not at all, and the caller knows which."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import StatementError

from core.errors import StoreUnavailable
from core.messages import Platform
from core.ports import Accepted, Store, Transaction
from storage.sql import mysql, sqlite
from tests.databases import (
    NOW,
    Database,
    accept,
    accept_one,
    answer,
    claim,
    mariadb_database,
    message,
    sqlite_database,
)
from tests.services import MariaDb


class _Trouble(Exception):
    """What a unit of a test raises."""


# --- whole or not at all ------------------------------------------------------------------------


async def test_a_unit_that_raises_stores_nothing(store: Store) -> None:
    def unit(tx: Transaction) -> NoReturn:
        tx.inbox.add([message("e1")], NOW)
        raise _Trouble

    with pytest.raises(_Trouble):
        await store.write(unit)
    assert not (await accept_one(store, "e1")).duplicate


async def test_units_that_commit_together_stand_or_fall_alone(store: Store) -> None:
    """SQLite commits what waits together as one."""

    def unit(tx: Transaction, number: int) -> Accepted:
        (accepted,) = tx.inbox.add([message(f"e{number}")], NOW)
        assert accepted is not None
        if number % 3 == 0:
            raise _Trouble
        return accepted

    done = await asyncio.gather(
        *(store.write(lambda tx, number=number: unit(tx, number)) for number in range(60)),  # type: ignore[misc]
        return_exceptions=True,
    )
    assert [isinstance(one, _Trouble) for one in done] == [number % 3 == 0 for number in range(60)]
    stored = [one for one in done if isinstance(one, Accepted)]
    pending = await store.read(lambda tx: tx.inbox.pending(stored[0].conversation_id))
    assert {one.inbox_id for one in pending} == {one.inbox_id for one in stored}


async def test_a_statement_that_fails_is_its_own_units_matter(store: Store) -> None:
    done = await asyncio.gather(
        accept_one(store, "e1"),
        accept_one(store, "x" * 300),
        accept_one(store, "e2"),
        return_exceptions=True,
    )
    assert [type(one) for one in done] == [Accepted, StatementError, Accepted]


async def test_what_one_process_stored_another_sees_at_once(store: Store, other_store: Store) -> None:
    for number in range(10):
        accepted = await accept_one(store, f"e{number}", str(number))
        assert await other_store.read(lambda tx, a=accepted: tx.inbox.text_of(a.inbox_id)) == str(number)  # type: ignore[misc]


async def test_a_unit_reads_what_it_wrote(store: Store) -> None:
    def unit(tx: Transaction) -> str | None:
        (accepted,) = tx.inbox.add([message("e1", "刚说的")], NOW)
        assert accepted is not None
        return tx.inbox.text_of(accepted.inbox_id)

    assert await store.write(unit) == "刚说的"


async def test_rows_outlive_the_store_that_wrote_them(database: Database) -> None:
    async with database.opened() as store:
        accepted = await accept_one(store, "e1", "还在吗")
        await answer(store, accepted.conversation_id, "在")
    async with database.opened() as store:
        history = await store.read(lambda tx: tx.conversations.history(Platform.TELEGRAM, "room", None, 9))
    assert [one.text for one in history] == ["还在吗", "在"]


# --- times --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment",
    [
        NOW,
        NOW.replace(microsecond=0),
        NOW.replace(microsecond=999_999),
        NOW.replace(microsecond=1),
        NOW.astimezone(timezone(timedelta(hours=-9, minutes=-30))),
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),  # not there in Berlin's summer time
    ],
)
async def test_times_keep_their_microseconds_and_come_back_as_utc(store: Store, moment: datetime) -> None:
    (accepted,) = await accept(store, message("e1", sent_at=moment), now=moment)
    (pending,) = await store.read(lambda tx: tx.inbox.pending(accepted.conversation_id))
    assert pending.received_at == pending.message.sent_at == moment
    assert pending.received_at.tzinfo is UTC
    assert pending.received_at.microsecond == moment.microsecond


async def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(StatementError, match="zone"):
        await accept(store, message("e1"), now=NOW.replace(tzinfo=None))


# --- callers that go away -----------------------------------------------------------------------


async def test_callers_that_give_up_leave_nothing_locked(store: Store) -> None:
    """More of them than there are connections; each at another moment of its unit."""
    chance = random.Random(7)

    async def hurried(number: int) -> None:
        async with asyncio.timeout(chance.uniform(0.0, 0.02)):
            await accept_one(store, f"e{number}")

    done = await asyncio.gather(*(hurried(number) for number in range(80)), return_exceptions=True)
    assert {type(one) for one in done} <= {type(None), TimeoutError}
    assert TimeoutError in {type(one) for one in done}
    accepted = await asyncio.gather(*(accept_one(store, f"e{number}") for number in range(80)))
    pending = await store.read(lambda tx: tx.inbox.pending(accepted[0].conversation_id))
    assert len(pending) == 80


# --- SQLite: somebody else has the file ---------------------------------------------------------


@pytest.fixture
def impatient_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0)
    yield sqlite_database(tmp_path)


async def test_a_locked_file_is_unavailable_for_writing_until_it_is_free(impatient_sqlite: Database) -> None:
    async with impatient_sqlite.opened() as store:
        accepted = await accept_one(store, "e1")
        with closing(sqlite3.connect(impatient_sqlite.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            done = await asyncio.gather(
                *(accept_one(store, f"e{n}") for n in range(2, 9)), return_exceptions=True
            )
            assert all(isinstance(one, StoreUnavailable) for one in done)
            assert await store.read(lambda tx: tx.inbox.text_of(accepted.inbox_id)) == "你好"
            other.execute("ROLLBACK")
        assert not (await accept_one(store, "e2")).duplicate


async def test_a_full_disk_acknowledges_nothing_that_it_did_not_keep(tmp_path: Path) -> None:
    database = sqlite_database(tmp_path)
    async with database.opened() as store:
        await accept_one(store, "first")
    (pages,) = database.rows("PRAGMA page_count")[0]

    def limit(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 30}").close()

    event.listen(Engine, "connect", limit)
    try:
        async with database.opened() as store:
            done = await asyncio.gather(
                *(accept_one(store, f"e{n}", "心" * 1500) for n in range(60)), return_exceptions=True
            )
    finally:
        event.remove(Engine, "connect", limit)
    kept = {row[0] for row in database.rows("SELECT id FROM inbox")}
    refused = [one for one in done if not isinstance(one, Accepted)]
    assert refused and all(isinstance(one, StoreUnavailable) for one in refused)
    acknowledged = {one.inbox_id for one in done if isinstance(one, Accepted)}
    assert len(kept) - 1 == len(acknowledged)
    assert acknowledged <= kept
    async with database.opened() as store:
        assert not (await accept_one(store, "there is room again")).duplicate


async def test_a_closed_store_finishes_what_was_handed_in(tmp_path: Path) -> None:
    database = sqlite_database(tmp_path)
    async with database.opened() as store:
        writing = [asyncio.create_task(accept_one(store, f"e{n}")) for n in range(40)]
        await asyncio.sleep(0)  # so that each is in the queue
    accepted = await asyncio.gather(*writing)
    assert len(database.rows("SELECT id FROM inbox")) == len(accepted) == 40
    with pytest.raises(StoreUnavailable):
        await accept_one(store, "after")


# --- MariaDB: it dies, or does not answer -------------------------------------------------------


@pytest.fixture
def fallible_mariadb(mariadb: MariaDb) -> Iterator[Database]:
    """A database whose server the test may kill or pause."""
    yield mariadb_database(mariadb)
    if mariadb.running:
        mariadb.resume()
    mariadb.start()


async def test_a_killed_server_is_unavailable_and_then_there_again(fallible_mariadb: Database) -> None:
    server = fallible_mariadb.server
    assert server is not None
    async with fallible_mariadb.opened() as store:
        accepted = await accept_one(store, "e1", "别走")
        await claim(store, accepted.conversation_id)
        server.kill()
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await accept_one(store, "e2")
            with pytest.raises(StoreUnavailable):
                await store.read(lambda tx: tx.inbox.text_of(accepted.inbox_id))
        server.start()
        assert await store.read(lambda tx: tx.inbox.text_of(accepted.inbox_id)) == "别走"
        assert await store.read(lambda tx: tx.conversations.lease_owners()) == ["me"]
        assert not (await accept_one(store, "e2")).duplicate


async def test_a_server_that_is_away_at_the_start_is_unavailable(fallible_mariadb: Database) -> None:
    server = fallible_mariadb.server
    assert server is not None
    server.kill()
    with pytest.raises(StoreUnavailable):
        async with fallible_mariadb.opened():
            raise AssertionError


async def test_what_a_server_acknowledged_outlives_kill_9_under_load(fallible_mariadb: Database) -> None:
    server = fallible_mariadb.server
    assert server is not None
    acknowledged: list[str] = []
    enough = asyncio.Event()
    goal, broke = 0, 0

    async def keep_writing(store: Store, writer: int) -> None:
        nonlocal broke
        for number in range(100_000):
            event_id = f"{writer}/{number}"
            try:
                await accept_one(store, event_id, chat_id=f"chat {writer}", sender_id=f"sender {writer}")
            except StoreUnavailable:
                broke += 1
                await asyncio.sleep(0.01)
                continue
            acknowledged.append(event_id)
            if len(acknowledged) >= goal:
                enough.set()

    async def until(count: int) -> None:
        nonlocal goal
        goal = count
        enough.clear()
        await enough.wait()

    async with fallible_mariadb.opened() as store:
        writers = [asyncio.create_task(keep_writing(store, writer)) for writer in range(12)]
        for _ in range(3):
            await until(len(acknowledged) + 60)
            server.kill()
            await asyncio.to_thread(server.start)
        await until(len(acknowledged) + 60)
        for writer in writers:
            writer.cancel()
        ended = await asyncio.gather(*writers, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in ended)
    assert broke > 0
    stored = [bytes(row[0]).decode() for row in fallible_mariadb.rows("SELECT event_id FROM inbox")]
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)


@pytest.mark.parametrize("in_flight", [False, True])
async def test_a_server_that_does_not_answer_is_given_up_and_recovers(
    fallible_mariadb: Database, monkeypatch: pytest.MonkeyPatch, in_flight: bool
) -> None:
    """Many give up at the same moment: each hands its connection to one that is giving up, too."""
    server, callers = fallible_mariadb.server, 3 * mysql.CONNECTIONS
    assert server is not None
    async with fallible_mariadb.opened() as store:
        for attempt in range(6):
            monkeypatch.setattr(mysql, "ANSWER_SECONDS", 0.3)
            if not in_flight:
                server.pause()
            writing = [asyncio.create_task(accept_one(store, f"{attempt}/{n}")) for n in range(callers)]
            if in_flight:
                await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
                server.pause()
            try:
                _, hung = await asyncio.wait(writing, timeout=20)
            finally:
                server.resume()
            assert not hung
            gave_up = [task for task in writing if isinstance(task.exception(), StoreUnavailable)]
            assert all(task.exception() is None for task in writing if task not in gave_up)
            assert in_flight or gave_up == writing
            monkeypatch.undo()
            accepted = await asyncio.gather(*(accept_one(store, f"{attempt}/{n}") for n in range(callers)))
            assert len({one.inbox_id for one in accepted}) == callers
