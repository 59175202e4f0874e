"""Every kind of update that Telegram sends, by the real library's reading, as what core knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.telegram.buttons import ButtonSeal
from adapters.telegram.content import NAME_CHARACTERS
from adapters.telegram.parse import ALLOWED_UPDATES, UNREADABLE, Me, Parsed, Pressed, parse
from core.messages import (
    Attachment,
    AttachmentKind,
    Command,
    ConversationKind,
    Edited,
    IncomingMessage,
    Moved,
    Platform,
    Quote,
    ReachChanged,
    Reacted,
)

SEAL = ButtonSeal("123456789:token")
ME = Me(123456789, "XinYu_bot", SEAL)
DATE = 1_780_000_000
AT = datetime.fromtimestamp(DATE, UTC)

THEM = {"id": 7, "is_bot": False, "first_name": "小雨", "language_code": "zh-hans"}
MING = {"id": 8, "is_bot": False, "first_name": "阿明", "last_name": "陈"}
US = {"id": ME.id, "is_bot": True, "first_name": "心语", "username": "XinYu_bot"}
OTHER_BOT = {"id": 99, "is_bot": True, "first_name": "天气", "username": "weather_bot"}
ANONYMOUS = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}
TELEGRAM = {"id": 777000, "is_bot": False, "first_name": "Telegram"}

CHAT = {"id": 7, "type": "private", "first_name": "小雨"}
GROUP = {"id": -5, "type": "group", "title": "家"}
FORUM = {"id": -1005, "type": "supergroup", "title": "读书会", "is_forum": True}
CHANNEL = {"id": -1009, "type": "channel", "title": "晚安"}
FILE = {"file_unique_id": "u", "width": 9, "height": 9}
PHOTO = [{**FILE, "file_id": "small"}, {**FILE, "file_id": "large"}]


def sent(**content: Any) -> dict[str, Any]:
    """A message of 小雨's in private, or as told."""
    return {"message_id": 5, "date": DATE, "chat": CHAT, "from": THEM, **content}


def in_group(**content: Any) -> dict[str, Any]:
    return sent(**{"chat": GROUP, **content})


def in_topic(**content: Any) -> dict[str, Any]:
    opened = {"name": "晚上", "icon_color": 7322096}
    root = sent(message_id=45, chat=FORUM, forum_topic_created=opened, **{"from": US})
    threaded = {"is_topic_message": True, "message_thread_id": 45, "reply_to_message": root}
    return sent(**{"chat": FORUM, **threaded, **content})


def read(kind: str, content: Any) -> Parsed | str:
    return parse({"update_id": 77, kind: content}, ME)


def heard(content: dict[str, Any]) -> IncomingMessage:
    parsed = read("message", content)
    assert isinstance(parsed, IncomingMessage), parsed
    return parsed


def entity(kind: str, length: int, offset: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": kind, "offset": offset, "length": length, **more}


# --- messages and edits -------------------------------------------------------------------------


def test_a_private_message() -> None:
    assert heard(sent(text=" 睡不着 ")) == IncomingMessage(
        platform=Platform.TELEGRAM,
        event_id="123456789:77",
        chat_id="7",
        sender_id="7",
        text="睡不着",
        sent_at=AT,
        language="zh-hans",
        message_id="5",
    )


def test_an_edit_is_the_message_anew_under_an_event_of_its_own() -> None:
    edited = read("edited_message", sent(text="睡着了", edit_date=DATE + 9))
    assert isinstance(edited, Edited)
    said = heard(sent(text="睡着了"))
    assert edited.message == replace(said, sent_at=said.sent_at + timedelta(seconds=9))


@pytest.mark.parametrize("kind", ["message", "edited_message"])
@pytest.mark.parametrize(
    ("content", "word"),
    [
        (sent(text="  "), "blank"),
        (sent(), "nothing_said"),
        (sent(text="半个\ud83d"), "not_unicode"),
        (sent(text="天气好", **{"from": OTHER_BOT}), "of_a_bot"),
        (sent(text="好", **{"from": US}), "of_a_bot"),
        (in_group(text="/help@weather_bot"), "command_for_another_bot"),
        (sent(text="公告", chat=CHANNEL, sender_chat=CHANNEL), "chat_channel"),
        ({**sent(text="公告", chat=CHANNEL), "from": None}, "chat_channel"),
        (in_group(text="公告", is_automatic_forward=True, **{"from": TELEGRAM}), "automatic_forward"),
        ({"message_id": 5}, UNREADABLE),
        ("公告", UNREADABLE),
    ],
)  # fmt: skip
def test_what_is_nobodys_words_is_a_fixed_word(kind: str, content: Any, word: str) -> None:
    assert read(kind, content) == word


@pytest.mark.parametrize("kind", ["poll", "channel_post", "chat_member", "inline_query"])
def test_other_kinds_go_by_telegrams_name_for_them(kind: str) -> None:
    assert kind not in ALLOWED_UPDATES
    assert read(kind, None) == f"update_{kind}"


@pytest.mark.parametrize("kind", ["秘密", "A secret", "x" * 41, ""])
def test_what_could_be_anybodys_words_is_no_kind(kind: str) -> None:
    assert read(kind, {}) == UNREADABLE


def test_an_albums_parts_have_one_bundle_each_with_its_own_chat() -> None:
    parts = [heard(sent(message_id=n, photo=PHOTO, media_group_id="m1")) for n in (5, 6)]
    assert [part.bundle for part in parts] == ["7:m1", "7:m1"]
    assert parts[0].attachments == (Attachment(AttachmentKind.PHOTO, file_id="large"),)
    assert heard(in_group(photo=PHOTO, media_group_id="m1")).bundle == "-5:m1"
    assert heard(sent(photo=PHOTO)).bundle is None


def test_an_edited_caption_keeps_the_photo() -> None:
    edited = read("edited_message", sent(photo=PHOTO, caption="晚霞"))
    assert isinstance(edited, Edited)
    assert (edited.message.text, len(edited.message.attachments)) == ("晚霞", 1)


# --- groups -------------------------------------------------------------------------------------


def test_in_a_group_what_is_said_to_others_is_not_addressed() -> None:
    message = heard(in_group(text="晚饭吃什么", **{"from": MING}))
    assert (message.kind, message.addressed) == (ConversationKind.GROUP, False)
    assert (message.chat_id, message.sender_id, message.speaker) == ("-5", "8", "阿明 陈")


def test_in_private_everything_is_addressed_and_nobody_is_announced() -> None:
    message = heard(sent(text="晚饭吃什么"))
    assert (message.addressed, message.speaker) == (True, "")


@pytest.mark.parametrize(
    ("content", "addressed"),
    [
        ({"text": "@xinyu_bot 在吗", "entities": [entity("mention", 10)]}, True),
        ({"text": "😔 @XINYU_BOT", "entities": [entity("mention", 10, 3)]}, True),
        ({"text": "@xinyu_bot2 在吗", "entities": [entity("mention", 11)]}, False),
        ({"text": "@xinyu_bot 在吗"}, False),  # Telegram did not take it for a mention: in code, say
        ({"text": "@ming 在吗", "entities": [entity("mention", 5)]}, False),
        ({"text": "心语在吗", "entities": [entity("text_mention", 2, user=US)]}, True),
        ({"text": "阿明在吗", "entities": [entity("text_mention", 2, user=MING)]}, False),
        ({"photo": PHOTO, "caption": "@XinYu_bot 看", "caption_entities": [entity("mention", 10)]}, True),
        ({"text": "/weather@XinYu_bot", "entities": [entity("bot_command", 18)]}, True),
        ({"text": "/weather", "entities": [entity("bot_command", 8)]}, False),
        ({"text": "是吗", "reply_to_message": in_group(text="早", **{"from": US})}, True),
        ({"text": "是吗", "reply_to_message": in_group(text="早", **{"from": MING})}, False),
        ({"text": "是吗", "reply_to_message": in_group(text="早", **{"from": OTHER_BOT})}, False),
    ],
)
def test_who_is_meant_in_a_group(content: dict[str, Any], addressed: bool) -> None:
    assert heard(in_group(**content)).addressed is addressed


def test_quotes_in_a_group_say_whose_they_are() -> None:
    def quoted(writer: dict[str, Any]) -> Quote | None:
        return heard(in_group(text="嗯", reply_to_message=in_group(text="早", **{"from": writer}))).quote

    assert quoted(MING) == Quote("早", of_bot=False, speaker="阿明")
    assert quoted(THEM) == Quote("早", of_bot=False, speaker="")
    ours = quoted(US)
    assert ours is not None
    assert ours.of_bot


def test_a_topic_is_a_place_of_its_own() -> None:
    message = heard(in_topic(text="大家好"))
    assert message.chat_id == "-1005/45"
    assert (message.quote, message.addressed) == (None, False)  # that it answers the topic says nothing
    assert heard(sent(chat=FORUM, text="大家好")).chat_id == "-1005"
    thread = {"message_thread_id": 45, "reply_to_message": in_group(text="早", **{"from": US})}
    assert heard(in_group(text="嗯", **thread)).chat_id == "-5"


def test_a_reply_to_the_bot_in_a_topic_is_meant_for_it() -> None:
    ours = in_topic(text="你说呢", **{"from": US})
    assert heard(in_topic(text="嗯", reply_to_message=ours)).addressed


@pytest.mark.parametrize(
    ("chat", "sender"), [(GROUP, GROUP), (GROUP, CHANNEL)], ids=["anonymous admin", "channel"]
)
def test_who_speaks_for_a_chat_goes_by_its_name(chat: dict[str, Any], sender: dict[str, Any]) -> None:
    message = heard(sent(chat=chat, text="/settings", sender_chat=sender, **{"from": ANONYMOUS}))
    assert message.speaker == sender["title"]
    assert message.command == Command("settings")
    assert message.sender_id == "1087968824"


def test_a_name_is_one_line_and_not_too_long() -> None:
    name = {**MING, "first_name": "阿\n明\u202e：", "last_name": "x" * 99}
    speaker = heard(in_group(text="早", **{"from": name})).speaker
    assert speaker.startswith("阿 明： x")
    assert len(speaker) == NAME_CHARACTERS


# --- commands -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/settings", Command("settings")),
        ("/Settings@xinyu_BOT", Command("settings")),
        ("/settings@XinYu_bot language en", Command("settings", "language en")),
        ("/settings\nlanguage en", Command("settings", "language en")),
        ("/reset 吧", Command("reset", "吧")),
    ],
)
@pytest.mark.parametrize("place", [CHAT, GROUP, FORUM], ids=["private", "group", "forum"])
def test_commands_stand_alone_and_are_always_meant_for_us(
    text: str, command: Command, place: dict[str, Any]
) -> None:
    message = heard(sent(text=text, chat=place))
    assert (message.command, message.alone, message.addressed) == (command, True, True)


@pytest.mark.parametrize(
    "content",
    [
        {"text": "/weather 上海"},
        {"text": "试试 /settings"},
        {"text": "/"},
        {"text": "//settings"},
        {"text": "/joined"},
        {"text": "/consent yes"},
        {"text": "/feedback good"},
        {"photo": PHOTO, "caption": "/reset"},
        {"text": "/reset", "forward_origin": {"type": "user", "date": DATE, "sender_user": MING}},
    ],
)
def test_what_only_looks_like_a_command_is_talk(content: dict[str, Any]) -> None:
    message = heard(sent(**content))
    assert (message.command, message.alone) == (None, False)


def test_the_bots_name_is_no_part_of_what_is_said() -> None:
    assert heard(sent(text="/weather@XinYu_bot 上海")).text == "/weather 上海"


# --- buttons ------------------------------------------------------------------------------------


def pressed(data: str | None, message: Any, presser: dict[str, Any] = THEM) -> Pressed:
    query = {"id": "q", "from": presser, "chat_instance": "i", "message": message, "data": data}
    parsed = read("callback_query", query)
    assert isinstance(parsed, Pressed), parsed
    return parsed


def test_a_button_of_ours_is_its_command() -> None:
    press = pressed(SEAL.seal("settings language=en", "7", "7"), sent(text="设置", **{"from": US}))
    assert press.query_id == "q"
    message = press.message
    assert message is not None
    assert message.command == Command("settings", "language=en", "5")
    assert (message.event_id, message.chat_id, message.sender_id) == ("123456789:77", "7", "7")
    assert (message.kind, message.alone, message.text) == (ConversationKind.PRIVATE, True, "")


def test_a_button_in_a_topic_belongs_there() -> None:
    data = SEAL.seal("settings", "8", "-1005/45")
    message = pressed(data, in_topic(text="设置", **{"from": US}), MING).message
    assert message is not None
    assert (message.chat_id, message.sender_id, message.kind) == ("-1005/45", "8", ConversationKind.GROUP)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (SEAL.seal("settings", "8", "7"), sent(text="设置")),  # another's
        (SEAL.seal("settings", "7", "-5"), sent(text="设置")),  # from elsewhere
        (ButtonSeal("other").seal("settings", "7", "7"), sent(text="设置")),  # forged
        ("settings|7|AAAAAAAAAAA", sent(text="设置")),
        ("settings", sent(text="设置")),
        ("半个\ud83d", sent(text="设置")),
        (SEAL.seal("joined", "7", "7"), sent(text="设置")),  # no command that a button has
        # Inaccessible: Telegram does not tell which topic it was in.
        (SEAL.seal("settings", "7", "-1005/45"), {"chat": FORUM, "message_id": 5, "date": 0}),
        (SEAL.seal("settings", "7", "7"), None),
        (None, sent(text="设置")),
    ],
)
def test_what_is_not_theirs_to_press_only_lets_go_of_the_button(data: str | None, message: Any) -> None:
    assert pressed(data, message) == Pressed("q", None, "zh-hans")


# --- reactions, membership, moves ---------------------------------------------------------------


def reaction(*new: dict[str, Any], **who: Any) -> dict[str, Any]:
    old = [{"type": "emoji", "emoji": "👍"}]
    plain = {"chat": GROUP, "message_id": 5, "date": DATE, "old_reaction": old, "new_reaction": list(new)}
    return {**plain, "user": THEM, **who}


def test_reactions_are_all_that_stand_now() -> None:
    heart, own = {"type": "emoji", "emoji": "❤"}, {"type": "custom_emoji", "custom_emoji_id": "9"}
    assert read("message_reaction", reaction(heart, own, {"type": "paid"})) == Reacted(
        Platform.TELEGRAM, "-5", "7", "5", ("❤", "⭐", "⭐")
    )
    assert read("message_reaction", reaction()) == Reacted(Platform.TELEGRAM, "-5", "7", "5", ())


def test_an_anonymous_reaction_is_nobodys() -> None:
    assert read("message_reaction", reaction(user=None, actor_chat=GROUP)) == "anonymous_reaction"


def member(status: str, **more: Any) -> dict[str, Any]:
    if status == "kicked":
        more["until_date"] = 0
    if status == "restricted":
        more = {**dict.fromkeys(_RESTRICTED, True), "until_date": 0, **more}
    if status == "administrator":
        more = {**dict.fromkeys(_ADMINISTRATOR, True), **more}
    return {"user": US, "status": status, **more}


_ADMINISTRATOR = [
    *("can_be_edited", "is_anonymous", "can_manage_chat", "can_delete_messages", "can_manage_video_chats"),
    *("can_restrict_members", "can_promote_members", "can_change_info", "can_invite_users"),
    *("can_post_stories", "can_edit_stories", "can_delete_stories"),
]
_RESTRICTED = [
    *("can_send_messages", "can_send_audios", "can_send_documents", "can_send_photos", "can_send_videos"),
    *("can_send_video_notes", "can_send_voice_notes", "can_send_polls", "can_send_other_messages"),
    *("can_add_web_page_previews", "can_change_info", "can_invite_users", "can_pin_messages"),
    *("can_manage_topics", "can_edit_tag", "can_react_to_messages"),
]


def change(chat: dict[str, Any], was: dict[str, Any], is_: dict[str, Any]) -> Parsed | str:
    moved = {"chat": chat, "from": THEM, "date": DATE, "old_chat_member": was, "new_chat_member": is_}
    return read("my_chat_member", moved)


@pytest.mark.parametrize(
    ("chat", "was", "is_", "reachable"),
    [
        (CHAT, member("member"), member("kicked"), False),
        (CHAT, member("kicked"), member("member"), True),
        (GROUP, member("member"), member("left"), False),
        (GROUP, member("administrator"), member("kicked"), False),
        (GROUP, member("member"), member("administrator"), True),
        (FORUM, member("member"), member("restricted", is_member=True), True),
        (FORUM, member("restricted", is_member=True), member("restricted", is_member=False), False),
    ],
)
def test_whether_a_chat_can_be_written_to(
    chat: dict[str, Any], was: dict[str, Any], is_: dict[str, Any], reachable: bool
) -> None:
    assert change(chat, was, is_) == ReachChanged(Platform.TELEGRAM, str(chat["id"]), reachable)


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        (member("left"), member("member")),
        (member("kicked"), member("administrator")),
        (member("restricted", is_member=False), member("restricted", is_member=True)),
    ],
)
def test_being_added_to_a_group_is_a_command_that_nobody_typed(
    was: dict[str, Any], is_: dict[str, Any]
) -> None:
    joined = change(GROUP, was, is_)
    assert isinstance(joined, IncomingMessage)
    assert joined.command == Command("joined")
    assert (joined.kind, joined.chat_id, joined.alone) == (ConversationKind.GROUP, "-5", True)


def test_a_channel_is_nothing_to_us() -> None:
    assert change(CHANNEL, member("left"), member("administrator")) == "chat_channel"
    assert change(CHANNEL, member("administrator"), member("left")) == "chat_channel"


def test_a_group_that_became_a_supergroup_moved() -> None:
    moved = Moved(Platform.TELEGRAM, "-5", "-1005")
    assert read("message", in_group(migrate_to_chat_id=-1005)) == moved
    assert read("message", sent(chat=FORUM, migrate_from_chat_id=-5)) == moved


# --- anything -----------------------------------------------------------------------------------

PLAUSIBLE: dict[str, dict[str, Any]] = {
    "message": in_topic(text="@XinYu_bot", entities=[entity("mention", 10)]),
    "edited_message": sent(photo=PHOTO, caption="晚霞"),
    "callback_query": {"id": "q", "from": THEM, "chat_instance": "i", "message": sent(), "data": "a|7|b"},
    "message_reaction": reaction({"type": "emoji", "emoji": "👍"}),
    "my_chat_member": {
        "chat": GROUP,
        "from": THEM,
        "date": DATE,
        "old_chat_member": member("left"),
        "new_chat_member": member("member"),
    },
}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(
        ["\ud800", "private", "supergroup", "mention", "member", "emoji", "/settings@XinYu_bot"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def broken(draw: st.DrawFn, whole: Any) -> Any:
    """An update's content with something else in some of its places."""
    if isinstance(whole, dict) and whole and draw(st.integers(0, 9)) < 9:
        names = draw(st.sets(st.sampled_from(sorted(whole)), max_size=3))
        kept = {name: draw(broken(value)) if name in names else value for name, value in whole.items()}
        for name in draw(st.sets(st.sampled_from(sorted(whole)), max_size=1)):
            del kept[name]
        return kept | draw(st.dictionaries(st.sampled_from(_NAMES), json_values, max_size=2))
    if isinstance(whole, list) and whole and draw(st.booleans()):
        return [draw(broken(value)) for value in whole]
    return draw(json_values)


_NAMES = sorted(
    {
        *(name for content in PLAUSIBLE.values() for name in content),
        *("quote", "forward_origin", "sender_chat", "sticker", "venue", "poll", "dice", "contact", "audio"),
        *("media_group_id", "migrate_to_chat_id", "caption_entities", "user", "document", "location"),
    }
)


@pytest.mark.parametrize("kind", ALLOWED_UPDATES)
@given(st.data())
def test_no_update_whatsoever_breaks_it(kind: str, data: st.DataObject) -> None:
    content = data.draw(broken(PLAUSIBLE[kind]))
    assert isinstance(
        parse({"update_id": data.draw(st.just(1) | json_values), kind: content}, ME), Parsed | str
    )


@given(st.dictionaries(st.sampled_from(["update_id", *ALLOWED_UPDATES]), json_values))
@example({})
@example({"update_id": 1, "message": {}})
def test_no_object_whatsoever_breaks_it(update: dict[str, Any]) -> None:
    assert isinstance(parse(update, ME), Parsed | str)


@pytest.mark.parametrize("kind", ALLOWED_UPDATES)
def test_the_plausible_updates_are_really_read(kind: str) -> None:
    assert not isinstance(read(kind, PLAUSIBLE[kind]), str)
