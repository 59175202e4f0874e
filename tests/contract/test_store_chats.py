"""What becomes of messages, chats and people after they were stored, on both databases."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import LeaseLost
from core.feedback import BAD, GOOD, OTHER
from core.ids import new_id
from core.language import Language
from core.messages import (
    Attachment,
    AttachmentKind,
    Button,
    ChannelPicker,
    Command,
    ConversationKind,
    Edited,
    IncomingMessage,
    Mark,
    MarkKind,
    Media,
    MediaKind,
    Moved,
    Platform,
    Quote,
    Reacted,
    Segment,
)
from core.model.events import ModelUsage
from core.ports import Accepted, ClaimedConversation, Pending, PersonRecord, SentDelivery, Store, TurnResult
from core.settings import ConversationSettings, GroupAnswers, PersonSettings, QuietHours, ReplyStyle
from storage.sql.models import Table
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
    usage,
)

A_SECOND = timedelta(seconds=1)
FAREWELL = timedelta(minutes=15)
DANGER = "我不想活了"
ANN, ANNS_CHAT = "ann-4711-4711", "chat-of-ann-4711"
GROUP = ConversationKind.GROUP
MANY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # one store for all examples is meant


# --- edits --------------------------------------------------------------------------------------


async def test_an_edited_message_that_waits_is_replaced(store: Store) -> None:
    accepted = await accept_one(
        store, "e1", "我很好", message_id="5", attachments=(Attachment(AttachmentKind.PHOTO),)
    )
    edited = message("e2", "我不好", message_id="5", quote=Quote("你好吗", of_bot=True), language="zh")
    assert await edit(store, edited) == Accepted(accepted.inbox_id, accepted.conversation_id, duplicate=False)
    (pending,) = await pending_in(store, accepted)
    assert pending.message == replace(edited, event_id="e1")
    assert (pending.inbox_id, pending.edits) == (accepted.inbox_id, 1)
    await edit(store, replace(edited, event_id="e3", text="算了"))
    (pending,) = await pending_in(store, accepted)
    assert (pending.message.text, pending.edits) == ("算了", 2)
    assert await store.read(lambda tx: tx.inbox.news(accepted.conversation_id, accepted.inbox_id)) == (
        pending,
    )


async def test_a_turn_that_read_what_was_edited_meanwhile_is_void(store: Store, database: Database) -> None:
    first, _ = await accept(store, message("e1", "我很好", message_id="5"), message("e2", "真的"))
    read_before = turn_of(await claim(store, first.conversation_id))
    await edit(store, message("e3", "我不好", message_id="5"))
    before = rows_of(database)
    with pytest.raises(LeaseLost):
        await commit(store, read_before)
    assert rows_of(database) == before
    await answer(store, first.conversation_id)
    assert await said_in(store) == ["我不好", "真的", "我在听。"]


async def test_an_edit_that_changes_no_words_disturbs_nobody(store: Store) -> None:
    accepted = await accept_one(store, "e1", "看 https://xinyu.example", message_id="5")
    result = turn_of(await claim(store, accepted.conversation_id))
    same = message("e2", "看 https://xinyu.example", message_id="5")
    assert await edit(store, same) == replace(accepted, duplicate=True)
    await commit(store, result)
    assert await edit(store, replace(same, event_id="e3")) == replace(accepted, duplicate=True)
    assert await said_in(store) == ["看 https://xinyu.example", "我在听。"]


async def test_the_late_answer_is_to_what_it_was_edited_to(store: Store) -> None:
    accepted = await accept_one(store, "e1", "我很好", message_id="5")
    await answer(store, accepted.conversation_id, "我先记下了。", defer=True)
    assert await edit(store, message("e2", "我不好", message_id="5")) == replace(accepted, duplicate=True)
    claimed = await claim(store, accepted.conversation_id)
    assert [one.message.text for one in claimed.deferred] == ["我不好"]
    assert await said_in(store) == ["我不好", "我先记下了。"]


async def test_an_answered_message_that_is_edited_is_noted_once(store: Store) -> None:
    accepted = await accept_one(store, "e1", "我很好", message_id="5")
    await answer(store, accepted.conversation_id)
    edited = message("e2", "我不好", message_id="5")
    note = "（把自己之前说的「我很好」改成了下面这样）\n我不好"
    for _ in range(2):
        known = await edit(store, edited)
        assert known is not None
        assert known.duplicate  # nobody is owed an answer
    assert await said_in(store) == ["我很好", "我在听。", note]
    await edit(store, replace(edited, event_id="e3"))  # a link's preview came
    assert await said_in(store) == ["我很好", "我在听。", note]
    await edit(store, message("e4", "算了", message_id="5"))
    assert (await said_in(store))[3].endswith("\n算了")
    await edit(store, edited)  # Telegram hands the first over again
    assert len(await said_in(store)) == 4
    assert await pending_in(store, accepted) == ()
    assert await try_claim(store, accepted.conversation_id) is None


@pytest.mark.parametrize("deferred", [False, True])
async def test_danger_edited_into_what_was_answered_is_said_anew_and_once(
    store: Store, deferred: bool
) -> None:
    accepted = await accept_one(store, "e1", "我很好", message_id="5")
    await answer(store, accepted.conversation_id, defer=deferred)
    danger = message("e2", DANGER, message_id="5")
    assert await edit(store, danger) is None
    (anew,) = await accept(store, danger)
    assert await edit(store, danger) == replace(anew, duplicate=True)  # handed over again
    await answer(store, accepted.conversation_id)
    assert await edit(store, replace(danger, event_id="e3")) == replace(anew, duplicate=True)
    assert await said_in(store) == ["我很好", "我在听。", DANGER, "我在听。"]


async def test_nothing_is_known_of_an_edit_from_elsewhere(store: Store, database: Database) -> None:
    accepted = await accept_one(store, "e1", "我很好", message_id="5")
    before = rows_of(database)
    elsewhere: tuple[dict[str, Any], ...] = (
        {"message_id": "6"},
        {"message_id": "5", "chat_id": "other"},
        {"message_id": "5", "platform": Platform.DISCORD},
    )
    assert [await edit(store, message("e2", "我不好", **there)) for there in elsewhere] == [None] * 3
    assert rows_of(database) == before
    assert (await pending_in(store, accepted))[0].message.text == "我很好"


async def test_a_command_that_left_no_words_is_not_noted_as_edited(store: Store) -> None:
    accepted = await accept_one(store, "e1", "/reset", message_id="5", command=Command("reset"))
    await commit(
        store, replace(turn_of(await claim(store, accepted.conversation_id)), said=(), written=False)
    )
    assert await edit(store, message("e2", "/reset!", message_id="5")) == replace(accepted, duplicate=True)
    assert await said_in(store) == []


# --- groups -------------------------------------------------------------------------------------


def overheard(event: str, said: str = "晚饭吃什么", **changes: Any) -> IncomingMessage:
    return message(event, said, **{"kind": GROUP, "addressed": False, **changes})


async def test_nothing_is_kept_of_what_people_say_to_each_other(store: Store, database: Database) -> None:
    heard = [overheard("e1"), overheard("e2", DANGER, sender_id="bob")]
    assert await store.write(lambda tx: tx.inbox.add(heard, NOW)) == [None, None]
    assert rows_of(database) == []
    await accept_one(store, "e3", kind=GROUP)
    before = rows_of(database)
    assert await accept(store, overheard("e4", sender_id="bob")) == []
    assert rows_of(database) == before


async def test_of_a_batch_only_what_is_meant_for_the_bot_is_kept(store: Store) -> None:
    batch = [
        overheard("e1"),
        message("e2", "你好", kind=GROUP),
        overheard("e3", chat_id="other"),
        message("e4", "私下说", chat_id="private"),
        overheard("e5", "", command=Command("help")),
    ]
    accepted = await store.write(lambda tx: tx.inbox.add(batch, NOW))
    assert [one is not None for one in accepted] == [False, True, False, True, True]
    kept = [one for one in accepted if one is not None]
    texts = [await store.read(lambda tx, one=one: tx.inbox.text_of(one.inbox_id)) for one in kept]  # type: ignore[misc]
    assert texts == ["你好", "私下说", ""]


async def test_a_group_that_wants_it_is_heard_out(store: Store) -> None:
    conversation_id = await group_with(store, ConversationSettings(answers=GroupAnswers.ALWAYS))
    assert len(await accept(store, overheard("e2"), message("e3", kind=GROUP))) == 2
    assert await accept(store, overheard("e4", chat_id="other")) == []
    assert len((await claim(store, conversation_id)).pending) == 2


@pytest.mark.parametrize("hushed", [GroupAnswers.OFF, "paused", "paused though always"])
async def test_a_hushed_group_is_only_commanded_and_helped(store: Store, hushed: str) -> None:
    answers = GroupAnswers.OFF if hushed == GroupAnswers.OFF else GroupAnswers.ALWAYS
    chosen = ConversationSettings() if hushed == "paused" else ConversationSettings(answers=answers)
    conversation_id = await group_with(store, chosen)
    if hushed != GroupAnswers.OFF:
        await store.write(lambda tx: tx.conversations.pause(conversation_id, NOW))
    stored = await accept(
        store,
        message("e2", "在吗", kind=GROUP),
        overheard("e3"),
        overheard("e4", DANGER),
        message("e5", "/resume", kind=GROUP, command=Command("resume")),
        message("e6", DANGER, kind=GROUP),
    )
    assert len(stored) == 2
    claimed = await claim(store, conversation_id)
    assert claimed.paused is (hushed != GroupAnswers.OFF)
    assert [one.message.text for one in claimed.pending] == ["/resume", DANGER]


async def test_a_resumed_group_is_talked_with_again(store: Store) -> None:
    conversation_id = await group_with(store)
    await store.write(lambda tx: tx.conversations.pause(conversation_id, NOW))
    assert await accept(store, message("e2", kind=GROUP)) == []
    await store.write(lambda tx: tx.conversations.pause(conversation_id, None))
    assert len(await accept(store, message("e2", kind=GROUP))) == 1


async def test_a_paused_private_chat_is_still_answered(store: Store) -> None:
    accepted = await accept_one(store, "e1")
    await store.write(lambda tx: tx.conversations.pause(accepted.conversation_id, NOW))
    await accept_one(store, "e2")
    claimed = await claim(store, accepted.conversation_id)
    assert (claimed.paused, len(claimed.pending)) == (True, 2)


async def group_with(store: Store, chosen: ConversationSettings = ConversationSettings()) -> int:
    """The chat 'room' as a group in which everything was answered."""
    conversation_id = (await accept_one(store, "e1", kind=GROUP)).conversation_id
    await answer(store, conversation_id)
    await store.write(lambda tx: tx.conversations.update_settings(conversation_id, chosen))
    return conversation_id


# --- paused, gone, begun anew -------------------------------------------------------------------


async def test_no_late_answer_goes_where_none_is_wanted_or_can_be(store: Store) -> None:
    paused, buried, blocked, plain = [await owed(store, chat) for chat in ("a", "b", "c", "d")]
    await store.write(lambda tx: tx.conversations.pause(paused, NOW))
    await store.write(lambda tx: tx.deliveries.bury_conversation(buried, "recipient_gone", NOW))
    await reach(store, "c", reachable=False)
    assert await still_owed(store) == [plain]
    await store.write(lambda tx: tx.conversations.pause(paused, None))
    await reach(store, "c", reachable=True)
    assert await still_owed(store) == [paused, blocked, plain]


async def test_whoever_writes_again_can_be_written_to(store: Store) -> None:
    conversation_id = await owed(store, "a")
    await reach(store, "a", reachable=False)
    await accept_one(store, "again", chat_id="a")
    claimed = await claim(store, conversation_id)
    await commit(store, turn_of(claimed))
    assert await still_owed(store) == [conversation_id]


async def test_a_chat_is_gone_with_its_topics_and_no_other(store: Store) -> None:
    chats = ["-100", "-100/4", "-100/45", "-1001", "-1001/4", "-10", "100"]
    owing = {chat: await owed(store, chat) for chat in chats}
    await store.write(
        lambda tx: tx.conversations.set_reachable(Platform.DISCORD, "-100", reachable=False, now=NOW)
    )
    assert len(await still_owed(store)) == len(chats)
    await reach(store, "-100", reachable=False)
    assert await still_owed(store) == [owing[chat] for chat in ("-1001", "-1001/4", "-10", "100")]
    await reach(store, "-100", reachable=True)
    assert len(await still_owed(store)) == len(chats)


async def test_begun_anew_nothing_earlier_is_read_or_owed(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1", "旧事")).conversation_id
    await answer(store, conversation_id)
    await accept_one(store, "e2", "还有一件")
    await answer(store, conversation_id, "我先记下了。", defer=True)
    reset = await accept_one(store, "e3", "/reset", command=Command("reset"), alone=True)
    claimed = await claim(store, conversation_id)
    assert (len(claimed.window), len(claimed.deferred)) == (4, 1)
    result = turn_of(
        claimed,
        "好，翻篇了。",
        effect=lambda tx: tx.conversations.begin_anew(conversation_id, reset.inbox_id),
    )
    await commit(store, result)
    assert await still_owed(store) == []
    await accept_one(store, "e4", "新的事")
    claimed = await claim(store, conversation_id)
    assert claimed.deferred == ()
    assert [one.text for one in claimed.window] == ["/reset", "好，翻篇了。"]
    assert (await said_in(store))[:2] == ["旧事", "我在听。"]  # it is still theirs to see


async def test_a_preview_is_remembered_until_its_answer_is_there(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    assert (await claim(store, conversation_id)).preview_message_id is None
    await store.write(lambda tx: tx.conversations.set_preview(conversation_id, "other", "m0"))
    assert (await claim(store, conversation_id)).preview_message_id is None
    await store.write(lambda tx: tx.conversations.set_preview(conversation_id, "me", "m1"))
    claimed = await claim(store, conversation_id)
    assert claimed.preview_message_id == "m1"
    await commit(store, turn_of(claimed))
    await accept_one(store, "e2")
    assert (await claim(store, conversation_id)).preview_message_id is None


# --- moves --------------------------------------------------------------------------------------

MOVED = Moved(Platform.TELEGRAM, "room", "-100")


async def test_a_chat_goes_on_under_its_new_id(store: Store) -> None:
    conversation_id = await group_with(store, ConversationSettings(answers=GroupAnswers.ALWAYS))
    await reach(store, "room", reachable=False)  # the old one was left
    for _ in range(2):  # both chats tell of it
        assert await move(store, MOVED) == conversation_id
    accepted = await accept(store, overheard("e2", chat_id="-100"))
    assert [one.conversation_id for one in accepted] == [conversation_id]
    claimed = await claim(store, conversation_id)
    assert (claimed.chat_id, len(claimed.window)) == ("-100", 2)


async def test_a_chat_that_nobody_knows_does_not_move(store: Store, database: Database) -> None:
    assert await move(store, MOVED) is None
    assert rows_of(database) == []


async def test_two_that_were_one_become_one(store: Store, database: Database) -> None:
    old = await group_with(store, ConversationSettings(style=ReplyStyle.BUBBLES))
    await accept_one(store, "e2", "老地方", kind=GROUP)
    await answer(store, old, segments=(Segment("一"),))
    await accept_one(store, "e3", "还没答", kind=GROUP)
    new = (await accept_one(store, "e4", "新地方", kind=GROUP, chat_id="-100")).conversation_id
    assert await move(store, MOVED) == new
    assert database.rows("SELECT count(*) FROM conversations")[0][0] == 1
    claimed = await claim(store, new)
    assert claimed.settings == ConversationSettings(style=ReplyStyle.BUBBLES)
    assert [one.message.text for one in claimed.pending] == ["还没答", "新地方"]
    assert [one.text for one in claimed.window] == ["你好", "我在听。", "老地方", "我在听。"]
    (delivery,) = await claim_deliveries(store, new)
    assert (delivery.chat_id, delivery.segment.text) == ("-100", "一")


async def test_a_turn_of_a_chat_that_moved_away_is_void(store: Store) -> None:
    accepted = await accept_one(store, "e1", kind=GROUP)
    result = turn_of(await claim(store, accepted.conversation_id))
    new = (await accept_one(store, "e2", kind=GROUP, chat_id="-100")).conversation_id
    await move(store, MOVED)
    with pytest.raises(LeaseLost):
        await commit(store, result)
    assert len((await claim(store, new)).pending) == 2


# --- deliveries ---------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
marks = st.builds(
    Mark, kind=st.sampled_from(MarkKind), start=st.integers(0, 99), end=st.integers(0, 99), value=words
)
buttons = st.builds(Button, label=words, command=words, chosen=st.booleans(), asks=words)
segments = st.builds(
    Segment,
    text=words,
    marks=st.lists(marks, max_size=3).map(tuple),
    buttons=st.lists(st.lists(buttons, min_size=1, max_size=2).map(tuple), max_size=3).map(tuple),
    choices=st.lists(buttons, max_size=3).map(tuple),
    picker=st.none()
    | st.builds(ChannelPicker, label=words, command=words, chosen=st.lists(ids, max_size=3).map(tuple)),
    owner=words,
    media=st.none()
    | st.builds(Media, kind=st.sampled_from(MediaKind), name=words, data=st.binary(max_size=99)),
    replaces=st.none() | ids,
    answers=st.none() | ids,
    silent=st.booleans(),
    response=st.none() | ids,
    follows=st.booleans(),
)


@MANY
@given(st.lists(segments, min_size=1, max_size=3))
async def test_segments_come_back_as_they_were(store: Store, those: list[Segment]) -> None:
    event = str(new_id())
    accepted = await accept_one(store, event, chat_id=event)
    await answer(store, accepted.conversation_id, segments=tuple(those))
    delivered = await claim_deliveries(store, accepted.conversation_id)
    assert [one.segment for one in delivered] == those


async def test_a_picture_of_some_megabytes_comes_back_whole(store: Store) -> None:
    media = Media(MediaKind.PHOTO, "海.png", bytes(range(256)) * 4096 * 5)
    conversation_id = (await accept_one(store, "e1")).conversation_id
    await answer(store, conversation_id, segments=(Segment("", media=media),))
    (delivery,) = await claim_deliveries(store, conversation_id)
    assert delivery.segment.media == media


async def test_pauses_add_up_to_when_each_segment_is_due(store: Store) -> None:
    conversation_id = (await accept_one(store, "e1")).conversation_id
    pauses = (0.0, 1.5, 0.0, 2.25)
    those = tuple(Segment(str(number), pause_seconds=pause) for number, pause in enumerate(pauses))
    await answer(store, conversation_id, segments=those)

    async def due(after: float) -> list[str]:
        claimed = await claim_deliveries(store, conversation_id, now=NOW + timedelta(seconds=after))
        return [one.segment.text for one in claimed]

    assert [await due(after) for after in (0, 1.49, 1.5, 3.74, 3.75)] == [
        ["0"],
        ["0"],
        ["0", "1", "2"],
        ["0", "1", "2"],
        ["0", "1", "2", "3"],
    ]


async def test_what_was_sent_lately_oldest_first(store: Store) -> None:
    sent_at = {"a": NOW + 2 * A_SECOND, "b": NOW + A_SECOND, "c": NOW - A_SECOND}
    kinds = {"a": GROUP, "b": ConversationKind.PRIVATE, "c": ConversationKind.PRIVATE}
    for chat, at in sent_at.items():
        await answered_with(store, chat, None, at, kind=kinds[chat])
    await answered_with(store, "d", None, NOW, platform=Platform.DISCORD)
    unsent = await accept_one(store, "unsent", chat_id="e")
    await answer(store, unsent.conversation_id, segments=(Segment("一"),))
    found = await store.read(lambda tx: tx.deliveries.sent_since((Platform.TELEGRAM,), NOW))
    assert found == [SentDelivery(Platform.TELEGRAM, chat, kinds[chat], sent_at[chat]) for chat in "ba"]
    assert await store.read(lambda tx: tx.deliveries.sent_since((), NOW)) == []


# --- feedback -----------------------------------------------------------------------------------


async def test_a_reaction_is_kept_replaced_and_taken_back(store: Store, database: Database) -> None:
    await answered_with(store, "room", "m1")
    assert await given_by(store, database, "ann") == []
    assert await react(store, "👍", verdict=GOOD)
    assert await given_by(store, database, "ann") == [("reaction", "👍")]
    assert await react(store, "👎", "😢", verdict=BAD)
    assert await given_by(store, database, "ann") == [("reaction", "👎 😢")]
    assert await react(store, verdict=OTHER)
    assert await given_by(store, database, "ann") == []


async def test_a_reaction_on_anything_else_is_not_kept(store: Store, database: Database) -> None:
    await answered_with(store, "room", "m1")
    await answered_with(store, "other", "m2")
    elsewhere: tuple[dict[str, Any], ...] = (
        {"message_id": "m2"},
        {"chat_id": "other"},
        {"chat_id": "roo"},
        {"platform": Platform.DISCORD},
        {"sender_id": "never spoke with us"},
    )
    assert [await react(store, "👍", **there) for there in elsewhere] == [False] * 5
    assert await given_by(store, database, "ann") == []


async def test_a_reaction_does_not_tell_its_topic(store: Store, database: Database) -> None:
    await answered_with(store, "room/45", "m1", kind=GROUP)
    assert await react(store, "👍")
    assert await given_by(store, database, "ann") == [("reaction", "👍")]
    assert not await react(store, "👍", chat_id="room/4")


async def test_everybody_judges_for_themselves_and_the_newest_counts(
    store: Store, database: Database
) -> None:
    conversation_id = (await answered_with(store, "room", "m1", kind=GROUP)).conversation_id
    await accept_one(store, "bob", sender_id="bob", kind=GROUP)

    async def judge(name: str, verdict: str, message_id: str = "m1") -> bool:
        user_id = user_of(database, name)
        return await store.write(
            lambda tx: tx.feedback.judge(conversation_id, user_id, message_id, verdict, NOW)
        )

    assert [await judge("ann", GOOD), await judge("bob", GOOD), await judge("bob", BAD)] == [True] * 3
    assert await react(store, "👍")
    assert await given_by(store, database, "ann") == [("button", GOOD), ("reaction", "👍")]
    assert await given_by(store, database, "bob") == [("button", BAD)]
    verdicts = database.rows("SELECT verdict FROM feedback ORDER BY id")
    assert [row[0] for row in verdicts] == [GOOD, BAD, GOOD]
    assert not await judge("ann", GOOD, "m9")


# --- a person's own data ------------------------------------------------------------------------

CHOSEN = PersonSettings(Language.EN, "Asia/Tokyo", QuietHours(22, 7), NOW)


async def test_a_persons_settings_are_kept(store: Store, database: Database) -> None:
    accepted = await accept_one(store, "e1")
    user_id = user_of(database, "ann")
    for chosen in (CHOSEN, replace(CHOSEN, quiet_hours=None), PersonSettings()):
        await store.write(lambda tx, chosen=chosen: tx.people.update_settings(user_id, chosen))  # type: ignore[misc]
        assert (await claim(store, accepted.conversation_id)).person == chosen


async def test_an_export_holds_all_of_a_person_and_nothing_of_others(
    store: Store, database: Database
) -> None:
    await a_life(store, database)
    user_id = user_of(database, ANN)
    record = await exported(store, user_id)
    assert record == PersonRecord(
        accounts=({"platform": "telegram", "id": ANN, "since": NOW.isoformat()},),
        settings=CHOSEN,
        since=NOW,
        chats=({"platform": "telegram", "id": ANNS_CHAT, "settings": {}, "paused": False},),
        messages=tuple(
            {"at": NOW.isoformat(), "who": who, "source": source, "text": text}
            for who, source, text in (
                ("user", "person", "只有你知道"),
                ("assistant", "model", "我在听。"),
                ("user", "person", "群里说的"),
                ("assistant", "model", "群里答的"),
            )
        ),
        feedback=tuple(
            {"at": NOW.isoformat(), "kind": kind, "what": what}
            for kind, what in (("reaction", "👍"), ("button", GOOD))
        ),
        usage=({"at": NOW.isoformat(), "model": "qwen-plus", "prompt_tokens": 321, "completion_tokens": 45},),
    )
    assert asdict(record.settings)["quiet_hours"] == {"since": 22, "until": 7}


async def test_an_erased_person_leaves_nothing_but_their_farewell(store: Store, database: Database) -> None:
    await a_life(store, database)
    user_id, bob = user_of(database, ANN), user_of(database, "bob")
    bobs = rows_of_user(database, bob)
    assert bobs
    here = await erase(store, database)
    assert rows_of_user(database, bob) == bobs
    assert traces(database, user_id) == {"users", "deliveries"}
    assert traces(database, ANN) == set()
    assert await store.read(lambda tx: tx.people.is_leaving())
    assert await store.write(lambda tx: tx.people.erase_left(NOW)) == 0

    (farewell,) = await claim_deliveries(store, here)
    assert (farewell.chat_id, farewell.segment.text) == (ANNS_CHAT, "都抹掉了。")
    await store.write(lambda tx: tx.deliveries.mark_sent(farewell.id, "m9", NOW))
    assert await store.write(lambda tx: tx.people.erase_left(NOW)) == 1
    assert (traces(database, user_id), traces(database, ANNS_CHAT)) == (set(), set())
    assert traces(database, "m9") == set()
    assert rows_of_user(database, bob) == bobs
    assert not await store.read(lambda tx: tx.people.is_leaving())
    assert await said_in(store, "group") == ["我也在", "群里答的二"]


async def test_a_farewell_that_never_arrives_is_not_kept_for_ever(store: Store, database: Database) -> None:
    await a_life(store, database)
    user_id = user_of(database, ANN)
    here = await erase(store, database)
    assert await store.write(lambda tx: tx.people.erase_left(NOW + FAREWELL - A_SECOND)) == 0
    assert await store.write(lambda tx: tx.people.erase_left(NOW + FAREWELL)) == 1
    assert (traces(database, user_id), traces(database, ANNS_CHAT)) == (set(), set())
    assert await claim_deliveries(store, here) == []


async def test_who_writes_after_having_been_erased_is_a_stranger(store: Store, database: Database) -> None:
    await a_life(store, database)
    user_id = user_of(database, ANN)
    here = await erase(store, database)
    again = await accept_one(store, "again", "又来了", sender_id=ANN, chat_id=ANNS_CHAT)
    assert again.conversation_id == here
    stranger = user_of(database, ANN)
    assert stranger != user_id
    assert await store.write(lambda tx: tx.people.erase_left(NOW + FAREWELL)) == 1
    assert traces(database, user_id) == set()
    claimed = await claim(store, here)
    assert [one.message.text for one in claimed.pending] == ["又来了"]
    assert (claimed.window, claimed.person) == ((), PersonSettings())
    record = await exported(store, stranger)
    assert (record.messages, record.feedback, record.usage) == ((), (), ())


async def test_a_group_is_not_forgotten_with_its_only_speaker(store: Store, database: Database) -> None:
    """How the bot behaves there is the others' as well."""
    await a_life(store, database)
    group = await answered_with(store, "quiet group", "m3", sender_id=ANN, kind=GROUP)
    chosen = ConversationSettings(answers=GroupAnswers.OFF)
    await store.write(lambda tx: tx.conversations.update_settings(group.conversation_id, chosen))
    await erase(store, database)
    assert await accept(store, message("e9", sender_id="bob", chat_id="quiet group", kind=GROUP)) == []


async def test_a_turn_under_way_elsewhere_writes_nothing_of_an_erased_person(
    store: Store, database: Database
) -> None:
    await a_life(store, database)
    asked = await accept_one(store, "g9", "我呢", sender_id=ANN, chat_id="group", kind=GROUP)
    result = turn_of(await claim(store, asked.conversation_id), "你也在")
    user_id = user_of(database, ANN)
    await erase(store, database)
    with pytest.raises(LeaseLost):
        await commit(store, result)
    assert traces(database, user_id) == {"users", "deliveries"}


async def test_a_refused_turn_erases_nobody(store: Store, database: Database) -> None:
    await a_life(store, database)
    asked = await accept_one(store, "bye", "", sender_id=ANN, chat_id=ANNS_CHAT, command=Command("delete_me"))
    result = erasing(await claim(store, asked.conversation_id))
    await claim(store, asked.conversation_id, "other", NOW + timedelta(hours=1))
    before = rows_of(database)
    with pytest.raises(LeaseLost):
        await commit(store, result)
    assert rows_of(database) == before


async def a_life(store: Store, database: Database) -> None:
    """Ann alone with the bot, and Ann and Bob in a group: words, answers, feedback, settings, use."""
    alone = await answered_with(store, ANNS_CHAT, "m1", said="只有你知道", sender_id=ANN, took=usage())
    await answered_with(store, "group", "m2", said="群里说的", sender_id=ANN, kind=GROUP, reply="群里答的")
    bobs = await accept_one(store, "bob", "我也在", sender_id="bob", chat_id="group", kind=GROUP)
    await answer(store, bobs.conversation_id, "群里答的二", segments=(Segment("群里答的二"),), usage=usage())
    ann = user_of(database, ANN)
    await react(store, "👍", chat_id=ANNS_CHAT, sender_id=ANN)
    await react(store, "🔥", chat_id="group", sender_id="bob", message_id="m2")
    await store.write(lambda tx: tx.feedback.judge(alone.conversation_id, ann, "m1", GOOD, NOW))
    await store.write(lambda tx: tx.people.update_settings(ann, CHOSEN))


def erasing(claimed: ClaimedConversation) -> TurnResult:
    """The turn of Ann's /delete_me."""
    by = claimed.pending[-1]
    return replace(
        turn_of(claimed, ""),
        said=(),
        written=False,
        segments=(Segment("都抹掉了。"),),
        effect=lambda tx: tx.people.erase(by, NOW + FAREWELL, claimed.id),
    )


async def erase(store: Store, database: Database) -> int:
    """Ann has herself erased; her private conversation."""
    asked = await accept_one(store, "bye", "", sender_id=ANN, chat_id=ANNS_CHAT, command=Command("delete_me"))
    await commit(store, erasing(await claim(store, asked.conversation_id)))
    return asked.conversation_id


# --- what the tests do and see ------------------------------------------------------------------


async def edit(store: Store, edited: IncomingMessage) -> Accepted | None:
    return await store.write(lambda tx: tx.inbox.edit(Edited(edited), NOW))


async def move(store: Store, event: Moved) -> int | None:
    return await store.write(lambda tx: tx.conversations.move(event))


async def reach(store: Store, chat: str, *, reachable: bool) -> None:
    await store.write(
        lambda tx: tx.conversations.set_reachable(Platform.TELEGRAM, chat, reachable=reachable, now=NOW)
    )


async def react(store: Store, *emojis: str, verdict: str = GOOD, **changes: Any) -> bool:
    """Ann's reaction on message m1 in 'room'."""
    event = replace(Reacted(Platform.TELEGRAM, "room", "ann", "m1", emojis), **changes)
    return await store.write(lambda tx: tx.feedback.react(event, verdict, NOW))


async def owed(store: Store, chat: str) -> int:
    """A conversation in which only the listener answered."""
    conversation_id = (await accept_one(store, f"event of {chat}", chat_id=chat)).conversation_id
    await answer(store, conversation_id, "我先记下了。", defer=True)
    return conversation_id


async def still_owed(store: Store) -> list[int]:
    return await store.read(lambda tx: tx.inbox.conversations_deferred("me", NOW, NOW, 99))


async def answered_with(
    store: Store,
    chat: str,
    message_id: str | None,
    at: datetime = NOW,
    *,
    said: str = "你好",
    reply: str = "我在听。",
    took: ModelUsage | None = None,
    **changes: Any,
) -> Accepted:
    """A message whose answer was sent, and got that id from its platform."""
    accepted = await accept_one(store, f"event of {chat}", said, chat_id=chat, **changes)
    await answer(store, accepted.conversation_id, reply, segments=(Segment(reply),), usage=took)
    (delivery,) = await claim_deliveries(store, accepted.conversation_id)
    await store.write(lambda tx: tx.deliveries.mark_sent(delivery.id, message_id, at))
    return accepted


async def pending_in(store: Store, accepted: Accepted) -> tuple[Pending, ...]:
    return await store.read(lambda tx: tx.inbox.pending(accepted.conversation_id))


async def said_in(store: Store, chat: str = "room") -> list[str]:
    history = await store.read(lambda tx: tx.conversations.history(Platform.TELEGRAM, chat, None, 99))
    return [one.text for one in history]


async def exported(store: Store, user_id: int) -> PersonRecord:
    return await store.read(lambda tx: tx.people.export(user_id))


async def given_by(store: Store, database: Database, name: str) -> list[tuple[str, str]]:
    record = await exported(store, user_of(database, name))
    return [(one["kind"], one["what"]) for one in record.feedback]


def user_of(database: Database, name: str) -> int:
    ((user_id,),) = database.rows(
        "SELECT user_id FROM identities WHERE platform_user_id = :name", name=name.encode()
    )
    return int(user_id)


def rows_of(database: Database) -> list[tuple[Any, ...]]:
    """All there is."""
    return [
        (table.name, *row)
        for table in Table.metadata.sorted_tables
        for row in database.rows(f"SELECT * FROM {table.name} ORDER BY {_key_of(table)}")
    ]


def _key_of(table: sqlalchemy.Table) -> str:
    return ", ".join(column.name for column in table.primary_key)


def rows_of_user(database: Database, user_id: int) -> list[tuple[Any, ...]]:
    return [row for row in rows_of(database) if user_id in row]


def traces(database: Database, of: int | str) -> set[str]:
    """The tables in which an id stands, anywhere."""
    needle = str(of).encode()
    return {
        row[0]
        for row in rows_of(database)
        for value in row[1:]
        if needle in (bytes(value) if isinstance(value, bytes | bytearray) else str(value).encode())
    }
