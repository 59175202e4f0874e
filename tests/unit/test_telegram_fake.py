"""The fake Bot API, driven by the real library: it refuses, remembers and hands over as Telegram would."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from telegram import (
    Bot,
    BotCommand,
    BotCommandScopeAllPrivateChats,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    MessageEntity,
    ReplyParameters,
    Update,
)
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, RetryAfter, TelegramError

from adapters.telegram.request import AiohttpRequest
from tests.fakes.telegram_api import TOKEN, FakeTelegramApi
from tests.fakes.telegram_chats import Limits, SentMessage
from tests.fakes.telegram_wire import Refused

PERSON, OTHER, GROUP = 7, 8, -1_000_000_000_777
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n"
KINDS = ["message", "edited_message", "callback_query", "message_reaction", "my_chat_member"]


@dataclass
class Line:
    """The fake and the library that talks with it."""

    api: FakeTelegramApi
    bot: Bot
    offset: int = 0

    async def updates(self, **more: Any) -> list[Update]:
        """What is handed over now, and taken."""
        found = list(await self.bot.get_updates(offset=self.offset, timeout=0, **more))
        if found:
            self.offset = found[-1].update_id + 1
        return found

    async def update(self) -> Update:
        (only,) = await self.updates()
        return only

    async def sends(self, text: str, chat_id: int = PERSON, **more: Any) -> SentMessage:
        await self.bot.send_message(chat_id, text, **more)
        return self.api.sent[-1]


@pytest_asyncio.fixture
async def line() -> AsyncIterator[Line]:
    async with FakeTelegramApi(fronts={"https://xinyu.example": "http://127.0.0.1:9"}) as api:
        bot = Bot(
            TOKEN,
            base_url=f"{api.base_url}/bot",
            request=AiohttpRequest(),
            get_updates_request=AiohttpRequest(),
        )
        async with bot:
            line = Line(api, bot)
            await line.updates(allowed_updates=KINDS)
            api.user_says(PERSON, "你好")
            await line.updates()
            yield line


def keyboard(*rows: list[tuple[str, str]]) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup(
        [[InlineKeyboardButton(text, callback_data=data) for text, data in row] for row in rows]
    )


async def refusal(call: Awaitable[Any], kind: type[TelegramError] = BadRequest) -> str:
    with pytest.raises(kind) as refused:
        await call
    return refused.value.message


# --- what people do -------------------------------------------------------------------------


async def test_a_command_and_a_mention_are_marked(line: Line) -> None:
    line.api.user_says(PERSON, "/help@xinyu_fake_bot 😀 @xinyu_fake_bot", first_name="安")
    message = (await line.update()).message
    assert message is not None and message.from_user is not None
    assert message.from_user.first_name == "安"
    assert {(entity.type, text) for entity, text in message.parse_entities().items()} == {
        ("bot_command", "/help@xinyu_fake_bot"),
        ("mention", "@xinyu_fake_bot"),
    }
    line.api.user_says(PERSON, "/help", entities=[])
    message = (await line.update()).message
    assert message is not None and message.entities == ()


async def test_an_answer_shows_what_it_answers_and_no_more(line: Line) -> None:
    sent = await line.sends("**在**", entities=[MessageEntity(MessageEntity.BOLD, 0, 2)])
    first = line.api.message_id_of(line.api.user_says(PERSON, "真的？", reply_to=sent.message_id))
    line.api.user_says(PERSON, "真的", reply_to=first)
    one, two = (update.message for update in await line.updates())
    assert one is not None and one.reply_to_message is not None and one.reply_to_message.from_user is not None
    assert one.reply_to_message.from_user.id == line.bot.id
    assert one.reply_to_message.text == "**在**" and one.reply_to_message.entities[0].type == "bold"
    assert two is not None and two.reply_to_message is not None
    assert two.reply_to_message.text == "真的？" and two.reply_to_message.reply_to_message is None


async def test_a_message_under_way_stays_as_it_was(line: Line) -> None:
    sent = await line.sends("想一想", reply_markup=keyboard([("好", "ok")]))
    line.api.user_says(PERSON, "嗯", reply_to=sent.message_id)
    line.api.user_presses(PERSON, sent, "好")
    await line.bot.edit_message_text("想好了", PERSON, sent.message_id)
    said, pressed = await line.updates()
    assert said.message is not None and said.message.reply_to_message is not None
    assert said.message.reply_to_message.text == "想一想"
    assert pressed.callback_query is not None and pressed.callback_query.message is not None
    assert pressed.callback_query.message.to_dict()["text"] == "想一想"


async def test_a_changed_message_keeps_its_id(line: Line) -> None:
    update_id = line.api.user_says(PERSON, "/说错了 @somebody")
    line.api.user_edits(update_id, "说对了")
    said, changed = await line.updates()
    assert said.message is not None and changed.edited_message is not None
    assert changed.edited_message.message_id == said.message.message_id == line.api.message_id_of(update_id)
    assert changed.edited_message.text == "说对了" and changed.edited_message.entities == ()
    assert changed.edited_message.edit_date is not None


async def test_an_album_comes_as_messages_of_one_group(line: Line) -> None:
    photo = {"photo": [{"file_id": "F", "file_unique_id": "U", "width": 9, "height": 9}]}
    line.api.user_sends_album(PERSON, [{**photo, "caption": "海"}, photo])
    messages = [update.message for update in await line.updates()]
    assert len({message.media_group_id for message in messages if message}) == 1
    assert [message.caption for message in messages if message] == ["海", None]


async def test_reactions_say_what_they_were(line: Line) -> None:
    sent = await line.sends("加油")
    line.api.user_reacts(PERSON, PERSON, sent.message_id, "👍")
    line.api.user_reacts(PERSON, PERSON, sent.message_id)
    first, second = (update.message_reaction for update in await line.updates())
    assert first is not None and second is not None and first.user is not None
    assert (len(first.old_reaction), len(first.new_reaction)) == (0, 1)
    assert (second.old_reaction, second.new_reaction) == (first.new_reaction, ())


async def test_reactions_come_to_who_asked_for_them_alone(line: Line) -> None:
    sent = await line.sends("加油")
    await line.updates(allowed_updates=[])
    line.api.user_reacts(PERSON, PERSON, sent.message_id, "👍")
    line.api.block(PERSON, tell=True)
    (update,) = await line.updates()
    assert update.my_chat_member is not None
    assert update.my_chat_member.new_chat_member.status == "kicked"
    assert (
        await refusal(line.bot.send_message(PERSON, "在吗"), Forbidden)
        == "Forbidden: bot was blocked by the user"
    )
    line.api.unblock(PERSON)
    await line.sends("在吗")


# --- groups and topics ----------------------------------------------------------------------


async def test_a_group_that_threw_it_out_is_closed_and_unseen(line: Line) -> None:
    line.api.add_to_group(GROUP, PERSON)
    await line.sends("大家好", GROUP)
    line.api.remove_from_group(GROUP, PERSON)
    line.api.user_says(PERSON, "它走了", chat_type="supergroup", chat_id=GROUP)
    changes = [update.my_chat_member for update in await line.updates()]
    assert [
        (change.old_chat_member.status, change.new_chat_member.status) for change in changes if change
    ] == [
        ("left", "member"),
        ("member", "kicked"),
    ]
    closed = "Forbidden: bot was kicked from the supergroup chat"
    assert await refusal(line.bot.send_message(GROUP, "喂"), Forbidden) == closed


async def test_a_group_that_moved_says_where(line: Line) -> None:
    line.api.user_says(PERSON, "大家好", chat_type="group", chat_id=-55)
    line.api.migrate(-55, GROUP)
    _, old, new = (update.message for update in await line.updates())
    assert old is not None and new is not None
    assert (old.migrate_to_chat_id, new.migrate_from_chat_id) == (GROUP, -55)
    with pytest.raises(ChatMigrated) as moved:
        await line.bot.send_message(-55, "还在吗")
    assert moved.value.new_chat_id == GROUP
    await line.sends("还在", GROUP)


async def test_a_topic_is_there_once_somebody_wrote_in_it(line: Line) -> None:
    line.api.add_to_group(GROUP, PERSON, is_forum=True)
    missing = "Message thread not found"
    for call in (
        line.bot.send_message(GROUP, "在", message_thread_id=5),
        line.bot.send_chat_action(GROUP, "typing", message_thread_id=5),
    ):
        assert await refusal(call) == missing
    line.api.user_says(PERSON, "话题里", chat_type="supergroup", chat_id=GROUP, thread_id=5)
    line.api.user_says(PERSON, "话题外", chat_type="supergroup", chat_id=GROUP)
    _, inside, outside = (update.message for update in await line.updates())
    assert inside is not None and outside is not None
    assert inside.is_topic_message and inside.message_thread_id == 5 and inside.chat.is_forum
    assert inside.reply_to_message is not None and inside.reply_to_message.forum_topic_created is not None
    assert outside.message_thread_id is None and outside.chat.is_forum
    assert (await line.sends("在", GROUP, message_thread_id=5)).thread_id == 5
    answer = ReplyParameters(inside.message_id)
    assert (await line.sends("在", GROUP, reply_parameters=answer)).thread_id == 5


async def test_a_thread_of_answers_is_no_topic(line: Line) -> None:
    here: dict[str, Any] = {"chat_type": "supergroup", "chat_id": GROUP}
    first = line.api.message_id_of(line.api.user_says(PERSON, "一", **here))
    line.api.user_says(OTHER, "二", reply_to=first, **here)
    _, answer = (update.message for update in await line.updates())
    assert answer is not None and answer.message_thread_id == first and not answer.is_topic_message
    call = line.bot.send_message(GROUP, "三", message_thread_id=answer.message_thread_id)
    assert await refusal(call) == "Message thread not found"


async def test_who_is_what_in_a_group(line: Line) -> None:
    line.api.add_to_group(GROUP, PERSON)
    line.api.make_manager(GROUP, PERSON)
    line.api.make_admin(GROUP, OTHER)
    found = [await line.bot.get_chat_member(GROUP, user) for user in (PERSON, OTHER, 9)]
    assert [member.status for member in found] == ["creator", "administrator", "member"]


# --- buttons and menus ----------------------------------------------------------------------


async def test_a_press_is_answered_once(line: Line) -> None:
    sent = await line.sends(
        "选一个", reply_markup=keyboard([("好", "yes"), ("不好", "no")], [("算了", "off")])
    )
    assert sent.buttons == ((("好", "yes"), ("不好", "no")), (("算了", "off"),))
    line.api.user_presses(PERSON, sent, "算了")
    query = (await line.update()).callback_query
    assert query is not None and query.data == "off" and query.message is not None
    assert query.message.message_id == sent.message_id
    await query.answer("好的", show_alert=True)
    (answer,) = line.api.press_answers
    assert (answer.text, answer.query_id, answer.alert) == ("好的", query.id, True)
    assert 0 <= answer.after < 1
    late = "Query is too old and response timeout expired or query id is invalid"
    assert await refusal(query.answer()) == late


@pytest.mark.parametrize(
    ("label", "data", "said"),
    [("好", "字" * 22, "Button_data_invalid"), ("", "ok", "Inline keyboard button text must be non-empty")],
)
async def test_a_wrong_button_is_refused(line: Line, label: str, data: str, said: str) -> None:
    assert await refusal(line.bot.send_message(PERSON, "选", reply_markup=keyboard([(label, data)]))) == said
    assert await line.bot.send_message(PERSON, "选", reply_markup=keyboard([("好", "字" * 21)]))


async def test_a_press_on_what_was_deleted_shows_nothing_of_it(line: Line) -> None:
    sent = await line.sends("选一个", reply_markup=keyboard([("好", "yes")]))
    await line.bot.delete_message(PERSON, sent.message_id)
    assert line.api.chats.deleted == [(PERSON, sent.message_id)]
    line.api.user_presses(PERSON, sent, "好")
    query = (await line.update()).callback_query
    assert query is not None and query.message is not None and not query.message.is_accessible


async def test_menus_are_kept_by_scope_and_language(line: Line) -> None:
    scope = BotCommandScopeAllPrivateChats()
    await line.bot.set_my_commands([BotCommand("help", "帮助")], scope=scope, language_code="zh")
    assert line.api.commands == {("all_private_chats", "zh"): [("help", "帮助")]}
    assert await line.bot.get_my_commands(scope=scope, language_code="zh") == (BotCommand("help", "帮助"),)
    await line.bot.delete_my_commands(scope=scope, language_code="zh")
    assert line.api.commands == {}


@pytest.mark.parametrize(
    ("commands", "language", "said"),
    [
        ([("Help", "a")], "", "Bot_command_invalid"),
        ([("h" * 33, "a")], "", "Bot_command_invalid"),
        ([("help", "a" * 257)], "", "Bot_command_description_invalid"),
        ([("help", "")], "", "Bot_command_description_invalid"),
        ([(f"c{number}", "a") for number in range(101)], "", "Bot_commands_too_much"),
        ([("help", "a")], "zh-hans", "Invalid language code specified"),
    ],
)
async def test_a_wrong_menu_is_refused(
    line: Line, commands: list[tuple[str, str]], language: str, said: str
) -> None:
    assert await refusal(line.bot.set_my_commands(commands, language_code=language)) == said


# --- sending, editing, deleting -------------------------------------------------------------


async def test_an_answer_needs_what_it_answers(line: Line) -> None:
    assert (
        await refusal(line.sends("嗯", reply_parameters=ReplyParameters(99)))
        == "Message to be replied not found"
    )
    may = ReplyParameters(99, allow_sending_without_reply=True)
    assert (await line.sends("嗯", reply_parameters=may)).reply_to is None
    assert (
        await line.sends("嗯", reply_parameters=ReplyParameters(1), disable_notification=True)
    ).reply_to == 1
    assert line.api.sent[-1].silent


async def test_an_edit_changes_a_message_in_its_place(line: Line) -> None:
    sent = await line.sends("一", reply_markup=keyboard([("好", "ok")]))
    await line.sends("二")
    message = await line.bot.edit_message_text(" 三 ", PERSON, sent.message_id)
    assert not isinstance(message, bool) and message.text == "三" and message.edit_date is not None
    now = line.api.sent_of(sent)
    assert (now.text, now.edits, now.buttons, now.at) == (" 三 ", 1, (), sent.at)
    assert line.api.sent_to(PERSON) == [" 三 ", "二"]
    (edit,) = line.api.chats.edits
    assert edit.at > sent.at


async def test_an_edit_must_change_something_that_is_there(line: Line) -> None:
    sent = await line.sends("一", reply_markup=keyboard([("好", "ok")]))
    same = line.bot.edit_message_text("一", PERSON, sent.message_id, reply_markup=keyboard([("好", "ok")]))
    assert (await refusal(same)).startswith(
        "Message is not modified: specified new message content and reply"
    )
    await line.bot.edit_message_reply_markup(PERSON, sent.message_id)
    assert (await refusal(line.bot.edit_message_reply_markup(PERSON, sent.message_id))).startswith(
        "Message is not"
    )
    assert await refusal(line.bot.edit_message_text("二", PERSON, 99)) == "Message to edit not found"
    assert await refusal(line.bot.edit_message_text("二", PERSON, 1)) == "Message can't be edited"
    await line.bot.delete_message(PERSON, sent.message_id)
    assert (
        await refusal(line.bot.edit_message_text("二", PERSON, sent.message_id))
        == "Message to edit not found"
    )
    assert await refusal(line.bot.delete_message(PERSON, sent.message_id)) == "Message to delete not found"


async def test_in_a_group_only_an_admin_deletes_what_others_said(line: Line) -> None:
    said = line.api.message_id_of(line.api.user_says(PERSON, "嗯", chat_type="supergroup", chat_id=GROUP))
    assert await refusal(line.bot.delete_message(GROUP, said)) == "Message can't be deleted"
    line.api.make_admin(GROUP, line.bot.id)
    await line.bot.delete_message(GROUP, said)


@pytest.mark.parametrize("kind", ["photo", "voice", "document"])
async def test_a_file_arrives_with_its_caption(line: Line, kind: str) -> None:
    send = getattr(line.bot, f"send_{kind}")
    bold = [MessageEntity(MessageEntity.BOLD, 0, 2)]
    with io.BytesIO(b"bytes") as file:
        message = await send(
            PERSON,
            file,
            caption="😀",
            caption_entities=bold,
            filename="a.bin",
            reply_markup=keyboard([("好", "ok")]),
        )
    sent = line.api.sent[-1]
    assert (sent.kind, sent.text, sent.file, sent.buttons) == (
        kind,
        "😀",
        ("a.bin", b"bytes"),
        ((("好", "ok"),),),
    )
    assert message.caption == "😀" and message.caption_entities[0].type == "bold"
    message = await line.bot.edit_message_reply_markup(PERSON, sent.message_id)
    assert not isinstance(message, bool)
    assert message.text is None and message.caption == "😀"
    assert await refusal(line.bot.edit_message_text("一", PERSON, sent.message_id)) == (
        "There is no text in the message to edit"
    )


async def test_a_file_that_is_none_is_refused(line: Line) -> None:
    long = line.bot.send_photo(PERSON, b"bytes", caption="😀" * 513)
    assert await refusal(long) == "Message caption is too long"
    assert await refusal(line.bot.send_photo(PERSON, b"")) == "There is no photo in the request"
    assert await refusal(line.bot.send_voice(PERSON, "F12")) == "Wrong file identifier/http url specified"
    assert line.api.sent == []


async def test_drafts_are_for_private_chats_of_a_new_server(line: Line) -> None:
    await line.bot.send_message_draft(PERSON, 5, "我在")
    await line.bot.send_message_draft(PERSON, 5, "我在想")
    assert [(draft.draft_id, draft.text) for draft in line.api.chats.drafts] == [(5, "我在"), (5, "我在想")]
    assert line.api.sent == []
    line.api.add_to_group(GROUP, PERSON)
    assert await refusal(line.bot.send_message_draft(GROUP, 5, "我在")) == "Textdraft_peer_invalid"
    assert "non-zero" in await refusal(line.bot.send_message_draft(PERSON, 0, "我在"))
    assert await refusal(line.bot.send_message_draft(PERSON, 5, "字" * 4097)) == "Message is too long"
    line.api.chats.drafts_offered = False
    await refusal(line.bot.send_message_draft(PERSON, 5, "我在"), InvalidToken)
    assert line.api.calls["sendmessagedraft:404"] == 1


async def test_a_certificate_goes_with_the_webhook(line: Line) -> None:
    url = "https://xinyu.example/hook"
    assert "certificate" in await refusal(line.bot.set_webhook(url, certificate=b"none"))
    await line.bot.set_webhook(url, certificate=CERTIFICATE)
    assert line.api.certificate == CERTIFICATE
    assert (await line.bot.get_webhook_info()).has_custom_certificate
    await line.bot.delete_webhook()
    assert not (await line.bot.get_webhook_info()).has_custom_certificate


@pytest.mark.parametrize(
    (
        "method",
        "wrong",
    ),  # the library warns of each name that its Bot has a method for, but for these spellings
    [
        ("send_Message", {"text": "一", "reply_to_message_id": 1}),
        ("send_Message", {"text": "一", "disable_notification": "maybe"}),
        ("send_Message", {"text": "一", "entities": [{"type": "bold"}]}),
        (
            "send_Message",
            {"text": "一", "entities": [{"type": "bold", "offset": 0, "length": 1, "url": "a"}]},
        ),
        ("send_Message", {"text": "一", "entities": "no JSON"}),
        ("send_Message", {"text": "一", "reply_parameters": [1]}),
        ("send_Message", {"text": "一", "reply_parameters": {"message_id": 1, "of": 2}}),
        ("send_Message", {"text": "一", "reply_markup": {"inline_keyboard": [{}]}}),
        ("send_Message", {"text": "一", "reply_markup": {"inline_keyboard": [[{"text": "好", "url": "a"}]]}}),
        ("send_Message", {"text": "一", "reply_markup": {"force_reply": True}}),
        ("send_Message", {"text": "一", "message_thread_id": "five"}),
        ("edit_Message_Text", {"text": "一", "message_id": "one"}),
        ("get_Chat_Member", {"user_id": 0}),
        ("send_Voice", {"duration": "long"}),
    ],
)
async def test_what_nobody_knows_is_refused(line: Line, method: str, wrong: dict[str, Any]) -> None:
    assert await refusal(line.bot.do_api_request(method, {"chat_id": PERSON, **wrong}))
    assert line.api.sent == []


# --- limits ---------------------------------------------------------------------------------


async def test_a_fourth_at_once_is_too_fast_for_a_chat(line: Line) -> None:
    line.api.chats.limits = Limits()
    for _ in range(3):
        await line.sends("嗯")
    with pytest.raises(RetryAfter) as refused:
        await line.bot.edit_message_text("好", PERSON, line.api.sent[0].message_id)
    assert "Retry in 1 seconds" in refused.value.message
    assert line.api.chats.limits.breaches == [f"chat {PERSON}"]
    assert line.api.calls["editmessagetext:429"] == 1
    await line.sends("别的聊天", chat_id=await met(line, OTHER))


async def test_three_a_second_for_ever_is_too_fast_for_a_chat() -> None:
    now = 0.0
    limits = Limits(clock=lambda: now)
    private = {"id": 1, "type": "private"}
    for number in range(60):  # one a second, after three at once
        now = max(0.0, number - 2.0)
        limits.count(private)
    assert limits.breaches == []
    with pytest.raises(Refused, match="retry after 1"):
        for _ in range(10):
            now += 1 / 3
            limits.count(private)


async def test_thirty_a_second_in_all_and_twenty_a_minute_in_a_group() -> None:
    now = 0.0
    limits = Limits(clock=lambda: now)
    for chat in range(31):
        limits.count({"id": chat, "type": "private"})
    with pytest.raises(Refused, match="retry after 1"):
        limits.count({"id": 99, "type": "private"})
    group = {"id": -1, "type": "supergroup"}
    for number in range(21):
        now = 2.0 + number
        limits.count(group)
    now += 1
    with pytest.raises(Refused, match="retry after 39"):
        limits.count(group)
    assert limits.breaches == ["all", "group -1"]


async def met(line: Line, user_id: int) -> int:
    line.api.user_says(user_id, "你好")
    await line.updates()
    return user_id
