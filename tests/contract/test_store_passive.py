"""What rides on responses (core/passive.py), on both databases: once each, again for a lost response, or pushed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import pytest

from core.errors import LeaseLost
from core.ids import new_id
from core.messages import Delivery, DeliveryState, Media, MediaKind, Segment
from core.ports import Passable, Pending, Store, Transaction, Tried
from tests.databases import (
    LEASE,
    NOW,
    Database,
    accept,
    accept_one,
    answer,
    claim,
    claim_deliveries,
    commit,
    deliveries_of,
    message,
    turn_of,
)

A_SECOND = timedelta(seconds=1)
UNTIL = NOW + timedelta(seconds=30)
AFTER = UNTIL + A_SECOND
FAREWELL = timedelta(minutes=15)


# --- the inbox ----------------------------------------------------------------------------------


async def test_a_message_waits_until_it_has_any_answer(store: Store) -> None:
    accepted = await accept_one(store, "e1")
    assert await _is_waiting(store, accepted.inbox_id)
    await answer(store, accepted.conversation_id)
    assert not await _is_waiting(store, accepted.inbox_id)
    later = await accept_one(store, "e2")
    await answer(store, later.conversation_id, defer=True)
    assert not await _is_waiting(store, later.inbox_id), "the listener's answer is one"
    assert not await _is_waiting(store, new_id()), "what is not there waits for nothing"


async def test_a_message_counts_how_often_it_was_brought(store: Store, other_store: Store) -> None:
    accepted = await accept_one(store, "e1")
    other = await accept_one(store, "e2")
    (again,) = await accept(other_store, message("e1"), now=NOW + 5 * A_SECOND)
    assert (again.inbox_id, again.duplicate) == (accepted.inbox_id, True)
    assert await _try_again(other_store, accepted.inbox_id) == Tried(2, NOW)
    assert await _try_again(store, accepted.inbox_id) == Tried(3, NOW)
    assert await _try_again(store, other.inbox_id) == Tried(2, NOW), "each its own"
    await answer(store, accepted.conversation_id)
    assert await _try_again(store, accepted.inbox_id) == Tried(4, NOW), "answered or not"
    assert await _try_again(store, new_id()) is None


async def test_tries_that_come_at_once_are_all_counted(store: Store, other_store: Store) -> None:
    accepted = await accept_one(store, "e1")
    tried = await asyncio.gather(
        *(_try_again([store, other_store][number % 2], accepted.inbox_id) for number in range(8))
    )
    assert sorted(one.times for one in tried if one) == list(range(2, 10))


# --- when an answer is pushed -------------------------------------------------------------------


async def test_an_answer_that_may_ride_is_not_pushed_before_its_time(store: Store) -> None:
    accepted = await accept_one(store, "e1")
    segments = (Segment("一"), Segment("二", pause_seconds=2.0))
    push_after = NOW + 16 * A_SECOND
    await answer(store, accepted.conversation_id, segments=segments, push_after=push_after)
    here = accepted.conversation_id
    assert await claim_deliveries(store, here, now=push_after - A_SECOND) == []
    assert await _due(store, push_after - A_SECOND) == []
    assert _texts((await _passable(store, here, "e1")).deliveries) == ["一", "二"], "but it may ride"
    assert await _due(store, push_after) == [here]
    assert _texts(await claim_deliveries(store, here, now=push_after)) == ["一"]
    assert _texts(await claim_deliveries(store, here, now=push_after + 2 * A_SECOND)) == ["一", "二"]


async def test_an_answer_that_rides_on_nothing_is_pushed_at_once(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一")
    assert await _due(store, NOW) == [here]


# --- what may ride ------------------------------------------------------------------------------


async def test_what_is_unsent_may_ride_in_order_and_urgent_first(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一", "二")
    await accept_one(store, "e2", chat_id="chat of e1")
    await answer(store, here, segments=(Segment("急", urgent=True), Segment("急二", urgent=True)))
    found = await _passable(store, here, "e2")
    assert (_texts(found.deliveries), found.again) == (["急", "急二", "一", "二"], False)
    assert all(one.pending and one.conversation_id == here for one in found.deliveries)
    assert await _passable(store, new_id(), "e2") == Passable((), again=False)


async def test_what_is_held_or_failed_before_may_ride(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一", "二", "三")
    first, second, third = await claim_deliveries(store, here)
    await store.write(lambda tx: tx.deliveries.mark_sent(first.id, None, NOW))
    await store.write(lambda tx: tx.deliveries.mark_failed(second.id, "me", "busy", AFTER, NOW))
    await _hold(store, here)
    await accept_one(store, "e2", chat_id="chat of e1")
    await answer(store, here, segments=(Segment("四"),))
    found = (await _passable(store, here, "e2")).deliveries
    assert _texts(found) == ["二", "三", "四"]
    assert [one.id for one in found[:2]] == [second.id, third.id]


async def test_what_somebody_is_sending_does_not_ride_nor_does_what_comes_after_it(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一", "二")
    leased = await claim_deliveries(store, here, "sender")
    await accept_one(store, "e2", chat_id="chat of e1")
    await answer(store, here, segments=(Segment("三"),))
    assert await _passable(store, here, "e2") == Passable((), again=False), "三 must not overtake 一"
    with pytest.raises(LeaseLost):
        await _pass_on(store, here, "e2", [leased[0].id])
    late = NOW + LEASE + A_SECOND
    assert _texts((await _passable(store, here, "e2", late)).deliveries) == ["一", "二", "三"]
    await store.write(lambda tx: tx.deliveries.mark_sent(leased[0].id, None, NOW))
    await store.write(lambda tx: tx.deliveries.mark_sent(leased[1].id, None, NOW))
    assert _texts((await _passable(store, here, "e2")).deliveries) == ["三"]


# --- riding -------------------------------------------------------------------------------------


async def test_what_rides_is_in_nobody_elses_way_until_its_time(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一", "二")
    first, second = (await _passable(store, here, "e1")).deliveries
    await _pass_on(store, here, "e1", [first.id])
    assert _texts((await _passable(store, here, "e2")).deliveries) == ["二"], "二 on another response"
    assert await claim_deliveries(store, here, now=UNTIL - A_SECOND) == [], (
        "in order: 二 is not pushed before 一"
    )
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == []
    with pytest.raises(LeaseLost):
        await _pass_on(store, here, "e2", [second.id, first.id])
    assert await _passed_with(store, here, "e2") == [], "refused as a whole"


async def test_a_lost_response_brings_the_very_same_again(store: Store, other_store: Store) -> None:
    here = await deliveries_of(store, "e1", "一", "二", "三")
    first, second, _third = (await _passable(store, here, "e1")).deliveries
    await _pass_on(store, here, "e1", [first.id, second.id])
    again = await _passable(other_store, here, "e1", NOW + 5 * A_SECOND)
    assert (again.deliveries, again.again) == ((first, second), True)
    for _ in range(2):  # the second time nothing is different in the row
        await _pass_on(other_store, here, "e1", [first.id, second.id], until=UNTIL + 5 * A_SECOND)
    assert await claim_deliveries(store, here, now=UNTIL + 4 * A_SECOND) == [], "and waits longer for it"
    assert _texts(await claim_deliveries(store, here, now=UNTIL + 5 * A_SECOND)) == ["一", "二", "三"]


async def test_a_response_that_was_out_and_lost_all_the_same_is_repeated_unsent(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一", "二")
    (first, _) = (await _passable(store, here, "e1")).deliveries
    await _pass_on(store, here, "e1", [first.id])
    await _mark_passed(store, here, "e1", keep_until=UNTIL)
    again = await _passable(store, here, "e1", UNTIL - A_SECOND)
    assert again.again
    assert [(one.id, one.segment.text, one.pending) for one in again.deliveries] == [(first.id, "一", False)]
    afterwards = await _passable(store, here, "e1", AFTER)
    assert (_texts(afterwards.deliveries), afterwards.again) == (["二"], False)


async def test_what_arrived_is_sent_and_never_goes_out_again(store: Store, database: Database) -> None:
    here = await deliveries_of(store, "e1", "一")
    other = await deliveries_of(store, "x1", "别处")
    (first,) = (await _passable(store, here, "e1")).deliveries
    await _pass_on(store, here, "e1", [first.id])
    for _ in range(2):
        await _mark_passed(store, here, "e1", keep_until=UNTIL, now=NOW + A_SECOND)
    assert await claim_deliveries(store, here, now=AFTER) == []
    assert await _due(store, AFTER) == [other]
    (record,) = await store.read(lambda tx: tx.deliveries.list(DeliveryState.SENT, 9))
    assert (record.id, record.attempts, record.next_attempt_at) == (first.id, 1, NOW + A_SECOND)
    (row,) = database.rows("SELECT sent_at FROM deliveries WHERE id = :id", id=first.id)
    assert row[0] is not None


async def test_what_never_arrived_for_sure_is_due_again(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一")
    (first,) = (await _passable(store, here, "e1")).deliveries
    await _pass_on(store, here, "e1", [first.id])
    assert await _due(store, UNTIL - A_SECOND) == []
    assert await _due(store, UNTIL) == [here]
    found = await _passable(store, here, "e2", AFTER)
    assert ([one.id for one in found.deliveries], found.again) == ([first.id], False)
    await _pass_on(store, here, "e2", [first.id], now=AFTER, until=AFTER + LEASE)
    assert not (await _passable(store, here, "e1", AFTER + A_SECOND)).deliveries, "it rides on e2's now"
    await _mark_passed(store, here, "e1", keep_until=AFTER)
    assert await _due(store, AFTER + LEASE) == [here], "what the old response did says nothing of it"


async def test_what_was_pushed_in_the_end_does_not_ride_again(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一")
    (first,) = (await _passable(store, here, "e1")).deliveries
    await _pass_on(store, here, "e1", [first.id])
    (pushed,) = await claim_deliveries(store, here, now=UNTIL)
    with pytest.raises(LeaseLost):
        await _pass_on(store, here, "e1", [first.id], now=UNTIL, until=AFTER)
    await store.write(lambda tx: tx.deliveries.mark_sent(pushed.id, None, AFTER))
    assert await _passable(store, here, "e1", AFTER) == Passable((), again=False)
    with pytest.raises(LeaseLost):
        await _pass_on(store, here, "e1", [first.id], now=AFTER, until=AFTER + LEASE)


async def test_the_rest_is_pushed_where_it_may(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一", "二", "三", now=NOW + 60 * A_SECOND)
    await _hold(store, here)
    first, second, _third = (await _passable(store, here, "e1")).deliveries
    await _pass_on(store, here, "e1", [first.id], rest_due=False)
    await _mark_passed(store, here, "e1", keep_until=UNTIL)
    assert await _due(store, AFTER + LEASE) == [], "held: for the next response"
    await _pass_on(store, here, "e2", [second.id], rest_due=True)
    await _mark_passed(store, here, "e2", keep_until=UNTIL)
    assert await _due(store, NOW) == [here]
    assert _texts(await claim_deliveries(store, here)) == ["三"]
    await accept_one(store, "e3", chat_id="chat of e1")
    await answer(store, here, segments=(Segment("四"),), push_after=AFTER)
    await _pass_on(store, here, "e3", [], rest_due=True)
    assert _texts(await claim_deliveries(store, here)) == ["三", "四"], "also where nothing rode"


async def test_a_dead_letter_rides_on_nothing(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一")
    (first,) = (await _passable(store, here, "e1")).deliveries
    await _pass_on(store, here, "e1", [first.id])
    await store.write(lambda tx: tx.deliveries.bury_conversation(here, "gone", NOW))
    assert await _passable(store, here, "e1") == Passable((), again=False)
    assert await _passable(store, here, "e2") == Passable((), again=False)


async def test_event_ids_are_compared_exactly(store: Store) -> None:
    here = await deliveries_of(store, "Ev", "一")
    (first,) = (await _passable(store, here, "Ev")).deliveries
    await _pass_on(store, here, "Ev", [first.id])
    for other in ("ev", "Ev ", "Ëv", "E"):
        assert not (await _passable(store, here, other)).again
        await _mark_passed(store, here, other, keep_until=UNTIL)
    assert (await _passable(store, here, "Ev")).deliveries == (first,)


async def test_what_overtakes_what_rides_takes_nothing_from_it(store: Store) -> None:
    """Something urgent is pushed while an answer rides: the outbox is not sending that answer."""
    here = await deliveries_of(store, "e1", "一")
    (first,) = (await _passable(store, here, "e1")).deliveries
    await _pass_on(store, here, "e1", [first.id])
    await accept_one(store, "e2", chat_id="chat of e1")
    await answer(store, here, segments=(Segment("急", urgent=True),))
    (urgent,) = await claim_deliveries(store, here)
    assert urgent.segment.text == "急"
    await _pass_on(store, here, "e1", [first.id])  # its response was lost, and is asked for again
    await store.write(lambda tx: tx.deliveries.mark_sent(urgent.id, None, NOW))
    await _mark_passed(store, here, "e1", keep_until=UNTIL)
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == []


# --- held, owed ---------------------------------------------------------------------------------


async def test_what_is_held_waits_for_the_person(store: Store) -> None:
    here, other = [await deliveries_of(store, event, "一", "二") for event in ("a", "b")]
    first, _second = await claim_deliveries(store, here)
    await store.write(lambda tx: tx.deliveries.mark_sent(first.id, None, NOW))
    assert await _hold(store, here) == 1
    assert await _hold(store, here) == 0
    assert await _due(store, AFTER + LEASE) == [other]
    assert await claim_deliveries(store, here, now=AFTER) == []
    assert await store.read(lambda tx: tx.conversations.lease_owners()) == []
    (held,) = await store.read(lambda tx: tx.deliveries.list(DeliveryState.HELD, 9))
    assert (held.reason, held.state) == ("window_closed" + "x" * 51, DeliveryState.HELD)


async def test_holding_leaves_alone_what_rides_at_this_moment(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一", "二")
    first, second = (await _passable(store, here, "e1")).deliveries
    await _pass_on(store, here, "e1", [first.id])
    assert await _hold(store, here) == 1
    assert (await _passable(store, here, "e1")).deliveries == (first,)
    await _mark_passed(store, here, "e1", keep_until=UNTIL)
    found = (await _passable(store, here, "e2")).deliveries
    assert [one.id for one in found] == [second.id]
    await _pass_on(store, here, "e2", [second.id])
    assert await _hold(store, here, AFTER) == 1, "nobody knows whether it arrived, and it can't be pushed"
    assert _texts((await _passable(store, here, "e3", AFTER)).deliveries) == ["二"]


async def test_what_is_held_for_somebody_gone_is_buried_with_the_rest(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一")
    await _hold(store, here)
    await accept_one(store, "e2", chat_id="chat of e1")
    await answer(store, here, segments=(Segment("二"),))
    assert await store.write(lambda tx: tx.deliveries.bury_conversation(here, "gone", NOW)) == 2
    assert await _passable(store, here, "e3") == Passable((), again=False)


async def test_what_is_unsent_is_owed_and_so_is_what_rode_on_that_very_response(store: Store) -> None:
    here = await deliveries_of(store, "e1", "一")
    assert await _is_owed(store, here, "e2")
    await _hold(store, here)
    assert await _is_owed(store, here, "e2")
    (first,) = (await _passable(store, here, "e2")).deliveries
    await _pass_on(store, here, "e2", [first.id])
    await _mark_passed(store, here, "e2", keep_until=UNTIL)
    assert await _is_owed(store, here, "e2")
    assert not await _is_owed(store, here, "e3")
    assert not await _is_owed(store, new_id(), "e2")


async def test_an_erased_persons_farewell_is_there_until_it_arrived(store: Store) -> None:
    """It rides, is held, or was lost on its way and is asked for again: all that is before it arrived."""
    places = {}
    for event in ("rides", "held", "arrived"):
        accepted = await accept_one(store, event, chat_id=event, sender_id=event)
        claimed = await claim(store, accepted.conversation_id)
        by, here = claimed.pending[0], claimed.id
        effect = partial(_erase, by, here)
        farewell = turn_of(claimed, segments=(Segment("保重"),), effect=effect, written=False)
        await commit(store, farewell)
        (last,) = (await _passable(store, here, event)).deliveries
        await (_hold(store, here) if event == "held" else _pass_on(store, here, event, [last.id]))
        places[event] = here
    await _mark_passed(store, places["arrived"], "arrived", keep_until=UNTIL)
    await store.write(lambda tx: tx.people.erase_left(NOW + A_SECOND))
    assert _texts((await _passable(store, places["held"], "next", NOW)).deliveries) == ["保重"]
    assert _texts((await _passable(store, places["rides"], "rides", NOW)).deliveries) == ["保重"]
    assert _texts((await _passable(store, places["arrived"], "arrived", NOW)).deliveries) == ["保重"]
    assert await store.write(lambda tx: tx.people.erase_left(NOW + FAREWELL)) >= 1
    assert not await store.read(lambda tx: tx.people.is_leaving())


# --- bodies that are still needed ---------------------------------------------------------------


async def test_a_sent_body_is_kept_as_long_as_it_is_needed(store: Store, database: Database) -> None:
    accepted = await accept_one(store, "e1")
    here = accepted.conversation_id
    file = Segment("给你", media=Media(MediaKind.DOCUMENT, "你.json", bytes(range(256)) * 40))
    await answer(store, here, segments=(file, Segment("二"), Segment("三")))
    first, second, third = await claim_deliveries(store, here)
    assert await _kept(store, first.id) == file, "unsent, it is there anyway"
    await store.write(lambda tx: tx.deliveries.mark_sent(first.id, "42", NOW, UNTIL))
    await store.write(lambda tx: tx.deliveries.mark_sent(second.id, None, NOW))
    await store.write(lambda tx: tx.deliveries.mark_sent(third.id, None, NOW, AFTER + LEASE))
    assert await _kept(store, first.id, UNTIL - A_SECOND) == file
    assert await _kept(store, first.id, UNTIL) is None, "its time is over, whether or not it was emptied"
    assert await _kept(store, second.id) is None
    assert await _kept(store, new_id()) is None
    assert not await store.read(lambda tx: tx.deliveries.has_kept(UNTIL - A_SECOND))
    assert await store.write(lambda tx: tx.deliveries.forget_kept(UNTIL - A_SECOND)) == 0
    assert await store.read(lambda tx: tx.deliveries.has_kept(AFTER))
    assert await store.write(lambda tx: tx.deliveries.forget_kept(AFTER)) == 1
    assert not await store.read(lambda tx: tx.deliveries.has_kept(AFTER))
    assert await _kept(store, first.id, NOW) is None, "gone, whatever the clock says"
    assert await _kept(store, third.id, AFTER) == Segment("三")
    rows = database.rows("SELECT id FROM deliveries WHERE LENGTH(body) > 0")
    assert [row[0] for row in rows] == [third.id]
    assert await claim_deliveries(store, here, now=AFTER) == []


async def test_what_rode_is_emptied_when_nobody_can_ask_for_it_again(
    store: Store, database: Database
) -> None:
    here = await deliveries_of(store, "e1", "一", "二")
    first, _second = (await _passable(store, here, "e1")).deliveries
    await _pass_on(store, here, "e1", [first.id])
    await _mark_passed(store, here, "e1", keep_until=UNTIL)
    assert await _kept(store, first.id) == Segment("一")
    assert await store.write(lambda tx: tx.deliveries.forget_kept(AFTER)) == 1
    assert not (await _passable(store, here, "e1", NOW)).again
    assert [row[0] for row in database.rows("SELECT id FROM deliveries WHERE LENGTH(body) = 0")] == [first.id]


# --- several processes --------------------------------------------------------------------------


async def test_two_responses_at_once_never_carry_the_same(store: Store, other_store: Store) -> None:
    """Also three tries of one message at three processes, whose connections are closed by now."""
    places = [await deliveries_of(store, f"e{number}", "一", "二", "三") for number in range(8)]
    outcomes = await asyncio.gather(
        *(
            _take([store, other_store][number % 2], here, f"r{number}")
            for here in places
            for number in range(4)
        )
    )
    for place, here in enumerate(places):
        taken = [ids for ids in outcomes[4 * place : 4 * place + 4] if ids]
        assert [len(ids) for ids in taken] == [3], f"{here}: all of it, and by one only"


async def test_the_same_event_at_two_processes_carries_the_same(store: Store, other_store: Store) -> None:
    here = await deliveries_of(store, "e1", "一", "二")
    taken = await asyncio.gather(*(_take(one, here, "e1") for one in (store, other_store) * 2))
    assert len({tuple(ids) for ids in taken if ids}) == 1
    assert (await _passable(store, here, "e1")).again


async def test_a_response_and_the_outbox_at_once_never_carry_the_same(
    store: Store, other_store: Store
) -> None:
    places = [await deliveries_of(store, f"e{number}", "一", "二") for number in range(8)]
    outcomes = await asyncio.gather(
        *(one for here in places for one in (_take(store, here, "r"), _claim(other_store, here)))
    )
    for place in range(len(places)):
        rode, claimed = outcomes[2 * place : 2 * place + 2]
        assert sorted((len(rode), len(claimed))) == [0, 2]


# --- short for what the store is asked ----------------------------------------------------------


def _texts(deliveries: Sequence[Delivery]) -> list[str]:
    return [one.segment.text for one in deliveries]


async def _take(store: Store, here: int, event_id: str) -> list[int]:
    """As core/passive.py takes all there is; nothing if others were quicker."""

    def take(tx: Transaction) -> list[int]:
        ids = [one.id for one in tx.deliveries.passable(here, event_id, NOW).deliveries]
        tx.deliveries.pass_on(here, event_id, ids, NOW, UNTIL, rest_due=False)
        return ids

    try:
        return await store.write(take)
    except LeaseLost:
        return []


async def _claim(store: Store, here: int) -> list[int]:
    return [one.id for one in await claim_deliveries(store, here, "outbox")]


def _erase(by: Pending, here: int, tx: Transaction) -> None:
    tx.people.erase(by, NOW + FAREWELL, here)


async def _is_waiting(store: Store, inbox_id: int) -> bool:
    return await store.read(lambda tx: tx.inbox.is_waiting(inbox_id))


async def _try_again(store: Store, inbox_id: int) -> Tried | None:
    return await store.write(lambda tx: tx.inbox.try_again(inbox_id))


async def _due(store: Store, now: datetime) -> list[int]:
    return await store.read(lambda tx: tx.deliveries.conversations_due("me", now, 99))


async def _passable(store: Store, here: int, event_id: str, now: datetime = NOW) -> Passable:
    return await store.read(lambda tx: tx.deliveries.passable(here, event_id, now))


async def _passed_with(store: Store, here: int, event_id: str) -> list[str]:
    found = await _passable(store, here, event_id)
    return _texts(found.deliveries) if found.again else []


async def _pass_on(
    store: Store,
    here: int,
    event_id: str,
    ids: Sequence[int],
    *,
    now: datetime = NOW,
    until: datetime = UNTIL,
    rest_due: bool = False,
) -> None:
    await store.write(lambda tx: tx.deliveries.pass_on(here, event_id, ids, now, until, rest_due=rest_due))


async def _mark_passed(
    store: Store, here: int, event_id: str, *, keep_until: datetime, now: datetime = NOW
) -> None:
    await store.write(lambda tx: tx.deliveries.mark_passed(here, event_id, now, keep_until))


async def _hold(store: Store, here: int, now: datetime = NOW) -> int:
    reason = "window_closed" + "x" * 99
    return await store.write(lambda tx: tx.deliveries.hold(here, reason, now))


async def _is_owed(store: Store, here: int, event_id: str) -> bool:
    return await store.read(lambda tx: tx.deliveries.is_owed(here, event_id))


async def _kept(store: Store, delivery_id: int, now: datetime = NOW) -> Segment | None:
    return await store.read(lambda tx: tx.deliveries.kept(delivery_id, now))
