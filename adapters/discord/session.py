"""One session with Discord's gateway: what its events mean, and in which order they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any

import discord
import structlog
from discord import app_commands

from adapters.discord import catch_up
from adapters.discord.commands import InChinese, add_commands
from adapters.discord.errors import FAILURES, word_for
from adapters.discord.hearing import Hearing
from adapters.discord.ingest import Ingest
from adapters.discord.interactions import Interactions
from adapters.discord.parse import event_id_of
from adapters.discord.parts import Parts
from adapters.discord.places import place_of, private_with
from core.commands.asked import JOINED, MISSED
from core.errors import StoreUnavailable
from core.messages import (
    Command,
    ConversationKind,
    IncomingMessage,
    Left,
    Platform,
)
from core.ports import Inbox, Store
from core.safety.rules import Risk, risk_of

log = structlog.get_logger()

SEEN = "discord:seen"
"""The mark of when the gateway was last listened to."""
NOTE_SEEN_SECONDS = 30.0
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 300.0
STORE_AWAY_SECONDS = 5.0
CLOSE_SECONDS = 5.0
OK, RECONNECTING = "ok", "reconnecting"


class Session:
    """One client's session: its beginning and end, what was missed before it, servers and interactions."""

    def __init__(
        self,
        client: discord.AutoShardedClient,
        parts: Parts,
        inbox: Inbox,
        store: Store,
        note: Callable[[str], None],
    ) -> None:
        """`note` is told how the channel is."""
        self.client = client
        self.tree = app_commands.CommandTree(client)
        self._parts = parts
        self._note = note
        self._inbox = inbox
        self._store = store
        self._ingest = Ingest()
        self._hearing = Hearing(client, parts, inbox, self._ingest)
        self._tasks: set[asyncio.Task[None]] = set()
        self._interactions: Interactions | None = None
        self._noting: asyncio.Task[None] | None = None
        self._caught_up = False
        self._missed_since: datetime | None = None
        self._unread = False
        """Whether some history could not be read: then the next session has to look for it."""
        self._began = datetime.now(UTC)
        self._shards_lost: set[int] = set()

    def handlers(self) -> dict[str, Callable[..., None]]:
        return {
            "shard_connect": self._on_connect,
            "shard_disconnect": self._on_disconnect,
            "shard_resumed": self._on_resumed,
            "ready": self._on_ready,
            "message": self._hearing.on_message,
            "raw_message_edit": self._hearing.on_edit,
            "raw_message_delete": self._hearing.on_delete,
            "raw_bulk_message_delete": self._hearing.on_bulk_delete,
            "raw_reaction_add": self._hearing.on_reaction,
            "raw_reaction_remove": self._hearing.on_reaction,
            "guild_join": self._on_join,
            "guild_available": self._on_available,
            "guild_remove": self._on_leave,
            "interaction": self._on_interaction,
        }

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Store what is on its way; what is not is found at the next start."""
        await self._ingest.close(CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._caught_up:
            await self._note_seen()

    # --- the session ------------------------------------------------------------------------

    def _on_connect(self, shard_id: int) -> None:
        """A session begins: what was missed before it comes first."""
        self._shards_lost.discard(shard_id)
        if self._interactions is None:
            self._interactions = Interactions(
                self._parts.api,
                self._parts.responses,
                self._parts.notices,
                self._parts.protocols,
                self._inbox,
                self._hearing.me,
            )
            add_commands(self.tree, self._interactions, self._parts.notices, self._parts.menu)
            self._spawn(self._show_commands(), "discord-commands")
        self._caught_up = False
        if self._noting is not None:
            self._noting.cancel()
        self._ingest.hold()

    def _on_disconnect(self, shard_id: int) -> None:
        self._shards_lost.add(shard_id)
        self._note(RECONNECTING)

    def _on_resumed(self, shard_id: int) -> None:
        self._shards_lost.discard(shard_id)
        if not self._shards_lost:
            self._note(OK)

    def _on_ready(self) -> None:
        self._note(OK)
        self._spawn(self._catch_up(), "discord-catch-up")

    async def _show_commands(self) -> None:
        """Tell Discord our commands, until it has them. All else works without."""
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                await self.tree.set_translator(InChinese())
                await self.tree.sync()
                return
            except (app_commands.AppCommandError, *FAILURES) as error:
                log.warning("discord_commands_not_set", reason=word_for(error))
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    # --- what was missed --------------------------------------------------------------------

    async def _catch_up(self) -> None:
        now = datetime.now(UTC)
        try:
            since, seen = await self._store.read(
                lambda tx: (
                    tx.marks.get(SEEN),
                    tx.inbox.newest_seen(
                        Platform.DISCORD, now - catch_up.PRIVATE_FURTHEST, catch_up.PRIVATE_CHATS
                    ),
                )
            )
            gone = await self._servers_left(now)
        except StoreUnavailable as error:  # what comes now is tried until it is stored, and so is this
            log.warning("discord_not_caught_up", reason=str(error))
            self._ingest.go_on()
            await asyncio.sleep(STORE_AWAY_SECONDS)
            self._spawn(self._catch_up(), "discord-catch-up")
            return
        for event in gone:
            self._ingest.put(0, partial(self._inbox.note, event))
        begin = max((since or self._began) - catch_up.MARGIN, now - catch_up.FURTHEST)
        gaps = [
            *catch_up.gaps_in_private(self.client, seen),
            *catch_up.gaps_in_servers(self.client.guilds, begin),
        ]
        self._missed_since = begin
        new_since = begin if since is not None else self._began
        for guild in self.client.guilds:
            if guild.me is not None and guild.me.joined_at is not None and guild.me.joined_at > new_since:
                self._on_join(guild)
        at_once, left = asyncio.Semaphore(catch_up.AT_ONCE), asyncio.Semaphore(0)
        for gap in gaps:
            self._ingest.put(gap.channel_id, partial(self._fill, gap, at_once, left), first=True)
        self._ingest.go_on()
        for _ in gaps:
            await left.acquire()
        self._caught_up = True
        if self._noting is not None:
            self._noting.cancel()
        self._noting = self._spawn(self._keep_noting(), "discord-mark")

    async def _keep_noting(self) -> None:
        """Write down again and again that all up to now was heard."""
        while True:
            if not self._shards_lost:
                await self._note_seen()
            await asyncio.sleep(NOTE_SEEN_SECONDS)

    async def _note_seen(self) -> None:
        if self._ingest.troubled or self._ingest.overflowed or self._unread:
            return
        now = datetime.now(UTC)
        try:
            await self._store.write(lambda tx: tx.marks.set(SEEN, now))
        except StoreUnavailable as error:
            log.warning("discord_mark_not_stored", reason=str(error))

    async def _servers_left(self, now: datetime) -> list[Left]:
        """Those that put us out while nobody listened."""
        known = await self._store.read(lambda tx: tx.conversations.groups(Platform.DISCORD))
        here = {str(guild.id) for guild in self.client.guilds}
        return [Left(Platform.DISCORD, server) for server in known if server not in here]

    async def _fill(self, gap: catch_up.Gap, at_once: asyncio.Semaphore, left: asyncio.Semaphore) -> None:
        """Take what was missed in a channel, or pass over politely what is too old to be answered now."""
        try:
            answered_since = datetime.now(UTC) - self._parts.settings.catch_up
            passed_over: discord.Message | None = None
            count = 0
            messages = await catch_up.messages_in(gap, at_once)
            if messages is None:
                self._unread = True
            answered = {
                one.reference.message_id
                for one in messages or ()
                if one.author.id == self._hearing.me.id and one.reference is not None
            }
            for message in messages or ():
                if message.id in answered:
                    passed_over = None
                    continue
                if message.author.id == self._hearing.me.id:
                    passed_over = None  # it was answered, or they went on since
                    continue
                parsed = await self._hearing.heard(message)
                if parsed is None:
                    continue
                if message.created_at >= answered_since or risk_of(parsed) is Risk.HIGH:
                    await self._hearing.accept(parsed)
                    passed_over = None
                else:
                    passed_over, count = message, count + 1
            if count:
                log.info("discord_passed_over", count=count)
            if passed_over is not None and passed_over.guild is None:
                await self._hearing.accept(_missed(passed_over))
        finally:
            left.release()

    # --- servers ----------------------------------------------------------------------------

    def _on_join(self, guild: discord.Guild) -> None:
        """One word of welcome, where it may be said."""
        channel = _first_writable(guild)
        if channel is None or guild.me is None or guild.me.joined_at is None:
            log.info("discord_joined_silently")
            return
        joined_at = guild.me.joined_at
        message = IncomingMessage(
            platform=Platform.DISCORD,
            event_id=f"joined:{guild.id}:{int(joined_at.timestamp())}",
            chat_id=place_of(guild.id, channel, channel.id),
            sender_id=str(self._hearing.me.id),
            text="",
            sent_at=joined_at,
            kind=ConversationKind.GROUP,
            alone=True,
            language=guild.preferred_locale.value,
            command=Command(JOINED),
        )
        self._ingest.put(channel.id, partial(self._hearing.accept, message))

    def _on_available(self, guild: discord.Guild) -> None:
        """It was away when the session began: what was missed there could not be looked for."""
        if self._missed_since is None:
            return
        at_once, left = asyncio.Semaphore(catch_up.AT_ONCE), asyncio.Semaphore(0)
        for gap in catch_up.gaps_in_servers([guild], self._missed_since):
            self._ingest.put(gap.channel_id, partial(self._fill, gap, at_once, left), first=True)

    def _on_leave(self, guild: discord.Guild) -> None:
        """Not when a server is only away: the library tells that otherwise."""
        self._ingest.put(0, partial(self._inbox.note, Left(Platform.DISCORD, str(guild.id))))

    # --- interactions -----------------------------------------------------------------------

    def _on_interaction(self, interaction: discord.Interaction[discord.Client]) -> None:
        """Presses and forms; commands go through the tree."""
        if self._interactions is None:
            return
        if interaction.type is discord.InteractionType.component:
            self._spawn(self._interactions.of_component(interaction), "press")
        elif interaction.type is discord.InteractionType.modal_submit:
            self._spawn(self._interactions.of_form(interaction), "form")


def _first_writable(guild: discord.Guild) -> discord.TextChannel | None:
    """The channel for welcomes, else the first in which it may speak."""
    for channel in (guild.system_channel, *guild.text_channels):
        if channel is not None and guild.me is not None:
            held = channel.permissions_for(guild.me)
            if held.view_channel and held.send_messages:
                return channel
    return None


def _missed(message: discord.Message) -> IncomingMessage:
    """That somebody's words were too old to be answered, as a message of its own."""
    return IncomingMessage(
        platform=Platform.DISCORD,
        event_id=f"missed:{event_id_of(message)}",
        chat_id=private_with(message.author.id),
        sender_id=str(message.author.id),
        text="",
        sent_at=message.created_at,
        alone=True,
        message_id=str(message.id),
        command=Command(MISSED),
    )
