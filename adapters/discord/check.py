"""What Discord says of the bot, asked without opening a session; and the link that invites it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import discord
from discord.http import Route

from adapters.discord.api import DiscordApi
from adapters.discord.errors import FAILURES, word_for
from adapters.discord.settings import DiscordSettings

PERMISSIONS = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    embed_links=True,
    attach_files=True,
    read_message_history=True,
)
"""All that it uses: hears, speaks, sends what was exported, and looks for what it missed."""
SCOPES = ("bot", "applications.commands")


@dataclass(frozen=True, slots=True)
class DiscordFacts:
    """From GET /applications/@me and GET /gateway/bot."""

    name: str
    application_id: int
    message_content: bool
    """Whether the intent is switched on in the Developer Portal."""
    servers: int
    """About how many it is in."""
    sessions_left: int
    """How often a session may still be begun before `sessions_reset_seconds` are over."""
    sessions_reset_seconds: int

    @property
    def invite_url(self) -> str:
        return discord.utils.oauth_url(self.application_id, permissions=PERMISSIONS, scopes=SCOPES)


async def ask_discord(settings: DiscordSettings, seconds: float) -> DiscordFacts | str:
    """The facts, or the fixed word for why there are none."""
    api = DiscordApi(settings)
    try:
        async with asyncio.timeout(seconds):
            client = await api.logged_in()
            info = await client.application_info()
            gateway = await client.http.request(Route("GET", "/gateway/bot"))
    except FAILURES as error:
        return word_for(error)
    finally:
        await api.close()
    limit = gateway["session_start_limit"]
    flags = info.flags
    return DiscordFacts(
        name=str(client.user),
        application_id=info.id,
        message_content=flags.gateway_message_content or flags.gateway_message_content_limited,
        servers=info.approximate_guild_count,
        sessions_left=int(limit["remaining"]),
        sessions_reset_seconds=int(limit["reset_after"]) // 1000,
    )
