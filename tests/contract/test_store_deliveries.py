"""core.ports.DeliveryRows on both databases: in order, by one process at a time, until sent or buried."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from core.ids import new_id
from core.messages import ConversationKind, Delivery, DeliveryState, Platform, Segment
from core.ports import DeliveryRecord, Store
from tests.databases import (
    LEASE,
    NOW,
    Database,
    accept_one,
    answer,
    claim_deliveries,
    deliveries_of,
)

A_SECOND = timedelta(seconds=1)
LATER = NOW + LEASE + A_SECOND


async def test_a_claim_gives_all_that_is_due_in_order(store: Store) -> None:
    accepted = await accept_one(store, "e1", kind=ConversationKind.GROUP, platform=Platform.DISCORD)
    conversation_id = accepted.conversation_id
    await answer(store, conversation_id, segments=(Segment("一"), Segment("二")))
    first, second = await claim_deliveries(store, conversation_id)
    assert first.id < second.id
    assert first == Delivery(
        first.id, conversation_id, Platform.DISCORD, "room", ConversationKind.GROUP, Segment("一"), 0
    )
    assert second.segment == Segment("二")


async def test_nothing_to_deliver(store: Store) -> None:
    accepted = await accept_one(store, "e1")
    assert await claim_deliveries(store, accepted.conversation_id) == []
    assert await claim_deliveries(store, new_id()) == []
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == []


async def test_claimed_deliveries_are_in_one_process_hands(store: Store, other_store: Store) -> None:
    conversation_id = await deliveries_of(store, "e1", "一", "二")
    claims = await asyncio.gather(
        *(
            claim_deliveries([store, other_store][number % 2], conversation_id, f"worker {number}")
            for number in range(10)
        )
    )
    assert sorted(len(one) for one in claims) == [0] * 9 + [2]


async def test_a_lease_that_ran_out_is_taken_over(store: Store) -> None:
    conversation_id = await deliveries_of(store, "e1", "一")
    await claim_deliveries(store, conversation_id, "dead")
    assert await claim_deliveries(store, conversation_id, "me", NOW + LEASE) == []
    assert _texts(await claim_deliveries(store, conversation_id, "me", LATER)) == ["一"]


async def test_a_lease_of_ours_that_nothing_works_under_is_claimed_again(store: Store) -> None:
    conversation_id = await deliveries_of(store, "e1", "一")
    await claim_deliveries(store, conversation_id, "me")
    assert _texts(await claim_deliveries(store, conversation_id, "me")) == ["一"]


async def test_renew_pushes_out_only_the_named_leases(store: Store) -> None:
    worked_on, orphan = [await deliveries_of(store, event, "一") for event in ("a", "b")]
    for conversation_id in (worked_on, orphan):
        await claim_deliveries(store, conversation_id, "me")
    await store.write(lambda tx: tx.deliveries.renew("other", [worked_on, orphan], LATER + 2 * LEASE))
    await store.write(lambda tx: tx.deliveries.renew("me", [worked_on], LATER + LEASE))
    assert await claim_deliveries(store, worked_on, "other", LATER) == []
    assert _texts(await claim_deliveries(store, orphan, "other", LATER)) == ["一"]


async def test_a_newer_reply_does_not_overtake_what_others_hold(store: Store) -> None:
    conversation_id = await deliveries_of(store, "e1", "一")
    (first,) = await claim_deliveries(store, conversation_id, "other")
    await accept_one(store, "e2", chat_id="chat of e1")
    await answer(store, conversation_id, segments=(Segment("二"),))
    assert await claim_deliveries(store, conversation_id, "me") == []
    await store.write(lambda tx: tx.deliveries.mark_sent(first.id, None, NOW))
    assert _texts(await claim_deliveries(store, conversation_id, "other")) == ["二"]  # not left leased to me


async def test_a_sent_delivery_is_done(store: Store, database: Database) -> None:
    conversation_id = await deliveries_of(store, "e1", "一", "二")
    first, _second = await claim_deliveries(store, conversation_id)
    await store.write(lambda tx: tx.deliveries.mark_sent(first.id, "平台 42 ", NOW + A_SECOND))
    assert _texts(await claim_deliveries(store, conversation_id)) == ["二"]
    (record,) = await store.read(lambda tx: tx.deliveries.list(DeliveryState.SENT, 9))
    assert record == DeliveryRecord(
        first.id, Platform.TELEGRAM, DeliveryState.SENT, 1, None, NOW, NOW + A_SECOND
    )
    (row,) = database.rows(
        "SELECT platform_message_id, lease_owner FROM deliveries WHERE id = :id", id=first.id
    )
    assert (bytes(row[0]).decode(), row[1]) == ("平台 42 ", None)


async def test_a_failed_delivery_holds_back_those_behind_it_until_its_time(store: Store) -> None:
    conversation_id = await deliveries_of(store, "e1", "一", "二")
    first, _second = await claim_deliveries(store, conversation_id)
    again_at = NOW + 10 * A_SECOND
    await _fail(store, first.id, again_at)
    assert await claim_deliveries(store, conversation_id, now=NOW + 9 * A_SECOND) == []
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == []
    retried = await claim_deliveries(store, conversation_id, "other", again_at)
    assert [(one.segment.text, one.attempts) for one in retried] == [("一", 1), ("二", 0)]


async def test_a_dead_letter_holds_nobody_back_and_comes_back_when_replayed(store: Store) -> None:
    conversation_id = await deliveries_of(store, "e1", "一", "二")
    first, _second = await claim_deliveries(store, conversation_id)
    await _fail(store, first.id, None, reason="x" * 100)
    assert _texts(await claim_deliveries(store, conversation_id)) == ["二"]
    (dead,) = await store.read(lambda tx: tx.deliveries.list(DeliveryState.DEAD, 9))
    assert (dead.id, dead.attempts, dead.reason) == (first.id, 1, "x" * 64)
    both = [first.id, _second.id]
    assert await store.write(lambda tx: tx.deliveries.replay(both, NOW + A_SECOND)) == 1
    assert await store.write(lambda tx: tx.deliveries.replay(both, NOW + A_SECOND)) == 0
    assert await store.write(lambda tx: tx.deliveries.replay([], NOW)) == 0
    assert await store.read(lambda tx: tx.deliveries.list(DeliveryState.DEAD, 9)) == []
    replayed = await claim_deliveries(store, conversation_id, now=NOW + A_SECOND)
    assert [(one.segment.text, one.attempts) for one in replayed] == [("一", 0), ("二", 0)]


async def test_a_conversation_is_buried_as_a_whole_and_alone(store: Store) -> None:
    gone = await deliveries_of(store, "a", "一", "二", "三")
    other = await deliveries_of(store, "b", "四")
    first, *_rest = await claim_deliveries(store, gone)
    await store.write(lambda tx: tx.deliveries.mark_sent(first.id, None, NOW))
    assert await store.write(lambda tx: tx.deliveries.bury_conversation(gone, "blocked", NOW)) == 2
    assert await store.write(lambda tx: tx.deliveries.bury_conversation(gone, "blocked", NOW)) == 0
    assert await claim_deliveries(store, gone) == []
    dead = await store.read(lambda tx: tx.deliveries.list(DeliveryState.DEAD, 9))
    assert [one.reason for one in dead] == ["blocked", "blocked"]
    assert _texts(await claim_deliveries(store, other)) == ["四"]
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == ["me"]


async def test_conversations_are_due_in_the_order_of_their_oldest_delivery(store: Store) -> None:
    late = await deliveries_of(store, "a", "一", now=NOW + 2 * A_SECOND)
    early = await deliveries_of(store, "b", "一", "二", now=NOW)
    middle = await deliveries_of(store, "c", "一", now=NOW + A_SECOND)
    assert await _due(store, now=NOW - A_SECOND) == []
    assert await _due(store, now=NOW) == [early]
    assert await _due(store, now=LATER) == [early, middle, late]
    assert await _due(store, now=LATER, limit=2) == [early, middle]
    await claim_deliveries(store, early, "other", NOW)
    assert await _due(store, now=NOW + 2 * A_SECOND) == [middle, late]
    assert await _due(store, "other", now=NOW + 2 * A_SECOND) == [early, middle, late]
    assert await _due(store, now=LATER) == [early, middle, late]


async def test_listing_stops_at_its_limit_and_shows_no_text(store: Store) -> None:
    for number in range(4):
        await deliveries_of(store, str(number), "秘密", now=NOW - number * A_SECOND)
    records = await store.read(lambda tx: tx.deliveries.list(DeliveryState.PENDING, 3))
    assert [NOW - one.next_attempt_at for one in records] == [3 * A_SECOND, 2 * A_SECOND, A_SECOND]
    assert "秘密" not in repr(records)


async def test_a_failure_reported_by_who_lost_the_lease_changes_nothing(store: Store) -> None:
    """Slow A's time-out comes after B took over and sent: it must not go out a third time."""
    conversation_id = await deliveries_of(store, "e1", "一")
    (first,) = await claim_deliveries(store, conversation_id, "slow")
    (taken,) = await claim_deliveries(store, conversation_id, "other", LATER)
    assert taken.id == first.id
    await _fail(store, first.id, LATER, owner="slow")
    assert await claim_deliveries(store, conversation_id, "third", LATER) == []
    await store.write(lambda tx: tx.deliveries.mark_sent(first.id, None, LATER))
    await _fail(store, first.id, LATER, owner="slow")
    assert await _due(store, "slow", LATER + A_SECOND) == []


async def test_what_is_due_on_other_platforms_is_left_to_others(store: Store) -> None:
    conversation_id = await deliveries_of(store, "e1", "一")
    found = await store.read(lambda tx: tx.deliveries.conversations_due("me", NOW, 9, (Platform.WECHAT,)))
    assert found == []
    assert await _due(store) == [conversation_id]


def _texts(deliveries: list[Delivery]) -> list[str]:
    return [one.segment.text for one in deliveries]


async def _due(store: Store, owner: str = "me", now: datetime = NOW, limit: int = 99) -> list[int]:
    return await store.read(lambda tx: tx.deliveries.conversations_due(owner, now, limit))


async def _fail(
    store: Store,
    delivery_id: int,
    again_at: datetime | None,
    reason: str = "unreachable",
    owner: str = "me",
) -> None:
    await store.write(lambda tx: tx.deliveries.mark_failed(delivery_id, owner, reason, again_at, NOW))
