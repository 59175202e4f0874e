"""core.ports.ConversationRows on both databases: one worker at a time, whatever became of the last one."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event

from core.ids import new_id
from core.messages import ChatMessage, ConversationKind, Platform, Role, Source
from core.ports import Store
from core.settings import ConversationSettings
from tests.databases import (
    LEASE,
    NOW,
    Database,
    accept,
    accept_one,
    answer,
    claim,
    commit,
    deliveries_of,
    message,
    try_claim,
    turn_of,
)

LATER = NOW + LEASE + timedelta(microseconds=1)


# --- claim --------------------------------------------------------------------------------------


async def test_a_claim_reads_what_a_turn_needs(store: Store) -> None:
    accepted = await accept_one(store, "e1", "一", kind=ConversationKind.GROUP, platform=Platform.DISCORD)
    conversation_id = accepted.conversation_id
    await commit(store, turn_of(await claim(store, conversation_id), "我先记下了。", defer=True))
    await accept(
        store,
        message("e2", "二", platform=Platform.DISCORD),
        message("e3", "三", platform=Platform.DISCORD, sender_id="bob"),
    )
    claimed = await claim(store, conversation_id)
    assert (claimed.id, claimed.platform, claimed.chat_id) == (conversation_id, Platform.DISCORD, "room")
    assert claimed.settings == ConversationSettings()
    assert [one.message.text for one in claimed.deferred] == ["一"]
    assert [one.message.text for one in claimed.pending] == ["二", "三"]
    assert [one.message.sender_id for one in claimed.pending] == ["ann", "bob"]
    assert len({one.user_id for one in claimed.pending}) == 2
    assert {one.message.kind for one in (*claimed.deferred, *claimed.pending)} == {ConversationKind.GROUP}
    assert [(one.role, one.text) for one in claimed.window] == [
        (Role.USER, "一"),
        (Role.ASSISTANT, "我先记下了。"),
    ]


async def test_the_window_holds_the_newest_messages_oldest_first(store: Store) -> None:
    for number in range(4):
        conversation_id = (await accept_one(store, f"e{number}", f"q{number}")).conversation_id
        await answer(store, conversation_id, f"a{number}")
    await accept_one(store, "e9")
    claimed = await claim(store, conversation_id, window=3)
    assert [one.text for one in claimed.window] == ["a2", "q3", "a3"]


async def test_nobody_else_gets_a_claimed_conversation(store: Store, other_store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    await claim(store, conversation_id, "me")
    assert await try_claim(store, conversation_id, "other") is None
    assert await try_claim(other_store, conversation_id, "other", NOW + LEASE) is None


async def test_of_many_claims_at_once_one_wins(store: Store, other_store: Store) -> None:
    conversation_ids = [(await accept_one(store, chat, chat_id=chat)).conversation_id for chat in "abcd"]
    claims = await asyncio.gather(
        *(
            try_claim([store, other_store][number % 2], conversation_id, f"worker {number}")
            for number in range(10)
            for conversation_id in conversation_ids
        )
    )
    assert sorted(one.id for one in claims if one is not None) == sorted(conversation_ids)


async def test_a_lease_that_ran_out_is_taken_over(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    await claim(store, conversation_id, "dead")
    taken = await claim(store, conversation_id, "me", LATER)
    assert [one.message.event_id for one in taken.pending] == ["e1"]
    assert await try_claim(store, conversation_id, "dead", LATER) is None


async def test_a_lease_of_ours_that_nothing_works_under_is_claimed_again(store: Store) -> None:
    """The claim was committed and its confirmation lost: it must not lock out its own owner."""
    conversation_id = (await accept_one(store, "e1")).conversation_id
    await claim(store, conversation_id, "me")
    again = await claim(store, conversation_id, "me", NOW + timedelta(seconds=1))
    assert again.attempts == 2
    assert await try_claim(store, conversation_id, "other", LATER) is None  # the lease is a new one


async def test_attempts_count_claims_without_a_finished_turn(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    now = NOW
    for attempt in range(1, 4):
        assert (await claim(store, conversation_id, f"worker {attempt}", now)).attempts == attempt
        now += LEASE + timedelta(seconds=1)
    await commit(store, turn_of(await claim(store, conversation_id, "me", now)))
    await accept_one(store, "e2")
    assert (await claim(store, conversation_id, "me", now)).attempts == 1


async def test_a_conversation_where_nothing_waits_is_not_claimed(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    await answer(store, conversation_id)
    assert await try_claim(store, conversation_id) is None
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == []
    assert await try_claim(store, new_id()) is None


# --- give back ----------------------------------------------------------------------------------


async def test_renew_pushes_out_only_the_named_leases(store: Store) -> None:
    """A lease that nothing works under any more must run out, though its owner lives on."""
    worked_on, orphan = [(await accept_one(store, chat, chat_id=chat)).conversation_id for chat in ("a", "b")]
    for conversation_id in (worked_on, orphan):
        await claim(store, conversation_id, "me")
    await store.write(lambda tx: tx.conversations.renew("me", [worked_on], LATER + LEASE))
    assert await try_claim(store, worked_on, "other", LATER) is None
    assert await try_claim(store, orphan, "other", LATER) is not None


async def test_renew_touches_nobody_elses_lease(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    await claim(store, conversation_id, "other")
    await store.write(lambda tx: tx.conversations.renew("me", [conversation_id], LATER + LEASE))
    assert await try_claim(store, conversation_id, "third", LATER) is not None


async def test_renew_of_none_and_of_very_many(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    await claim(store, conversation_id, "me")
    await store.write(lambda tx: tx.conversations.renew("me", [], LATER + LEASE))
    many = [new_id() for _ in range(2500)]
    await store.write(lambda tx: tx.conversations.renew("me", [*many, conversation_id], LATER + LEASE))
    assert await try_claim(store, conversation_id, "other", LATER) is None


async def test_release_gives_back_and_forgets_the_attempts(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    await claim(store, conversation_id, "me")
    await store.write(lambda tx: tx.conversations.release(conversation_id, "other"))
    assert await try_claim(store, conversation_id, "other") is None
    await store.write(lambda tx: tx.conversations.release(conversation_id, "me"))
    assert (await claim(store, conversation_id, "other")).attempts == 1


async def test_postpone_holds_back_from_everybody_and_remembers_the_attempts(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    not_before = NOW + timedelta(seconds=5)
    await claim(store, conversation_id, "me")
    await store.write(lambda tx: tx.conversations.postpone(conversation_id, "other", not_before))
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == ["me"]
    await store.write(lambda tx: tx.conversations.postpone(conversation_id, "me", not_before))
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == []
    assert await try_claim(store, conversation_id, "me", not_before) is None
    assert await try_claim(store, conversation_id, "other", not_before) is None
    assert (await claim(store, conversation_id, "me", not_before + timedelta(microseconds=1))).attempts == 2


async def test_release_all_gives_back_what_a_dead_process_held(store: Store) -> None:
    mine, dead = [(await accept_one(store, chat, chat_id=chat)).conversation_id for chat in ("a", "b")]
    delivering = await deliveries_of(store, "c", "一")
    await claim(store, mine, "me")
    await claim(store, dead, "dead")
    await store.write(lambda tx: tx.deliveries.claim(delivering, "dead", NOW, NOW + LEASE))
    assert sorted(await store.read(lambda tx: tx.conversations.lease_owners())) == ["dead", "me"]
    await store.write(lambda tx: tx.conversations.release_all("dead"))
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == ["me"]
    assert (await claim(store, dead, "other")).attempts == 2  # what it died of may be this message
    assert await store.write(lambda tx: tx.deliveries.claim(delivering, "other", NOW, NOW + LEASE))
    assert await try_claim(store, mine, "other") is None


# --- history and settings -----------------------------------------------------------------------


async def test_history_shows_waiting_messages_and_pages_back(store: Store) -> None:
    for number in range(3):
        conversation_id = (await accept_one(store, f"e{number}", f"q{number}")).conversation_id
        await answer(store, conversation_id, f"a{number}")
    waiting = await accept_one(store, "e3", "q3")
    newest = await _history(store, None, 3)
    assert [one.text for one in newest] == ["a1", "q2", "a2", "q3"][-3:]
    assert newest[-1] == ChatMessage(waiting.inbox_id, 0, Role.USER, "q3", Source.PERSON, NOW)
    older = await _history(store, newest[0].id, 3)
    assert [one.text for one in older] == ["a0", "q1", "a1"]
    assert [one.text for one in await _history(store, older[0].id, 3)] == ["q0"]
    assert await _history(store, 0, 3) == ()


async def test_history_of_a_chat_that_never_was_is_empty(store: Store) -> None:
    await accept_one(store, "e1")
    assert await store.read(lambda tx: tx.conversations.history(Platform.TELEGRAM, "Room", None, 9)) == ()
    assert await store.read(lambda tx: tx.conversations.history(Platform.WEB, "room", None, 9)) == ()


async def test_a_message_stays_in_the_history_while_its_turn_is_committed(
    store: Store, database: Database
) -> None:
    """Whoever reloads the page at that very moment sees their words, and sees them once."""
    conversation_id = (await accept_one(store, "e1", "在吗")).conversation_id
    result = turn_of(await claim(store, conversation_id), "在的")
    committed = threading.Event()

    async def commit_elsewhere() -> None:
        async with database.opened() as elsewhere:
            await commit(elsewhere, result)

    def between_two_queries(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        reads_messages = statement.startswith("SELECT") and "body" in statement
        if reads_messages and not committed.is_set():
            committed.set()
            committing.start()
            committing.join()

    committing = threading.Thread(target=lambda: asyncio.run(commit_elsewhere()))
    event.listen(Engine, "after_cursor_execute", between_two_queries)
    try:
        seen = await _history(store, None, 9)
    finally:
        event.remove(Engine, "after_cursor_execute", between_two_queries)
    assert committed.is_set()
    assert [one.text for one in seen if one.role is Role.USER] == ["在吗"]
    assert [one.text for one in await _history(store, None, 9)] == ["在吗", "在的"]


@pytest.mark.parametrize(
    "chosen",
    [
        ConversationSettings(burst_quiet_seconds=0.25),
        ConversationSettings(burst_quiet_seconds=2.5, burst_max_seconds=9.0),
        ConversationSettings(),
    ],
)
async def test_settings_are_kept(store: Store, chosen: ConversationSettings) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    before = ConversationSettings(burst_quiet_seconds=1.0, burst_max_seconds=1.0)
    await store.write(lambda tx: tx.conversations.update_settings(conversation_id, before))
    await store.write(lambda tx: tx.conversations.update_settings(conversation_id, chosen))
    assert (await claim(store, conversation_id)).settings == chosen


async def _history(store: Store, before: int | None, limit: int) -> tuple[ChatMessage, ...]:
    return await store.read(lambda tx: tx.conversations.history(Platform.TELEGRAM, "room", before, limit))
