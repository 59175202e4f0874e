"""core.ports.InboxRows on both databases: every event once, whoever hands it over and however often."""

from __future__ import annotations

import asyncio
import unicodedata
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import StatementError

from core.ids import new_id
from core.messages import ConversationKind, Platform
from core.ports import Pending, Store
from tests.databases import (
    LEASE,
    NOW,
    Database,
    accept,
    accept_one,
    answer,
    claim,
    message,
    turn_of,
)

A_SECOND = timedelta(seconds=1)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
ANY_ID = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
MANY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # one store for all examples is meant
)
TWINS = (
    "ann",
    "Ann",
    "ann ",
    " ann",
    "ann\t",
    "änn",
    "a\u0308nn",
    "ａｎｎ",
    "anⁿ",
    "ann\0",
    "😀",
    "😃",
    "ß",
    "ss",
)
"""Ids that some collation of MySQL takes for one another; and two that old character sets lose."""


# --- once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("manages", [None, False, True])
async def test_a_new_event_is_stored_with_all_it_says(store: Store, manages: bool | None) -> None:
    sent_at = NOW.astimezone(timezone(timedelta(hours=8))) - A_SECOND
    said = message(
        "e1",
        "今天好累",
        platform=Platform.DISCORD,
        kind=ConversationKind.GROUP,
        sent_at=sent_at,
        alone=True,
        language="zh-Hans-CN",
        response="17:an-interactions-token",
        manages=manages,
    )
    (accepted,) = await accept(store, said)
    (pending,) = await store.read(lambda tx: tx.inbox.pending(accepted.conversation_id))
    assert not accepted.duplicate
    assert pending.message == said
    assert (pending.inbox_id, pending.received_at) == (accepted.inbox_id, NOW)
    assert pending.received_at.utcoffset() == timedelta(0)
    assert await store.read(lambda tx: tx.inbox.text_of(accepted.inbox_id)) == "今天好累"


async def test_the_same_event_again_has_the_ids_of_then(store: Store) -> None:
    first = await accept_one(store, "e1")
    again = await accept_one(store, "e1", "other words", chat_id="other", sender_id="other")
    assert again == replace(first, duplicate=True)
    assert len(await store.read(lambda tx: tx.inbox.pending(first.conversation_id))) == 1


async def test_the_same_event_after_its_answer_is_not_pending_again(store: Store) -> None:
    first = await accept_one(store, "e1")
    await answer(store, first.conversation_id)
    assert (await accept_one(store, "e1")).duplicate
    assert await store.read(lambda tx: tx.inbox.pending(first.conversation_id)) == ()


async def test_event_ids_of_two_platforms_do_not_meet(store: Store) -> None:
    one = await accept_one(store, "e1", platform=Platform.TELEGRAM)
    other = await accept_one(store, "e1", platform=Platform.DISCORD)
    assert not other.duplicate
    assert one.conversation_id != other.conversation_id


async def test_the_same_event_twice_in_one_batch_is_stored_once(store: Store) -> None:
    first, other, again = await accept(store, message("e1"), message("e2"), message("e1"))
    assert (first.duplicate, other.duplicate, again.duplicate) == (False, False, True)
    assert again.inbox_id == first.inbox_id
    assert [p.message.event_id for p in await _pending(store, first.conversation_id)] == ["e1", "e2"]


async def test_a_batch_of_old_and_new_stores_the_new(store: Store) -> None:
    await accept(store, message("e2"), message("e4"))
    accepted = await accept(store, *(message(f"e{number}") for number in range(6)))
    assert [number for number, one in enumerate(accepted) if one.duplicate] == [2, 4]
    assert len(await _pending(store, accepted[0].conversation_id)) == 6


async def test_new_senders_and_chats_in_one_batch(store: Store, database: Database) -> None:
    batch = [
        message(f"{chat} {sender}", chat_id=chat, sender_id=sender)
        for chat in ("c1", "c2", "c3")
        for sender in ("s1", "s2", "s3", "s4")
    ]
    accepted = await accept(store, *batch)
    assert len({one.conversation_id for one in accepted}) == 3
    assert _count(database, "users") == _count(database, "identities") == 4
    for said, one in zip(batch, accepted, strict=True):
        assert said in [pending.message for pending in await _pending(store, one.conversation_id)]


async def test_one_event_from_everywhere_at_once_is_new_to_one(store: Store, other_store: Store) -> None:
    stores = [store, other_store] * 12
    accepted = await asyncio.gather(*(accept_one(one, "e1") for one in stores))
    assert sum(not one.duplicate for one in accepted) == 1
    assert len({one.inbox_id for one in accepted}) == 1
    assert len(await _pending(store, accepted[0].conversation_id)) == 1


async def test_overlapping_batches_from_two_processes_store_each_event_once(
    store: Store, other_store: Store
) -> None:
    """In opposite orders, as two webhook servers may get a platform's retries."""
    batch = [message(f"e{n}", chat_id=f"c{n % 7}", sender_id=f"s{n % 5}") for n in range(40)]
    there, back = await asyncio.gather(accept(store, *batch), accept(other_store, *reversed(batch)))
    assert [one.inbox_id for one in there] == [one.inbox_id for one in reversed(back)]
    assert sum(not one.duplicate for one in (*there, *back)) == len(batch)


async def test_two_processes_that_meet_the_same_new_person_make_one(
    store: Store, other_store: Store, database: Database
) -> None:
    for number in range(5):
        accepted = await asyncio.gather(
            *(
                accept_one(one, f"{number}/{event}", chat_id=f"c{number}", sender_id=f"s{number}")
                for event, one in enumerate([store, other_store] * 4)
            )
        )
        assert not any(one.duplicate for one in accepted)
        assert len({one.conversation_id for one in accepted}) == 1
        pending = await _pending(store, accepted[0].conversation_id)
        assert len(pending) == 8
        assert len({one.user_id for one in pending}) == 1
    assert _count(database, "users") == _count(database, "identities") == 5


async def test_pending_messages_are_in_the_order_in_which_they_were_stored(store: Store) -> None:
    accepted = [await accept_one(store, f"e{9 - number}") for number in range(5)]
    pending = await _pending(store, accepted[0].conversation_id)
    assert [one.inbox_id for one in pending] == [one.inbox_id for one in accepted]
    assert await store.read(lambda tx: tx.inbox.pending(new_id())) == ()


# --- any text -----------------------------------------------------------------------------------


@MANY
@given(said=ANY_TEXT, replied=ANY_TEXT)
async def test_any_text_comes_back_as_it_was(store: Store, said: str, replied: str) -> None:
    event_id = str(new_id())
    accepted = await accept_one(store, event_id, said, chat_id=event_id)
    assert await store.read(lambda tx: tx.inbox.text_of(accepted.inbox_id)) == said
    await answer(store, accepted.conversation_id, replied)
    history = await store.read(lambda tx: tx.conversations.history(Platform.TELEGRAM, event_id, None, 9))
    assert [one.text for one in history] == [said, replied]
    assert await store.read(lambda tx: tx.inbox.text_of(accepted.inbox_id)) == said


@MANY
@given(event_id=ANY_ID, chat_id=ANY_ID, sender_id=ANY_ID)
async def test_any_id_comes_back_as_it_was(store: Store, event_id: str, chat_id: str, sender_id: str) -> None:
    said = message(event_id, chat_id=chat_id, sender_id=sender_id)
    (accepted,) = await accept(store, said)
    pending = await _pending(store, accepted.conversation_id)
    if not accepted.duplicate:
        assert said in [one.message for one in pending]
    assert (await accept_one(store, event_id)).inbox_id == accepted.inbox_id


async def test_ids_that_only_look_alike_stay_apart(store: Store, database: Database) -> None:
    assert len(set(TWINS)) == len(TWINS)
    assert len({unicodedata.normalize("NFKC", twin).casefold().strip() for twin in TWINS}) < len(TWINS)
    events = await accept(store, *(message(twin) for twin in TWINS))
    assert not any(one.duplicate for one in events)
    chats = await accept(store, *(message(f"chat {twin}", chat_id=twin) for twin in TWINS))
    assert len({one.conversation_id for one in chats}) == len(TWINS)
    await accept(store, *(message(f"sender {twin}", sender_id=twin) for twin in TWINS))
    assert _count(database, "identities") == len(TWINS)
    for twin in TWINS:  # each alone, too
        assert (await accept_one(store, twin)).inbox_id == events[TWINS.index(twin)].inbox_id


@pytest.mark.parametrize(("field", "fits"), [("event_id", 255), ("chat_id", 512), ("sender_id", 512)])
async def test_an_id_that_does_not_fit_is_refused_and_not_cut(store: Store, field: str, fits: int) -> None:
    longest = "é" * (fits // 2) + "x" * (fits % 2)
    (accepted,) = await accept(store, message("e1", **{field: longest}))
    (pending,) = await _pending(store, accepted.conversation_id)
    assert getattr(pending.message, field) == longest
    with pytest.raises(StatementError, match="bytes"):
        await accept(store, message("e2", **{field: longest + "x"}))
    assert len(await _pending(store, accepted.conversation_id)) == 1


async def test_a_long_message_is_kept_whole(store: Store) -> None:
    said = "心" * 300_000
    accepted = await accept_one(store, "e1", said)
    assert await store.read(lambda tx: tx.inbox.text_of(accepted.inbox_id)) == said


# --- who waits ----------------------------------------------------------------------------------


async def test_conversations_wait_in_the_order_of_their_oldest_message(store: Store) -> None:
    first, second, third = [
        (await accept_one(store, f"e{chat}", chat_id=chat)).conversation_id for chat in "abc"
    ]
    await accept_one(store, "e4", chat_id="a")
    assert await _waiting(store) == [first, second, third]
    await answer(store, first)
    await accept_one(store, "e5", chat_id="a")
    assert await _waiting(store) == [second, third, first]
    assert await _waiting(store, limit=2) == [second, third]
    assert await _waiting(store, limit=0) == []


async def test_a_leased_conversation_waits_for_nobody_but_its_owner(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    await claim(store, conversation_id, "me")
    assert await _waiting(store, "other") == []
    assert await _waiting(store, "me") == [conversation_id]
    assert await _waiting(store, "other", NOW + LEASE) == []
    assert await _waiting(store, "other", NOW + LEASE + A_SECOND) == [conversation_id]


async def test_a_postponed_conversation_waits_until_its_time(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    await claim(store, conversation_id)
    await store.write(lambda tx: tx.conversations.postpone(conversation_id, "me", NOW + A_SECOND))
    assert await _waiting(store, "me") == []
    assert await _waiting(store, "me", NOW + 2 * A_SECOND) == [conversation_id]


async def test_conversations_with_a_late_answer_owed(store: Store) -> None:
    early, late, busy = [
        (await accept(store, message(chat, chat_id=chat), now=NOW + number * A_SECOND))[0].conversation_id
        for number, chat in enumerate("abc")
    ]
    for conversation_id in (early, late, busy):
        await commit_deferred(store, conversation_id)
    assert await _waiting(store) == []
    assert await _deferred(store) == [early, late, busy]
    assert await _deferred(store, limit=1) == [early]
    assert await _deferred(store, since=A_SECOND) == [late, busy]
    assert await _deferred(store, since=3 * A_SECOND) == []
    await accept_one(store, "new", chat_id="c")
    assert await _deferred(store) == [early, late]  # the new message comes first
    await claim(store, early, "me")
    assert await _deferred(store, "other") == [late]
    assert await _deferred(store, "me") == [early, late]
    assert await _deferred(store, "other", now=LEASE + A_SECOND) == [early, late]


# --- what was answered --------------------------------------------------------------------------


async def test_there_is_no_outcome_before_the_answer(store: Store) -> None:
    accepted = await accept_one(store, "e1")
    await claim(store, accepted.conversation_id)
    assert await store.read(lambda tx: tx.inbox.outcome_of(accepted.inbox_id)) is None


async def test_nothing_is_known_of_a_message_that_is_not_there(store: Store) -> None:
    assert await store.read(lambda tx: tx.inbox.outcome_of(new_id())) is None
    assert await store.read(lambda tx: tx.inbox.text_of(new_id())) is None


async def commit_deferred(store: Store, conversation_id: int) -> None:
    """Only the listener answers what is pending."""
    result = turn_of(await claim(store, conversation_id), "我先记下了。", defer=True)
    await store.write(lambda tx: tx.turns.commit(result))


async def _pending(store: Store, conversation_id: int) -> tuple[Pending, ...]:
    return await store.read(lambda tx: tx.inbox.pending(conversation_id))


async def _waiting(store: Store, owner: str = "me", now: datetime = NOW, limit: int = 99) -> list[int]:
    return await store.read(lambda tx: tx.inbox.conversations_waiting(owner, now, limit))


async def _deferred(
    store: Store,
    owner: str = "me",
    since: timedelta = timedelta(0),
    now: timedelta = timedelta(0),
    limit: int = 99,
) -> list[int]:
    return await store.read(lambda tx: tx.inbox.conversations_deferred(owner, NOW + since, NOW + now, limit))


def _count(database: Database, table: str) -> int:
    count: int = database.rows(f"SELECT count(*) FROM {table}")[0][0]
    return count
