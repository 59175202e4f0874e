"""The fake of Discord is believed because discord.py itself, unchanged, gets along with it and is refused by it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import discord
import pytest
import pytest_asyncio
from discord import app_commands

from tests.fakes.discord_platform import (
    PRIVATE_THREAD,
    FakeDiscord,
    NotOffered,
    User,
    running_discord,
)

CONTENT_FREE = discord.Intents(guilds=True, guild_messages=True, dm_messages=True, reactions=True)
INTENTS = discord.Intents(
    guilds=True, guild_messages=True, dm_messages=True, message_content=True, reactions=True
)


class Bot(discord.AutoShardedClient):
    """Notes what it is told; what it does about it is up to the test."""

    def __init__(self, fake: FakeDiscord, intents: discord.Intents = INTENTS, **options: Any) -> None:
        options = {"chunk_guilds_at_startup": False, "guild_ready_timeout": 0.1, **options}
        super().__init__(intents=intents, max_messages=None, **options)
        self.fake = fake
        self.tree = app_commands.CommandTree(self)
        self.ready = asyncio.Event()
        self.resumed = asyncio.Event()
        self.heard: list[discord.Message] = []
        self.notices: list[discord.MessageType] = []
        """Of the messages that Discord wrote."""
        self.events: list[tuple[str, Any]] = []
        self.answer: Callable[[discord.Message], Awaitable[None]] | None = None

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Without the five seconds that are due to the real one."""

    def note(self, event: str, payload: Any = None) -> None:
        self.events.append((event, payload))
        self.fake.stirred()

    def noted(self, event: str) -> list[Any]:
        return [payload for name, payload in self.events if name == event]

    async def on_ready(self) -> None:
        self.ready.set()
        self.note("ready")

    async def on_shard_resumed(self, shard: int) -> None:
        self.resumed.set()
        self.note("resumed", shard)

    async def on_message(self, message: discord.Message) -> None:
        if message.author == self.user:
            return
        if message.type not in (discord.MessageType.default, discord.MessageType.reply):
            self.notices.append(message.type)
            return
        self.heard.append(message)
        if self.answer is not None:
            await self.answer(message)
        self.fake.stirred()

    async def on_raw_message_edit(self, payload: discord.RawMessageUpdateEvent) -> None:
        self.note("edit", payload)

    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        self.note("delete", payload)

    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        self.note("bulk", payload)

    async def on_raw_reaction_add(self, payload: discord.RawReactionActionEvent) -> None:
        self.note("react", payload)

    async def on_raw_reaction_remove(self, payload: discord.RawReactionActionEvent) -> None:
        self.note("unreact", payload)

    async def on_guild_join(self, guild: discord.Guild) -> None:
        self.note("join", guild)

    async def on_guild_remove(self, guild: discord.Guild) -> None:
        self.note("leave", guild)

    async def on_guild_available(self, guild: discord.Guild) -> None:
        self.note("available", guild)

    async def on_guild_unavailable(self, guild: discord.Guild) -> None:
        self.note("unavailable", guild)

    async def on_raw_reaction_clear(self, payload: discord.RawReactionClearEvent) -> None:
        self.note("clear", payload)

    async def on_guild_channel_delete(self, channel: Any) -> None:
        self.note("channel-delete", channel)

    async def on_thread_create(self, thread: discord.Thread) -> None:
        self.note("thread", thread)

    async def on_thread_join(self, thread: discord.Thread) -> None:
        self.note("let-in", thread)


@dataclass
class Place:
    """A fake with somebody in it."""

    fake: FakeDiscord
    user: User = field(init=False)

    def __post_init__(self) -> None:
        self.user = self.fake.user("晚晚")


@asynccontextmanager
async def connected(bot: Bot) -> AsyncIterator[Bot]:
    task = asyncio.create_task(bot.start(bot.fake.token))
    ready = asyncio.create_task(bot.ready.wait())
    try:
        done, _ = await asyncio.wait([task, ready], timeout=15, return_when=asyncio.FIRST_COMPLETED)
        assert ready in done, task.exception() if task.done() else "never ready"
        yield bot
    finally:
        ready.cancel()
        await bot.close()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 5)


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    async with running_discord() as fake:
        with fake.redirected():
            yield Place(fake)


async def test_a_direct_message_is_heard_and_answered(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        assert bot.application_id == fake.application_id
        assert fake.gateway.connections[0].compressed

        async def answer(message: discord.Message) -> None:
            async with message.channel.typing():
                await message.reply("我在。", mention_author=False)

        bot.answer = answer
        said = await fake.says(place.user, channel, "睡不着")
        await fake.wait_until(lambda: bool(fake.messages(channel)))
        [message] = fake.messages(channel)
        assert (message.text, message.reference) == ("我在。", said)
        assert not message.pings
        assert fake.typing[0][0] == channel.id
        assert bot.heard[0].content == "睡不着"
        assert bot.heard[0].guild is None


async def test_a_server_message_that_mentions_the_bot(place: Place) -> None:
    fake = place.fake
    guild = fake.guild("小屋", owner=place.user)
    channel = fake.channel(guild, "闲聊")
    async with connected(Bot(fake)) as bot:
        await fake.says(
            place.user, channel, f"{fake.bot.mention} 在吗", attachments=[("猫 a.png", b"\x89PNG")]
        )
        await fake.wait_until(lambda: bool(bot.heard))
        [heard] = bot.heard
        assert bot.user in heard.mentions
        assert isinstance(heard.author, discord.Member)
        assert heard.guild is not None and heard.guild.name == "小屋"
        assert await heard.attachments[0].read() == b"\x89PNG"
        await heard.channel.send(file=discord.File(io.BytesIO(b"hi"), "a.txt"), content="给你")
        assert [(a.name, a.content) for a in fake.messages(channel)[0].attachments] == [("a.txt", b"hi")]


async def test_without_message_content_servers_are_shown_empty(place: Place) -> None:
    fake = place.fake
    channel = fake.channel(fake.guild("小屋", owner=place.user), "闲聊")
    async with connected(Bot(fake, CONTENT_FREE)) as bot:
        await fake.says(place.user, channel, "路过", attachments=[("a.txt", b"a")])
        await fake.says(place.user, channel, f"{fake.bot.mention} 在吗")
        await fake.says(place.user, fake.direct(place.user), "悄悄话")
        await fake.wait_until(lambda: len(bot.heard) == 3)
        assert [message.content for message in bot.heard] == ["", f"{fake.bot.mention} 在吗", "悄悄话"]
        assert bot.heard[0].attachments == []


async def test_a_dropped_connection_resumes_and_hears_what_it_missed(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        fake.gateway.refuse = True
        await fake.gateway.drop()
        await fake.wait_until(lambda: not fake.gateway.connections)
        await fake.says(place.user, channel, "错过的")
        fake.gateway.refuse = False
        await fake.wait_until(lambda: bool(bot.heard))
        assert bot.heard[0].content == "错过的"
        await fake.wait_until(lambda: bool(bot.noted("resumed")))
        assert fake.gateway.identified == 1


@pytest.mark.parametrize("code", [1000, 1001, 4000, 1006])
async def test_every_way_a_connection_ends_can_be_resumed(place: Place, code: int) -> None:
    fake = place.fake
    async with connected(Bot(fake)) as bot:
        await fake.gateway.drop(code)
        await fake.says(place.user, fake.direct(place.user), "还在吗")
        await fake.wait_until(lambda: bool(bot.heard) and bool(bot.noted("resumed")))
        assert (fake.gateway.identified, fake.gateway.resumed) == (1, 1)


async def test_op_7_and_a_resumable_op_9_resume(place: Place) -> None:
    fake = place.fake
    async with connected(Bot(fake)):
        await fake.gateway.reconnect()
        await fake.wait_until(lambda: fake.gateway.resumed == 1)
        await fake.gateway.invalidate(True)
        await fake.wait_until(lambda: fake.gateway.resumed == 2)
        assert fake.gateway.identified == 1


async def test_an_invalid_session_identifies_anew(place: Place) -> None:
    fake = place.fake
    async with connected(Bot(fake)) as bot:
        await fake.gateway.invalidate(False)
        await fake.wait_until(lambda: fake.gateway.identified == 2)
        await fake.wait_until(lambda: len(bot.noted("ready")) == 2)
        await fake.says(place.user, fake.direct(place.user), "新的开始")
        await fake.wait_until(lambda: bool(bot.heard))
        assert fake.gateway.resumed == 0


async def test_a_forgotten_session_cannot_be_resumed(place: Place) -> None:
    fake = place.fake
    async with connected(Bot(fake)):
        fake.gateway.sessions.clear()
        await fake.gateway.drop(4000)
        await fake.wait_until(lambda: fake.gateway.identified == 2)


@pytest.mark.parametrize("code", [4007, 4009])
async def test_a_session_that_timed_out_is_begun_anew(place: Place, code: int) -> None:
    fake = place.fake
    async with connected(Bot(fake)):
        await fake.drop(code)
        await fake.wait_until(lambda: fake.gateway.identified == 2)
        assert fake.gateway.resumed == 0


async def test_discord_goes_away_and_comes_back(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        await fake.go_away()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", fake.port)
        missed = await fake.says(place.user, channel, "有人吗")
        await fake.come_back()
        await fake.wait_until(lambda: fake.gateway.identified + fake.gateway.resumed == 2, seconds=20)
        dm = await bot.create_dm(discord.Object(place.user.id))
        assert [message.id async for message in dm.history()] == [missed.id]
        await dm.send("我回来了")
        assert [message.text for message in fake.messages(channel)] == ["我回来了"]


async def test_who_sends_no_heartbeats_times_out(place: Place) -> None:
    fake = place.fake
    fake.gateway.heartbeat_seconds = fake.gateway.heartbeat_grace = 0.05
    assert await raw_gateway(fake, IDENTIFY % (fake.token, 1, "[0, 1]")) == 4009
    assert not fake.gateway.sessions


async def test_who_identifies_too_often_is_sent_away(place: Place) -> None:
    fake = place.fake
    fake.gateway.identify_seconds = 60
    told = []
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.ws_connect(f"{fake.gateway_url}?v=10") as socket:
                await socket.receive_json()
                await socket.send_str(IDENTIFY % (fake.token, 1, "[0, 1]"))
                told.append((await socket.receive_json())["op"])
    assert told == [0, 9]


async def test_an_outage_is_no_farewell(place: Place) -> None:
    fake = place.fake
    guild = fake.guild("小屋", owner=place.user)
    channel = fake.channel(guild, "闲聊")
    async with connected(Bot(fake)) as bot:
        await fake.outage(guild)
        await fake.wait_until(lambda: bool(bot.noted("unavailable")))
        with pytest.raises(NotOffered):
            await fake.says(place.user, channel, "断了")
        await fake.outage_ends(guild)
        await fake.says(place.user, channel, "好了")
        await fake.wait_until(lambda: bool(bot.heard))
        assert bot.noted("available") and not bot.noted("leave") and not bot.noted("join")


async def test_thousands_of_messages_are_told_in_order(place: Place) -> None:
    fake = place.fake
    channel = fake.channel(fake.guild("小屋", owner=place.user), "闲聊")
    async with connected(Bot(fake)) as bot:
        kept = await fake.burst((place.user, channel, str(number)) for number in range(2000))
        await fake.burst(((place.user, channel, "过客") for _ in range(1000)), keep=False)
        await fake.wait_until(lambda: len(bot.heard) == 3000, seconds=20)
        assert [message.content for message in bot.heard[:2000]] == [message.text for message in kept]
        assert len(channel.messages) == 2000


async def test_one_process_may_have_several(place: Place) -> None:
    before = discord.http.Route.BASE
    async with running_discord() as other:
        assert other.port != place.fake.port
        with other.redirected():
            async with connected(Bot(other)) as bot:
                assert bot.application_id == other.application_id
    assert before == discord.http.Route.BASE
    async with connected(Bot(place.fake)) as bot:
        assert bot.application_id == place.fake.application_id


async def test_a_deaf_gateway_is_noticed(place: Place) -> None:
    fake = place.fake
    fake.gateway.heartbeat_seconds = 0.05
    fake.gateway.deaf = True
    async with connected(Bot(fake, heartbeat_timeout=0.3)):
        await fake.wait_until(lambda: fake.gateway.resumed > 0)
        fake.gateway.deaf = False


async def test_intents_that_are_not_switched_on_are_refused(place: Place) -> None:
    place.fake.enable_message_content(False)
    bot = Bot(place.fake)
    with pytest.raises(discord.PrivilegedIntentsRequired):
        await asyncio.wait_for(bot.start(place.fake.token), 10)
    assert place.fake.gateway.closed == [4014]


async def test_a_wrong_token_is_refused_by_both_doors(place: Place) -> None:
    with pytest.raises(discord.LoginFailure):
        await asyncio.wait_for(Bot(place.fake).start("wrong"), 10)
    bot = Bot(place.fake)
    place.fake.gateway.token = "another"
    with pytest.raises(discord.ConnectionClosed) as closed:
        await asyncio.wait_for(bot.start(place.fake.token), 10)
    assert closed.value.code == 4004


async def test_a_revoked_token_ends_the_connection(place: Place) -> None:
    bot = Bot(place.fake)
    task = asyncio.create_task(bot.start(place.fake.token))
    await asyncio.wait_for(bot.ready.wait(), 10)
    place.fake.revoke_token()
    with pytest.raises(discord.ConnectionClosed) as closed:
        await asyncio.wait_for(task, 10)
    assert closed.value.code == 4004
    await bot.close()


IDENTIFY = '{"op": 2, "d": {"token": "%s", "properties": {}, "intents": %s, "shard": %s}}'


async def raw_gateway(fake: FakeDiscord, *frames: str) -> int | None:
    """The code that a client which sends this is closed with."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{fake.gateway_url}?v=10") as socket:
        assert (await socket.receive_json())["op"] == 10
        for frame in frames:
            await socket.send_str(frame)
        while (await asyncio.wait_for(socket.receive(), 5)).type is aiohttp.WSMsgType.TEXT:
            pass
        return socket.close_code


async def test_the_gateway_closes_on_what_breaks_its_rules(place: Place) -> None:
    fake = place.fake
    identify = IDENTIFY
    assert await raw_gateway(fake, "{") == 4002
    assert await raw_gateway(fake, '{"op": 3, "d": {}}') == 4003
    assert await raw_gateway(fake, '{"op": 77}') == 4001
    assert await raw_gateway(fake, identify % (fake.token, 1 << 40, "[0, 1]")) == 4013
    assert await raw_gateway(fake, identify % (fake.token, 1, "[2, 1]")) == 4010
    assert await raw_gateway(fake, *['{"op": 1, "d": null}'] * 121) == 4008
    twice = identify % (fake.token, 1, "[0, 1]")
    assert await raw_gateway(fake, twice, twice) == 4005


async def test_each_server_is_of_its_shard_and_direct_messages_of_the_first() -> None:
    async with running_discord(shards=2) as fake:
        with fake.redirected():
            user = fake.user("晚晚")
            guilds = [fake.guild(f"小屋{number}", owner=user, shard=number) for number in (0, 1)]
            channels = [fake.channel(guild, "闲聊") for guild in guilds]
            async with connected(Bot(fake)) as bot:
                assert sorted(guild.shard_id for guild in bot.guilds) == [0, 1]
                for channel in (*channels, fake.direct(user)):
                    await fake.says(user, channel, "你好")
                await fake.wait_until(lambda: len(bot.heard) == 3)
                assert fake.gateway.identified == 2


async def test_history_after_a_message(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    long_ago = datetime.now(UTC) - timedelta(hours=6)
    said = [
        await fake.says(place.user, channel, f"第{n}句", at=long_ago + timedelta(minutes=n), silently=True)
        for n in range(120)
    ]
    async with connected(Bot(fake)) as bot:
        dm = await bot.create_dm(discord.Object(place.user.id))
        found = [message async for message in dm.history(limit=None, after=discord.Object(said[3].id))]
        assert [message.content for message in found] == [f"第{n}句" for n in range(4, 120)]
        assert abs(found[0].created_at - long_ago - timedelta(minutes=4)) < timedelta(seconds=1)
        latest = [message.content async for message in dm.history(limit=2)]
        assert latest == ["第119句", "第118句"]
        before = [message.content async for message in dm.history(limit=2, before=discord.Object(said[9].id))]
        assert before == ["第8句", "第7句"]
        assert bot.heard == []


async def test_a_nonce_makes_one_message_of_two(place: Place) -> None:
    fake = place.fake
    fake.rates_on = False
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        dm = await bot.create_dm(discord.Object(place.user.id))
        first, second = await dm.send("一次", nonce="n-1"), await dm.send("一次", nonce="n-1")
        assert first.id == second.id
        fake.fail_next("POST", r"/messages$", 502, after_effect=True)
        await dm.send("又一次", nonce="n-2")
        assert [message.text for message in fake.messages(channel)] == ["一次", "又一次"]
        fake.fail_next("POST", r"/messages$", 0, after_effect=True)
        with pytest.raises((aiohttp.ClientError, OSError)):
            await dm.send("没听见", nonce="n-3")
        assert fake.messages(channel)[-1].text == "没听见"


async def test_too_many_messages_are_waited_out(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        dm = await bot.create_dm(discord.Object(place.user.id))
        fake.api.limits.rates = dict.fromkeys(fake.api.limits.rates, (2, 0.2))
        await asyncio.gather(*(dm.send(str(number)) for number in range(5)))
        assert len(fake.messages(channel)) == 5
        fake.fail_next("POST", r"/messages$", 429)
        await dm.send("6")
        assert fake.too_many == 1
        assert len(fake.messages(channel)) == 6


async def test_a_client_that_does_not_wait_gets_429(place: Place) -> None:
    fake = place.fake
    url = f"{fake.base_url}/v10/channels/{fake.direct(place.user).id}/messages"
    headers = {"Authorization": f"Bot {fake.token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        statuses = []
        for _ in range(6):
            async with session.post(url, json={"content": "快"}) as response:
                statuses.append(response.status)
                left = response.headers["X-RateLimit-Remaining"]
                body = await response.json()
        assert statuses == [200] * 5 + [429]
        assert left == "0"
        assert 0 < body["retry_after"] <= 5
        fake.rates_on = False
        async with session.post(url, json={"content": "快"}) as response:
            assert response.status == 200
    assert fake.too_many == 1


async def test_a_limit_of_all_requests_is_waited_out(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        dm = await bot.create_dm(discord.Object(place.user.id))
        fake.api.limits.rates.clear()
        fake.api.limits.global_rate = 3
        await asyncio.gather(*(dm.send(str(number)) for number in range(4)))
        assert len(fake.messages(channel)) == 4
        assert fake.too_many > 0
        fake.api.limits.global_rate = 50
        fake.limit_next("POST", r"/messages$", 0.1, everywhere=True)
        await dm.send("还在")
        assert [status for _, path, status in fake.requests if path.endswith("/messages")][-2:] == [429, 200]


async def test_a_ban_by_cloudflare_is_not_waited_out(place: Place) -> None:
    fake = place.fake
    async with connected(Bot(fake)) as bot:
        dm = await bot.create_dm(discord.Object(place.user.id))
        fake.ban_next("POST", r"/messages$")
        with pytest.raises(discord.HTTPException) as banned:
            await dm.send("拦住")
        assert banned.value.status == 429
        assert "Via" not in banned.value.response.headers
        assert fake.messages(fake.direct(place.user)) == []


async def test_who_is_pinged(place: Place) -> None:
    fake = place.fake
    fake.rates_on = False
    guild = fake.guild("小屋", owner=place.user)
    role = fake.role(guild, "夜猫子", members=[place.user])
    channel = fake.channel(guild, "闲聊")
    text = f"@everyone @here {role.mention} {place.user.mention} `@everyone`"
    async with connected(Bot(fake)) as bot:
        there = bot.get_channel(channel.id)
        assert isinstance(there, discord.TextChannel)
        await there.send(text)
        await there.send(text, allowed_mentions=discord.AllowedMentions.none())
        fake.deny(channel, permissions="mention_everyone")
        await there.send(text)
        said = await fake.says(place.user, channel, "嗯")
        await there.send("好", reference=there.get_partial_message(said.id))
        quiet = discord.AllowedMentions.none()
        await there.send("好", reference=there.get_partial_message(said.id), allowed_mentions=quiet)
        all_of_it, nobody, only_user, replied, silent = [message.pings for message in fake.messages(channel)]
        assert (all_of_it.everyone, all_of_it.here) == (True, True)
        assert all_of_it.roles == {role.id} and all_of_it.users == {place.user.id}
        assert not nobody
        assert not only_user.everyone and not only_user.roles and only_user.users == {place.user.id}
        assert replied.users == {place.user.id}
        assert not silent


async def test_messages_that_break_a_rule_are_refused(place: Place) -> None:
    fake = place.fake
    fake.rates_on = False
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        dm = await bot.create_dm(discord.Object(place.user.id))
        for content, code in (("长" * 2001, 50035), (" \n", 50006)):
            with pytest.raises(discord.HTTPException) as refused:
                await dm.send(content)
            assert (refused.value.status, refused.value.code) == (400, code)
        with pytest.raises(discord.HTTPException, match="Unknown message"):
            await dm.send("回", reference=dm.get_partial_message(1))
        gone = discord.MessageReference(message_id=1, channel_id=channel.id, fail_if_not_exists=False)
        await dm.send("回", reference=gone)
        said = await fake.says(place.user, channel, "别改我")
        with pytest.raises(discord.Forbidden) as not_theirs:
            await dm.get_partial_message(said.id).edit(content="改")
        assert not_theirs.value.code == 50005
        with pytest.raises(discord.NotFound) as unknown:
            await dm.get_partial_message(1).edit(content="改")
        assert unknown.value.code == 10008
        fake.closes_dms(place.user)
        with pytest.raises(discord.Forbidden) as closed:
            await dm.send("在吗")
        assert closed.value.code == 50007
        assert [message.text for message in fake.messages(channel)] == ["回"]


async def test_permissions_are_asked_for(place: Place) -> None:
    fake = place.fake
    guild = fake.guild("小屋", owner=place.user)
    channel = fake.channel(guild, "闲聊")
    async with connected(Bot(fake)) as bot:
        there = bot.get_partial_messageable(channel.id)
        fake.deny(channel, permissions="attach_files")
        with pytest.raises(discord.Forbidden) as refused:
            await there.send(file=discord.File(io.BytesIO(b"a"), "a.txt"))
        assert refused.value.code == 50013
        fake.deny(channel, permissions="send_messages")
        with pytest.raises(discord.Forbidden) as refused:
            await there.send("你好")
        assert refused.value.code == 50013
        await fake.says(place.user, channel, "有人吗")
        await fake.wait_until(lambda: bool(bot.heard))
        assert len([message async for message in there.history()]) == 1
        fake.deny(channel, permissions="read_message_history")
        assert [message async for message in there.history()] == []
        fake.deny(channel, permissions="view_channel")
        with pytest.raises(discord.Forbidden) as refused:
            await there.send("你好")
        assert refused.value.code == 50001
        await fake.says(place.user, channel, "你看不见我")
        known = bot.get_channel(channel.id)
        assert isinstance(known, discord.TextChannel)
        assert not known.permissions_for(known.guild.me).view_channel
        await fake.deletes_channel(channel)
        with pytest.raises(discord.NotFound) as gone:
            await there.send("你好")
        assert gone.value.code == 10003
        await fake.wait_until(lambda: bool(bot.noted("channel-delete")))
        assert len(bot.heard) == 1


async def test_edits_deletions_and_reactions_are_told(place: Place) -> None:
    fake = place.fake
    channel = fake.channel(fake.guild("小屋", owner=place.user), "闲聊")
    async with connected(Bot(fake)) as bot:
        said = [await fake.says(place.user, channel, str(number)) for number in range(4)]
        await fake.edits(said[0], "改了")
        await fake.reacts(place.user, said[0], "❤️")
        await fake.unreacts(place.user, said[0], "❤️")
        await fake.deletes(said[0])
        await fake.bulk_deletes(said[1:3])
        await fake.wait_until(lambda: bool(bot.noted("bulk")))
        assert bot.noted("edit")[0].data["content"] == "改了"
        assert bot.noted("react")[0].user_id == place.user.id
        assert str(bot.noted("unreact")[0].emoji) == "❤️"
        assert bot.noted("delete")[0].message_id == said[0].id
        assert bot.noted("bulk")[0].message_ids == {said[1].id, said[2].id}
        assert said[0].edits == ["0", "改了"]
        await bot.get_partial_messageable(channel.id).get_partial_message(said[3].id).add_reaction("👍")
        assert said[3].reactions == {"👍": [fake.bot_id]}


async def test_the_bot_edits_and_deletes_its_own(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        dm = await bot.create_dm(discord.Object(place.user.id))
        sent = await dm.send("一")
        await sent.edit(content="一二")
        [message] = fake.messages(channel)
        assert message.edits == ["一", "一二"]
        await sent.delete()
        assert fake.messages(channel) == []
        assert message.deleted


async def test_threads_and_forum_posts(place: Place) -> None:
    fake = place.fake
    guild = fake.guild("小屋", owner=place.user)
    channel, forum = fake.channel(guild, "闲聊"), fake.channel(guild, "树洞", 15)
    async with connected(Bot(fake)) as bot:
        said = await fake.says(place.user, channel, "开个串")
        thread = await fake.opens_thread(place.user, channel, "串", starter=said)
        assert thread.id == said.id
        _, first = await fake.forum_post(place.user, forum, "心事", f"{fake.bot.mention} 听我说")
        await fake.wait_until(lambda: len(bot.noted("thread")) == 2 and len(bot.heard) == 2)
        assert bot.notices == [discord.MessageType.thread_starter_message]
        assert bot.noted("edit")[0].message_id == said.id, "a thread changes the message it starts from"
        assert bot.heard[1].content.endswith("听我说")
        await bot.get_partial_messageable(first.channel.id).send("我在听")
        assert fake.messages(first.channel)[0].text == "我在听"
        fake.archive(thread)
        there = bot.get_partial_messageable(thread.id)
        await there.send("回来了")
        assert not thread.archived
        fake.archive(thread, locked=True)
        with pytest.raises(discord.HTTPException) as archived:
            await there.send("进不去")
        assert archived.value.code == 50083
        hidden = await fake.opens_thread(place.user, channel, "悄悄", private=True)
        assert hidden.kind == PRIVATE_THREAD
        with pytest.raises(discord.Forbidden) as no_access:
            await bot.get_partial_messageable(hidden.id).send("?")
        assert no_access.value.code == 50001
        with pytest.raises(discord.HTTPException) as not_text:
            await bot.get_partial_messageable(forum.id).send("?")
        assert not_text.value.code == 50008


async def test_a_mention_lets_the_bot_into_a_thread(place: Place) -> None:
    fake = place.fake
    bob = fake.user("bob")
    channel = fake.channel(fake.guild("小屋", owner=place.user, members=[bob]), "闲聊")
    async with connected(Bot(fake)) as bot:
        hidden = fake.thread(channel, "悄悄", owner=place.user, private=True)
        await fake.says(place.user, hidden, "它听不见")
        await fake.says(place.user, hidden, f"{fake.bot.mention} 进来")
        await fake.wait_until(lambda: bool(bot.heard))
        assert [message.content for message in bot.heard] == [f"{fake.bot.mention} 进来"]
        assert not bot.noted("thread") and len(bot.noted("let-in")) == 1
        fake.archive(hidden)
        await fake.says(place.user, hidden, "醒醒")
        assert not hidden.archived
        fake.archive(hidden, locked=True)
        with pytest.raises(NotOffered):
            await fake.says(bob, hidden, "锁了")


async def test_what_is_answered_comes_with_the_answer(place: Place) -> None:
    fake = place.fake
    channel = fake.channel(fake.guild("小屋", owner=place.user), "闲聊")
    async with connected(Bot(fake)) as bot:
        there = bot.get_partial_messageable(channel.id)
        sent = await there.send("今天好吗")
        [question] = fake.messages(channel)
        await fake.says(place.user, channel, "好", reply_to=question)
        await sent.delete()
        await fake.says(place.user, channel, "咦", reply_to=question)
        await fake.wait_until(lambda: len(bot.heard) == 2)
        known, gone = (message.reference for message in bot.heard)
        assert known is not None and isinstance(known.resolved, discord.Message)
        assert known.resolved.content == "今天好吗" and known.resolved.author.id == fake.bot_id
        assert bot.user in bot.heard[0].mentions
        assert gone is not None and isinstance(gone.resolved, discord.DeletedReferencedMessage)


async def test_previews_forwards_polls_and_what_nobody_wrote(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        link = await fake.says(place.user, channel, "https://example.com")
        await fake.shows_preview(link, {"type": "link", "title": "例", "url": "https://example.com"})
        await fake.says(place.user, channel, forward=link)
        answers = [{"poll_media": {"text": text}} for text in ("面", "饭")]
        await fake.says(place.user, channel, poll={"question": {"text": "吃什么"}, "answers": answers})
        await fake.says(place.user, channel, kind=6)
        await fake.says(fake.user("钩子", bot=True), channel, "自动的", webhook=True)
        await fake.wait_until(lambda: len(bot.heard) == 4)
        [preview] = bot.noted("edit")
        assert (preview.message.content, preview.data["edited_timestamp"]) == ("https://example.com", None)
        assert preview.message.embeds[0].title == "例"
        assert [shot.content for shot in bot.heard[1].message_snapshots] == ["https://example.com"]
        assert bot.heard[2].poll is not None and bot.heard[2].poll.question == "吃什么"
        assert [answer.text for answer in bot.heard[2].poll.answers] == ["面", "饭"]
        assert bot.heard[3].webhook_id == bot.heard[3].author.id
        assert bot.notices == [discord.MessageType.pins_add]


async def test_addresses_of_files_are_good_for_a_day(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        said = await fake.says(place.user, channel, attachments=[("a.txt", b"a")])
        await fake.wait_until(lambda: bool(bot.heard))
        fake.advance(25 * 3600)
        with pytest.raises(discord.NotFound):
            await bot.heard[0].attachments[0].read()
        again = await bot.heard[0].channel.fetch_message(said.id)
        assert await again.attachments[0].read() == b"a"


async def test_history_shows_content_if_the_application_may_see_it(place: Place) -> None:
    fake = place.fake
    channel = fake.channel(fake.guild("小屋", owner=place.user), "闲聊")
    async with connected(Bot(fake, CONTENT_FREE)) as bot:
        there = bot.get_partial_messageable(channel.id)
        await fake.says(place.user, channel, "路过")
        assert [message.content async for message in there.history()] == ["路过"]
        fake.enable_message_content(False)
        assert [message.content async for message in there.history()] == [""]


async def test_reactions_are_limited_and_cleared(place: Place) -> None:
    fake = place.fake
    channel = fake.channel(fake.guild("小屋", owner=place.user), "闲聊")
    async with connected(Bot(fake)) as bot:
        said = await fake.says(place.user, channel, "嗯")
        there = bot.get_partial_messageable(channel.id).get_partial_message(said.id)
        await there.add_reaction("👍")
        await there.remove_reaction("👍", discord.Object(fake.bot_id))
        assert said.reactions == {}
        await fake.reacts(place.user, said, "👍")
        await fake.clears_reactions(said)
        await fake.wait_until(lambda: bool(bot.noted("clear")))
        assert len(bot.noted("react")) == 2 and len(bot.noted("unreact")) == 1


async def test_what_is_not_there_is_unknown(place: Place) -> None:
    async with connected(Bot(place.fake)) as bot:
        with pytest.raises(discord.NotFound) as unknown:
            await bot.get_partial_messageable(1).send("?")
        assert unknown.value.code == 10003
        with pytest.raises(discord.NotFound) as unknown:
            await bot.fetch_user(1)
        assert unknown.value.code == 10013
        with pytest.raises(discord.NotFound) as unknown:
            await bot.fetch_guild(1)
        assert unknown.value.code == 10004


async def test_servers_come_and_go(place: Place) -> None:
    fake = place.fake
    guild = fake.guild("新家", owner=place.user, with_bot=False)
    channel = fake.channel(guild, "大厅")
    async with connected(Bot(fake)) as bot:
        await fake.join(guild)
        await fake.wait_until(lambda: bool(bot.noted("join")))
        assert [one.name async for one in bot.fetch_guilds()] == ["新家"]
        await fake.leave(guild)
        await fake.wait_until(lambda: bool(bot.noted("leave")))
        with pytest.raises(discord.Forbidden):
            await bot.get_partial_messageable(channel.id).send("还在吗")


async def test_voice_messages_and_stickers(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        await fake.says(place.user, channel, voice=b"OggS")
        await fake.says(place.user, channel, stickers=[fake.sticker("抱抱", content=b"png")])
        await fake.wait_until(lambda: len(bot.heard) == 2)
        voice, sticker = bot.heard
        assert voice.flags.voice and voice.attachments[0].is_voice_message()
        assert await voice.attachments[0].read() == b"OggS"
        assert sticker.stickers[0].name == "抱抱"
        assert await sticker.stickers[0].read() == b"png"


# --- what the bot offers -----------------------------------------------------------------------------


class Panel(discord.ui.View):
    @discord.ui.button(label="好", custom_id="yes", style=discord.ButtonStyle.primary)
    async def yes(self, interaction: discord.Interaction[Any], _: discord.ui.Button[Any]) -> None:
        await interaction.response.edit_message(content="好了", view=None)

    @discord.ui.button(label="写", custom_id="write")
    async def write(self, interaction: discord.Interaction[Any], _: discord.ui.Button[Any]) -> None:
        await interaction.response.send_modal(Letter())

    @discord.ui.select(
        custom_id="mood",
        placeholder="心情",
        options=[
            discord.SelectOption(label="晴", value="sun"),
            discord.SelectOption(label="雨", value="rain"),
        ],
    )
    async def mood(self, interaction: discord.Interaction[Any], select: discord.ui.Select[Any]) -> None:
        await interaction.response.defer()
        await interaction.followup.send(f"是{select.values[0]}", ephemeral=True)


class Letter(discord.ui.Modal, title="信"):
    body: discord.ui.TextInput[Any] = discord.ui.TextInput(label="内容", max_length=20)

    async def on_submit(self, interaction: discord.Interaction[Any], /) -> None:
        await interaction.response.send_message(f"收到：{self.body.value}", ephemeral=True)


class Offering(Bot):
    async def setup_hook(self) -> None:
        group = app_commands.Group(name="xinyu", description="心语")

        @group.command(name="setup", description="设置")
        @app_commands.describe(words="话", place="哪里")
        async def setup(
            interaction: discord.Interaction[Any], words: str, place: discord.TextChannel | None = None
        ) -> None:
            await interaction.response.defer(ephemeral=True)
            await interaction.followup.send(f"{words}·{place.name if place else ''}·{interaction.locale}")
            await interaction.followup.send("再说一句", ephemeral=True)

        @self.tree.command(name="panel", description="面板")
        async def panel(interaction: discord.Interaction[Any]) -> None:
            await interaction.response.send_message("面板", view=Panel())

        @self.tree.command(name="late", description="迟了")
        async def late(interaction: discord.Interaction[Any]) -> None:
            with pytest.raises(discord.NotFound) as unknown:
                await interaction.response.send_message("迟到的")
            self.note("late", unknown.value.code)

        @self.tree.command(name="twice", description="两次")
        async def twice(interaction: discord.Interaction[Any]) -> None:
            await interaction.response.send_message("一")
            second = f"/interactions/{interaction.id}/{interaction.token}/callback"
            async with aiohttp.ClientSession() as session:
                body = {"type": 4, "data": {"content": "二"}}
                async with session.post(f"{self.fake.base_url}/v10{second}", json=body) as response:
                    self.note("twice", (response.status, (await response.json())["code"]))
            await interaction.edit_original_response(content="改")
            await interaction.delete_original_response()
            self.note("done")

        @self.tree.context_menu(name="问问心语")
        async def ask(interaction: discord.Interaction[Any], message: discord.Message) -> None:
            await interaction.response.send_message(f"「{message.content}」", ephemeral=True)

        self.tree.add_command(group)
        await self.tree.sync()


async def test_a_slash_command_is_deferred_and_followed_up(place: Place) -> None:
    fake = place.fake
    channel = fake.channel(fake.guild("小屋", owner=place.user), "闲聊")
    async with connected(Offering(fake)):
        assert {command["name"] for command in fake.commands} >= {"xinyu", "panel", "问问心语"}
        used = await fake.slash(place.user, channel, "xinyu setup", words="嗯", place=channel)
        await fake.wait_until(lambda: len(used.answers) == 2)
        assert used.deferred and used.delivered and not used.thinking
        assert used.acknowledged_after is not None and used.acknowledged_after < 3
        assert [message.text for message in used.ephemeral] == ["嗯·闲聊·zh-CN", "再说一句"]
        assert fake.messages(channel) == []
        with pytest.raises(NotOffered, match="required"):
            await fake.slash(place.user, channel, "xinyu setup")
        with pytest.raises(NotOffered):
            await fake.slash(place.user, channel, "nothing")


async def test_buttons_menus_and_forms(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Offering(fake)):
        used = await fake.slash(place.user, channel, "panel")
        await fake.wait_until(lambda: bool(used.answers))
        [panel] = fake.messages(channel)
        selected = await fake.selects(place.user, panel, "心情", ["雨"])
        await fake.wait_until(lambda: bool(selected.answers))
        assert selected.ephemeral[0].text == "是rain"
        form = await fake.presses(place.user, panel, "写")
        await fake.wait_until(lambda: form.modal is not None)
        with pytest.raises(NotOffered):
            await fake.submits(place.user, form, {"内容": "长" * 21})
        sent = await fake.submits(place.user, form, {"内容": "见字如面"})
        await fake.wait_until(lambda: bool(sent.answers))
        assert sent.ephemeral[0].text == "收到：见字如面"
        pressed = await fake.presses(place.user, panel, "好")
        await fake.wait_until(lambda: pressed.acknowledged_after is not None)
        assert (panel.text, panel.components) == ("好了", [])
        assert pressed.updated_source


async def test_answers_that_come_late_or_twice(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Offering(fake)) as bot:
        used = await fake.slash(place.user, channel, "late")
        used.late()
        await fake.wait_until(lambda: bool(bot.noted("late")))
        assert bot.noted("late") == [10062]
        assert used.failed
        twice = await fake.slash(place.user, channel, "twice")
        await fake.wait_until(lambda: bool(bot.noted("done")))
        assert bot.noted("twice") == [(400, 40060)]
        assert twice.answers[0].edits == ["一", "改"] and twice.answers[0].deleted
        twice.expire()
        url = f"{fake.base_url}/v10/webhooks/{fake.application_id}/{twice.token}"
        async with aiohttp.ClientSession() as session, session.post(url, json={"content": "晚"}) as response:
            assert (response.status, (await response.json())["code"]) == (401, 50027)


class Chinese(app_commands.Translator):
    async def translate(
        self, string: app_commands.locale_str, locale: discord.Locale, context: Any
    ) -> str | None:
        words = {"settings": "设置", "Settings": "调一调"}
        return words.get(string.message) if locale is discord.Locale.chinese else None


class Guarded(Bot):
    """Offers a translated command to those alone who manage the server, and there alone."""

    async def setup_hook(self) -> None:
        async def settings(interaction: discord.Interaction[Any]) -> None:
            await interaction.response.send_message(str(interaction.locale), ephemeral=True)

        command = app_commands.Command[Any, Any, Any](
            name=app_commands.locale_str("settings"),
            description=app_commands.locale_str("Settings"),
            callback=settings,
            allowed_contexts=app_commands.AppCommandContext(guild=True),
        )
        command.default_permissions = discord.Permissions(manage_guild=True)
        self.tree.add_command(command)
        await self.tree.set_translator(Chinese())
        await self.tree.sync()


async def test_commands_have_languages_and_are_for_some_and_somewhere(place: Place) -> None:
    fake = place.fake
    bob = fake.user("bob", locale="en-US")
    guild = fake.guild("小屋", owner=place.user, members=[bob])
    channel = fake.channel(guild, "闲聊")
    async with connected(Guarded(fake)):
        [command] = fake.commands
        assert command["name_localizations"] == {"zh-CN": "设置"}
        assert command["description_localizations"] == {"zh-CN": "调一调"}
        assert (command["contexts"], command["dm_permission"]) == ([0], False)
        assert command["default_member_permissions"] == str(1 << 5)
        used = await fake.slash(place.user, channel, "设置")
        await fake.wait_until(lambda: bool(used.answers))
        assert used.ephemeral[0].text == "zh-CN"
        with pytest.raises(NotOffered, match="permission"):
            await fake.slash(bob, channel, "settings")
        fake.allow(guild, user_or_bot=bob, permissions="manage_guild")
        used = await fake.slash(bob, channel, "settings")
        await fake.wait_until(lambda: bool(used.answers))
        assert used.ephemeral[0].text == "en-US"
        with pytest.raises(NotOffered, match="channel"):
            await fake.slash(place.user, fake.direct(place.user), "设置")
        await fake.leave(guild)
        with pytest.raises(NotOffered):
            await fake.slash(place.user, channel, "设置")


class Slow(Bot):
    """Answers when it is told to."""

    async def setup_hook(self) -> None:
        @self.tree.command(name="slow", description="慢")
        async def slow(interaction: discord.Interaction[Any]) -> None:
            self.note("asked", interaction)

        await self.tree.sync()


async def test_time_passes_for_interactions_when_it_is_told_to(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Slow(fake)) as bot:
        dead, alive = [await fake.slash(place.user, channel, "slow") for _ in range(2)]
        await fake.wait_until(lambda: len(bot.noted("asked")) == 2)
        late, kept = bot.noted("asked")
        await kept.response.defer(ephemeral=True)
        fake.advance(3.1)
        with pytest.raises(discord.NotFound) as unknown:
            await late.response.defer()
        assert unknown.value.code == 10062
        assert dead.failed and alive.thinking
        fake.advance(14 * 60)
        await kept.followup.send("还来得及")
        assert alive.ephemeral[0].text == "还来得及"
        fake.advance(60)
        with pytest.raises(discord.HTTPException) as expired:
            await kept.followup.send("太晚了")
        assert (expired.value.status, expired.value.code) == (401, 50027)


async def test_a_context_menu_command_is_shown_the_message(place: Place) -> None:
    fake = place.fake
    channel = fake.channel(fake.guild("小屋", owner=place.user), "闲聊")
    said = await fake.says(place.user, channel, "这句")
    async with connected(Offering(fake, CONTENT_FREE)):
        used = await fake.context_menu(place.user, channel, "问问心语", said)
        await fake.wait_until(lambda: bool(used.answers))
        assert used.ephemeral[0].text == "「这句」"


@pytest.mark.parametrize(
    ("command", "where"),
    [
        ({"name": "Bad Name", "description": "x"}, "name"),
        ({"name": "ok", "description": ""}, "description"),
        ({"name": "ok", "description": "x" * 101}, "description"),
        ({"name": "ok", "description": "x", "name_localizations": {"zh": "好"}}, "name_localizations"),
        ({"name": "Menu", "type": 3, "description": "no"}, "description"),
        (
            {"name": "ok", "description": "x", "options": [{"name": "a", "description": "x", "type": 99}]},
            "options",
        ),
    ],
)
async def test_commands_that_break_a_rule_are_refused(place: Place, command: Any, where: str) -> None:
    url = f"{place.fake.base_url}/v10/applications/{place.fake.application_id}/commands"
    headers = {"Authorization": f"Bot {place.fake.token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.put(url, json=[command]) as response:
            body = await response.json()
        assert (response.status, body["code"]) == (400, 50035)
        assert where in body["errors"]["0"]
        async with session.put(url, json=[{"name": "设置", "description": "好"}]) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    "components",
    [
        [{"type": 1, "components": []}],
        [{"type": 1, "components": [{"type": 2, "style": 1, "label": "", "custom_id": "a"}]}],
        [{"type": 1, "components": [{"type": 2, "style": 1, "label": "x" * 81, "custom_id": "a"}]}],
        [{"type": 1, "components": [{"type": 2, "style": 1, "label": "x", "custom_id": "c" * 101}]}],
        [{"type": 1, "components": [{"type": 2, "style": 1, "label": "x", "custom_id": "a"}] * 2}],
        [{"type": 1, "components": [{"type": 3, "custom_id": "a", "options": []}]}],
        [
            {
                "type": 1,
                "components": [
                    {
                        "type": 3,
                        "custom_id": "a",
                        "options": [{"label": str(n), "value": str(n)} for n in range(26)],
                    }
                ],
            }
        ],
        [
            {
                "type": 1,
                "components": [{"type": 2, "style": 1, "label": "x", "custom_id": str(n)} for n in range(6)],
            }
        ],
        [
            {
                "type": 1,
                "components": [{"type": 3, "custom_id": "a", "options": [{"label": "a", "value": "a"}] * 2}],
            }
        ],
        [
            {"type": 1, "components": [{"type": 2, "style": 1, "label": "x", "custom_id": str(n)}]}
            for n in range(6)
        ],
    ],
)
async def test_components_that_break_a_rule_are_refused(place: Place, components: Any) -> None:
    url = f"{place.fake.base_url}/v10/channels/{place.fake.direct(place.user).id}/messages"
    headers = {"Authorization": f"Bot {place.fake.token}"}
    body = {"content": "x", "components": components}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, json=body) as response,
    ):
        body = await response.json()
    assert (response.status, body["code"]) == (400, 50035)
    assert "components" in body["errors"]


def text_input(custom_id: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "type": 1,
        "components": [{"type": 4, "custom_id": custom_id, "label": "内容", "style": 1, **more}],
    }


@pytest.mark.parametrize(
    "modal",
    [
        {"title": "x" * 46, "custom_id": "m", "components": [text_input()]},
        {"title": "信", "custom_id": "m" * 101, "components": [text_input()]},
        {"title": "信", "custom_id": "m", "components": []},
        {"title": "信", "custom_id": "m", "components": [text_input(str(n)) for n in range(6)]},
        {"title": "信", "custom_id": "m", "components": [text_input(), text_input()]},
        {"title": "信", "custom_id": "m", "components": [text_input(label="x" * 46)]},
        {"title": "信", "custom_id": "m", "components": [text_input(min_length=5, max_length=4)]},
        {"title": "信", "custom_id": "m", "components": [text_input(value="长" * 5, max_length=4)]},
    ],
)
async def test_forms_that_break_a_rule_are_refused(place: Place, modal: Any) -> None:
    fake = place.fake
    commands = f"{fake.base_url}/v10/applications/{fake.application_id}/commands"
    headers = {"Authorization": f"Bot {fake.token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        await session.put(commands, json=[{"name": "write", "description": "写"}])
        used = await fake.slash(place.user, fake.direct(place.user), "write")
        callback = f"{fake.base_url}/v10/interactions/{used.id}/{used.token}/callback"
        async with session.post(callback, json={"type": 9, "data": modal}) as response:
            body = await response.json()
        assert (response.status, body["code"]) == (400, 50035)
        assert used.modal is None and used.acknowledged_after is None
        good = {"title": "信", "custom_id": "m", "components": [text_input()]}
        async with session.post(callback, json={"type": 9, "data": good}) as response:
            assert response.status == 204
        assert used.modal == good


async def test_an_answer_that_comes_late_to_a_request_that_took_effect(place: Place) -> None:
    fake = place.fake
    channel = fake.direct(place.user)
    async with connected(Bot(fake)) as bot:
        dm = await bot.create_dm(discord.Object(place.user.id))
        fake.delay("POST", r"/messages$", 30, after_effect=True)
        sending = asyncio.create_task(dm.send("到了", nonce="n-1"))
        await fake.wait_until(lambda: fake.api.hanging == 1)
        assert [message.text for message in fake.messages(channel)] == ["到了"]
        sending.cancel()
        fake.delay("POST", r"/messages$", 0)
        await dm.send("到了", nonce="n-1")
        assert len(fake.messages(channel)) == 1
        fake.advance(600)
        await dm.send("到了", nonce="n-1")
        assert len(fake.messages(channel)) == 2, "a nonce is forgotten after some minutes"


async def test_a_delayed_request_and_one_that_is_refused_by_a_proxy(place: Place) -> None:
    fake = place.fake
    async with connected(Bot(fake)) as bot:
        dm = await bot.create_dm(discord.Object(place.user.id))
        fake.delay("POST", r"/messages$", 30)
        sending = asyncio.create_task(dm.send("慢"))
        await fake.wait_until(lambda: fake.api.hanging == 1)
        sending.cancel()
        fake.delay("POST", r"/messages$", 0)
        fake.fail_next("POST", r"/messages$", 403, body="<html>", headers={"Server": "cloudflare"})
        with pytest.raises(discord.Forbidden):
            await dm.send("拦住")
