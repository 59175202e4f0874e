"""Discord as an operator meets it: the invite, `xinyu doctor`, and servers that the bot joins and leaves."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from core.phrases import load_phrases
from tests.companion import rows, until
from tests.discord_world import DiscordWorld, world_in
from tests.fakes.discord_platform import Channel, FakeDiscord, Guild, User, running_discord
from tests.fakes.discord_world import bits
from tests.fakes.program import free_port
from tests.integration.test_discord_trouble import (
    assert_once,
    home_of,
    set_aside,
    settled,
    until_answered,
    until_detail,
    until_logged,
)
from tests.integration.test_doctor import Outcome, doctor, xinyu

USED = ("view_channel", "send_messages", "send_messages_in_threads", "embed_links", "attach_files")
USED_FOR_WHAT_WAS_MISSED = "read_message_history"
WELCOMES = {phrases.commands["joined"]["text"].partition("{")[0] for phrases in load_phrases().values()}


def settings_of(discord: FakeDiscord, **more: str) -> dict[str, str]:
    return {"DISCORD_BOT_TOKEN": discord.token, "DISCORD_API_BASE_URL": discord.base_url, **more}


def wrong_token(discord: FakeDiscord) -> str:
    return discord.token[:-6] + "wrongs"


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}/api"


# --- the invite ----------------------------------------------------------------------------------


async def invite(folder: Path, settings: dict[str, str]) -> Outcome:
    return await xinyu(folder, settings, "discord", "invite")


async def test_the_invite_asks_for_what_is_used_and_no_more(tmp_path: Path) -> None:
    async with running_discord() as discord:
        outcome = await invite(tmp_path, settings_of(discord))
        assert outcome.code == 0, outcome.output
        address = urlsplit(outcome.output.strip())
        assert f"{address.scheme}://{address.netloc}{address.path}" == "https://discord.com/oauth2/authorize"
        asked = parse_qs(address.query)
        assert asked["client_id"] == [str(discord.application_id)]
        assert set(asked["scope"][0].split()) == {"bot", "applications.commands"}
        assert int(asked["permissions"][0]) == bits([*USED, USED_FOR_WHAT_WAS_MISSED])
        assert not discord.gateway.identified


async def test_with_the_permissions_of_the_invite_alone_it_does_all_that_it_can(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        outcome = await invite(tmp_path, settings_of(discord))
        granted = int(parse_qs(urlsplit(outcome.output.strip()).query)["permissions"][0])
        ann = discord.user("ann")
        guild = home_of(discord, ann)
        discord.everyone(guild).permissions = 0
        world_role = discord.world.own_role(guild, discord.bot)
        world_role.permissions = granted
        general = discord.channel(guild, "general")
        thread = discord.thread(general, "夜里", owner=ann)
        await world.start()
        await until_detail(world, "ok")
        for channel in (general, thread):
            said = await discord.says(ann, channel, f"{discord.bot.mention} 从前")
            await until_answered(world, channel, "从前")
            assert discord.messages(channel)[-1].reference is said
        await until(lambda: bool(rows(world.data, "SELECT 1 FROM marks")))
        await world.program.kill()
        for channel in (general, thread):
            await discord.says(ann, channel, f"{discord.bot.mention} 你在吗")
        await world.start()
        for channel in (general, thread):
            await until_answered(world, channel, "你在吗")
            assert_once(world, channel, "从前", "你在吗")
        refused = [request for request in discord.requests if request[2] >= 400]
        assert not refused


async def test_without_a_right_token_or_a_network_the_invite_says_what_to_do(tmp_path: Path) -> None:
    async with running_discord() as discord:
        unset = await invite(tmp_path, {})
        wrong = await invite(tmp_path, settings_of(discord, DISCORD_BOT_TOKEN=wrong_token(discord)))
        away = await invite(tmp_path, settings_of(discord, DISCORD_API_BASE_URL=nowhere()))
        discord.fail_next("GET", "^/users/@me$", 429, body="<html>1015</html>", headers={"Via": ""})
        limited = await invite(tmp_path, settings_of(discord))
    assert [outcome.code for outcome in (unset, wrong, away, limited)] == [2, 1, 1, 1]
    assert "DISCORD_BOT_TOKEN" in unset.output
    assert "refused_token" in wrong.output and "Reset Token" in wrong.output
    assert "unreachable" in away.output and "DISCORD_API_BASE_URL" in away.output
    assert "rate_limited" in limited.output
    for outcome in (unset, wrong, away, limited):
        assert "Traceback" not in outcome.output
        assert "oauth2" not in outcome.output


# --- the doctor ----------------------------------------------------------------------------------


async def test_the_doctor_tells_how_the_bot_is(tmp_path: Path) -> None:
    async with running_discord() as discord:
        unset = (await doctor(tmp_path, {})).one("discord")
        alone = (await doctor(tmp_path, settings_of(discord))).one("discord")
        home_of(discord, discord.user("ann"))
        well = (await doctor(tmp_path, settings_of(discord))).one("discord")
        discord.gateway.starts_left = 5
        few = (await doctor(tmp_path, settings_of(discord))).one("discord")
        assert discord.gateway.identified == 0, "no session is begun for it"
    assert (unset["state"], alone["state"], well["state"], few["state"]) == ("skipped", "ok", "ok", "warn")
    assert "DISCORD_BOT_TOKEN" in unset["found"]
    assert "discord invite" in alone["advice"]
    assert "xinyu" in well["found"] and "1 " in well["found"]
    assert "5" in few["found"]


async def test_the_doctor_names_what_is_wrong_with_the_bot(tmp_path: Path) -> None:
    async with running_discord(message_content=False) as discord:
        unread = (await doctor(tmp_path, settings_of(discord))).one("discord")
        wrong = (await doctor(tmp_path, settings_of(discord, DISCORD_BOT_TOKEN=wrong_token(discord)))).one(
            "discord"
        )
        away = (await doctor(tmp_path, settings_of(discord, DISCORD_API_BASE_URL=nowhere()))).one("discord")
        discord.delay("GET", "^/users/@me$", 60.0)
        silent = (await doctor(tmp_path, settings_of(discord))).one("discord")
    assert (unread["state"], wrong["state"], away["state"], silent["state"]) == (
        "warn",
        "fail",
        "fail",
        "fail",
    )
    assert "Message Content Intent" in unread["advice"]
    assert "refused_token" in wrong["found"] and "Reset Token" in wrong["advice"]
    assert "unreachable" in away["found"] and "DISCORD_API_BASE_URL" in away["advice"]
    assert "timeout" in silent["found"]


# --- servers come and go ---------------------------------------------------------------------------


def welcomes(world: DiscordWorld, channel: Channel) -> int:
    return sum(
        any(message.text.startswith(welcome) for welcome in WELCOMES)
        for message in world.discord.messages(channel)
    )


async def nothing_more(world: DiscordWorld) -> None:
    """Everything that happened before this is through: one who has not written before is answered."""
    direct = world.discord.direct(world.discord.user("eve"))
    assert direct.recipient is not None
    await world.discord.says(direct.recipient, direct, "在吗")
    await until_answered(world, direct, "在吗")


def new_server(discord: FakeDiscord, owner: User, *channels: str) -> tuple[Guild, list[Channel]]:
    """One that the bot is not in."""
    guild = discord.guild("home", owner=owner, with_bot=False)
    return guild, [discord.channel(guild, name) for name in channels]


async def test_a_server_is_welcomed_once_in_the_first_channel_where_it_may_speak(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        guild, (rules, hidden, general, lounge) = new_server(
            discord, discord.user("ann"), "rules", "hidden", "general", "lounge"
        )
        discord.deny(rules, user_or_bot=discord.everyone(guild), permissions="send_messages")
        discord.deny(hidden, user_or_bot=discord.everyone(guild), permissions="view_channel")
        await world.start()
        await until_detail(world, "ok")
        await discord.join(guild)
        (welcome,) = await world.replies(general, 1)
        assert welcome.text.startswith(tuple(WELCOMES)) and not welcome.pings
        await world.program.kill()
        await world.start()
        await until_detail(world, "ok")
        await discord.invalidate_sessions(resumable=False)
        await world.until(lambda: discord.gateway.identified == 3)
        await nothing_more(world)
        assert [len(discord.messages(one)) for one in (rules, hidden, general, lounge)] == [0, 0, 1, 0]


async def test_the_channel_for_welcomes_comes_first(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        guild, (general, door) = new_server(discord, discord.user("ann"), "general", "door")
        await world.start()
        await until_detail(world, "ok")
        discord.world.add_member(guild, discord.bot)
        for session in discord.gateway.sessions.values():
            told = discord.gateway._guild_json(guild, session)
            session.tell("GUILD_CREATE", {**told, "system_channel_id": str(door.id)})
        await world.replies(door, 1)
        await nothing_more(world)
        assert (welcomes(world, door), welcomes(world, general)) == (1, 0)


async def test_where_it_may_speak_nowhere_it_comes_silently(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        ann = discord.user("ann")
        guild, (general,) = new_server(discord, ann, "general")
        discord.deny(general, user_or_bot=discord.everyone(guild), permissions="send_messages")
        await world.start()
        await until_detail(world, "ok")
        await discord.join(guild)
        await until_logged(world, "discord_joined_silently")
        discord.allow(general, permissions="send_messages")
        await discord.says(ann, general, f"{discord.bot.mention} 在吗")
        await until_answered(world, general, "在吗")
        assert welcomes(world, general) == 0
        assert not [request for request in discord.requests if request[2] >= 400]


async def test_a_server_that_invited_it_while_it_was_down_is_welcomed_at_the_start(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        discord = world.discord
        guild, (general,) = new_server(discord, discord.user("ann"), "general")
        await world.start()
        await until_detail(world, "ok")
        await until(lambda: bool(rows(world.data, "SELECT 1 FROM marks")))
        await world.program.kill()
        await discord.join(guild)
        await world.start()
        await world.replies(general, 1)
        await settled(world)
        await world.program.kill()
        await world.start()
        await until_detail(world, "ok")
        await nothing_more(world)
        assert welcomes(world, general) == len(discord.messages(general)) == 1


async def settled_in(world: DiscordWorld) -> tuple[User, Guild, Channel, Channel]:
    """A server where a channel is set aside and was used, and another where that is not so."""
    discord = world.discord
    ann = discord.user("ann")
    guild = home_of(discord, ann)
    general, mine = discord.channel(guild, "general"), discord.channel(guild, "mine")
    await world.start()
    await until_detail(world, "ok")
    await set_aside(world, mine, ann)
    await discord.says(ann, mine, "从前")
    await until_answered(world, mine, "从前")
    await settled(world)
    return ann, guild, general, mine


async def assert_defaults(world: DiscordWorld, user: User, channel: Channel) -> None:
    """What does not call it is not answered there."""
    await world.discord.says(user, channel, "自言自语")
    await world.discord.says(user, channel, f"{world.discord.bot.mention} 在叫你")
    await until_answered(world, channel, "在叫你")
    assert "自言自语" not in "".join(message.text for message in world.discord.messages(channel))


async def test_leaving_a_server_erases_its_settings_and_coming_back_welcomes_it_anew(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        ann, guild, general, mine = await settled_in(world)
        settings = "SELECT 1 FROM conversations WHERE settings != '{}'"
        assert rows(world.data, settings)
        await world.discord.leave(guild)
        await until(lambda: not rows(world.data, settings))
        await world.discord.join(guild)
        await world.replies(general, 1)
        assert welcomes(world, general) == 1
        await assert_defaults(world, ann, mine)


async def test_a_server_that_put_it_out_while_it_was_down_is_forgotten_at_the_start(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        ann, guild, general, mine = await settled_in(world)
        await world.program.kill()
        await world.discord.leave(guild)
        await world.start()
        await until(lambda: not rows(world.data, "SELECT 1 FROM conversations WHERE settings != '{}'"))
        await until_detail(world, "ok")
        await world.discord.join(guild)
        await world.replies(general, 1)
        await assert_defaults(world, ann, mine)


async def test_a_server_that_put_it_out_and_invited_it_anew_while_it_was_down_has_the_defaults(
    tmp_path: Path,
) -> None:
    async with world_in(tmp_path) as world:
        ann, guild, general, mine = await settled_in(world)
        await world.program.kill()
        await world.discord.leave(guild)
        await world.discord.join(guild)
        await world.start()
        await world.replies(general, 1)
        assert welcomes(world, general) == 1
        await assert_defaults(world, ann, mine)
