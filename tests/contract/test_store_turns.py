"""core.ports.TurnRows on both databases: a turn leaves behind all of it or nothing, and once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from core.errors import LeaseLost
from core.ids import new_id
from core.messages import ChatMessage, Platform, Role, Segment, Source
from core.ports import Outcome, Store, TurnResult
from tests.databases import (
    LEASE,
    NOW,
    Database,
    accept,
    accept_one,
    claim,
    claim_deliveries,
    commit,
    message,
    try_claim,
    turn_of,
    usage,
)

LATER = NOW + LEASE + timedelta(seconds=1)
FINISHED = NOW + timedelta(microseconds=654321)


async def test_an_answer_settles_its_messages_and_gives_back_the_lease(store: Store) -> None:
    first, second = await accept(store, message("e1", "一"), message("e2", "二"))
    conversation_id = first.conversation_id
    result = await commit(store, turn_of(await claim(store, conversation_id), finished_at=FINISHED))
    assert await store.read(lambda tx: tx.inbox.pending(conversation_id)) == ()
    for accepted in (first, second):
        outcome = await store.read(lambda tx, accepted=accepted: tx.inbox.outcome_of(accepted.inbox_id))  # type: ignore[misc]
        assert outcome == Outcome(result.turn_id, conversation_id, result.reply, deferred=False)
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == []
    assert await store.read(lambda tx: tx.inbox.text_of(second.inbox_id)) == "二"
    assert await _history(store) == (
        _said(first.inbox_id, result, "一"),
        _said(second.inbox_id, result, "二"),
        result.reply,
    )


async def test_what_came_meanwhile_stays_pending(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    result = turn_of(await claim(store, conversation_id))
    later = await accept_one(store, "e2")
    await commit(store, result)
    claimed = await claim(store, conversation_id)
    assert [one.inbox_id for one in claimed.pending] == [later.inbox_id]
    assert claimed.attempts == 1


async def test_people_of_one_turn_each_keep_their_own_words(store: Store, database: Database) -> None:
    await accept(store, message("e1", "一"), message("e2", "二", sender_id="bob"), message("e3", "三"))
    conversation_id = (await accept_one(store, "e1")).conversation_id
    claimed = await claim(store, conversation_id)
    ann, bob = claimed.pending[0].user_id, claimed.pending[1].user_id
    await commit(store, turn_of(claimed, addressee=claimed.pending[1]))
    assert [one.text for one in await _history(store)] == ["一", "二", "三", "我在听。"]
    owners = [row[0] for row in database.rows("SELECT user_id FROM chat_messages ORDER BY id")]
    assert owners == [ann, bob, ann, bob]


async def test_the_listeners_answer_leaves_the_real_one_owed(store: Store) -> None:
    accepted = await accept_one(store, "e1")
    listened = turn_of(await claim(store, accepted.conversation_id), "我先记下了。", defer=True)
    await commit(store, listened)
    outcome = await store.read(lambda tx: tx.inbox.outcome_of(accepted.inbox_id))
    assert outcome == Outcome(listened.turn_id, accepted.conversation_id, listened.reply, deferred=True)
    claimed = await claim(store, accepted.conversation_id)
    assert (claimed.pending, [one.inbox_id for one in claimed.deferred]) == ((), [accepted.inbox_id])


async def test_a_late_answer_takes_the_place_of_the_listeners(store: Store) -> None:
    accepted = await accept_one(store, "e1", "睡不着")
    conversation_id = accepted.conversation_id
    await commit(store, turn_of(await claim(store, conversation_id), "我先记下了。", defer=True))
    claimed = await claim(store, conversation_id)
    late = await commit(store, turn_of(claimed, "抱歉来晚了。", late=claimed.deferred))
    outcome = await store.read(lambda tx: tx.inbox.outcome_of(accepted.inbox_id))
    assert outcome == Outcome(late.turn_id, conversation_id, late.reply, deferred=False)
    assert [one.text for one in await _history(store)] == ["睡不着", "我先记下了。", "抱歉来晚了。"]
    assert await try_claim(store, conversation_id) is None


async def test_a_message_that_was_moved_on_from_keeps_its_listeners_answer(store: Store) -> None:
    old = await accept_one(store, "e1")
    conversation_id = old.conversation_id
    listened = await commit(store, turn_of(await claim(store, conversation_id), "我先记下了。", defer=True))
    await accept_one(store, "e2")
    claimed = await claim(store, conversation_id)
    await commit(store, turn_of(claimed, moved_on=claimed.deferred))
    outcome = await store.read(lambda tx: tx.inbox.outcome_of(old.inbox_id))
    assert outcome == Outcome(listened.turn_id, conversation_id, listened.reply, deferred=False)
    assert await try_claim(store, conversation_id) is None


async def test_a_turn_whose_lease_was_taken_over_writes_nothing(store: Store, database: Database) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    slow = _full(turn_of(await claim(store, conversation_id, "me")))
    await claim(store, conversation_id, "other", LATER)
    before = _everything(database)
    with pytest.raises(LeaseLost):
        await commit(store, slow)
    assert _everything(database) == before
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == ["other"]


async def test_a_turn_is_committed_once(store: Store, database: Database) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    result = await commit(store, _full(turn_of(await claim(store, conversation_id))))
    before = _everything(database)
    with pytest.raises(LeaseLost):
        await commit(store, result)
    assert _everything(database) == before


async def test_a_settled_message_is_not_answered_again_under_a_new_lease(
    store: Store, database: Database
) -> None:
    """The lease is ours again, for a newer message: the old turn has no say in it."""
    conversation_id = (await accept_one(store, "e1")).conversation_id
    result = await commit(store, _full(turn_of(await claim(store, conversation_id))))
    await accept_one(store, "e2")
    await claim(store, conversation_id)
    before = _everything(database)
    again = replace(result, turn_id=new_id(), reply=replace(result.reply, id=new_id()))
    with pytest.raises(LeaseLost):
        await commit(store, again)
    assert _everything(database) == before
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == ["me"]


async def test_of_two_commits_at_once_one_stands(store: Store, other_store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    claimed = await claim(store, conversation_id)
    turns = [turn_of(claimed, f"回答 {number}") for number in range(6)]
    done = await asyncio.gather(
        *(commit([store, other_store][n % 2], turn) for n, turn in enumerate(turns)), return_exceptions=True
    )
    stood = [one for one in done if isinstance(one, TurnResult)]
    assert len(stood) == 1
    assert all(isinstance(one, LeaseLost) for one in done if one not in stood)
    assert [one.text for one in await _history(store)] == ["你好", stood[0].reply.text]


async def test_a_lost_lease_takes_none_of_its_neighbours_with_it(store: Store) -> None:
    """SQLite commits what waits together as one: each turn still stands or falls alone."""
    ids = [(await accept_one(store, f"e{n}", chat_id=f"c{n}")).conversation_id for n in range(12)]
    turns = [turn_of(await claim(store, conversation_id)) for conversation_id in ids]
    for conversation_id in ids[::3]:
        await claim(store, conversation_id, "other", LATER)
    done = await asyncio.gather(*(commit(store, turn) for turn in turns), return_exceptions=True)
    assert [isinstance(one, LeaseLost) for one in done] == [n % 3 == 0 for n in range(12)]
    waiting = await store.read(lambda tx: tx.inbox.conversations_waiting("other", NOW, 99))
    assert waiting == ids[::3]


async def test_segments_become_deliveries_in_order(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    segments = tuple(Segment(piece) for piece in ("一", "二", "三"))
    await commit(store, turn_of(await claim(store, conversation_id), segments=segments))
    delivered = await claim_deliveries(store, conversation_id)
    assert tuple(one.segment for one in delivered) == segments


@pytest.mark.parametrize(("cost", "currency"), [(Decimal("0.000123456"), "CNY"), (None, None)])
async def test_what_an_answer_took_is_kept(
    store: Store, database: Database, cost: Decimal | None, currency: str | None
) -> None:
    accepted = await accept_one(store, "e1")
    claimed = await claim(store, accepted.conversation_id)
    took = usage(cost=cost, currency=currency, estimated=True)
    result = await commit(store, turn_of(claimed, usage=took))
    (row,) = database.rows(
        "SELECT turn_id, conversation_id, user_id, model, prompt_tokens, cached_tokens, completion_tokens, "
        "estimated, first_token_ms, total_ms, cost, currency FROM model_usage"
    )
    assert tuple(row[:4]) == (result.turn_id, claimed.id, claimed.pending[0].user_id, "qwen-plus")
    assert tuple(row[4:10]) == (321, 256, 45, 1, 420, 1900)
    assert row[10] == (cost if database.server else pytest.approx(float(cost)) if cost else None)
    assert row[11] == currency


def _full(result: TurnResult) -> TurnResult:
    """With everything that a turn may write."""
    return replace(result, segments=(Segment("一"), Segment("二")), usage=usage())


def _everything(database: Database) -> list[object]:
    """What a turn could have changed, as it is stored."""
    tables = ("inbox", "conversations", "chat_messages", "deliveries", "model_usage")
    return [tuple(row) for table in tables for row in database.rows(f"SELECT * FROM {table} ORDER BY id")]


def _said(inbox_id: int, result: TurnResult, text: str) -> ChatMessage:
    return ChatMessage(inbox_id, result.turn_id, Role.USER, text, Source.PERSON, NOW)


async def _history(store: Store) -> tuple[ChatMessage, ...]:
    return await store.read(lambda tx: tx.conversations.history(Platform.TELEGRAM, "room", None, 99))
