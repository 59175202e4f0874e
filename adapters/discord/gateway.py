"""Listening to Discord's gateway: connected, resumed and sharded by the library, for as long as the program runs.

Discord hands nothing over twice: what could not be stored is tried again (ingest.py), and what was written while
nobody listened is looked for (catch_up.py).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import discord
import structlog
import yarl
from discord.gateway import DiscordWebSocket

from adapters.discord.errors import FAILURES, word_for
from adapters.discord.parts import Parts
from adapters.discord.session import OK, Session
from adapters.proxy import proxy_for
from core.ports import Inbox, Store

log = structlog.get_logger()

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
WRONG_TOKEN_WAIT_SECONDS = 300.0
GUILD_READY_SECONDS = 1.0
"""How long after a server's description the next one may take, when a session begins."""
STARTING, WITHOUT_CONTENT = "starting", "without_message_content"


@dataclass(frozen=True, slots=True)
class ChannelState:
    """How the channel is, for /health: `detail` is a fixed word."""

    up: bool
    detail: str


class DiscordGateway:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._content = True
        """Whether messages that do not name the bot may be read, as far as we know (a privileged intent)."""
        self._listened = False
        """Whether a session was whole since the last trouble."""
        self.state = ChannelState(up=False, detail=STARTING)

    async def run(self, inbox: Inbox, store: Store) -> None:
        """Listen until cancelled. Discord's troubles are waited out, never raised."""
        wait = FIRST_WAIT_SECONDS
        while True:
            at_least = 0.0
            try:
                await self._listen(inbox, store)
                trouble = "closed"
            except discord.PrivilegedIntentsRequired:
                self._content = False
                log.warning("discord_without_message_content")
                continue
            except FAILURES as error:
                trouble = word_for(error)
                at_least = WRONG_TOKEN_WAIT_SECONDS if trouble == "refused_token" else 0.0
            except Exception:  # the task's top: the other channels must not go down with this one
                log.exception("discord_gateway_broke")
                trouble = "internal_error"
            if self._listened:
                self._listened, wait = False, FIRST_WAIT_SECONDS
            self._note(trouble)
            await asyncio.sleep(max(at_least, wait * random.uniform(0.5, 1.0)))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    async def _listen(self, inbox: Inbox, store: Store) -> None:
        """One client's life. Raises what ends it."""
        settings = self._parts.settings
        client = Client(_intents(content=self._content), proxy_for(settings.api_base_url))
        session = Session(client, self._parts, inbox, store, self._note)
        client.hand_over_to(session)
        try:
            await client.start(settings.token)
        finally:
            await client.close()
            await session.close()

    def _note(self, detail: str) -> None:
        """Keep the state, with one line in the log for each change."""
        if detail == OK and not self._content:
            detail = WITHOUT_CONTENT
        state = ChannelState(up=detail in (OK, WITHOUT_CONTENT), detail=detail)
        self._listened = self._listened or state.up
        if state != self.state:
            self.state = state
            if state.up:
                log.info("discord_listening", detail=detail)
            else:
                log.warning("discord_not_listening", reason=detail)


def _intents(*, content: bool) -> discord.Intents:
    """No more than is used: no members, no presences."""
    intents = discord.Intents.none()
    intents.guilds = True
    intents.guild_messages = intents.dm_messages = True
    intents.guild_reactions = intents.dm_reactions = True
    intents.message_content = content
    return intents


class Client(discord.AutoShardedClient):
    """The library's client; what it dispatches goes to the session at once, without a task for each event."""

    def __init__(self, intents: discord.Intents, proxy: str | None) -> None:
        super().__init__(
            intents=intents,
            proxy=proxy,
            max_messages=None,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            guild_ready_timeout=GUILD_READY_SECONDS,
            allowed_mentions=discord.AllowedMentions.none(),
            max_ratelimit_timeout=30.0,
        )
        self._handlers_of_ours: dict[str, Callable[..., None]] = {}

    def hand_over_to(self, session: Session) -> None:
        self._handlers_of_ours = session.handlers()

    async def launch_shards(self) -> None:
        """At the gateway that Discord names: the library would begin every later session at an address of its own."""
        self.shard_count, gateway, _ = await self.http.get_bot_gateway()
        DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway)
        await super().launch_shards()

    def dispatch(self, event: str, /, *args: Any, **kwargs: Any) -> None:
        handler = self._handlers_of_ours.get(event)
        if handler is None:
            return
        try:
            handler(*args)
        except Exception:  # one event must not end the session
            log.exception("discord_event_broke", kind=event)
