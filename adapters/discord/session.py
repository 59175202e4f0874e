"""One session with Discord's gateway: what its events mean, and in which order they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import discord
import structlog
from discord import app_commands

from adapters.discord import catch_up
from adapters.discord.api import DiscordApi
from adapters.discord.commands import InChinese, add_commands
from adapters.discord.errors import FAILURES, word_for
from adapters.discord.handles import Responses
from adapters.discord.ingest import Ingest
from adapters.discord.interactions import Interactions
from adapters.discord.notices import Notices
from adapters.discord.parse import Me, event_id_of, is_addressed, is_text, parse
from adapters.discord.places import place_of, private_with
from adapters.discord.send import NO_PINGS
from adapters.discord.settings import DiscordSettings
from core.commands.asked import JOINED, MISSED
from core.errors import StoreUnavailable
from core.language import Language, language_of
from core.messages import (
    Command,
    ConversationKind,
    Deleted,
    Edited,
    IncomingMessage,
    Left,
    Platform,
    PlatformEvent,
    Reacted,
)
from core.ports import Inbox, Store
from core.safety.protocol import Protocols
from core.safety.rules import Risk, risk_of

log = structlog.get_logger()

SEEN = "discord:seen"
"""The mark of when the gateway was last listened to."""
NOTE_SEEN_SECONDS = 30.0
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 300.0
STORE_AWAY_SECONDS = 5.0
TEXT_FILE_BYTES = 64 * 1024
TEXT_FILE_CHARACTERS = 20_000
TEXT_FILE_SECONDS = 5.0
CLOSE_SECONDS = 5.0
OK, RECONNECTING = "ok", "reconnecting"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a session works with."""

    settings: DiscordSettings
    api: DiscordApi
    responses: Responses
    notices: Notices
    menu: Mapping[Language, Mapping[str, str]]
    """What core's commands mean, a line each."""
    protocols: Protocols
    """What is said to a person in danger while nothing can be stored."""


class Session:
    """What one client's events mean."""

    client: discord.AutoShardedClient
    tree: app_commands.CommandTree[discord.AutoShardedClient]

    def __init__(
        self, parts: Parts, inbox: Inbox, store: Store, note: Callable[[str], None], *, content: bool
    ) -> None:
        """`note` is told how the channel is; `content`: whether messages that do not name the bot can be read."""
        self._parts = parts
        self._note = note
        self._content = content
        self._inbox = inbox
        self._store = store
        self._ingest = Ingest()
        self._tasks: set[asyncio.Task[None]] = set()
        self._interactions: Interactions | None = None
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
            "message": self._on_message,
            "raw_message_edit": self._on_edit,
            "raw_message_delete": self._on_delete,
            "raw_bulk_message_delete": self._on_bulk_delete,
            "raw_reaction_add": self._on_reaction,
            "raw_reaction_remove": self._on_reaction,
            "guild_join": self._on_join,
            "guild_available": self._on_available,
            "guild_remove": self._on_leave,
            "interaction": self._on_interaction,
        }

    @property
    def _me(self) -> Me:
        assert self.client.user is not None and self.client.application_id is not None
        return Me(self.client.user.id, self.client.application_id)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
                self._me,
            )
            add_commands(self.tree, self._interactions, self._parts.notices, self._parts.menu)
            self._spawn(self._show_commands(), "discord-commands")
        self._caught_up = False
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
        await self._keep_noting()

    async def _keep_noting(self) -> None:
        """Write down again and again that all up to now was heard."""
        while self._caught_up:
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
                if one.author.id == self._me.id and one.reference is not None
            }
            for message in messages or ():
                if message.id in answered:
                    passed_over = None
                    continue
                if message.author.id == self._me.id:
                    passed_over = None  # it was answered, or they went on since
                    continue
                parsed = await self._heard(message)
                if parsed is None:
                    continue
                if message.created_at >= answered_since or risk_of(parsed) is Risk.HIGH:
                    await self._accept(parsed)
                    passed_over = None
                else:
                    passed_over, count = message, count + 1
            if count:
                log.info("discord_passed_over", count=count)
            if passed_over is not None and passed_over.guild is None:
                await self._accept(_missed(passed_over))
        finally:
            left.release()

    # --- messages ---------------------------------------------------------------------------

    def _on_message(self, message: discord.Message) -> None:
        if message.author.bot or not self._is_for_us(message):
            return
        if message.guild is None:
            self._parts.api.remember_direct(message.author.id, message.channel.id)
        self._ingest.put(message.channel.id, partial(self._take, message))

    def _is_for_us(self, message: discord.Message) -> bool:
        if message.guild is None or is_addressed(message, self._me):
            return True
        place = place_of(message.guild.id, message.channel, message.channel.id)
        return self._content and self._inbox.overhears(Platform.DISCORD, place)

    async def _take(self, message: discord.Message) -> None:
        parsed = await self._heard(message)
        if parsed is not None:
            await self._accept(parsed)

    async def _heard(self, message: discord.Message) -> IncomingMessage | None:
        """The message as core knows it, in the right place and with what its text files say."""
        if not self._is_for_us(message):
            return None
        texts = [await _read(one) for one in message.attachments if is_text(one)]
        parsed = parse(message, self._me, texts)
        if isinstance(parsed, str):
            log.debug("discord_message_not_answered", kind=parsed)
            return None
        if message.guild is not None:
            parsed = replace(parsed, chat_id=await self._place(message.guild, message.channel))
        return parsed

    async def _place(self, guild: discord.Guild, channel: object) -> str:
        """A channel that the library does not know may be a thread, archived until somebody wrote."""
        channel_id: int = channel.id  # type: ignore[attr-defined]
        if not isinstance(channel, discord.PartialMessageable):
            return place_of(guild.id, channel, channel_id)
        known = guild.get_channel_or_thread(channel_id)
        if known is not None:
            return place_of(guild.id, known, channel_id)
        try:
            parent = await self._parts.api.parent_of(channel_id)
        except FAILURES as error:
            log.warning("discord_channel_not_known", reason=word_for(error))
            parent = None
        return f"{guild.id}/{parent}/{channel_id}" if parent is not None else f"{guild.id}/{channel_id}"

    async def _accept(self, message: IncomingMessage) -> None:
        """Raises StoreUnavailable: it is tried again. Whoever is in danger does not wait for the store."""
        try:
            await self._inbox.accept(message)
        except StoreUnavailable:
            if message.addressed and risk_of(message) is Risk.HIGH:
                await self._protect(message)
            raise

    async def _protect(self, message: IncomingMessage) -> None:
        text = self._parts.protocols.text(Risk.HIGH, language_of(message.text, message.language))
        channel_id = int(message.event_id.partition(":")[0])
        payload = {"content": text, "allowed_mentions": NO_PINGS}
        try:  # the nonce makes it one message, however often this is tried
            await self._parts.api.post(channel_id, payload, f"safe-{message.message_id}"[:25])
        except FAILURES as error:
            log.error("protocol_not_sent", reason=word_for(error))

    # --- what becomes of messages -----------------------------------------------------------

    def _on_edit(self, change: discord.RawMessageUpdateEvent) -> None:
        message = change.message
        if message.edited_at is None or message.author.bot:
            return  # a link's preview came
        self._ingest.put(message.channel.id, partial(self._take_edit, message, message.edited_at))

    async def _take_edit(self, message: discord.Message, at: datetime) -> None:
        parsed = parse(message, self._me)
        if isinstance(parsed, str):
            return
        if message.guild is not None:
            parsed = replace(parsed, chat_id=await self._place(message.guild, message.channel))
        event_id = f"{event_id_of(message)}:{int(at.timestamp() * 1000)}"
        late = datetime.now(UTC) - message.created_at > self._parts.settings.catch_up
        await self._inbox.note(Edited(replace(parsed, event_id=event_id, sent_at=at, command=None), late))

    def _on_delete(self, gone: discord.RawMessageDeleteEvent) -> None:
        self._deleted(gone.guild_id, gone.channel_id, {gone.message_id})

    def _on_bulk_delete(self, gone: discord.RawBulkMessageDeleteEvent) -> None:
        self._deleted(gone.guild_id, gone.channel_id, gone.message_ids)

    def _deleted(self, guild_id: int | None, channel_id: int, message_ids: set[int]) -> None:
        async def note() -> None:
            place = await self._place_by_ids(guild_id, channel_id)
            if place is not None:
                ids = tuple(str(id_) for id_ in sorted(message_ids))
                await self._inbox.note(Deleted(Platform.DISCORD, place, ids))

        self._ingest.put(channel_id, note)

    async def _place_by_ids(self, guild_id: int | None, channel_id: int) -> str | None:
        if guild_id is not None:
            guild = self.client.get_guild(guild_id)
            channel = guild.get_channel_or_thread(channel_id) if guild is not None else None
            if channel is not None:
                return place_of(guild_id, channel, channel_id)
            return f"{guild_id}/{channel_id}"
        try:
            person = await self._parts.api.person_behind(channel_id)
        except FAILURES as error:
            log.warning("discord_channel_not_known", reason=word_for(error))
            return None
        return private_with(person) if person is not None else None

    def _on_reaction(self, reaction: discord.RawReactionActionEvent) -> None:
        if reaction.user_id == self._me.id:
            return
        if reaction.message_author_id not in (0, None, self._me.id):
            return
        sign = reaction.emoji.name or "?"
        added = reaction.event_type == "REACTION_ADD"

        async def note() -> None:
            place = (
                await self._place_by_ids(reaction.guild_id, reaction.channel_id)
                if reaction.guild_id is not None
                else private_with(reaction.user_id)
            )
            if place is not None:
                event: PlatformEvent = Reacted(
                    Platform.DISCORD,
                    place,
                    str(reaction.user_id),
                    str(reaction.message_id),
                    (sign,) if added else (),
                    taken_back="" if added else sign,
                )
                await self._inbox.note(event)

        self._ingest.put(reaction.channel_id, note)

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
            sender_id=str(self._me.id),
            text="",
            sent_at=joined_at,
            kind=ConversationKind.GROUP,
            alone=True,
            language=guild.preferred_locale.value,
            command=Command(JOINED),
        )
        self._ingest.put(channel.id, partial(self._accept, message))

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


async def _read(file: discord.Attachment) -> str:
    """A text file's text; nothing if it is too large or does not come."""
    if file.size > TEXT_FILE_BYTES:
        return ""
    try:
        async with asyncio.timeout(TEXT_FILE_SECONDS):
            data = await file.read()
    except FAILURES as error:
        log.warning("discord_file_not_read", reason=word_for(error))
        return ""
    return data.decode(errors="replace")[:TEXT_FILE_CHARACTERS]
