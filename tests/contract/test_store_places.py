"""Servers, channels and threads on both databases: what holds in them, what is heard there, and being put out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.commands.asked import Asked
from core.commands.run import run_command
from core.errors import LeaseLost
from core.ids import new_id
from core.language import Language
from core.messages import (
    Command,
    ConversationKind,
    DeliveryState,
    Edited,
    IncomingMessage,
    Left,
    Platform,
    Segment,
)
from core.persona.card import load_personas
from core.phrases import load_phrases
from core.ports import Store, TurnResult
from core.settings import ConversationSettings, GroupAnswers, ReplyStyle
from tests.databases import (
    NOW,
    Database,
    accept,
    answer,
    claim,
    claim_deliveries,
    message,
    try_claim,
    turn_of,
)

GROUP = ConversationKind.GROUP
SERVER, CHANNEL, THREAD = "1", "1/2", "1/2/3"
AN_HOUR = timedelta(hours=1)
A_SECOND = timedelta(seconds=1)
DANGER = "我不想活了"
HUSHED = ConversationSettings(answers=GroupAnswers.OFF)
HEARD_OUT = ConversationSettings(answers=GroupAnswers.ALWAYS)


# --- what is heard ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [CHANNEL, THREAD])
async def test_where_a_server_is_hushed_so_are_its_places(store: Store, place: str) -> None:
    await setting(store, SERVER, HUSHED)
    assert await heard(store, place) == "commands and danger"
    assert await heard(store, "11/2") == "what is meant for the bot", "another server"


@pytest.mark.parametrize("place", [CHANNEL, THREAD])
async def test_where_a_server_is_paused_so_are_its_places(store: Store, place: str) -> None:
    server = await setting(store, SERVER)
    await setting(store, CHANNEL, HEARD_OUT)
    await store.write(lambda tx: tx.conversations.pause(server, NOW))
    assert await heard(store, place) == "commands and danger"
    await store.write(lambda tx: tx.conversations.pause(server, None))
    assert await heard(store, place) == "all"


async def test_a_places_own_word_counts_for_more(store: Store) -> None:
    await setting(store, SERVER, HUSHED)
    await setting(store, CHANNEL, HEARD_OUT)
    await setting(store, THREAD, ConversationSettings(answers=GroupAnswers.MENTION))
    assert await heard(store, CHANNEL) == "all"
    assert await heard(store, "1/2/4") == "all"
    assert await heard(store, THREAD) == "what is meant for the bot"
    assert await heard(store, "1/3") == "commands and danger"


async def test_all_is_heard_in_channels_set_aside_and_in_their_threads(store: Store) -> None:
    await setting(store, SERVER, ConversationSettings(channels=("2", "5")))
    assert [await heard(store, place) for place in (CHANNEL, THREAD, "1/5")] == ["all"] * 3
    for elsewhere in (SERVER, "1/3", "1/22", "11/2", "2"):
        assert await heard(store, elsewhere) == "what is meant for the bot", elsewhere


async def test_nobody_need_have_spoken_in_a_place_before(store: Store, database: Database) -> None:
    await setting(store, SERVER, ConversationSettings(channels=("2",)))
    assert len(await accept(store, said("e1", THREAD, addressed=False))) == 1
    chats = {row[0] for row in database.rows("SELECT chat_id FROM conversations")}
    assert {chat if isinstance(chat, str) else bytes(chat).decode() for chat in chats} == {SERVER, THREAD}


async def test_on_each_platform_only_its_own_settings_count(store: Store) -> None:
    await setting(store, SERVER, HUSHED)
    elsewhere = said("e1", CHANNEL, platform=Platform.TELEGRAM)
    assert len(await accept(store, elsewhere, said("e2", CHANNEL))) == 1


async def test_a_batch_from_many_places_is_judged_place_by_place(store: Store) -> None:
    await setting(store, SERVER, ConversationSettings(channels=("2",)))
    await setting(store, "7", HUSHED)
    places = [THREAD, "1/3", "7/1", SERVER, CHANNEL]
    batch = [said(f"e{number}", place, addressed=False) for number, place in enumerate(places)]
    accepted = await store.write(lambda tx: tx.inbox.add(batch, NOW))
    assert [one is not None for one in accepted] == [True, False, False, False, True]


# --- channels set aside, from the command to the notice ------------------------------------------


async def test_in_each_channel_newly_set_aside_a_notice_is_owed_once(store: Store) -> None:
    server = await setting(store, SERVER, ConversationSettings(channels=("2",)))
    await accept(store, asks(event_id="e1", argument="channels 2,5,7"))
    lost = await done(store, server)
    await store.write(lambda tx: tx.conversations.release(server, "me"))
    with pytest.raises(LeaseLost):
        await store.write(lambda tx: tx.turns.commit(lost))
    assert await noticed(store) == [], "nothing was set"
    result = await done(store, server)
    await store.write(lambda tx: tx.turns.commit(result))
    assert await noticed(store) == ["1/5", "1/7"]
    assert [await heard(store, place) for place in ("1/2", "1/5", "1/7/9", "1/8")] == [
        "all",
        "all",
        "all",
        "what is meant for the bot",
    ]


async def test_a_channel_set_aside_again_is_told_again(store: Store) -> None:
    server = await setting(store, SERVER)
    for number, argument in enumerate(("channels 5", "channels none", "channels 5")):
        await accept(store, asks(f"e{number}", argument))
        result = await done(store, server)
        await store.write(lambda tx, one=result: tx.turns.commit(one))  # type: ignore[misc]
    assert await noticed(store) == ["1/5", "1/5"]
    assert await heard(store, "1/5") == "all"


def asks(event_id: str, argument: str) -> IncomingMessage:
    command = Command("settings", argument, "5")
    return said(event_id, SERVER, text="", command=command, manages=True, message_id="5", response="token")


async def done(store: Store, server: int) -> TurnResult:
    """The turn of the server's /settings."""
    claimed = await claim(store, server)
    (by,) = claimed.pending
    assert by.message.command is not None
    phrases, personas = load_phrases(), load_personas()
    found = await run_command(
        Asked(
            by.message.command, claimed, by, Language.ZH, phrases, personas, NOW, "Asia/Tokyo", store, nobody
        )
    )
    return turn_of(claimed, effect=found.effect, segments=found.segments)


async def nobody(chat_id: str, user_id: str) -> bool:
    return False


async def noticed(store: Store) -> list[str]:
    """The places where the bot owes saying that it listens to everything."""
    waiting = await store.read(lambda tx: tx.inbox.conversations_waiting("me", NOW, 99))
    pending = [await store.read(lambda tx, id_=id_: tx.inbox.pending(id_)) for id_ in waiting]  # type: ignore[misc]
    messages = [one.message for some in pending for one in some]
    return sorted(one.chat_id for one in messages if one.command == Command("listening"))


# --- what a turn is told ------------------------------------------------------------------------


async def test_a_turn_knows_what_holds_and_what_of_it_is_the_places_own(store: Store) -> None:
    outer = ConversationSettings(persona="night", language=Language.EN, channels=("2",), hourly=30)
    own = ConversationSettings(persona="peer", style=ReplyStyle.BUBBLES)
    await setting(store, SERVER, outer)
    await setting(store, CHANNEL, own)
    (accepted,) = await accept(store, said("now", THREAD))
    claimed = await claim(store, accepted.conversation_id)
    holds = replace(outer, persona="peer", style=ReplyStyle.BUBBLES, answers=GroupAnswers.ALWAYS)
    assert (claimed.settings, claimed.own_settings) == (holds, ConversationSettings())
    (accepted,) = await accept(store, said("there", CHANNEL))
    claimed = await claim(store, accepted.conversation_id)
    assert (claimed.settings, claimed.own_settings) == (holds, own)


async def test_what_is_set_for_a_server_is_its_own(store: Store) -> None:
    outer = ConversationSettings(
        0.0, 0.0, GroupAnswers.OFF, ReplyStyle.WHOLE, False, "x", Language.ZH, ("2",), 10
    )
    server = await setting(store, SERVER, outer)
    await accept(store, said("now", SERVER, command=Command("settings")))
    claimed = await claim(store, server)
    assert claimed.settings == claimed.own_settings == outer


async def test_a_private_chat_goes_by_its_person_and_nothing_around_it(store: Store) -> None:
    """Its name may have a slash, and its person settings of their own."""
    for chat in ("@17", "@17/2"):
        (accepted,) = await accept(
            store, message(f"event in {chat}", chat_id=chat, platform=Platform.DISCORD)
        )
        chosen = ConversationSettings(persona="night") if chat == "@17" else ConversationSettings()
        await store.write(
            lambda tx, id_=accepted.conversation_id, new=chosen: tx.conversations.update_settings(id_, new)  # type: ignore[misc]
        )
        claimed = await claim(store, accepted.conversation_id)
        assert claimed.settings == claimed.own_settings == chosen


# --- how often ----------------------------------------------------------------------------------


async def test_nobody_is_heard_more_often_in_an_hour_than_the_server_wants(store: Store) -> None:
    await setting(store, SERVER, ConversationSettings(hourly=2))
    assert len(await accept(store, said("e1", SERVER))) == 1
    assert len(await accept(store, said("e2", THREAD), now=NOW + A_SECOND)) == 1, (
        "it is one share for all places"
    )
    assert await accept(store, said("e3", CHANNEL), now=NOW + A_SECOND) == []
    assert len(await accept(store, said("e4", CHANNEL, sender_id="bob"))) == 1, "each person has their own"
    assert await accept(store, said("e5", CHANNEL), now=NOW + AN_HOUR - A_SECOND) == []
    assert len(await accept(store, said("e6", CHANNEL), now=NOW + AN_HOUR)) == 1
    assert await accept(store, said("e7", CHANNEL), now=NOW + AN_HOUR) == []


async def test_what_comes_at_one_moment_is_counted_too(store: Store) -> None:
    await setting(store, SERVER, ConversationSettings(hourly=2))
    batch = [said(f"e{number}", CHANNEL) for number in range(4)]
    batch.insert(2, said("bob", CHANNEL, sender_id="bob"))
    accepted = await store.write(lambda tx: tx.inbox.add(batch, NOW))
    assert [one is not None for one in accepted] == [True, True, True, False, False]


async def test_danger_and_commands_are_heard_whatever_the_share(store: Store) -> None:
    await setting(store, SERVER, ConversationSettings(hourly=1))
    assert len(await accept(store, said("e1", CHANNEL))) == 1
    assert await heard(store, CHANNEL, "ann") == "commands and danger"


async def test_danger_in_a_channel_set_aside_needs_no_call_and_no_share(store: Store) -> None:
    await setting(store, SERVER, ConversationSettings(channels=("2",), hourly=1))
    assert len(await accept(store, said("e1", CHANNEL, addressed=False))) == 1
    assert await accept(store, said("e2", CHANNEL, addressed=False)) == []
    assert len(await accept(store, replace(said("e3", CHANNEL, addressed=False), text="我不想活了"))) == 1


async def test_what_is_said_elsewhere_takes_nothing_of_the_share(store: Store) -> None:
    await setting(store, SERVER, ConversationSettings(hourly=1))
    elsewhere = [
        message("private", chat_id="@ann", platform=Platform.DISCORD),
        said("another server", "11/2"),
        message("another platform", chat_id=CHANNEL, kind=GROUP),
    ]
    assert len(await accept(store, *elsewhere)) == 3
    assert len(await accept(store, said("e1", CHANNEL))) == 1


async def test_what_is_not_heard_takes_nothing_of_the_share(store: Store) -> None:
    await setting(store, SERVER, ConversationSettings(hourly=1))
    assert await accept(store, said("e1", CHANNEL, addressed=False)) == []
    assert len(await accept(store, said("e2", CHANNEL))) == 1


async def test_a_channel_may_give_another_share_than_its_server(store: Store) -> None:
    await setting(store, SERVER, ConversationSettings(hourly=1))
    await setting(store, CHANNEL, ConversationSettings(hourly=3))
    for number in range(3):
        assert len(await accept(store, said(f"e{number}", CHANNEL))) == 1
    assert await accept(store, said("e3", CHANNEL)) == []
    assert await accept(store, said("e4", "1/3")) == []


async def test_what_was_heard_may_be_corrected_whatever_the_share(store: Store) -> None:
    await setting(store, SERVER, ConversationSettings(hourly=1))
    (accepted,) = await accept(store, said("e1", CHANNEL, message_id="5"))
    await answer(store, accepted.conversation_id)
    edited = replace(said("e2", CHANNEL, message_id="5"), text="我其实不好")
    await store.write(lambda tx: tx.inbox.edit(Edited(edited), NOW + A_SECOND))
    assert "我其实不好" in (await history(store, CHANNEL))[-1]


# --- put out ------------------------------------------------------------------------------------


async def test_who_is_put_out_of_a_server_forgets_what_was_set_there(store: Store) -> None:
    server = await setting(store, SERVER, ConversationSettings(channels=("2",), hourly=1))
    await setting(store, CHANNEL, ConversationSettings(persona="night"))
    await setting(store, "11", HUSHED)
    await store.write(lambda tx: tx.conversations.pause(server, NOW))
    await leave(store, SERVER)
    (accepted,) = await accept(store, said("again", CHANNEL))
    claimed = await claim(store, accepted.conversation_id)
    assert claimed.settings == claimed.own_settings == ConversationSettings()
    assert await heard(store, CHANNEL) == "what is meant for the bot"
    assert await heard(store, "11/2") == "commands and danger", "another server keeps its own"


async def test_what_was_on_its_way_there_is_not_sent_any_more(store: Store) -> None:
    on_their_way = {}
    for place in (SERVER, CHANNEL, THREAD, "11", "11/2"):
        (accepted,) = await accept(store, said(f"to {place}", place))
        await answer(store, accepted.conversation_id, segments=(Segment(place),))
        on_their_way[place] = accepted.conversation_id
    await leave(store, SERVER)
    left = {place for place, id_ in on_their_way.items() if await claim_deliveries(store, id_)}
    assert left == {"11", "11/2"}
    dead = await store.read(lambda tx: tx.deliveries.list(DeliveryState.DEAD, 9))
    assert [one.reason for one in dead] == ["recipient_gone"] * 3


async def test_the_servers_that_the_bot_is_in_are_known(store: Store) -> None:
    assert await groups(store) == ()
    await accept(
        store,
        said("e1", THREAD),
        said("e2", "1/4"),
        said("e3", "11"),
        said("e4", "2/5"),
        message("e5", chat_id="@17", platform=Platform.DISCORD),
        message("e6", chat_id="-100", kind=GROUP),
    )
    assert await groups(store) == ("1", "11", "2")
    await leave(store, "1")
    assert await groups(store) == ("11", "2")
    await accept(store, said("e7", CHANNEL))
    assert await groups(store) == ("1", "11", "2"), "it was let in again"


async def test_a_server_that_nobody_knows_is_left_without_a_trace(store: Store, database: Database) -> None:
    await accept(store, said("e1", "11"))
    before = database.rows("SELECT * FROM conversations")
    await leave(store, SERVER)
    assert database.rows("SELECT * FROM conversations") == before


async def test_a_turn_under_way_in_a_server_that_is_left_is_written_down(store: Store) -> None:
    (accepted,) = await accept(store, said("e1", CHANNEL))
    result = turn_of(await claim(store, accepted.conversation_id))
    await leave(store, SERVER)
    await store.write(lambda tx: tx.turns.commit(result))
    assert await try_claim(store, accepted.conversation_id) is None
    assert await history(store, CHANNEL) == ["你好", "我在听。"]


# --- marks --------------------------------------------------------------------------------------


async def test_a_mark_is_where_it_was_set_last(store: Store, other_store: Store) -> None:
    assert await mark(store, "seen") is None
    await store.write(lambda tx: tx.marks.set("seen", NOW))
    await store.write(lambda tx: tx.marks.set("other", NOW + AN_HOUR))
    assert (await mark(other_store, "seen"), await mark(other_store, "other")) == (NOW, NOW + AN_HOUR)
    await other_store.write(lambda tx: tx.marks.set("seen", NOW + A_SECOND))
    assert (await mark(store, "seen"), await mark(store, "other")) == (NOW + A_SECOND, NOW + AN_HOUR)


async def test_a_mark_set_again_to_the_same_moment_stays(store: Store, database: Database) -> None:
    for _ in range(3):
        await store.write(lambda tx: tx.marks.set("seen", NOW))
    assert await mark(store, "seen") == NOW
    assert database.rows("SELECT count(*) FROM marks")[0][0] == 1


# --- what the tests do and see ------------------------------------------------------------------


def said(event_id: str, place: str, **changes: Any) -> IncomingMessage:
    return message(event_id, **{"chat_id": place, "kind": GROUP, "platform": Platform.DISCORD, **changes})


async def setting(store: Store, place: str, chosen: ConversationSettings = ConversationSettings()) -> int:
    """A place of a server with settings of its own; somebody else asked for them."""
    command = said(f"settings of {place}", place, sender_id="an admin", command=Command("settings"))
    (accepted,) = await accept(store, command)
    await answer(store, accepted.conversation_id)
    await store.write(lambda tx: tx.conversations.update_settings(accepted.conversation_id, chosen))
    return accepted.conversation_id


async def heard(store: Store, place: str, sender: str = "a stranger") -> str:
    """What of all that people say is kept there."""

    async def kept(text: str = "你好", **more: Any) -> bool:
        return bool(await accept(store, said(str(new_id()), place, text=text, sender_id=sender, **more)))

    assert await kept(command=Command("help"))
    assert await kept(DANGER)
    meant, overheard = await kept(), await kept(addressed=False)
    found = {
        (True, True): "all",
        (True, False): "what is meant for the bot",
        (False, False): "commands and danger",
    }
    return found[meant, overheard]


async def leave(store: Store, place: str) -> None:
    await store.write(lambda tx: tx.conversations.leave(Left(Platform.DISCORD, place), NOW))


async def groups(store: Store) -> tuple[str, ...]:
    return await store.read(lambda tx: tx.conversations.groups(Platform.DISCORD))


async def mark(store: Store, name: str) -> Any:
    return await store.read(lambda tx: tx.marks.get(name))


async def history(store: Store, place: str) -> list[str]:
    found = await store.read(lambda tx: tx.conversations.history(Platform.DISCORD, place, None, 99))
    return [one.text for one in found]
