"""What people send the bot in Discord, and what it answers: in private, in servers' channels, threads and posts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from tests.companion import rows, until
from tests.discord_world import DiscordWorld, world_in
from tests.fakes.discord_platform import FORUM, PRIVATE_THREAD, Channel, Guild, Message, User, Voice
from tests.fakes.model_server import Answer

FIRST, SECOND, THIRD = "我听到了，", "你这几天都没怎么睡，", "慢慢说，我在。"


@dataclass
class Home(DiscordWorld):
    """A running bot, and a server with two people."""

    ann: User
    bob: User
    guild: Guild
    general: Channel

    @property
    def call(self) -> str:
        return self.discord.bot.mention

    async def answer(self, channel: Channel) -> Message:
        """The one answer there."""
        (message,) = await self.replies(channel, 1)
        return message

    async def says(self, user: User, channel: Channel, text: str) -> Message:
        return await self.discord.says(user, channel, text)

    async def nothing_more(self) -> None:
        """Everything that was said before this is through: somebody else's answer has come."""
        eve = self.discord.user("eve")
        direct = self.discord.direct(eve)
        await self.discord.says(eve, direct, "在吗")
        await self.replies(direct, 1)

    async def set_aside(self, channel: Channel, by: User) -> None:
        """Its admin sets a channel aside for the bot."""
        menu = await self.discord.slash(by, channel, "xinyu setup")
        await self.until(lambda: bool(menu.answers))
        shown = menu.answers[0]
        await self.discord.selects(by, shown, first_list(shown), "settings channels")
        await self.until(lambda: "settings channels" in first_list(shown))
        said = len(self.discord.messages(channel))
        await self.discord.selects(by, shown, first_list(shown), [channel])
        await self.replies(channel, said + 1)  # everybody there is told


def first_list(message: Message) -> str:
    """The custom id of a message's list."""
    return str(message.components[0]["components"][0]["custom_id"])


def system_prompt(world: DiscordWorld) -> str:
    return str(world.model.requests[-1]["messages"][0]["content"])


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with world_in(tmp_path) as world:
        discord = world.discord
        ann, bob = discord.user("ann"), discord.user("bob")
        guild = discord.guild("home", owner=bob, members=[ann])
        general = discord.channel(guild, "general")
        yield Home(world.program, discord, world.model, ann, bob, guild, general)


# --- where it answers -----------------------------------------------------------------------------


async def test_a_direct_message_is_answered(home: Home) -> None:
    await home.start()
    direct = home.discord.direct(home.ann)
    await home.says(home.ann, direct, "睡不着")
    answer = await home.answer(direct)
    assert answer.text == "回声:睡不着"
    assert home.discord.typing[0][0] == direct.id
    await home.says(home.ann, direct, "还是睡不着")
    assert [one.text for one in await home.replies(direct, 2)][1:] == ["回声:还是睡不着"]


async def test_in_a_server_it_answers_who_calls_it_and_nobody_else(home: Home) -> None:
    await home.start()
    await home.says(home.bob, home.general, "今天好热")
    asked = await home.says(home.ann, home.general, f"{home.call} 你在吗")
    answer = await home.answer(home.general)
    assert answer.text == "回声:ann：你在吗", "it knows who speaks, and heard nobody else"
    assert answer.reference is asked
    await home.says(home.bob, home.general, "我们聊我们的")
    replied = await home.discord.says(home.bob, home.general, "那我呢", reply_to=answer)
    (_, second) = await home.replies(home.general, 2)
    assert second.reference is replied
    assert second.text.endswith("那我呢") and "bob" in second.text
    await home.nothing_more()
    assert len(home.discord.messages(home.general)) == 2


async def test_its_role_and_an_edit_call_it_too(home: Home) -> None:
    await home.start()
    role = next(role for role in home.guild.roles.values() if role.managed_by == home.discord.bot_id)
    await home.says(home.ann, home.general, f"{role.mention} 你在吗")
    assert (await home.answer(home.general)).text == "回声:ann：你在吗"
    said = await home.says(home.bob, home.general, "我也想说说")
    await home.discord.edits(said, f"{home.call} 我也想说说")
    assert (await home.replies(home.general, 2))[1].text.endswith("bob：我也想说说")


async def test_threads_and_posts_are_places_of_their_own(home: Home) -> None:
    await home.start()
    thread = home.discord.thread(home.general, "夜里", owner=home.ann)
    await home.says(home.ann, thread, f"{home.call} 在线程里")
    assert (await home.answer(thread)).text == "回声:ann：在线程里"
    forum = home.discord.channel(home.guild, "forum", FORUM)
    post, _ = await home.discord.forum_post(home.ann, forum, "心事", f"{home.call} 在帖子里")
    assert (await home.answer(post)).text == "回声:ann：在帖子里"
    hidden = home.discord.thread(home.general, "悄悄", owner=home.ann, private=True)
    assert hidden.kind == PRIVATE_THREAD
    await home.discord.invites_to_thread(hidden)
    await home.says(home.ann, hidden, f"{home.call} 悄悄的")
    assert (await home.answer(hidden)).text == "回声:ann：悄悄的"
    window = [str(message["content"]) for message in home.model.requests[-1]["messages"][1:]]
    assert len(window) == 1, "nothing of the other places"


async def test_in_a_channel_set_aside_it_answers_everything(home: Home) -> None:
    await home.start()
    await home.set_aside(home.general, home.bob)
    said = len(home.discord.messages(home.general))
    await home.says(home.ann, home.general, "没人叫你，我就说说")
    answer = (await home.replies(home.general, said + 1))[-1]
    assert answer.text.endswith("ann：没人叫你，我就说说")
    thread = home.discord.thread(home.general, "细说", owner=home.ann)
    await home.says(home.ann, thread, "这里也听吗")
    assert (await home.answer(thread)).text == "回声:ann：这里也听吗"
    other = home.discord.channel(home.guild, "other")
    await home.says(home.ann, other, "这里不听")
    await home.nothing_more()
    assert home.discord.messages(other) == []


async def test_people_in_one_channel_are_kept_apart(home: Home) -> None:
    await home.start()
    await home.says(home.ann, home.general, f"{home.call} 我是来说考试的")
    await home.answer(home.general)
    await home.says(home.bob, home.general, f"{home.call} 我是来说分手的")
    answer = (await home.replies(home.general, 2))[1]
    assert answer.text.endswith("bob：我是来说分手的") and "考试" not in answer.text
    people = rows(home.data, "SELECT count(DISTINCT user_id) FROM chat_messages WHERE role = 'user'")
    assert people == [(2,)]


async def test_what_was_said_in_private_is_not_known_in_a_server(home: Home) -> None:
    await home.start()
    direct = home.discord.direct(home.ann)
    await home.says(home.ann, direct, "别告诉别人：我怀孕了")
    await home.answer(direct)
    await home.says(home.ann, home.general, f"{home.call} 你知道我的事吗")
    await home.answer(home.general)
    asked = str(home.model.requests[-1])
    assert "你知道我的事吗" in asked and "怀孕" not in asked


# --- what people send -----------------------------------------------------------------------------


async def test_replies_carry_what_they_answer(home: Home) -> None:
    await home.start()
    theirs = await home.says(home.bob, home.general, "我觉得人生没什么意义")
    await home.discord.says(home.ann, home.general, f"{home.call} 怎么劝他？", reply_to=theirs)
    answer = await home.answer(home.general)
    assert "我觉得人生没什么意义" in answer.text and "怎么劝他？" in answer.text


async def test_pictures_voice_stickers_and_files_become_words(home: Home) -> None:
    await home.start()
    direct = home.discord.direct(home.ann)
    discord = home.discord
    await discord.says(home.ann, direct, "看", attachments=[("a.png", b"\x89PNG\r\n\x1a\n" + bytes(64))])
    assert "看" in (await home.replies(direct, 1))[0].text and "照片" in str(home.model.requests[-1])
    await discord.says(home.ann, direct, voice=Voice(b"OggS" + bytes(64), seconds=7.4))
    await home.replies(direct, 2)
    assert "语音" in str(home.model.requests[-1]["messages"][-1])
    await discord.says(home.ann, direct, stickers=[discord.sticker("抱抱")])
    assert "抱抱" in (await home.replies(direct, 3))[2].text
    await discord.says(home.ann, direct, attachments=[("message.txt", "写了很长的一段".encode())])
    assert "写了很长的一段" in (await home.replies(direct, 4))[3].text
    await discord.says(home.ann, direct, "<:hug:1234567890> <@&5> 你好")
    assert (await home.replies(direct, 5))[4].text == "回声::hug: @? 你好"


async def test_who_only_calls_it_is_answered(home: Home) -> None:
    await home.start()
    await home.says(home.ann, home.general, home.call)
    assert (await home.answer(home.general)).text == "回声:ann：👋"


async def test_other_bots_and_what_nobody_wrote_is_left_alone(home: Home) -> None:
    await home.start()
    other = home.discord.user("other-bot", bot=True)
    home.discord.member(home.guild, other)
    await home.says(other, home.general, f"{home.call} 你好，我也是机器人")
    home.discord.thread(home.general, "新线程", owner=home.ann)
    await home.nothing_more()
    assert home.discord.messages(home.general) == []


async def test_an_edit_before_the_answer_replaces_what_was_said(home: Home) -> None:
    await home.start()
    direct = home.discord.direct(home.ann)
    home.model.gate.clear()
    said = await home.says(home.ann, direct, "我不高兴")
    await home.model.wait_for_requests(1)
    await home.discord.edits(said, "我很高兴")
    await home.model.wait_for_requests(2)
    home.model.gate.set()
    assert (await home.answer(direct)).text == "回声:我很高兴"


async def test_an_edit_after_the_answer_and_a_links_preview_are_no_new_messages(home: Home) -> None:
    await home.start()
    direct = home.discord.direct(home.ann)
    said = await home.says(home.ann, direct, "https://example.com 你看")
    await home.answer(direct)
    await home.discord.shows_preview(said, {"type": "link", "url": "https://example.com", "title": "x"})
    await home.discord.edits(said, "https://example.com 你看这个")
    await home.nothing_more()
    assert len(home.discord.messages(direct)) == 1
    await home.says(home.ann, direct, "怎么样")
    await home.replies(direct, 2)
    assert "你看这个" in str(home.model.requests[-1])


async def test_what_was_deleted_before_its_turn_is_not_answered(home: Home) -> None:
    await home.start()
    direct = home.discord.direct(home.ann)
    home.model.gate.clear()
    said = await home.says(home.ann, direct, "算了当我没说")
    await home.model.wait_for_requests(1)
    await home.discord.deletes(said)
    await until(lambda: rows(home.data, "SELECT count(*) FROM inbox WHERE state = 'pending'") == [(0,)])
    home.model.gate.set()
    await home.says(home.ann, direct, "在吗")
    await home.replies(direct, 1)
    assert [one.text for one in home.discord.messages(direct)] == ["回声:在吗"]
    assert rows(home.data, "SELECT count(*) FROM inbox WHERE body IS NOT NULL") == [(0,)]


async def test_what_was_deleted_after_its_answer_leaves_the_context(home: Home) -> None:
    await home.start()
    direct = home.discord.direct(home.ann)
    said = await home.says(home.ann, direct, "我的密码是小熊")
    await home.answer(direct)
    await home.says(home.ann, direct, "今天好累")
    await home.replies(direct, 2)
    await home.discord.bulk_deletes([said])
    await until(lambda: rows(home.data, "SELECT count(*) FROM chat_messages WHERE role = 'user'") == [(1,)])
    await home.says(home.ann, direct, "在吗")
    await home.replies(direct, 3)
    asked = str(home.model.requests[-1])
    assert "小熊" not in asked and "今天好累" in asked


async def test_reactions_to_its_answers_are_feedback(home: Home) -> None:
    await home.start()
    await home.says(home.ann, home.general, f"{home.call} 你在吗")
    answer = await home.answer(home.general)
    await home.says(home.bob, home.general, f"{home.call} 我也来了")
    await home.replies(home.general, 2)
    await home.discord.reacts(home.ann, answer, "👍")
    await home.discord.reacts(home.bob, answer, "👎")
    await until(lambda: rows(home.data, "SELECT count(*) FROM feedback") == [(2,)])
    await home.discord.unreacts(home.bob, answer, "👎")
    await until(lambda: rows(home.data, "SELECT count(*) FROM feedback") == [(1,)])


# --- how it answers -------------------------------------------------------------------------------


async def test_an_answer_grows_by_edits_while_it_is_written(home: Home) -> None:
    await home.start()
    direct = home.discord.direct(home.ann)
    home.model.say(FIRST)
    await home.says(home.ann, direct, "睡不着")
    (answer,) = await home.replies(direct, 1)
    assert answer.text == FIRST
    home.model.say(SECOND)
    await home.until(lambda: answer.text == FIRST + SECOND)
    home.model.say(THIRD, None)
    await home.until(lambda: answer.text == FIRST + SECOND + THIRD)
    home.model.pace(paced=False)
    await home.nothing_more()
    assert home.discord.messages(direct) == [answer]
    assert home.discord.too_many == 0


async def test_in_a_server_too_and_what_it_shows_pings_nobody(home: Home) -> None:
    await home.start()
    home.model.say("@everyone 我听到了，")
    await home.says(home.ann, home.general, f"{home.call} 睡不着")
    (answer,) = await home.replies(home.general, 1)
    home.model.say(f"{home.bob.mention} 也在。", None)
    await home.until(lambda: answer.text.endswith("也在。"))
    assert not answer.pings


async def test_nobody_can_make_it_ping_anybody(home: Home) -> None:
    await home.start()
    role = home.discord.role(home.guild, "all", members=[home.ann, home.bob], mentionable=True)
    home.discord.allow(home.guild, permissions="mention_everyone")
    said = f"@everyone @here {role.mention} {home.bob.mention}"
    home.model.behave(Answer(said), Answer(said))
    await home.says(home.ann, home.general, f"{home.call} 跟我念")
    answer = await home.answer(home.general)
    assert answer.text == said and not answer.pings
    chat = await home.discord.slash(home.ann, home.general, "chat", text="跟我念")
    await home.until(lambda: bool(chat.answers))
    assert chat.answers[0].text == said and not chat.answers[0].pings


async def test_a_long_answer_comes_in_pieces_with_code_fences_whole(home: Home) -> None:
    await home.start()
    direct = home.discord.direct(home.ann)
    prose = "你慢慢说，我听着。" * 150
    code = "```python\n" + "\n".join(f"print({number})" for number in range(120)) + "\n```"
    home.model.behave(Answer(f"{prose}\n\n{code}\n\n就是这样。"))
    await home.says(home.ann, direct, "给我看看")
    pieces = await home.replies(direct, 2)
    await home.nothing_more()
    pieces = home.discord.messages(direct)
    assert all(len(piece.text) <= 2000 and piece.text.count("```") % 2 == 0 for piece in pieces)
    assert any(code in piece.text for piece in pieces), "a fence that fits is in one piece"
    assert "".join(piece.text for piece in pieces).replace("\n", "") == f"{prose}{code}就是这样。".replace(
        "\n", ""
    )


async def test_danger_is_answered_at_once_wherever_it_is_said(home: Home) -> None:
    await home.start()
    await home.says(home.ann, home.general, f"{home.call} 我不想活了")
    answer = await home.answer(home.general)
    assert "110" in answer.text or "12356" in answer.text
    assert len(home.model.requests) == 0


async def test_two_servers_have_two_personas(home: Home) -> None:
    cara = home.discord.user("cara")
    second = home.discord.guild("second", owner=cara, members=[home.ann])
    lounge = home.discord.channel(second, "lounge")
    await home.start()
    menu = await home.discord.slash(cara, lounge, "xinyu setup")
    await home.until(lambda: bool(menu.answers))
    shown = menu.answers[0]
    await home.discord.selects(cara, shown, first_list(shown), "settings persona")
    await home.until(lambda: "settings persona=night" in str(shown.components))
    await home.discord.selects(cara, shown, first_list(shown), "settings persona=night")
    await home.until(lambda: "settings persona=night" not in str(shown.components))
    await home.says(home.ann, home.general, f"{home.call} 在吗")
    await home.answer(home.general)
    first = system_prompt(home)
    await home.says(home.ann, lounge, f"{home.call} 在吗")
    await home.answer(lounge)
    assert "夜灯" in system_prompt(home) and "夜灯" not in first


async def test_a_sign_that_is_given_up_while_discord_says_stop_stops_nothing_else(home: Home) -> None:
    """The library never lets go of a global limit whose request was cancelled: all others would wait for ever."""
    await home.start()
    direct = home.discord.direct(home.ann)
    stop = {"message": "You are being rate limited.", "retry_after": 3.0, "global": True}
    home.discord.fail_next("POST", "/typing", 429, body=stop, headers={"Via": "1.1 google"})
    home.model.gate.clear()
    await home.says(home.ann, direct, "睡不着")
    await home.until(lambda: home.discord.too_many > 0 or "/typing" in str(home.discord.requests))
    home.model.gate.set()  # the answer is there before the three seconds are over
    assert (await home.answer(direct)).text == "回声:睡不着"


# --- several shards -------------------------------------------------------------------------------


async def test_every_shard_is_listened_to(tmp_path: Path) -> None:
    async with world_in(tmp_path, shards=2) as world:
        discord = world.discord
        ann = discord.user("ann")
        channels = []
        for shard in range(2):
            guild = discord.guild(f"guild {shard}", owner=ann, shard=shard)
            channels.append(discord.channel(guild, "general"))
        await world.start()
        for channel in channels:
            await discord.says(ann, channel, f"{discord.bot.mention} 在吗")
        for channel in channels:
            assert (await world.replies(channel, 1))[0].text == "回声:ann：在吗"
