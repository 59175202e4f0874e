"""Every statement that the store sends finds its rows by an index, on both databases, when the tables are big.

The statements are recorded while a scenario calls each method of core.ports; then the database is
asked how it would run them. What may scan or sort all the same is listed with its reason.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, insert

from core import ports
from core.errors import LeaseLost
from core.ids import new_id
from core.messages import (
    ConversationKind,
    Deleted,
    DeliveryState,
    Edited,
    IncomingMessage,
    Left,
    Moved,
    Platform,
    Reacted,
    Segment,
)
from core.ports import Pending, Seen, Store
from core.settings import ConversationSettings, PersonSettings
from storage.sql import revision
from storage.sql.models import (
    ChatMessageRow,
    Conversation,
    DeliveryRow,
    Identity,
    InboxMessage,
    ModelUsageRow,
    Table,
    User,
)
from tests.databases import (
    LEASE,
    NOW,
    Database,
    accept,
    mariadb_database,
    message,
    sqlite_database,
    turn_of,
    usage,
)

PEOPLE = 2000
TURNS = 3
"""Of each person, long answered."""
GROWING = {table.name for table in Table.metadata.sorted_tables} - {"api_keys", "marks"}
"""An operator makes a handful of keys, and there is a mark or two; everything else grows with the people who write."""
LATER = NOW + LEASE + timedelta(seconds=1)


@dataclass(frozen=True)
class Allowed:
    """A scan or a sort that is all right."""

    statement: str
    """What the statement matches."""
    remark: str
    """What the plan says, as `_remarks` names it."""
    reason: str
    statistics: bool = False
    """Only a database with statistics says so: it knows that nearly all there is would be read anyway."""


WORK_AT_HAND = "sorts only what waits now: conversations with a message or a delivery that is due"
AT_A_START = "asked when a gateway is connected anew: one platform's conversations, here nearly all"
ALLOWED = (
    Allowed(r"^SELECT users\.data_key FROM users LIMIT", "scan users", "stops at the first row"),
    Allowed(r"GROUP BY inbox\.conversation_id ORDER BY min", "sort", WORK_AT_HAND),
    Allowed(r"FROM deliveries .* GROUP BY .* ORDER BY min", "sort", WORK_AT_HAND),
    Allowed(r"ORDER BY deliveries\.urgent DESC", "sort", "what is unsent in one conversation"),
    Allowed(r"inbox\.state IN .* ORDER BY inbox\.id$", "sort", "what waits in one conversation"),
    Allowed(r"SELECT max\(inbox\.id\)", "sort", AT_A_START),
    Allowed(r"SELECT max\(inbox\.id\)", "scan conversations", AT_A_START, statistics=True),
    Allowed(r"^SELECT conversations\.chat_id FROM", "scan conversations", AT_A_START, statistics=True),
)


@dataclass(frozen=True)
class Sent:
    """A statement as the driver got it."""

    text: str
    values: Any

    @property
    def shape(self) -> str:
        """Without what differs from call to call."""
        return re.sub(r"\s+", " ", re.sub(r"\((?:(?:\?|%s|_binary %s)(?:, )?)+\)", "(…)", self.text)).strip()


@pytest.fixture(params=["sqlite", "sqlite, analyzed", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """SQLite has no statistics unless somebody runs ANALYZE, and plans differently with them."""
    if request.param.startswith("sqlite"):
        return sqlite_database(tmp_path)
    return mariadb_database(request.getfixturevalue("mariadb"))


@pytest.fixture
def sent() -> Iterator[list[Sent]]:
    """What every engine of this process sends meanwhile."""
    statements: list[Sent] = []

    def note(_c: Any, _cursor: Any, text: str, values: Any, _context: Any, many: bool) -> None:
        if not many:
            statements.append(Sent(text, values))

    event.listen(Engine, "before_cursor_execute", note)
    yield statements
    event.remove(Engine, "before_cursor_execute", note)


async def test_every_query_is_answered_by_an_index(
    request: pytest.FixtureRequest, database: Database, sent: list[Sent]
) -> None:
    async with database.opened():
        pass  # SQLite makes its schema now
    _fill(database)
    if "analyzed" in request.node.name:
        database.change("ANALYZE")
    sent.clear()
    async with database.opened() as store:  # what is asked at the start counts too
        await _scenario(store)
    queries = {one.shape: one for one in sent if _is_of_ours(one)}
    assert len(queries) > 25
    used: set[Allowed] = set()
    problems = []
    engine = revision.blocking_engine(database.url)
    with engine.connect() as connection:
        for shape, query in queries.items():
            for remark in _remarks(connection, query):
                allowed = [one for one in ALLOWED if one.remark == remark and re.search(one.statement, shape)]
                used.update(allowed)
                if not allowed:
                    problems.append(f"{remark}: {shape}\n    {_plan(connection, query)}")
        connection.rollback()
    engine.dispose()
    assert not problems, "\n\n".join(problems)
    if database.server is None:  # it needs all of them: one that nothing needs any more is to be removed
        analyzed = "analyzed" in request.node.name
        assert used == {one for one in ALLOWED if analyzed or not one.statistics}


def test_the_scenario_calls_every_method_of_the_ports() -> None:
    parts = (
        _scenario,
        _what_rides_on_responses,
        _what_happens_in_chats,
        _what_happens_in_places,
        _what_people_ask_for,
    )
    source = "".join(inspect.getsource(part) for part in parts)
    missing = [
        f"tx.{group}.{method}("
        for group, protocol in (
            ("inbox", ports.InboxRows),
            ("conversations", ports.ConversationRows),
            ("turns", ports.TurnRows),
            ("deliveries", ports.DeliveryRows),
            ("people", ports.PeopleRows),
            ("feedback", ports.FeedbackRows),
            ("marks", ports.MarkRows),
            ("api_keys", ports.ApiKeyRows),
        )
        for method, _ in inspect.getmembers(protocol, inspect.isfunction)
        if not method.startswith("_") and f"tx.{group}.{method}(" not in source
    ]
    assert not missing


def test_every_index_is_used_by_something() -> None:
    """One for a foreign key serves the deletion of what it points to."""
    named = {
        "ix_conversations_lease_owner",
        "ix_inbox_state_conversation",
        "ix_inbox_conversation_state",
        "ix_chat_messages_conversation",
        "ix_chat_messages_turn",
        "ix_deliveries_due",
        "ix_deliveries_conversation",
        "ix_deliveries_lease_owner",
        "ix_deliveries_platform_message",
        "ix_deliveries_passed_with",
        "ix_deliveries_keep_until",
        "ix_inbox_platform_message",
        "ix_feedback_turn",
        "ix_users_erase_at",
    }
    indexes = {index for table in Table.metadata.sorted_tables for index in table.indexes}
    others = {index for index in indexes if index.name not in named}
    assert {str(index.name) for index in indexes - others} == named
    for index in others:
        assert all(column.foreign_keys for column in index.columns), index.name


# --- the scenario -------------------------------------------------------------------------------


async def _scenario(store: Store) -> None:
    """Every method of every port, on conversations new and old."""
    old = [message(f"event 5/{turn}", chat_id="chat 5", sender_id="sender 5") for turn in range(TURNS)]
    new = [message(f"new {n}", chat_id=f"chat {n}", sender_id=f"sender {n}") for n in (1, 2, PEOPLE + 1)]
    await store.write(lambda tx: tx.inbox.add([*old, *new], NOW))
    accepted = await accept(store, *new, message("also new"))
    conversation_id, inbox_id = accepted[0].conversation_id, accepted[0].inbox_id
    others = [one.conversation_id for one in accepted[1:]]
    await store.read(lambda tx: tx.inbox.pending(conversation_id))
    await store.read(lambda tx: tx.inbox.news(conversation_id, inbox_id))
    await store.read(lambda tx: tx.inbox.text_of(inbox_id))
    await store.read(lambda tx: tx.inbox.conversations_waiting("me", NOW, 64))
    await store.read(lambda tx: tx.inbox.conversations_deferred("me", NOW - LEASE, NOW, 64))
    settings = ConversationSettings(burst_quiet_seconds=1.0)
    await store.write(lambda tx: tx.conversations.update_settings(conversation_id, settings))

    claimed = await store.write(lambda tx: tx.conversations.claim(conversation_id, "me", NOW, LATER, 40))
    assert claimed is not None
    await store.write(lambda tx: tx.conversations.renew("me", [conversation_id, *others], LATER))
    result = turn_of(
        claimed, segments=(Segment("一"), Segment("二"), Segment("三")), usage=usage(), defer=True
    )
    await store.write(lambda tx: tx.turns.commit(result))
    with pytest.raises(LeaseLost):
        await store.write(lambda tx: tx.turns.commit(result))
    again = await store.write(lambda tx: tx.conversations.claim(conversation_id, "me", NOW, LATER, 40))
    assert again is not None
    late = turn_of(again, late=again.deferred)
    await store.write(lambda tx: tx.turns.commit(late))
    await store.read(lambda tx: tx.inbox.outcome_of(inbox_id))
    nothing = await store.write(lambda tx: tx.conversations.claim(conversation_id, "me", NOW, LATER, 40))
    assert nothing is None

    await store.write(lambda tx: tx.conversations.claim(others[0], "me", NOW, LATER, 40))
    await store.write(lambda tx: tx.conversations.release(others[0], "me"))
    await store.write(lambda tx: tx.conversations.claim(others[0], "me", NOW, LATER, 40))
    await store.write(lambda tx: tx.conversations.postpone(others[0], "me", LATER))
    chat_id = new[0].chat_id
    newest = await store.read(lambda tx: tx.conversations.history(Platform.TELEGRAM, chat_id, None, 40))
    await store.read(lambda tx: tx.conversations.history(Platform.TELEGRAM, chat_id, newest[-1].id, 40))

    await store.read(lambda tx: tx.deliveries.conversations_due("me", LATER, 64))
    first, second, _ = await store.write(lambda tx: tx.deliveries.claim(conversation_id, "me", NOW, LATER))
    assert await store.write(lambda tx: tx.deliveries.claim(conversation_id, "other", NOW, LATER)) == []
    await store.write(lambda tx: tx.deliveries.renew("me", [conversation_id, *others], LATER))
    await store.write(lambda tx: tx.deliveries.mark_sent(first.id, "42", NOW))
    await store.write(lambda tx: tx.deliveries.mark_failed(second.id, "me", "timeout", LATER, NOW))
    assert await store.write(lambda tx: tx.deliveries.claim(conversation_id, "me", NOW, LATER)) == []
    await store.read(lambda tx: tx.conversations.lease_owners())
    await store.write(lambda tx: tx.conversations.release_all("me"))
    await store.write(lambda tx: tx.deliveries.bury_conversation(conversation_id, "gone", NOW))
    for state in DeliveryState:
        await store.read(lambda tx, state=state: tx.deliveries.list(state, 50))  # type: ignore[misc]
    await store.write(lambda tx: tx.deliveries.replay([second.id, first.id], NOW))

    await _what_rides_on_responses(store, chat_id)
    await _what_happens_in_chats(store, conversation_id, chat_id)
    await _what_happens_in_places(store)
    await _what_people_ask_for(store, claimed.pending[0], conversation_id)
    # Once more where something was said: of an erased person's chat a plan may think that there is nothing to sort.
    edited = message("edit 3", "改了", chat_id="chat 11", sender_id="sender 11", message_id="1")
    await store.write(lambda tx: tx.inbox.edit(Edited(edited), NOW))

    key = await store.write(lambda tx: tx.api_keys.add("a site", b"hash", frozenset({"chat"}), NOW))
    await store.read(lambda tx: tx.api_keys.find(b"hash"))
    await store.read(lambda tx: tx.api_keys.list())
    await store.write(lambda tx: tx.api_keys.mark_used(key.id, NOW))
    await store.write(lambda tx: tx.api_keys.revoke(key.id, NOW))


async def _what_rides_on_responses(store: Store, chat_id: str) -> None:
    (accepted,) = await accept(store, message("rides", chat_id=chat_id, sender_id="sender 1"))
    here = accepted.conversation_id
    assert await store.read(lambda tx: tx.inbox.is_waiting(accepted.inbox_id))
    assert await store.write(lambda tx: tx.inbox.try_again(accepted.inbox_id))
    claimed = await store.write(lambda tx: tx.conversations.claim(here, "me", NOW, LATER, 40))
    assert claimed is not None
    segments = (Segment("一"), Segment("二"), Segment("三"))
    await store.write(lambda tx: tx.turns.commit(turn_of(claimed, segments=segments, push_after=LATER)))
    assert await store.write(lambda tx: tx.deliveries.hold(here, "window_closed", NOW)) == 4
    assert await store.read(lambda tx: tx.deliveries.is_owed(here, "rides"))
    found = await store.read(lambda tx: tx.deliveries.passable(here, "rides", NOW))
    *rest, last = found.deliveries
    ids = [one.id for one in rest]
    await store.write(lambda tx: tx.deliveries.pass_on(here, "rides", ids, NOW, LATER, rest_due=True))
    assert (await store.read(lambda tx: tx.deliveries.passable(here, "rides", NOW))).again
    await store.write(lambda tx: tx.deliveries.mark_passed(here, "rides", NOW, LATER))
    await store.write(lambda tx: tx.deliveries.mark_sent(last.id, None, NOW, LATER))
    assert await store.read(lambda tx: tx.deliveries.kept(last.id, NOW)) == Segment("三")
    much_later = LATER + LEASE
    assert await store.read(lambda tx: tx.deliveries.has_kept(much_later))
    assert await store.write(lambda tx: tx.deliveries.forget_kept(much_later)) == len(found.deliveries)


async def _what_happens_in_chats(store: Store, conversation_id: int, chat_id: str) -> None:
    def said(event_id: str, text: str, **more: Any) -> IncomingMessage:
        return message(event_id, text, chat_id=chat_id, sender_id="sender 1", message_id="77", **more)

    await accept(store, said("edited", "一"))
    await store.write(lambda tx: tx.inbox.edit(Edited(said("edit 1", "二")), NOW))
    claimed = await store.write(lambda tx: tx.conversations.claim(conversation_id, "me", NOW, LATER, 40))
    assert claimed is not None
    await store.write(lambda tx: tx.conversations.set_preview(conversation_id, "me", "78"))
    await store.write(lambda tx: tx.turns.commit(turn_of(claimed, segments=(Segment("好"),))))
    await store.write(lambda tx: tx.inbox.edit(Edited(said("edit 2", "三")), NOW))
    sent = await store.write(lambda tx: tx.deliveries.claim(conversation_id, "me", NOW, LATER))
    await store.write(lambda tx: tx.deliveries.mark_sent(sent[0].id, "79", NOW))
    await store.read(lambda tx: tx.deliveries.sent_since([Platform.TELEGRAM], NOW - timedelta(minutes=1)))
    reacted = Reacted(Platform.TELEGRAM, chat_id, "sender 1", "79", ("👍",))
    assert await store.write(lambda tx: tx.feedback.react(reacted, "good", NOW))
    user_id = claimed.pending[0].user_id
    assert await store.write(lambda tx: tx.feedback.judge(conversation_id, user_id, "79", "bad", NOW))
    await store.write(lambda tx: tx.conversations.pause(conversation_id, NOW))
    await store.write(lambda tx: tx.conversations.begin_anew(conversation_id, new_id()))
    again = said("in the new window", "四")
    await accept(store, again)
    await store.write(lambda tx: tx.conversations.claim(conversation_id, "me", NOW, LATER, 40))
    platform = Platform.TELEGRAM
    await store.write(lambda tx: tx.conversations.set_reachable(platform, chat_id, reachable=False, now=NOW))
    group = message("in a group", chat_id="group", kind=ConversationKind.GROUP, addressed=False)
    assert await store.write(lambda tx: tx.inbox.add([group], NOW)) == [None]
    await accept(store, replace(group, addressed=True))
    moved = Moved(platform, "group", "supergroup")
    there = await store.write(lambda tx: tx.conversations.move(moved))
    await accept(store, replace(group, event_id="at the old place", addressed=True))
    assert await store.write(lambda tx: tx.conversations.move(moved)) == there, "both made one"


async def _what_happens_in_places(store: Store) -> None:
    """A server with a channel and a thread of it, and what is deleted and left there."""
    platform, thread = Platform.TELEGRAM, "server/1/2"

    def said(event_id: str, place: str, **more: Any) -> IncomingMessage:
        kind = ConversationKind.GROUP
        return message(event_id, chat_id=place, kind=kind, message_id=event_id, sender_id="sender 1", **more)

    (server,) = await accept(store, said("in a server", "server"))
    chosen = ConversationSettings(channels=("1",), hourly=2)
    await store.write(lambda tx: tx.conversations.update_settings(server.conversation_id, chosen))
    (there,) = await accept(store, said("in a thread", thread, addressed=False))
    assert await accept(store, said("beyond their share", thread, addressed=False)) == []
    here = there.conversation_id
    claimed = await store.write(lambda tx: tx.conversations.claim(here, "me", NOW, LATER, 40))
    assert claimed is not None
    await store.write(lambda tx: tx.turns.commit(turn_of(claimed, segments=(Segment("好"),))))
    sent = await store.write(lambda tx: tx.deliveries.claim(here, "me", NOW, LATER))
    await store.write(lambda tx: tx.deliveries.mark_sent(sent[0].id, "ours", NOW))
    user_id = claimed.pending[0].user_id
    liked = Reacted(platform, thread, "sender 1", "ours", ("👍",))
    assert await store.write(lambda tx: tx.feedback.react(liked, "good", NOW))
    taken_back = replace(liked, emojis=(), taken_back="👍")
    assert await store.write(lambda tx: tx.feedback.react(taken_back, "good", NOW))
    assert await store.write(lambda tx: tx.feedback.judge(here, user_id, "ours", "good", NOW))
    for gone, waited in (("ours", None), ("in a thread", None)):
        deleted = Deleted(platform, thread, (gone,))
        assert await store.write(lambda tx, event=deleted: tx.inbox.delete(event, NOW)) is waited  # type: ignore[misc]
    deleted = Deleted(platform, "server", ("in a server",))
    assert await store.write(lambda tx: tx.inbox.delete(deleted, NOW)) == server.conversation_id
    assert "server" in await store.read(lambda tx: tx.conversations.groups(platform))
    await accept(store, message("private", chat_id="chat 3", sender_id="sender 3", message_id="5"))
    seen = await store.read(lambda tx: tx.inbox.newest_seen(platform, NOW - timedelta(days=1), 100))
    assert Seen("chat 3", "private") in seen
    await store.write(lambda tx: tx.conversations.leave(Left(platform, "server"), NOW))
    await store.write(lambda tx: tx.conversations.forget_settings(platform, "server"))
    for _ in range(2):
        await store.write(lambda tx: tx.marks.set("seen", NOW))
    assert await store.read(lambda tx: tx.marks.get("seen")) == NOW


async def _what_people_ask_for(store: Store, by: Pending, here: int) -> None:
    settings = PersonSettings(time_zone="Asia/Tokyo")
    await store.write(lambda tx: tx.people.update_settings(by.user_id, settings))
    await store.read(lambda tx: tx.people.export(by.user_id))
    await store.read(lambda tx: tx.inbox.waiting_of(by.user_id))
    await store.write(lambda tx: tx.people.erase(by, NOW, here))
    assert await store.read(lambda tx: tx.people.is_leaving())
    assert await store.write(lambda tx: tx.people.erase_left(NOW)) == 1


def _fill(database: Database) -> None:
    """People who wrote some time ago, and the little that is going on now."""
    then = NOW - timedelta(days=30)
    rows: dict[type[Table], list[dict[str, Any]]] = {}
    for person in range(PEOPLE):
        user_id, conversation_id = new_id(), new_id()
        owner = {"user_id": user_id, "conversation_id": conversation_id}
        at, data_key = then + timedelta(minutes=person), database.keys.new_data_key()
        rows.setdefault(User, []).append({"id": user_id, "data_key": data_key, "created_at": at})
        rows.setdefault(Identity, []).append(
            {
                "id": new_id(),
                "user_id": user_id,
                "platform": "telegram",
                "platform_user_id": f"sender {person}",
                "created_at": at,
            }
        )
        leased = person % 400 == 0
        rows.setdefault(Conversation, []).append(
            {
                "id": conversation_id,
                "platform": "telegram",
                "chat_id": f"chat {person}",
                "kind": "private",
                "settings": {},
                "attempts": 0,
                "lease_owner": "another" if leased else None,
                "lease_until": LATER if leased else None,
                "created_at": at,
            }
        )
        for turn in range(TURNS):
            inbox_id, turn_id = new_id(), new_id()
            last = turn == TURNS - 1
            state = (
                "pending"
                if last and person % 100 == 7
                else "deferred"
                if last and person % 100 == 8
                else "done"
            )
            rows.setdefault(InboxMessage, []).append(
                {
                    "id": inbox_id,
                    "platform": "telegram",
                    "event_id": f"event {person}/{turn}",
                    "state": state,
                    "body": b"sealed" if state == "pending" else None,
                    "platform_message_id": f"{turn}",
                    "turn_id": None if state == "pending" else turn_id,
                    "received_at": at,
                    **owner,
                }
            )
            if state != "pending":
                rows.setdefault(ChatMessageRow, []).extend(
                    {
                        "id": id_,
                        "turn_id": turn_id,
                        "role": role,
                        "source": source,
                        "body": database.keys.seal(data_key, "说过的话" * 5, id_),
                        "created_at": at,
                        **owner,
                    }
                    for id_, role, source in (
                        (inbox_id, "user", "person"),
                        (new_id(), "assistant", "model"),
                    )
                )
                rows.setdefault(ModelUsageRow, []).append(
                    {"id": new_id(), "turn_id": turn_id, "created_at": at, **vars_of(usage()), **owner}
                )
            delivery = (
                "pending" if last and person % 100 == 9 else "dead" if last and person % 100 == 10 else "sent"
            )
            rows.setdefault(DeliveryRow, []).append(
                {
                    "id": new_id(),
                    "turn_id": turn_id,
                    "body": b"sealed" * 20,
                    "state": delivery,
                    "attempts": 1,
                    "next_attempt_at": at,
                    "lease_owner": "another" if delivery == "pending" and person % 200 == 9 else None,
                    "lease_until": LATER if delivery == "pending" and person % 200 == 9 else None,
                    "created_at": at,
                    **owner,
                }
            )
    engine = revision.blocking_engine(database.url)
    with engine.begin() as connection:
        for table, some in rows.items():
            connection.execute(insert(table), some)
    engine.dispose()
    if database.server is not None:
        names = ", ".join(table.name for table in Table.metadata.sorted_tables)
        database.change(f"ANALYZE TABLE {names}")


def vars_of(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


# --- plans --------------------------------------------------------------------------------------


def _is_of_ours(one: Sent) -> bool:
    """A query of the package's own: not an insert, not the driver's or Alembic's talk with the database."""
    if not one.text.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
        return False
    tables = {table.name for table in Table.metadata.sorted_tables}
    return any(re.search(rf"\b{name}\b", one.text) for name in tables) and "sqlite_master" not in one.text


def _plan(connection: Connection, query: Sent) -> Sequence[Any]:
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    return connection.exec_driver_sql(f"{explain} {query.text}", query.values).all()


def _remarks(connection: Connection, query: Sent) -> set[str]:
    """What is wrong with a plan: `scan TABLE` of one that grows, `sort`."""
    plan = _plan(connection, query)
    names = _names(query.text)
    return (
        _remarks_of_sqlite(plan, names)
        if connection.dialect.name == "sqlite"
        else _remarks_of_mariadb(plan, names)
    )


def _remarks_of_sqlite(plan: Sequence[Any], names: dict[str, str]) -> set[str]:
    remarks = set()
    for row in plan:
        scanned = re.match(r"SCAN (\w+)", row.detail)
        if scanned and names.get(scanned[1]) in GROWING:
            remarks.add(f"scan {names[scanned[1]]}")
        if "USE TEMP B-TREE" in row.detail:
            remarks.add("sort")
    return remarks


def _remarks_of_mariadb(plan: Sequence[Any], names: dict[str, str]) -> set[str]:
    remarks = set()
    for row in plan:
        if row.type in ("ALL", "index") and names.get(row.table) in GROWING:
            remarks.add(f"scan {names[row.table]}")
        if re.search(r"filesort|temporary", row.Extra or ""):
            remarks.add("sort")
    return remarks


def _names(text: str) -> dict[str, str]:
    """A statement's names for tables: their own and aliases."""
    names = {name: name for name in GROWING}
    names.update((alias, table) for table, alias in re.findall(r"\b(\w+) AS (\w+)", text) if table in GROWING)
    return names
