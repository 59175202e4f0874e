"""What is taken back on both databases: messages of people and of ours, reactions; and what was seen last."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event

from core.errors import LeaseLost
from core.feedback import BAD, GOOD
from core.messages import (
    Command,
    ConversationKind,
    Deleted,
    Edited,
    Platform,
    Reacted,
    Segment,
)
from core.ports import Accepted, Seen, Store
from tests.databases import (
    NOW,
    Database,
    accept,
    accept_one,
    answer,
    claim,
    claim_deliveries,
    commit,
    message,
    try_claim,
    turn_of,
)

A_SECOND = timedelta(seconds=1)
GROUP = ConversationKind.GROUP
LOOK_SECONDS = 0.2
"""MariaDB tells of locks what it found out before, if it is asked again within a tenth of a second."""
DELETION_STATEMENTS = 5
"""What a deletion sends: two questions, three changes."""


# --- while it waits -----------------------------------------------------------------------------


async def test_a_deleted_message_that_waits_is_not_answered(store: Store, database: Database) -> None:
    accepted = await accept_one(store, "e1", "说错了", message_id="5")
    assert await delete(store, "5") == accepted.conversation_id
    assert await waiting(store) == []
    assert await try_claim(store, accepted.conversation_id) is None
    assert await said_in(store) == []
    assert await store.read(lambda tx: tx.inbox.text_of(accepted.inbox_id)) is None
    assert not await store.read(lambda tx: tx.inbox.is_waiting(accepted.inbox_id))
    assert database.rows("SELECT body FROM inbox")[0][0] is None, "nor are its words kept"


async def test_what_was_said_beside_it_is_answered(store: Store) -> None:
    first, _, _ = await accept(
        store,
        message("e1", "一", message_id="5"),
        message("e2", "二", message_id="6"),
        message("e3", "三", message_id="7"),
    )
    assert await delete(store, "5", "7") == first.conversation_id
    assert await waiting(store) == [first.conversation_id]
    await answer(store, first.conversation_id)
    assert await said_in(store) == ["二", "我在听。"]


async def test_deleted_twice_is_deleted_once(store: Store, database: Database) -> None:
    await accept_one(store, "e1", message_id="5")
    await delete(store, "5")
    before = database.rows("SELECT * FROM inbox")
    assert await delete(store, "5", at=NOW + A_SECOND) is None
    assert database.rows("SELECT * FROM inbox") == before


async def test_handed_over_again_it_stays_deleted(store: Store) -> None:
    accepted = await accept_one(store, "e1", message_id="5")
    await delete(store, "5")
    assert await accept_one(store, "e1", message_id="5") == replace(accepted, duplicate=True)
    assert await waiting(store) == []


async def test_an_edit_of_what_was_deleted_brings_nothing_back(store: Store) -> None:
    accepted = await accept_one(store, "e1", "说错了", message_id="5")
    await delete(store, "5")
    edited = Edited(message("e2", "还是说错了", message_id="5"))
    assert await store.write(lambda tx: tx.inbox.edit(edited, NOW)) == replace(accepted, duplicate=True)
    assert (await waiting(store), await said_in(store)) == ([], [])


async def test_what_was_deferred_gets_no_late_answer(store: Store) -> None:
    first, _ = await accept(store, message("e1", "一", message_id="5"), message("e2", "二", message_id="6"))
    await answer(store, first.conversation_id, "我先记下了。", defer=True)
    assert await delete(store, "5") is None, "nothing is to be begun for it"
    assert [one.message.text for one in (await claim(store, first.conversation_id)).deferred] == ["二"]
    await store.write(lambda tx: tx.conversations.release(first.conversation_id, "me"))
    await delete(store, "6")
    assert await store.read(lambda tx: tx.inbox.conversations_deferred("me", NOW, NOW, 9)) == []
    assert await said_in(store) == ["我先记下了。"]


async def test_only_that_message_in_that_place_is_deleted(store: Store) -> None:
    places: tuple[dict[str, Any], ...] = (
        {},
        {"message_id": "55"},
        {"message_id": None},
        {"chat_id": "room/2"},
        {"chat_id": "roo"},
        {"platform": Platform.DISCORD},
    )
    accepted = [
        await accept_one(store, f"e{number}", **{"message_id": "5", **place})
        for number, place in enumerate(places)
    ]
    await delete(store, "5")
    still = [await store.read(lambda tx, one=one: tx.inbox.is_waiting(one.inbox_id)) for one in accepted]  # type: ignore[misc]
    assert still == [False, True, True, True, True, True]


@pytest.mark.parametrize("gone", [("9",), ()])
async def test_what_nobody_knows_is_deleted_without_a_trace(store: Store, gone: tuple[str, ...]) -> None:
    accepted = await accept_one(store, "e1", message_id="5")
    assert await delete(store, *gone) is None
    assert await waiting(store) == [accepted.conversation_id]


# --- while it is answered -----------------------------------------------------------------------


async def test_a_turn_that_read_what_was_deleted_meanwhile_is_void(store: Store) -> None:
    first, _ = await accept(store, message("e1", "一", message_id="5"), message("e2", "二", message_id="6"))
    read_before = turn_of(await claim(store, first.conversation_id), segments=(Segment("我在听。"),))
    await delete(store, "5")
    with pytest.raises(LeaseLost):
        await commit(store, read_before)
    assert await claim_deliveries(store, first.conversation_id) == []
    await answer(store, first.conversation_id)
    assert await said_in(store) == ["二", "我在听。"]


async def test_of_a_turn_all_of_whose_messages_are_deleted_nothing_is_left(store: Store) -> None:
    accepted = await accept_one(store, "e1", "说错了", message_id="5")
    read_before = turn_of(await claim(store, accepted.conversation_id), segments=(Segment("我在听。"),))
    await delete(store, "5")
    with pytest.raises(LeaseLost):
        await commit(store, read_before)
    assert await try_claim(store, accepted.conversation_id) is None
    assert (await waiting(store), await said_in(store)) == ([], [])
    later = await accept_one(store, "e2", "你好", message_id="6")
    assert len((await claim(store, later.conversation_id)).pending) == 1, "its lease was given back"


async def test_deleted_at_the_very_moment_of_its_answer_it_is_gone(migrated_mariadb: Database) -> None:
    """Between any two statements of the deletion. SQLite writes one thing at a time."""
    database = migrated_mariadb
    for statement in range(DELETION_STATEMENTS):
        database.empty()
        async with database.opened() as store:
            accepted = await accept_one(store, "e1", "说错了", message_id="5")
            await _delete_while_it_is_committed(store, database, accepted, statement)
            assert "说错了" not in await said_in(store), statement
            assert await waiting(store) == []


async def _delete_while_it_is_committed(
    store: Store, database: Database, accepted: Accepted, after: int
) -> None:
    result = turn_of(await claim(store, accepted.conversation_id))
    mine, looking, count = threading.current_thread(), False, -1

    async def commit_elsewhere() -> None:
        async with database.opened() as elsewhere:
            with suppress(LeaseLost):
                await commit(elsewhere, result)

    def between_two_statements(*_: Any) -> None:
        nonlocal count, looking
        if looking or threading.current_thread() is not mine:
            return
        count += 1
        if count == after:
            looking = True
            committing.start()
            while committing.is_alive() and not _waits_for_a_lock(database):
                committing.join(LOOK_SECONDS)
            looking = False

    committing = threading.Thread(target=lambda: asyncio.run(commit_elsewhere()))
    event.listen(Engine, "after_cursor_execute", between_two_statements)
    try:
        await delete(store, "5")
    finally:
        event.remove(Engine, "after_cursor_execute", between_two_statements)
    assert count >= after
    await asyncio.to_thread(committing.join)


def _waits_for_a_lock(database: Database) -> bool:
    return bool(database.rows("SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"))


# --- after it was answered ----------------------------------------------------------------------


async def test_a_deleted_message_leaves_the_history_and_the_context(store: Store, database: Database) -> None:
    first, _ = await accept(store, message("e1", "一", message_id="5"), message("e2", "二", message_id="6"))
    await answer(store, first.conversation_id)
    assert await delete(store, "5") is None
    assert await said_in(store) == ["二", "我在听。"]
    await accept_one(store, "e3", "三")
    claimed = await claim(store, first.conversation_id)
    assert [one.text for one in claimed.window] == ["二", "我在听。"]
    assert [one.message.text for one in claimed.pending] == ["三"]
    assert len(database.rows("SELECT id FROM chat_messages")) == 2


async def test_all_that_it_was_changed_to_goes_with_it(store: Store) -> None:
    accepted = await accept_one(store, "e1", "我很好", message_id="5")
    await answer(store, accepted.conversation_id)
    for number, text in enumerate(("我不好", "算了")):
        edited = Edited(message(f"edit {number}", text, message_id="5"))
        await store.write(lambda tx, event=edited: tx.inbox.edit(event, NOW))  # type: ignore[misc]
    assert len(await said_in(store)) == 4
    await delete(store, "5")
    assert await said_in(store) == ["我在听。"]


async def test_a_deleted_answer_of_ours_is_said_no_more(store: Store) -> None:
    first = await answered_with(store, "e1", "一", "听到一。", ours=("m1", "m2"))
    await answered_with(store, "e2", "二", "听到二。", ours=("m3",))
    assert await delete(store, "m2") is None
    assert await said_in(store) == ["一", "二", "听到二。"]
    await accept_one(store, "e3", "三")
    window = (await claim(store, first.conversation_id)).window
    assert [one.text for one in window] == ["一", "二", "听到二。"]


async def test_a_whole_channel_swept_at_once_leaves_nothing(store: Store) -> None:
    await answered_with(store, "e1", "一", "听到一。", ours=("m1",), message_id="5")
    accepted = await accept_one(store, "e2", "二", message_id="6")
    assert await delete(store, "5", "m1", "6") == accepted.conversation_id
    assert (await said_in(store), await waiting(store)) == ([], [])


async def test_a_deleted_menu_of_ours_takes_no_answer_with_it(store: Store) -> None:
    await answered_with(store, "e1", "一", "听到一。", ours=("m1",))
    await answered_with(store, "e2", "/settings", "菜单", ours=("m2",), command=Command("settings"))
    await delete(store, "m2")
    assert (await said_in(store))[:2] == ["一", "听到一。"]
    assert "菜单" not in await said_in(store)


async def test_what_was_thought_of_a_deleted_answer_can_be_told_no_more(store: Store) -> None:
    await answered_with(store, "e1", "一", "听到一。", ours=("m1",))
    assert await react(store, "👍")
    await delete(store, "m1")
    assert not await react(store, "❤")


# --- reactions taken back -----------------------------------------------------------------------


async def test_the_reaction_that_stands_is_taken_back(store: Store, database: Database) -> None:
    await answered_with(store, "e1", "一", "听到一。", ours=("m1",))
    assert await react(store, "👍")
    assert await react(store, taken_back="👍")
    assert feedback(database) == []
    assert not await react(store, taken_back="👍"), "told again"


async def test_while_another_stands_nothing_is_taken_back(store: Store, database: Database) -> None:
    """Somebody added 👍, then 👎, then took 👍 away: what they think is 👎."""
    await answered_with(store, "e1", "一", "听到一。", ours=("m1",))
    await react(store, "👍")
    await react(store, "👎", verdict=BAD)
    assert not await react(store, taken_back="👍")
    assert feedback(database) == [("reaction", BAD)]
    assert await react(store, taken_back="👎")
    assert feedback(database) == []


async def test_a_reaction_taken_back_takes_no_button_and_nobody_elses_with_it(
    store: Store, database: Database
) -> None:
    accepted = await answered_with(store, "e1", "一", "听到一。", ours=("m1",))
    await accept_one(store, "e2", sender_id="bob")
    ((ann,),) = database.rows("SELECT user_id FROM inbox WHERE id = :id", id=accepted.inbox_id)
    assert await store.write(lambda tx: tx.feedback.judge(accepted.conversation_id, ann, "m1", BAD, NOW))
    await react(store, "👍")
    await react(store, "👍", sender_id="bob")
    assert await react(store, taken_back="👍")
    assert feedback(database) == [("button", BAD), ("reaction", GOOD)]
    assert await react(store, taken_back="👍", sender_id="bob")
    assert feedback(database) == [("button", BAD)]


async def test_nobodys_reaction_is_taken_back_by_a_stranger(store: Store, database: Database) -> None:
    await answered_with(store, "e1", "一", "听到一。", ours=("m1",))
    await react(store, "👍")
    assert not await react(store, taken_back="👍", sender_id="eve")
    assert not await react(store, taken_back="👍", message_id="m9")
    assert feedback(database) == [("reaction", GOOD)]


# --- what was seen last -------------------------------------------------------------------------


async def test_the_newest_message_of_each_private_chat_is_known_the_newest_first(store: Store) -> None:
    for number, chat in enumerate(("@1", "@2", "@1", "@3", "@2")):
        await accept_one(store, f"e{number}", chat_id=chat, message_id=f"m{number}")
    assert await seen(store) == (Seen("@2", "e4"), Seen("@3", "e3"), Seen("@1", "e2"))
    assert await seen(store, limit=2) == (Seen("@2", "e4"), Seen("@3", "e3"))


async def test_only_messages_of_private_chats_of_that_platform_count(store: Store) -> None:
    await accept_one(store, "e1", chat_id="@1", message_id="1")
    await accept_one(store, "e2", chat_id="@1", command=Command("help"))  # an interaction is no message
    await accept_one(store, "e3", chat_id="1/2", message_id="3", kind=GROUP)
    await accept_one(store, "e4", chat_id="@4", message_id="4", platform=Platform.DISCORD)
    assert await seen(store) == (Seen("@1", "e1"),)


async def test_what_is_long_ago_is_not_looked_for(store: Store) -> None:
    for number, ago in enumerate((2, 1, 0)):
        one = message(f"e{number}", chat_id=f"@{number}", message_id="1")
        await accept(store, one, now=NOW - timedelta(days=ago))
    assert await seen(store, since=NOW - timedelta(days=1)) == (Seen("@2", "e2"),)


async def test_what_was_answered_or_deleted_was_seen_all_the_same(store: Store) -> None:
    """From there on is asked for what was missed: what is gone or done need not come again."""
    accepted = await accept_one(store, "e1", chat_id="@1", message_id="1")
    await answer(store, accepted.conversation_id)
    await accept_one(store, "e2", chat_id="@1", message_id="2")
    await store.write(lambda tx: tx.inbox.delete(Deleted(Platform.TELEGRAM, "@1", ("2",)), NOW))
    assert await seen(store) == (Seen("@1", "e2"),)


# --- what the tests do and see ------------------------------------------------------------------


async def delete(store: Store, *message_ids: str, at: datetime = NOW) -> int | None:
    return await store.write(lambda tx: tx.inbox.delete(Deleted(Platform.TELEGRAM, "room", message_ids), at))


async def react(
    store: Store, *emojis: str, verdict: str = GOOD, taken_back: str = "", **changes: Any
) -> bool:
    """Ann's reaction on message m1 in 'room'."""
    event = Reacted(Platform.TELEGRAM, "room", "ann", "m1", emojis, taken_back)
    event = replace(event, **changes)
    return await store.write(lambda tx: tx.feedback.react(event, verdict, NOW))


async def answered_with(
    store: Store, event_id: str, said: str, reply: str, *, ours: tuple[str, ...], **changes: Any
) -> Accepted:
    """A message whose answer was sent in pieces, each with that id of its platform's."""
    accepted = await accept_one(store, event_id, said, **changes)
    segments = tuple(Segment(f"{reply} {number}") for number in range(len(ours)))
    await answer(store, accepted.conversation_id, reply, segments=segments)
    sent = await claim_deliveries(store, accepted.conversation_id)
    for one, message_id in zip(sent, ours, strict=True):
        await store.write(lambda tx, id_=one.id, as_=message_id: tx.deliveries.mark_sent(id_, as_, NOW))  # type: ignore[misc]
    return accepted


async def seen(store: Store, since: datetime = NOW - A_SECOND, limit: int = 9) -> tuple[Seen, ...]:
    return await store.read(lambda tx: tx.inbox.newest_seen(Platform.TELEGRAM, since, limit))


async def waiting(store: Store) -> list[int]:
    return await store.read(lambda tx: tx.inbox.conversations_waiting("me", NOW, 9))


async def said_in(store: Store) -> list[str]:
    history = await store.read(lambda tx: tx.conversations.history(Platform.TELEGRAM, "room", None, 99))
    return [one.text for one in history]


def feedback(database: Database) -> list[tuple[str, str]]:
    return sorted((kind, verdict) for kind, verdict in database.rows("SELECT kind, verdict FROM feedback"))
