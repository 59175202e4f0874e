"""What was written while nobody was connected, out of the channels' histories.

The gateway replays what a short break missed (a resumed session); all else is asked for: of private chats since the
last message that is stored, of servers' channels since the gateway was last known to be listened to.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import discord
import structlog

from adapters.discord.errors import FAILURES, word_for
from core.ports import Seen

log = structlog.get_logger()

MARGIN = timedelta(minutes=2)
"""Clocks differ, and what came last may not have been stored."""
FURTHEST = timedelta(days=1)
"""As far as a server's channels are looked through: for somebody in danger, beyond what is answered otherwise."""
PRIVATE_FURTHEST = timedelta(days=14)
PRIVATE_CHATS = 500
MOST_MESSAGES = 500
"""Of one channel."""
AT_ONCE = 4
CHANNEL_SECONDS = 60.0

_SEEN = re.compile(r"(?:missed:)?(?P<channel>[0-9]+):(?P<message>[0-9]+)(?::(?P<edited_ms>[0-9]+))?")
"""The event of a message; with a word of apology for it; or of an edit by which it came to be one."""

Channel = discord.TextChannel | discord.VoiceChannel | discord.StageChannel | discord.Thread


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages of a channel after a moment, nobody knows whether there are any."""

    channel: discord.abc.Messageable
    channel_id: int
    after: int


def gaps_in_servers(guilds: Iterable[discord.Guild], since: datetime) -> Iterator[Gap]:
    """The servers' channels in which something was written since then."""
    after = discord.utils.time_snowflake(since)
    for guild in guilds:
        for channel in _channels(guild):
            newest = channel.last_message_id
            if newest is not None and newest > after and _may_read(channel, guild):
                yield Gap(channel, channel.id, after)


def _channels(guild: discord.Guild) -> Iterator[Channel]:
    yield from guild.text_channels
    yield from guild.voice_channels
    yield from guild.stage_channels
    yield from guild.threads


def _may_read(channel: Channel, guild: discord.Guild) -> bool:
    if guild.me is None:
        return True  # it will be refused, if it is
    held = channel.permissions_for(guild.me)
    return held.read_messages and held.read_message_history


def gaps_in_private(client: discord.Client, seen: Sequence[Seen]) -> Iterator[Gap]:
    """The private chats that are known: Discord does not list them to a bot."""
    for one in seen:
        found = _SEEN.fullmatch(one.event_id)
        if found is not None:
            channel_id, after = int(found["channel"]), int(found["message"])
            if found["edited_ms"]:
                edited_at = datetime.fromtimestamp(int(found["edited_ms"]) / 1000, UTC)
                after = max(after, discord.utils.time_snowflake(edited_at))
            yield Gap(client.get_partial_messageable(channel_id), channel_id, after)


async def messages_in(gap: Gap, at_once: asyncio.Semaphore) -> list[discord.Message] | None:
    """What was written there, oldest first. None: it could not be read now, and is to be looked for again."""
    async with at_once:
        asking = asyncio.create_task(_history(gap), name="discord-history")
        await asyncio.wait({asking}, timeout=CHANNEL_SECONDS)  # never cancelled: see DiscordApi
    if not asking.done():
        asking.add_done_callback(lambda late: late.cancelled() or late.exception())
        log.warning("discord_history_not_read", reason="timeout")
        return None
    try:
        return asking.result()
    except FAILURES as error:
        log.warning("discord_history_not_read", reason=word_for(error))
        gone = isinstance(error, discord.Forbidden | discord.NotFound)
        return [] if gone else None


async def _history(gap: Gap) -> list[discord.Message]:
    after = discord.Object(gap.after)
    return [one async for one in gap.channel.history(limit=MOST_MESSAGES, after=after, oldest_first=True)]
