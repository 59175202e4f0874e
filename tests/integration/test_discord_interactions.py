"""Slash commands, menu entries, buttons, lists and forms in Discord: each is acknowledged in time and answered once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from adapters.discord import interactions
from adapters.discord.api import DiscordApi
from adapters.discord.gateway import DiscordGateway
from adapters.discord.handles import Responses
from adapters.discord.notices import load_notices
from adapters.discord.parts import Parts
from adapters.discord.settings import DiscordSettings
from core.errors import StoreUnavailable
from core.messages import IncomingMessage, Platform, PlatformEvent
from core.phrases import load_phrases
from core.ports import Accepted
from core.safety.protocol import load_protocols
from storage.keys import KEY_BYTES, KeyRing
from storage.sql.open import open_store
from tests.companion import rows, until
from tests.discord_world import DiscordWorld, world_in
from tests.fakes.discord_platform import (
    FORUM,
    Channel,
    FakeDiscord,
    Guild,
    Interaction,
    Message,
    NotOffered,
    User,
    running_discord,
)
from tests.fakes.model_server import Answer

SECONDS = 3.0
"""In which Discord wants to be answered at all."""
MANAGE_SERVER = 1 << 5
PROTOCOL = set(load_protocols().texts.values())
CHOOSE, OTHER, BACK = "点这里选", "别的…", "‹ 返回"
TALK_ABOUT, NOT_GOOD = "跟心语说说这条", "心语这样回不好"
NOT_YOURS = "这个是给别人的，想改自己的就用 /settings。"
QUIET_HERE = "管理员限了我在这里说话的时候或次数，这一句我先不接。想说话就私信我，随时都行。"
TROUBLE = "我这会儿没能记下来，过一小会儿再试一次好吗？"
ADMINS_ONLY = {
    "zh-CN": "这个得请群管理员来改。",
    "en-US": "Please ask one of this group's admins to change that.",
}


@dataclass
class Home(DiscordWorld):
    """A running bot, and a server of bob's in which ann is too."""

    ann: User
    bob: User
    guild: Guild
    general: Channel

    async def finished(self, interaction: Interaction) -> Interaction:
        """It was answered, if only by a form or by a change of the message pressed on."""
        await self.until(
            lambda: (
                not interaction.thinking
                and bool(interaction.answers or interaction.updated_source or interaction.modal)
            )
        )
        return interaction

    async def answer(self, interaction: Interaction) -> Message:
        """Its only answer."""
        (answer,) = (await self.finished(interaction)).answers
        return answer

    async def ask(self, user: User, channel: Channel, name: str, **options: Any) -> Message:
        return await self.answer(await self.discord.slash(user, channel, name, **options))

    async def choose(self, user: User, menu: Message, value: str) -> None:
        """Something of the menu's list; the menu itself changes."""
        chosen = await self.finished(await self.discord.selects(user, menu, CHOOSE, value))
        assert chosen.updated_source and not chosen.answers

    async def press(self, user: User, menu: Message, label: str) -> None:
        pressed = await self.finished(await self.discord.presses(user, menu, label))
        assert pressed.updated_source and not pressed.answers

    async def all_before(self) -> None:
        """All that was asked before is through: somebody else's answer has come."""
        eve = self.discord.user("eve")
        await self.ask(eve, self.discord.direct(eve), "help")

    def newcomer(self, name: str, *, locale: str = "zh-CN") -> User:
        """Somebody new in the server. Each chat has a pace of its own: so nobody waits for another's."""
        user = self.discord.user(name, locale=locale)
        self.discord.member(self.guild, user)
        return user

    def seen(self, channel: Channel) -> list[str]:
        """What the bot said there for all to see."""
        return [message.text for message in self.discord.messages(channel)]

    def asked_of_model(self, number: int = -1) -> str:
        return str(self.model.requests[number]["messages"][-1]["content"])

    def system_prompts(self) -> list[str]:
        return [str(request["messages"][0]["content"]) for request in self.model.requests]


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with world_in(tmp_path) as world:
        discord = world.discord
        ann, bob = discord.user("ann"), discord.user("bob")
        guild = discord.guild("home", owner=bob, members=[ann])
        guild.members[discord.bot_id].joined_at -= timedelta(days=30)  # long ago: no welcome is said
        general = discord.channel(guild, "general")
        home = Home(world.program, discord, world.model, ann, bob, guild, general)
        await home.start()
        yield home


def option_labels(message: Message) -> list[str]:
    return [option["label"] for option in first_list(message)["options"]]


def chosen_label(message: Message) -> str:
    """The option that the list shows as chosen."""
    (label,) = [option["label"] for option in first_list(message)["options"] if option["default"]]
    return str(label)


def first_list(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = message.components[0]["components"][0]
    return found


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def hand_over_again(discord: FakeDiscord, interaction: Interaction) -> None:
    body = discord._interaction_json(interaction, interaction.user.locale)
    discord.gateway.dispatch("INTERACTION_CREATE", body, interaction.channel.guild, 0)


def allow_everyone(discord: FakeDiscord, name: str) -> None:
    """An administrator's own choice in the server's integration settings: everyone may use the command."""
    (command,) = [command for command in discord.commands if command["name"] == name]
    command["default_member_permissions"] = None


# --- what is offered ------------------------------------------------------------------------------


async def test_commands_are_offered_in_chinese_and_english(home: Home) -> None:
    slash = {command["name"]: command for command in home.discord.commands if command["type"] == 1}
    assert set(slash) == {
        *("chat", "start", "help", "settings", "persona", "reset", "pause", "resume", "export"),
        *("delete_me", "xinyu"),
    }
    menus = [command for command in home.discord.commands if command["type"] == 3]
    assert {menu["name"] for menu in menus} == {"Talk to XinYu about this", "Not a good answer of XinYu's"}
    (setup,) = slash["xinyu"]["options"]
    (text,) = slash["chat"]["options"]
    for told in (*slash.values(), *menus, setup):
        assert told["name"].isascii() and told.get("description", "").isascii()
        for locale in ("zh-CN", "zh-TW"):
            assert is_chinese(told["name_localizations"][locale])
            assert told["type"] == 3 or is_chinese(told["description_localizations"][locale])
    assert is_chinese(text["description_localizations"]["zh-CN"]) and text["description"].isascii()
    for command in home.discord.commands:
        assert command["integration_types"] == [0]
        assert command["contexts"] == ([0] if command["name"] == "xinyu" else [0, 1])
    answer = await home.ask(home.ann, home.general, "帮助")
    assert "@ 我" in answer.text


async def test_set_up_is_for_those_who_manage_the_server(home: Home) -> None:
    discord = home.discord
    (command,) = [command for command in discord.commands if command["name"] == "xinyu"]
    assert int(command["default_member_permissions"]) == MANAGE_SERVER
    with pytest.raises(NotOffered):
        await discord.slash(home.ann, home.general, "xinyu setup")
    with pytest.raises(NotOffered):
        await discord.slash(home.bob, discord.direct(home.bob), "xinyu setup")
    dan = home.newcomer("dan")
    discord.allow(home.guild, user_or_bot=dan, permissions="manage_guild")
    allow_everyone(discord, "xinyu")
    for locale, words in ADMINS_ONLY.items():
        refused = await home.ask(home.newcomer("cat", locale=locale), home.general, "xinyu setup")
        assert (refused.text, refused.ephemeral, refused.components) == (words, True, [])
    for user in (dan, home.bob):
        menu = await home.ask(user, home.general, "xinyu setup")
        assert menu.ephemeral and len(option_labels(menu)) == 5
    refused = await home.ask(home.ann, home.general, "reset")
    assert refused.text == ADMINS_ONLY["zh-CN"] and refused.ephemeral
    assert home.seen(home.general) == []


# --- talking --------------------------------------------------------------------------------------


async def test_chat_is_answered_where_it_is_said(home: Home) -> None:
    discord, ann = home.discord, home.ann
    direct = discord.direct(ann)
    thread = discord.thread(home.general, "夜里", owner=ann)
    forum = discord.channel(home.guild, "forum", FORUM)
    post, _ = await discord.forum_post(home.bob, forum, "心事", "今天好累")
    quick = []
    for channel in (direct, home.general, thread, post):
        asked = await discord.slash(ann, channel, "chat", text=f"在{channel.name or '私下'}吗")
        answer = await home.answer(asked)
        spoken = "" if channel is direct else "ann："
        assert answer.text == f"回声:{spoken}在{channel.name or '私下'}吗"
        assert discord.messages(channel) == [answer] and not answer.ephemeral
        assert asked.original is answer and (asked.acknowledged_after or SECONDS) < SECONDS
        quick.append(not asked.deferred)
        assert len(home.model.requests[-1]["messages"]) == 2, "nothing of the other places is known here"
    assert any(quick), "a quick answer is the response itself"
    places = {row[0].decode() for row in rows(home.data, "SELECT chat_id FROM conversations")}
    inside = f"{home.guild.id}/{home.general.id}"
    posts = f"{home.guild.id}/{forum.id}/{post.id}"
    assert places == {f"@{ann.id}", inside, f"{inside}/{thread.id}", posts}


async def test_what_takes_long_is_thought_about_and_then_answered_in_its_place(home: Home) -> None:
    discord, bob = home.discord, home.bob
    words = await discord.says(bob, home.general, "我把咖啡洒在键盘上了")
    home.model.gate.clear()
    public = await discord.slash(home.ann, home.general, "chat", text="慢慢想")
    private = await discord.slash(bob, discord.direct(bob), "chat", text="不急")
    alone = await discord.context_menu(home.newcomer("cat"), home.general, TALK_ABOUT, words)
    asked = [public, private, alone]
    await home.until(lambda: all(one.deferred for one in asked))
    assert all(one.thinking and (one.acknowledged_after or SECONDS) < SECONDS for one in asked)
    for text in ("我想死", "I want to kill myself"):
        in_danger = home.newcomer("dan")
        protocol = await home.ask(in_danger, discord.direct(in_danger), "chat", text=text)
        assert protocol.text in PROTOCOL and is_chinese(protocol.text) == is_chinese(text)
    assert [one.deferred_ephemeral for one in asked] == [False, False, True]
    home.model.gate.set()
    answers = [await home.answer(one) for one in asked]
    assert [answer.text for answer in answers[:2]] == ["回声:ann：慢慢想", "回声:不急"]
    assert [answer is one.original for answer, one in zip(answers, asked, strict=True)] == [True] * 3
    assert [answer.ephemeral for answer in answers] == [False, False, True]
    assert discord.messages(home.general) == [answers[0]]
    assert discord.messages(discord.direct(bob)) == [answers[1]]
    assert discord.typing == [], "Discord shows by itself that it is thought about"
    await home.finished(await discord.slash(bob, discord.direct(bob), "chat", text="谢谢"))
    assert len(home.model.requests) == 4, "each was answered once"


async def test_a_long_answer_comes_in_order_and_rings_nobodys_phone(home: Home) -> None:
    discord = home.discord
    discord.allow(home.guild, permissions="mention_everyone")
    role = discord.role(home.guild, "mods", members=[home.ann], mentionable=True)
    long = "\n\n".join(
        f"{n} @everyone @here {home.ann.mention} {role.mention} {'字' * 500}" for n in range(8)
    )
    home.model.default = Answer(long)
    words = await discord.says(home.bob, home.general, "说来话长")
    quick = await discord.slash(home.ann, home.general, "chat", text="说吧")
    alone = await discord.context_menu(home.bob, home.general, TALK_ABOUT, words)
    for asked in (quick, alone):
        await home.until(lambda asked=asked: sum(len(one.text) for one in asked.answers) > 7 * 500)  # type: ignore[misc]
    home.model.gate.clear()
    cat = home.newcomer("cat")
    slow = await discord.slash(cat, discord.channel(home.guild, "slow"), "chat", text="慢慢说")
    await home.until(lambda: slow.thinking)
    home.model.gate.set()
    for asked in (quick, alone, slow):
        await home.until(lambda asked=asked: "\n7 @" in "".join(one.text for one in asked.answers))  # type: ignore[misc]
        assert len(asked.answers) == 3 and asked.answers[0] is asked.original
        assert [one.id for one in asked.answers] == sorted(one.id for one in asked.answers)
        assert "\n\n".join(one.text for one in asked.answers) == long
        assert not any(one.pings for one in asked.answers)
    assert all(one.ephemeral for one in alone.answers)
    assert not any(one.ephemeral for one in (*quick.answers, *slow.answers))


async def test_what_the_model_could_not_answer_is_answered_later_by_a_message_of_its_own(home: Home) -> None:
    discord, ann = home.discord, home.ann
    words = await discord.says(home.bob, home.general, "我把咖啡洒在键盘上了")
    await home.model.stop()
    public = await discord.slash(home.bob, home.general, "chat", text="在吗")
    alone = await discord.context_menu(ann, home.general, TALK_ABOUT, words)
    listener, other = await home.answer(public), await home.answer(alone)
    said = [listener.text, other.text]
    await home.model.start()
    shown, whispered = (
        (await home.replies(home.general, 2))[1],
        (await home.replies(discord.direct(ann), 1))[0],
    )
    assert shown.text.startswith("回声:bob：在吗")
    assert whispered.text.startswith(f"回声:{TALK_ABOUT}")
    assert [listener.text, other.text] == said, "an edit would tell nobody that there is an answer now"


# --- what is nobody else's business ------------------------------------------------------------------


async def test_what_is_private_is_shown_in_a_server_to_its_person_alone(home: Home) -> None:
    said = {
        "help": "@ 我",
        "start": "我是心语",
        "settings": "想怎么相处",
        "persona": "想让谁陪着说话",
        "export": "你的全部",
        "delete_me": "抹掉",
        "pause": "安静",
        "resume": "回来了",
        "reset": "翻篇",
    }
    for name, words in said.items():
        admins = name in ("pause", "resume", "reset")
        channel = home.discord.channel(home.guild, name)
        answer = await home.finished(
            await home.discord.slash(home.bob if admins else home.newcomer(name), channel, name)
        )
        assert words in answer.answers[0].text, name
        assert all(one.ephemeral for one in answer.answers), name
        assert home.discord.messages(channel) == [], name
    for name in said:
        user = home.newcomer(name, locale="en-US")
        direct = home.discord.direct(user)
        shown = await home.finished(await home.discord.slash(user, direct, name))
        await home.until(lambda shown=shown: len(shown.answers) == 1 + (shown.data["name"] == "export"))  # type: ignore[misc]
        assert not any(one.ephemeral for one in shown.answers), name
        assert home.discord.messages(direct) == shown.answers, name
        assert shown.answers[0].text and not is_chinese(shown.answers[0].text), name


async def test_an_export_is_a_file_about_one_person_for_one_person(home: Home) -> None:
    discord, ann, bob = home.discord, home.ann, home.bob
    await home.ask(ann, home.general, "chat", text="安的话")
    await home.ask(bob, home.general, "chat", text="鲍的话")
    await home.ask(bob, discord.direct(bob), "chat", text="鲍私下的话")
    await home.ask(ann, discord.direct(ann), "chat", text="安私下的话")
    asked = await discord.slash(ann, home.general, "export")
    await home.until(lambda: any(one.attachments for one in asked.answers))
    (file,) = [file for one in asked.answers for file in one.attachments]
    assert all(one.ephemeral for one in asked.answers) and not asked.public
    record = json.loads(file.content)
    whole = json.dumps(record, ensure_ascii=False)
    assert "安的话" in whole and "安私下的话" in whole
    assert "鲍" not in whole and str(bob.id) not in whole
    assert str(ann.id) in json.dumps(record["accounts"])
    assert asked.token not in whole
    assert not any(one.attachments for one in discord.messages(home.general))


async def test_after_delete_me_nothing_is_left_and_the_farewell_still_comes(home: Home) -> None:
    discord, ann = home.discord, home.ann
    await home.ask(ann, discord.direct(ann), "chat", text="记得我吗")
    question = await home.ask(ann, home.general, "delete_me")
    assert question.ephemeral
    await home.press(ann, question, "算了，留着")
    assert question.text == "好，都留着。" and question.components == []
    again = await home.ask(ann, home.general, "delete_me")
    await home.press(ann, again, "是的，全部抹掉")
    assert again.text.startswith("都抹掉了") and again.components == [] and again.ephemeral
    for table in ("identities", "users", "inbox", "chat_messages", "conversations", "deliveries"):
        await until(lambda table=table: rows(home.data, f"SELECT count(*) FROM {table}") == [(0,)])  # type: ignore[misc]
    answer = await home.ask(ann, home.general, "start")
    assert "我是心语" in answer.text
    await home.ask(ann, discord.direct(ann), "chat", text="你好")
    assert "记得我吗" not in json.dumps(home.model.requests[-1], ensure_ascii=False)


# --- settings -----------------------------------------------------------------------------------------


async def test_a_settings_menu_changes_in_place(home: Home) -> None:
    ann = home.ann
    menu = await home.ask(ann, home.general, "settings")
    assert "语言 · 跟着你" in option_labels(menu)
    await home.choose(ann, menu, "settings language")
    assert chosen_label(menu) == "跟着你"
    await home.press(ann, menu, BACK)
    assert "语言 · 跟着你" in option_labels(menu)
    await home.choose(ann, menu, "settings language")
    await home.choose(ann, menu, "English")
    assert menu.text.startswith("How would you like us to talk?")
    assert "Language · English" in option_labels(menu)
    assert home.seen(home.general) == []
    assert home.seen(home.discord.direct(ann)) == []
    answer = await home.ask(ann, home.discord.channel(home.guild, "other"), "settings")
    assert "Language · English" in option_labels(answer), "it is kept"


async def test_a_value_of_ones_own_is_written_into_a_form(home: Home) -> None:
    discord, ann, bob = home.discord, home.ann, home.bob
    for user, name, wrong, complaint, right, shown in (
        (ann, "timezone", "Mars/Olympus", "没认出这个时区", "asia/kolkata", "时区 · Asia/Kolkata"),
        (bob, "quiet", "25-99", "写成几点到几点", "21 点", None),
        (home.newcomer("cat"), "quiet", "7-7", "写成几点到几点", "21 - 6", "安静时段 · 21-6"),
    ):
        menu = await home.ask(user, home.general, "settings")
        await home.choose(user, menu, f"settings {name}")
        before = menu.text
        opened = await home.finished(await discord.presses(user, menu, OTHER))
        assert opened.modal is not None and opened.modal["title"] == OTHER
        (row,) = opened.modal["components"]
        label = row["components"][0]["label"]
        refused = await home.answer(await discord.submits(user, opened, {label: wrong}))
        assert complaint in refused.text and refused.ephemeral
        assert menu.text == before, "the menu stays as it was"
        opened = await home.finished(await discord.presses(user, menu, OTHER))
        asked_again = await home.finished(await discord.submits(user, opened, {label: "   "}))
        assert not asked_again.answers and menu.text == before
        opened = await home.finished(await discord.presses(user, menu, OTHER))
        filled = await home.finished(await discord.submits(user, opened, {label: right}))
        if shown is None:
            assert complaint in filled.answers[0].text
        else:
            assert filled.updated_source and shown in option_labels(menu)
    assert home.seen(home.general) == []


async def test_somebody_elses_buttons_are_theirs(home: Home) -> None:
    discord = home.discord
    await discord.says(home.bob, home.general, f"{discord.bot.mention} /settings")
    (menu,) = await home.replies(home.general, 1)
    refused = await home.answer(await discord.selects(home.ann, menu, CHOOSE, "settings answers"))
    assert (refused.text, refused.ephemeral) == (NOT_YOURS, True)
    eve = home.newcomer("eve", locale="en-US")
    refused = await home.answer(await discord.selects(eve, menu, CHOOSE, "settings answers"))
    assert refused.ephemeral and refused.text.startswith("That one is for somebody else")
    assert "什么时候说话 · 叫我的时候" in option_labels(menu), "nothing changed"
    await home.choose(home.bob, menu, "settings answers")
    await home.choose(home.bob, menu, "settings answers=off")
    assert "什么时候说话 · 只理命令" in option_labels(menu)


async def test_buttons_under_answers_say_how_they_were_and_go(home: Home) -> None:
    discord, ann = home.discord, home.ann
    direct = discord.direct(ann)
    menu = await home.ask(ann, direct, "settings")
    await home.choose(ann, menu, "settings feedback")
    await home.choose(ann, menu, "settings feedback=on")
    answer = await home.ask(ann, direct, "chat", text="睡不着")
    await home.press(ann, answer, "👎")
    assert (answer.text, answer.components) == ("回声:睡不着", [])
    assert rows(home.data, "SELECT kind, verdict FROM feedback") == [("button", "bad")]


# --- servers ------------------------------------------------------------------------------------------


async def test_two_servers_are_set_up_each_in_its_own_way(home: Home) -> None:
    discord, ann, bob = home.discord, home.ann, home.bob
    cara = discord.user("cara")
    second = discord.guild("second", owner=cara, members=[ann])
    lounge = discord.channel(second, "lounge")
    await discord.leave(second)
    await discord.join(second)
    await home.replies(lounge, 1)  # the welcome
    menus = [await home.ask(bob, home.general, "xinyu setup"), await home.ask(cara, lounge, "xinyu setup")]
    for user, menu, value in ((bob, menus[0], "night"), (cara, menus[1], "peer")):
        assert menu.ephemeral
        await home.choose(user, menu, "settings persona")
        await home.choose(user, menu, f"settings persona={value}")
    assert any("夜灯" in label for label in option_labels(menus[0]))
    await home.choose(cara, menus[1], "settings language")
    await home.choose(cara, menus[1], "settings language=en")
    assert menus[1].text.startswith("How I behave in this server")
    await home.ask(ann, home.general, "chat", text="在吗")
    await home.ask(ann, lounge, "chat", text="在吗")
    thread = discord.thread(home.general, "夜里", owner=ann)
    await home.ask(ann, thread, "chat", text="在吗")
    await home.ask(ann, discord.direct(ann), "chat", text="在吗")
    first, other, in_thread, private = home.system_prompts()
    assert "夜灯" in first and "夜灯" in in_thread
    assert ("Qing" in other or "阿青" in other) and "夜灯" not in other
    assert "English" in other or "英文" in other
    assert "夜灯" not in private and "阿青" not in private, "a server decides about itself alone"


async def test_a_channel_set_aside_is_told_so_and_listened_to(home: Home) -> None:
    discord, bob = home.discord, home.bob
    aside, other = discord.channel(home.guild, "aside"), discord.channel(home.guild, "other")
    menu = await home.ask(bob, home.general, "xinyu setup")
    await home.choose(bob, menu, "settings channels")
    picked = await home.finished(
        await discord.selects(bob, menu, "选频道，可以多选；一个都不选就是不设", [aside])
    )
    assert picked.updated_source and any("1 个" in label for label in option_labels(menu))
    (notice,) = await home.replies(aside, 1)
    assert "每句话" in notice.text and "/xinyu setup" in notice.text
    await discord.says(home.ann, aside, "没有叫你，说给你听")
    assert (await home.replies(aside, 2))[1].text.endswith("ann：没有叫你，说给你听")
    await home.choose(bob, menu, "settings channels")
    shown = first_list(menu)
    assert [value["id"] for value in shown["default_values"]] == [str(aside.id)]
    await home.finished(await discord.selects(bob, menu, shown["custom_id"], []))
    assert any(label.endswith("没有") for label in option_labels(menu))
    await discord.says(home.ann, aside, "现在呢")
    await home.all_before()
    assert len(home.seen(aside)) == 2
    assert home.seen(home.general) == home.seen(other) == []


async def test_where_it_shall_be_quiet_it_says_so_to_who_asks(home: Home) -> None:
    ann, bob = home.ann, home.bob
    menu = await home.ask(bob, home.general, "xinyu setup")
    await home.choose(bob, menu, "settings answers")
    await home.choose(bob, menu, "settings answers=off")
    refused = await home.ask(ann, home.general, "chat", text="在吗")
    assert (refused.text, refused.ephemeral) == (QUIET_HERE, True)
    assert (await home.ask(ann, home.general, "help")).ephemeral
    danger = await home.ask(ann, home.general, "chat", text="我不想活了")
    assert danger.text in PROTOCOL
    assert not home.model.requests
    told = await home.ask(home.newcomer("eve", locale="en-US"), home.general, "chat", text="hi")
    assert told.ephemeral and told.text.startswith("The admins here limit")


async def test_who_had_their_answers_for_the_hour_is_told(home: Home) -> None:
    discord, ann, bob = home.discord, home.ann, home.bob
    menu = await home.ask(bob, home.general, "xinyu setup")
    await home.choose(bob, menu, "settings hourly")
    await home.choose(bob, menu, "settings hourly=10")
    channels = [discord.channel(home.guild, f"c{number}") for number in range(5)]
    for channel in channels * 2:
        assert "回声" in (await home.ask(ann, channel, "chat", text="在吗")).text
    refused = await home.ask(ann, home.general, "chat", text="在吗")
    assert refused.ephemeral and "回声" not in refused.text
    assert len(home.model.requests) == 10
    assert "回声" in (await home.ask(bob, home.general, "chat", text="在吗")).text, "another has their own"
    danger = await home.ask(ann, home.general, "chat", text="我不想活了")
    assert danger.text in PROTOCOL


# --- menus of a message ---------------------------------------------------------------------------------


async def test_anybodys_words_can_be_talked_about_in_private(home: Home) -> None:
    discord, ann = home.discord, home.ann
    words = await discord.says(home.bob, home.general, "我把咖啡洒在键盘上了")
    home.model.default = Answer("键盘还好吗？")
    answer = await home.answer(await discord.context_menu(ann, home.general, TALK_ABOUT, words))
    assert answer.text == "键盘还好吗？" and answer.ephemeral
    prompt = home.asked_of_model()
    assert "bob" in prompt and words.text in prompt and TALK_ABOUT in prompt
    await home.ask(ann, discord.direct(ann), "chat", text="接着说")
    window = json.dumps(home.model.requests[-1], ensure_ascii=False)
    assert answer.text in window, "it is part of what they talk about with each other"
    assert words.text not in window, "bob's words are bob's"
    await home.ask(ann, home.general, "chat", text="你好")
    assert answer.text not in json.dumps(home.model.requests[-1], ensure_ascii=False)
    picture = await discord.says(home.bob, home.general, attachments=[("猫.png", b"\x89PNG")])
    assert (await home.answer(await discord.context_menu(ann, home.general, TALK_ABOUT, picture))).ephemeral
    own = await discord.says(ann, home.general, "我自己的话")
    await home.answer(await discord.context_menu(ann, home.general, TALK_ABOUT, own))
    assert "自己的话" in home.asked_of_model() and "ann" not in home.asked_of_model()


async def test_an_answer_can_be_called_not_good(home: Home) -> None:
    discord, ann = home.discord, home.ann
    in_server = await home.ask(ann, home.general, "chat", text="在吗")
    direct = discord.direct(ann)
    in_private = await home.ask(ann, direct, "chat", text="在吗")
    for channel, message in ((home.general, in_server), (direct, in_private)):
        noted = await home.answer(await discord.context_menu(ann, channel, NOT_GOOD, message))
        assert noted.text == "记下了，谢谢你告诉我。" and noted.ephemeral
    assert rows(home.data, "SELECT kind, verdict FROM feedback") == [("reaction", "bad")] * 2


# --- when something goes wrong ---------------------------------------------------------------------------


async def test_an_interaction_handed_over_twice_is_answered_once(home: Home) -> None:
    discord = home.discord
    quick = await discord.slash(home.ann, home.general, "chat", text="在吗")
    hand_over_again(discord, quick)
    await home.finished(quick)
    home.model.gate.clear()
    slow = await discord.slash(home.bob, home.general, "chat", text="慢慢想")
    await home.until(lambda: slow.deferred)
    hand_over_again(discord, slow)
    hand_over_again(discord, quick)
    home.model.gate.set()
    await home.finished(slow)
    await home.all_before()
    assert len(home.model.requests) == 2
    assert len(home.seen(home.general)) == 2 and len(quick.answers) == len(slow.answers) == 1


async def test_what_was_thought_about_when_the_program_died_is_answered_after_its_restart(home: Home) -> None:
    discord = home.discord
    words = await discord.says(home.bob, home.general, "我把咖啡洒在键盘上了")
    home.model.gate.clear()
    public = await discord.slash(home.ann, home.general, "chat", text="慢慢想")
    alone = await discord.context_menu(home.bob, home.general, TALK_ABOUT, words)
    await home.until(lambda: public.thinking and alone.thinking)
    await home.program.kill()
    await home.start()
    home.model.gate.set()
    first, second = await home.answer(public), await home.answer(alone)
    assert first.text == "回声:ann：慢慢想" and not first.ephemeral
    assert words.text in second.text and second.ephemeral
    assert home.seen(home.general) == [first.text]


async def test_an_answer_that_comes_too_late_for_discord_goes_where_it_belongs(home: Home) -> None:
    discord, ann, bob = home.discord, home.ann, home.bob
    words = await discord.says(bob, home.general, "我把咖啡洒在键盘上了")
    late = await discord.slash(ann, home.general, "settings")
    late.late()
    (menu,) = await home.replies(discord.direct(ann), 1)
    await home.choose(ann, menu, "settings language")  # and its buttons work there
    home.model.gate.clear()
    public = await discord.slash(ann, home.general, "chat", text="慢慢想")
    alone = await discord.context_menu(bob, home.general, TALK_ABOUT, words)
    await home.until(lambda: public.deferred and alone.deferred)
    public.expire()
    alone.expire()
    home.model.gate.set()
    (talked,) = await home.replies(discord.direct(bob), 1)
    assert talked.text.startswith("回声:") and words.text in talked.text
    await home.until(lambda: "回声:ann：慢慢想" in home.seen(home.general))
    assert not [text for text in home.seen(home.general) if words.text in text]


async def test_what_cannot_go_anywhere_else_does_not_stop_what_is_asked_next(home: Home) -> None:
    discord, bob = home.discord, home.bob
    setup = await discord.slash(bob, home.general, "xinyu setup")
    setup.late()
    cat = home.newcomer("cat")
    discord.closes_dms(cat)
    lost = await discord.slash(cat, home.general, "settings")
    lost.late()
    await home.all_before()
    assert (await home.ask(bob, home.general, "xinyu setup")).ephemeral
    assert (await home.ask(cat, home.general, "settings")).ephemeral
    assert not setup.answers and not lost.answers and home.seen(home.general) == []


async def test_an_answer_whose_reply_got_lost_is_not_said_twice(home: Home) -> None:
    discord = home.discord
    discord.fail_next("POST", r"/callback$", 502, after_effect=True)
    answer = await home.ask(home.ann, home.general, "chat", text="在吗")
    await home.all_before()
    await home.ask(home.ann, home.general, "chat", text="还在吗")
    assert home.seen(home.general) == [answer.text, "回声:ann：还在吗"]


async def test_with_the_database_locked_people_are_told_and_who_is_in_danger_is_not_left_alone(
    home: Home,
) -> None:
    discord, ann, bob = home.discord, home.ann, home.bob
    answer = await home.ask(bob, home.general, "chat", text="在吗")
    with closing(sqlite3.connect(home.data / "xinyu.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        danger = await discord.slash(ann, discord.direct(ann), "chat", text="我想死")
        waiting = await discord.slash(bob, home.general, "settings")
        judged = await discord.context_menu(home.newcomer("cat"), home.general, NOT_GOOD, answer)
        await home.until(lambda: all(one.deferred for one in (danger, waiting, judged)))
        assert all((one.acknowledged_after or SECONDS) < SECONDS for one in (danger, waiting, judged))
        assert (await home.answer(judged)).text == TROUBLE
        assert (await home.answer(danger)).text in PROTOCOL
        assert waiting.thinking
        database.execute("ROLLBACK")
    assert (await home.answer(waiting)).ephemeral, "what was asked is done as soon as it can be"
    await home.until(
        lambda: rows(home.data, "SELECT count(*) FROM deliveries WHERE state = 'sent'") == [(3,)]
    )
    (protocol,) = home.seen(discord.direct(ann))
    assert protocol in PROTOCOL


# --- with a store that stays away -----------------------------------------------------------------------


@dataclass
class AwayInbox:
    """Nothing can be stored, once it is `away`."""

    away: bool = True
    asked: list[IncomingMessage] = field(default_factory=list)

    async def accept(self, message: IncomingMessage) -> Accepted | None:
        self.asked.append(message)
        if self.away:
            raise StoreUnavailable("away")
        return Accepted(1, 1, duplicate=False)

    def overhears(self, platform: Platform, chat_id: str) -> bool:
        return False

    async def note(self, event: PlatformEvent) -> None:
        raise StoreUnavailable("away")


async def test_a_store_that_stays_away_is_told_beside_the_message_pressed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactions, "DEFER_AFTER_SECONDS", 0.05)
    monkeypatch.setattr(interactions, "STORE_SECONDS", 0.5)
    store = await open_store(f"sqlite:///{tmp_path / 'xinyu.db'}", KeyRing(bytes(KEY_BYTES)))
    async with running_discord() as discord:
        ann = discord.user("ann")
        direct = discord.direct(ann)
        with discord.redirected():
            api = DiscordApi(settings := DiscordSettings(discord.token, discord.base_url))
            menu = {language: phrases.commands["menu"] for language, phrases in load_phrases().items()}
            parts = Parts(settings, api, Responses(), load_notices(), menu, load_protocols())
            listening = asyncio.create_task(DiscordGateway(parts).run(AwayInbox(), store))
            try:
                await discord.wait_until(lambda: bool(discord.commands) and bool(discord.gateway.sessions))
                asked = await discord.slash(ann, direct, "settings")
                await discord.wait_until(lambda: asked.deferred)
                await discord.wait_until(lambda: not asked.thinking)
                assert [one.text for one in asked.answers] == [TROUBLE]
                danger = await discord.slash(ann, direct, "chat", text="我想死")
                await discord.wait_until(
                    lambda: any(
                        method == "PATCH" and danger.token in path for method, path, _ in discord.requests
                    )
                )
                (protocol,) = danger.answers
                assert protocol.text in PROTOCOL, "also when the store was given up"
                answer_id = await api.post(
                    direct.id,
                    {"content": "我在", "components": [button(ann, "feedback good", "👍")]},
                    "nonce",
                )
                answer = direct.messages[answer_id]
                pressed = await discord.presses(ann, answer, "👍")
                await discord.wait_until(lambda: bool(pressed.answers))
                assert answer.text == "我在", "what it said before stays"
                assert [(one.text, one.ephemeral) for one in pressed.answers] == [(TROUBLE, True)]
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
                await api.close()
                await store.close()


def button(owner: User, command: str, label: str) -> dict[str, Any]:
    custom_id = f"{owner.id}|1p=|{command}"
    return {
        "type": 1,
        "components": [{"type": 2, "style": 2, "label": label, "custom_id": custom_id}],
    }
