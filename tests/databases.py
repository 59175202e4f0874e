"""The two databases that the store's tests run on, and the few rows that most of them begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from core.ids import new_id
from core.messages import ChatMessage, Delivery, IncomingMessage, Platform, Role, Segment, Source
from core.model.events import ModelUsage
from core.ports import Accepted, ClaimedConversation, Pending, Store, TurnResult
from core.wording import sayings
from storage.keys import KEY_BYTES, KeyRing
from storage.sql import migrate, revision
from storage.sql.models import Table
from storage.sql.open import SqlStore, open_store
from tests.services import MariaDb

NOW = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)
LEASE = timedelta(seconds=30)
MASTER_KEY = bytes(range(KEY_BYTES))


@dataclass(frozen=True)
class Database:
    """A migrated database and the master key of its rows."""

    url: str
    keys: KeyRing
    server: MariaDb | None = None
    """None: SQLite."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SqlStore]:
        """A store as one process has it: each has its own."""
        store = await open_store(self.url, self.keys)
        try:
            yield store
        finally:
            await store.close()

    @property
    def file(self) -> Path:
        assert self.server is None
        return Path(self.url.removeprefix("sqlite:///"))

    def rows(self, query: str, **values: Any) -> Sequence[Any]:
        """What a query finds, beside every store."""
        engine = revision.blocking_engine(self.url)
        try:
            with engine.connect() as connection:
                return connection.execute(text(query), values).all()
        finally:
            engine.dispose()

    def change(self, *statements: str, **values: Any) -> None:
        """Change rows as no store would."""
        engine = revision.blocking_engine(self.url)
        try:
            with engine.begin() as connection:
                for statement in statements:
                    connection.execute(text(statement), values)
        finally:
            engine.dispose()

    def empty(self) -> None:
        """Delete every row; the schema stays."""
        self.change(*(f"DELETE FROM {table.name}" for table in reversed(Table.metadata.sorted_tables)))


def sqlite_database(folder: Path) -> Database:
    return Database(f"sqlite:///{folder / 'xinyu.db'}", KeyRing(MASTER_KEY))


def mariadb_database(server: MariaDb) -> Database:
    database = Database(server.fresh_database(), KeyRing(MASTER_KEY), server)
    migrate.upgrade(database.url)
    return database


# --- rows ---------------------------------------------------------------------------------------


def message(event: str, said: str = "你好", **changes: Any) -> IncomingMessage:
    """A message of sender 'ann' in the chat 'room'."""
    plain = IncomingMessage(
        platform=Platform.TELEGRAM,
        event_id=event,
        chat_id="room",
        sender_id="ann",
        text=said,
        sent_at=NOW,
    )
    return replace(plain, **changes)


async def accept(store: Store, *messages: IncomingMessage, now: datetime = NOW) -> list[Accepted]:
    return [one for one in await store.write(lambda tx: tx.inbox.add(messages, now)) if one is not None]


async def accept_one(store: Store, event_id: str, said: str = "你好", **changes: Any) -> Accepted:
    (accepted,) = await accept(store, message(event_id, said, **changes))
    return accepted


async def try_claim(
    store: Store, conversation_id: int, owner: str = "me", now: datetime = NOW, window: int = 40
) -> ClaimedConversation | None:
    return await store.write(
        lambda tx: tx.conversations.claim(conversation_id, owner, now, now + LEASE, window)
    )


async def claim(
    store: Store, conversation_id: int, owner: str = "me", now: datetime = NOW, window: int = 40
) -> ClaimedConversation:
    claimed = await try_claim(store, conversation_id, owner, now, window)
    assert claimed is not None
    return claimed


def turn_of(claimed: ClaimedConversation, said: str = "我在听。", **changes: Any) -> TurnResult:
    """An answer of 'me' to all that is pending in a claimed conversation."""
    turn_id = new_id()
    first: Pending = (*claimed.pending, *claimed.deferred)[0]
    plain = TurnResult(
        turn_id=turn_id,
        conversation_id=claimed.id,
        owner="me",
        addressee=first,
        answered=claimed.pending,
        late=(),
        moved_on=(),
        said=tuple(
            ChatMessage(
                saying.first.inbox_id,
                turn_id,
                Role.USER,
                saying.kept,
                Source.PERSON,
                saying.first.received_at,
            )
            for saying in sayings(claimed.pending)
        ),
        reply=ChatMessage(new_id(), turn_id, Role.ASSISTANT, said, Source.MODEL, NOW),
        segments=(),
        defer=False,
        usage=None,
        finished_at=NOW,
    )
    return replace(plain, **changes)


async def commit(store: Store, result: TurnResult) -> TurnResult:
    await store.write(lambda tx: tx.turns.commit(result))
    return result


async def answer(store: Store, conversation_id: int, said: str = "我在听。", **changes: Any) -> TurnResult:
    """Claim a conversation and commit a turn that answers what is pending."""
    return await commit(store, turn_of(await claim(store, conversation_id), said, **changes))


async def deliveries_of(store: Store, event_id: str, *texts: str, now: datetime = NOW) -> int:
    """A conversation (a chat of its own) with these replies on their way out."""
    accepted = await accept_one(store, event_id, chat_id=f"chat of {event_id}")
    segments = tuple(Segment(piece) for piece in texts)
    await answer(store, accepted.conversation_id, segments=segments, finished_at=now)
    return accepted.conversation_id


async def claim_deliveries(
    store: Store, conversation_id: int, owner: str = "me", now: datetime = NOW
) -> list[Delivery]:
    return await store.write(lambda tx: tx.deliveries.claim(conversation_id, owner, now, now + LEASE))


def usage(**changes: Any) -> ModelUsage:
    plain = ModelUsage(
        model="qwen-plus",
        prompt_tokens=321,
        cached_tokens=256,
        completion_tokens=45,
        estimated=False,
        first_token_ms=420,
        total_ms=1900,
        cost=None,
        currency=None,
    )
    return replace(plain, **changes)
