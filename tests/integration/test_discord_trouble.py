"""Discord on its bad days: refused tokens, missing permissions, rate limits, broken connections, gateways that drop.

Through all of it the other channels go on, and whoever wrote is answered once each, in the order in which they wrote.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.companion import rows, until
from tests.discord_world import DiscordWorld, world_in
from tests.fakes import discord_gateway as gateways
from tests.fakes.discord_platform import Channel, FakeDiscord, Guild, Message, User
from tests.fakes.model_server import CUT

POSTS = r"^/channels/\d+/messages$"
ECHO = "回声:"
PAGE = "<html>upstream connect error</html>"
LONG_AGO = "2026-01-01 00:00:00.000000"
CLOUDFLARE: dict[str, Any] = {
    "body": "<html>error code: 1015</html>",
    "headers": {"Via": "", "Retry-After": "1"},
}
EVERYWHERE: dict[str, Any] = {
    "body": {"message": "You are being rate limited.", "retry_after": 0.3, "global": True},
    "headers": {"X-RateLimit-Global": "true", "X-RateLimit-Scope": "global"},
}
FOR_LONG: dict[str, Any] = {
    "body": {"message": "You are being rate limited.", "retry_after": 600.0, "global": False}
}


def assert_once(world: DiscordWorld, channel: Channel, *said: str) -> None:
    """Each of these was answered there, once, in this order, and nothing else was."""
    together = "\n".join(message.text for message in world.discord.messages(channel))
    assert re.findall("|".join(map(re.escape, said)) or "$^", together) == list(said), together
    assert together.count(ECHO) <= len(said), together


async def until_answered(world: DiscordWorld, channel: Channel, text: str) -> None:
    await world.until(lambda: any(text in message.text for message in world.discord.messages(channel)))


async def until_thinking(world: DiscordWorld, turns: int) -> None:
    await until(lambda: world.model.answering >= turns)


async def until_logged(world: DiscordWorld, *words: str) -> None:
    """A line of the log with all of these."""
    await until(lambda: any(all(word in line for word in words) for line in world.log.splitlines()))


async def until_detail(world: DiscordWorld, detail: str) -> dict[str, Any]:
    """How the channel is, as soon as /health has this word for it."""
    async with asyncio.timeout(20.0):
        while (found := (await world.health())["discord"])["detail"] != detail:
            await asyncio.sleep(0.02)  # another process has no event to wait on
    state: dict[str, Any] = found
    return state


async def asked_on_the_web(world: DiscordWorld, text: str) -> str:
    async with (
        aiohttp.ClientSession(world.program.url) as session,
        session.post("/chat", json={"message": text, "user_id": "web"}) as response,
    ):
        reply: str = (await response.json())["reply"]
        return reply


async def owed(world: DiscordWorld, count: int, state: str = "pending") -> None:
    query = "SELECT reason FROM deliveries WHERE state = ? AND attempts > 0"
    await until(lambda: len(rows(world.data, query, state)) >= count)


async def settled(world: DiscordWorld) -> None:
    """It knows of everything it answered that it did."""
    waiting = (
        "SELECT 1 FROM inbox WHERE state = 'pending' UNION SELECT 1 FROM deliveries WHERE state = 'pending'"
    )
    await until(lambda: not rows(world.data, waiting))


async def restart_when_due(world: DiscordWorld) -> None:
    """Start again, after as long as anything was put off."""
    await world.program.stop()
    with closing(sqlite3.connect(world.data / "xinyu.db")) as database:
        database.execute("UPDATE deliveries SET next_attempt_at = ? WHERE state = 'pending'", (LONG_AGO,))
        database.commit()
    await world.start()


def home_of(discord: FakeDiscord, owner: User, *members: User) -> Guild:
    """A server that the bot was welcomed in long ago."""
    guild = discord.guild("home", owner=owner, members=members)
    guild.members[discord.bot_id].joined_at -= timedelta(days=20)
    return guild


def first_list(message: Message) -> str:
    """The custom id of a message's list."""
    return str(message.components[0]["components"][0]["custom_id"])


async def set_aside(world: DiscordWorld, channel: Channel, by: User) -> None:
    """Its admin sets a channel aside for the bot, and everybody there is told."""
    menu = await world.discord.slash(by, channel, "xinyu setup")
    await world.until(lambda: bool(menu.answers))
    shown = menu.answers[0]
    await world.discord.selects(by, shown, first_list(shown), "settings channels")
    await world.until(lambda: "settings channels" in first_list(shown))
    said = len(world.discord.messages(channel))
    await world.discord.selects(by, shown, first_list(shown), [channel])
    await world.replies(channel, said + 1)


# --- tokens and intents --------------------------------------------------------------------------


async def test_without_the_content_intent_it_answers_who_calls_it_or_writes_in_private(
    tmp_path: Path,
) -> None:
    async with world_in(tmp_path, message_content=False) as world:
        discord = world.discord
        ann = discord.user("ann")
        guild = home_of(discord, ann)
        general, direct = discord.channel(guild, "general"), discord.direct(ann)
        await world.start()
        assert (await until_detail(world, "without_message_content"))["state"] == "degraded"
        assert "discord_without_message_content" in world.log
        await discord.says(ann, direct, "睡不着")
        await until_answered(world, direct, "睡不着")
        await set_aside(world, general, ann)
        told = len(discord.messages(general))
        await discord.says(ann, general, "没人看得到")
        await discord.says(ann, general, f"{discord.bot.mention} 看得到吗")
        await until_answered(world, general, "看得到吗")
        assert len(discord.messages(general)) == told + 1
        assert "没人" not in "".join(message.text for message in discord.messages(general))
        assert [bool(asked & gateways.MESSAGE_CONTENT) for asked in discord.gateway.intents] == [False]
        assert discord.gateway.closed == [4014]


async def test_a_wrong_token_leaves_the_web_alone_and_the_right_one_answers(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        right = world.program.settings["DISCORD_BOT_TOKEN"]
        wrong = right[:-6] + "wrongs"
        world.program.settings["DISCORD_BOT_TOKEN"] = wrong
        await world.program.start()
        await until_logged(world, "discord_not_listening", "refused_token")
        assert await until_detail(world, "refused_token") == {"state": "down", "detail": "refused_token"}
        assert await asked_on_the_web(world, "在吗") == f"{ECHO}在吗"
        assert world.discord.requests == [("GET", "/users/@me", 401)], "it is not asked again and again"
        assert "Traceback" not in world.log
        assert wrong not in world.log
        await world.program.stop()
        world.program.settings["DISCORD_BOT_TOKEN"] = right
        await world.start()
        direct = world.discord.direct(world.discord.user("ann"))
        assert direct.recipient is not None
        await world.discord.says(direct.recipient, direct, "现在呢")
        await until_answered(world, direct, "现在呢")


async def test_what_is_owed_when_the_token_is_revoked_comes_with_the_new_one(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        ann, bob = discord.user("ann"), discord.user("bob")
        ann_direct, bob_direct = discord.direct(ann), discord.direct(bob)
        await world.start()
        await discord.says(bob, bob_direct, "早")
        await until_answered(world, bob_direct, "早")
        world.model.gate.clear()
        await discord.says(ann, ann_direct, "你还在吗")
        await until_thinking(world, 1)
        token = discord.revoke_token()
        await until_detail(world, "refused_token")
        await until_logged(world, "discord_not_listening", "refused_token")
        world.model.gate.set()
        await owed(world, 1)
        await until_logged(world, "delivery_failed", "refused_token")
        assert await asked_on_the_web(world, "在吗") == f"{ECHO}在吗"
        await discord.says(bob, bob_direct, "没人听见")
        assert discord.messages(ann_direct) == []
        world.program.settings["DISCORD_BOT_TOKEN"] = token
        await restart_when_due(world)
        await until_answered(world, ann_direct, "你还在吗")
        await until_answered(world, bob_direct, "没人听见")
        assert_once(world, ann_direct, "你还在吗")
        assert_once(world, bob_direct, "早", "没人听见")
        assert (await world.health())["discord"] == {"state": "ok", "detail": "ok"}


# --- places that are closed ----------------------------------------------------------------------


async def test_where_it_may_not_speak_the_answer_waits_until_it_may(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        ann, bob = discord.user("ann"), discord.user("bob")
        guild = home_of(discord, bob, ann)
        muted, hidden, general = (discord.channel(guild, name) for name in ("muted", "hidden", "general"))
        await world.start()
        world.model.gate.clear()
        for channel in (muted, hidden, general):
            await discord.says(ann, channel, f"{discord.bot.mention} 在{channel.name}吗")
        await until_thinking(world, 3)
        discord.deny(muted, permissions="send_messages")
        discord.deny(hidden, permissions="view_channel")
        world.model.gate.set()
        await until_answered(world, general, "在general吗")
        await owed(world, 2)
        await until_logged(world, "delivery_failed", "no_permission")
        await discord.says(ann, general, f"{discord.bot.mention} 还在吗")
        await until_answered(world, general, "还在吗")
        discord.allow(muted, permissions="send_messages")
        discord.allow(hidden, permissions="view_channel")
        await restart_when_due(world)
        for channel in (muted, hidden):
            await until_answered(world, channel, f"在{channel.name}吗")
            assert_once(world, channel, f"在{channel.name}吗")
        assert_once(world, general, "在general吗", "还在吗")


async def test_what_is_owed_in_a_deleted_channel_or_thread_is_given_up(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        ann = discord.user("ann")
        guild = home_of(discord, ann)
        doomed, general = discord.channel(guild, "doomed"), discord.channel(guild, "general")
        thread = discord.thread(doomed, "夜里", owner=ann)
        await world.start()
        world.model.gate.clear()
        for channel in (doomed, thread, general):
            await discord.says(ann, channel, f"{discord.bot.mention} 在{channel.name}吗")
        await until_thinking(world, 3)
        await discord.deletes_channel(doomed)
        world.model.gate.set()
        await until_answered(world, general, "在general吗")
        dead = "SELECT reason FROM deliveries WHERE state = 'dead'"
        await until(lambda: len(rows(world.data, dead)) == 2)
        assert set(rows(world.data, dead)) == {("recipient_gone",)}
        await settled(world)
        assert "Traceback" not in world.log


async def test_who_closed_their_direct_messages_is_answered_when_they_write_again(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        ann, bob = discord.user("ann"), discord.user("bob")
        ann_direct, bob_direct = discord.direct(ann), discord.direct(bob)
        await world.start()
        world.model.gate.clear()
        await discord.says(ann, ann_direct, "我先走了")
        await discord.says(bob, bob_direct, "我还在")
        await until_thinking(world, 2)
        discord.closes_dms(ann)
        world.model.gate.set()
        await until_answered(world, bob_direct, "我还在")
        await until(
            lambda: bool(rows(world.data, "SELECT 1 FROM deliveries WHERE reason = 'recipient_gone'"))
        )
        assert discord.messages(ann_direct) == []
        discord.closes_dms(ann, closed=False)
        await discord.says(ann, ann_direct, "我回来了")
        await until_answered(world, ann_direct, "我回来了")
        assert_once(world, ann_direct, "我回来了")


# --- rate limits and broken answers --------------------------------------------------------------


async def all_say(world: DiscordWorld, people: list[Channel], word: str, turns: int = 2) -> None:
    for turn in range(turns):
        for direct in people:
            assert direct.recipient is not None
            await world.discord.says(direct.recipient, direct, f"{word}{turn}")
        for direct in people:
            await until_answered(world, direct, f"{word}{turn}")


def some_people(discord: FakeDiscord, count: int) -> list[Channel]:
    return [discord.direct(discord.user(f"person{number}")) for number in range(count)]


@pytest.mark.parametrize(
    "trouble",
    [{}, EVERYWHERE, CLOUDFLARE, {"headers": {"Retry-After": "nonsense"}}],
    ids=["of a route", "of all", "by Cloudflare", "that says nothing"],
)
async def test_a_rate_limit_delays_and_neither_loses_nor_doubles(
    tmp_path: Path, trouble: dict[str, Any]
) -> None:
    async with world_in(tmp_path) as world:
        people = some_people(world.discord, 3)
        await world.start()
        world.discord.fail_next("POST", POSTS, 429, times=4, **trouble)
        await all_say(world, people, "说")
        for direct in people:
            assert_once(world, direct, "说0", "说1")
        assert world.discord.too_many >= 4
        assert (await world.health())["discord"]["state"] == "ok"


async def test_a_rate_limit_for_ten_minutes_holds_that_chat_alone(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        held, free = some_people(world.discord, 2)
        assert held.recipient is not None and free.recipient is not None
        await world.start()
        world.discord.fail_next("POST", rf"^/channels/{held.id}/messages$", 429, times=1, **FOR_LONG)
        await world.discord.says(held.recipient, held, "等十分钟")
        await owed(world, 1)
        await until_logged(world, "delivery_failed", "rate_limited")
        await world.discord.says(free.recipient, free, "不用等")
        await until_answered(world, free, "不用等")
        assert world.discord.messages(held) == []
        await restart_when_due(world)
        await until_answered(world, held, "等十分钟")
        assert_once(world, held, "等十分钟")


@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
async def test_errors_and_cut_connections_neither_lose_nor_double(tmp_path: Path, after_effect: bool) -> None:
    """Before or after the message was posted, where its nonce is what keeps it single."""
    troubles: list[tuple[int, str | None]] = [(500, None), (502, None), (503, None), (503, PAGE), (0, None)]
    async with world_in(tmp_path, rates_on=False) as world:
        people = some_people(world.discord, len(troubles))
        await world.start()
        for direct, (status, page) in zip(people, troubles, strict=True):
            posts = rf"^/channels/{direct.id}/messages$"
            world.discord.fail_next("POST", posts, status, body=page, times=2, after_effect=after_effect)
        await all_say(world, people, "说", turns=3)  # what is sent again comes before what is said next
        assert not world.discord.api.trouble.failures
        for direct in people:
            assert_once(world, direct, "说0", "说1", "说2")


async def test_an_answer_whose_preview_got_lost_on_its_way_is_there_once(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        (direct,) = some_people(world.discord, 1)
        assert direct.recipient is not None
        await world.start()
        world.model.pace()
        world.discord.fail_next("POST", POSTS, 0, after_effect=True)
        await world.discord.says(direct.recipient, direct, "慢慢说")
        world.model.say("我在听，")
        await world.replies(direct, 1)
        world.model.say("你慢慢说。", None)
        await until_answered(world, direct, "我在听，你慢慢说。")
        world.model.pace(False)
        await world.discord.says(direct.recipient, direct, "好")
        await until_answered(world, direct, f"{ECHO}好")
        assert [message.text for message in world.discord.messages(direct)] == [
            "我在听，你慢慢说。",
            f"{ECHO}好",
        ]


async def test_a_model_that_breaks_off_after_a_preview_leaves_one_answer(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        (direct,) = some_people(world.discord, 1)
        assert direct.recipient is not None
        await world.start()
        world.model.pace()
        await world.discord.says(direct.recipient, direct, "慢慢说")
        world.model.say("我在听，")
        await world.replies(direct, 1)
        world.model.say(CUT)
        world.model.pace(False)
        await world.discord.says(direct.recipient, direct, "好")
        await until_answered(world, direct, "好")
        assert len([one for one in world.discord.messages(direct) if one.text == "我在听，"]) == 0


# --- the gateway ---------------------------------------------------------------------------------

Drop = Callable[[FakeDiscord], Awaitable[None]]


def closing_with(code: int) -> Drop:
    async def drop(discord: FakeDiscord) -> None:
        await discord.drop(code)

    return drop


async def invalid(discord: FakeDiscord) -> None:
    await discord.invalidate_sessions(resumable=False)


async def resumably_invalid(discord: FakeDiscord) -> None:
    await discord.invalidate_sessions(resumable=True)


async def away(discord: FakeDiscord) -> None:
    """Its handshakes fail, until somebody sets that right."""
    discord.gateway.refuse = True
    await discord.drop()


RESUMED: dict[str, Drop] = {
    **{str(code): closing_with(code) for code in (1000, 1001, 1006, 4000)},
    "op 7": FakeDiscord.reconnect,
    "op 9": resumably_invalid,
}
BEGUN_ANEW: dict[str, Drop] = {
    "4007": closing_with(4007),
    "op 9": invalid,
    "a gateway that is away": away,
}


async def test_after_any_drop_that_can_be_resumed_all_is_answered_once_and_in_order(tmp_path: Path) -> None:
    async with world_in(tmp_path, rates_on=False) as world:
        discord = world.discord
        ann = discord.user("ann")
        guild = home_of(discord, ann)
        await world.start()
        await until_detail(world, "ok")
        for kind, drop in RESUMED.items():
            resumed = discord.gateway.resumed
            general, direct = discord.channel(guild, "general"), discord.direct(discord.user("somebody"))
            assert direct.recipient is not None
            await drop(discord)
            for number in range(3):
                await discord.says(direct.recipient, direct, f"第{number}句")
                await discord.says(ann, general, f"{discord.bot.mention} 第{number}句")
            for channel in (direct, general):
                await until_answered(world, channel, "第2句")
                assert_once(world, channel, "第0句", "第1句", "第2句")
            assert (discord.gateway.identified, discord.gateway.resumed) == (1, resumed + 1), kind
        await until_detail(world, "ok")
        assert world.log.count("reason=reconnecting") == len(RESUMED)
        assert "Traceback" not in world.log


@pytest.mark.parametrize("kind", BEGUN_ANEW)
async def test_what_a_lost_session_did_not_bring_is_found_and_answered_once_and_in_order(
    tmp_path: Path, kind: str
) -> None:
    async with world_in(tmp_path, rates_on=False) as world:
        discord = world.discord
        ann = discord.user("ann")
        guild = home_of(discord, ann)
        general, mine = discord.channel(guild, "general"), discord.channel(guild, "mine")
        direct = discord.direct(ann)
        await world.start()
        await set_aside(world, mine, ann)
        places = ((direct, ""), (general, f"{discord.bot.mention} "), (mine, ""))
        for channel, prefix in places:
            await discord.says(ann, channel, f"{prefix}从前")
            await until_answered(world, channel, "从前")
        await BEGUN_ANEW[kind](discord)
        for number in range(2):
            for channel, prefix in places:
                await discord.says(ann, channel, f"{prefix}第{number}句")
        if discord.gateway.refuse:
            await until_logged(world, "discord_not_listening", "reconnecting")
            discord.gateway.refuse = False
        await world.until(lambda: discord.gateway.identified == 2)
        for channel, prefix in places:
            await discord.says(ann, channel, f"{prefix}后来")
        for channel, _ in places:
            await until_answered(world, channel, "后来")
            assert_once(world, channel, "从前", "第0句", "第1句", "后来")
        await until_detail(world, "ok")


async def test_a_burst_while_the_gateway_reconnects_is_answered_whole(tmp_path: Path) -> None:
    async with world_in(tmp_path, rates_on=False) as world:
        discord = world.discord
        people = some_people(discord, 12)
        guild = home_of(discord, discord.user("owner"))
        channels = [discord.channel(guild, f"room{number}") for number in range(4)]
        await world.start()
        await all_say(world, people, "从前", turns=1)
        for rebegins in (False, True):
            discord.gateway.refuse = rebegins
            word = "重连" if rebegins else "续上"
            await discord.drop()
            for number in range(4):
                for direct in people:
                    assert direct.recipient is not None
                    await discord.says(direct.recipient, direct, f"{word}{number}")
                for channel in channels:
                    text = f"{discord.bot.mention} {word}{number}"
                    await discord.says(guild.owner, channel, text)
            discord.gateway.refuse = False
            for channel in (*people, *channels):
                await until_answered(world, channel, f"{word}3")
        said = [f"{word}{number}" for word in ("续上", "重连") for number in range(4)]
        for direct in people:
            assert_once(world, direct, "从前0", *said)
        for channel in channels:
            assert_once(world, channel, *said)


@pytest.mark.slow
async def test_a_gateway_that_acknowledges_no_heartbeat_is_left(tmp_path: Path) -> None:
    """The library waits a minute for any sign of life."""
    async with world_in(tmp_path, heartbeat_seconds=5.0) as world:
        (direct,) = some_people(world.discord, 1)
        assert direct.recipient is not None
        await world.start()
        await all_say(world, [direct], "从前", turns=1)
        resumed = world.discord.gateway.resumed
        world.discord.gateway.deaf = True
        await world.discord.wait_until(lambda: world.discord.gateway.resumed > resumed, seconds=100)
        world.discord.gateway.deaf = False
        await all_say(world, [direct], "后来", turns=1)
        assert_once(world, direct, "从前0", "后来0")


async def test_a_discord_that_cannot_be_reached_at_the_start_is_found_later(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        (direct,) = some_people(discord, 1)
        await discord.go_away()
        await world.program.start()
        await until_logged(world, "discord_not_listening", "unreachable")
        assert (await world.health())["discord"]["state"] == "down"
        assert await asked_on_the_web(world, "在吗") == f"{ECHO}在吗"
        discord.fail_next("GET", "^/users/@me$", 503)
        discord.fail_next("GET", "^/gateway/bot$", 503)
        await discord.come_back()
        await until_detail(world, "ok")
        await all_say(world, [direct], "说", turns=1)
        assert_once(world, direct, "说0")
        assert "Traceback" not in world.log


async def test_a_server_that_is_away_for_a_while_keeps_its_settings(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        ann = discord.user("ann")
        guild = home_of(discord, ann)
        mine = discord.channel(guild, "mine")
        await world.start()
        await set_aside(world, mine, ann)
        told = discord.messages(mine)
        await discord.outage(guild)
        await discord.outage_ends(guild)
        await discord.says(ann, mine, "还记得这里吗")
        await until_answered(world, mine, "还记得这里吗")
        await settled(world)
        await discord.outage(guild)
        await world.program.kill()
        await world.start()  # it is away at the start, too
        await until_detail(world, "ok")
        await discord.outage_ends(guild)
        await discord.says(ann, mine, "现在呢")
        await until_answered(world, mine, "现在呢")
        assert discord.messages(mine)[: len(told)] == told
        assert len(discord.messages(mine)) == len(told) + 2, "nobody is welcomed again"


async def test_what_was_missed_in_a_server_that_is_away_at_the_start_is_found_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        ann = discord.user("ann")
        guild = home_of(discord, ann)
        general = discord.channel(guild, "general")
        await world.start()
        await until_detail(world, "ok")
        await world.program.kill()
        await discord.says(ann, general, f"{discord.bot.mention} 你在吗")
        await discord.outage(guild)
        await world.start()
        await until_detail(world, "ok")
        await discord.outage_ends(guild)
        await discord.says(ann, general, f"{discord.bot.mention} 现在呢")
        await until_answered(world, general, "现在呢")
        assert_once(world, general, "你在吗", "现在呢")
