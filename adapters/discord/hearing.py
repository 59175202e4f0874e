"""What people write, change, delete and mark with reactions: from the library's events to core's inbox, in order."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import discord
import structlog

from adapters.discord.errors import FAILURES, word_for
from adapters.discord.ingest import Ingest
from adapters.discord.parse import Me, event_id_of, is_addressed, is_text, parse
from adapters.discord.parts import Parts
from adapters.discord.places import place_of, private_with
from adapters.discord.send import NO_PINGS
from core.errors import StoreUnavailable
from core.language import language_of
from core.messages import Deleted, Edited, IncomingMessage, Platform, PlatformEvent, Reacted
from core.ports import Inbox
from core.safety.rules import Risk, risk_of

log = structlog.get_logger()

TEXT_FILE_BYTES = 64 * 1024
TEXT_FILE_CHARACTERS = 20_000
TEXT_FILE_SECONDS = 5.0


class Hearing:
    """One session's."""

    def __init__(self, client: discord.AutoShardedClient, parts: Parts, inbox: Inbox, ingest: Ingest) -> None:
        self._client = client
        self._parts = parts
        self._inbox = inbox
        self._ingest = ingest

    @property
    def me(self) -> Me:
        assert self._client.user is not None and self._client.application_id is not None
        return Me(self._client.user.id, self._client.application_id)

    # --- messages ---------------------------------------------------------------------------

    def on_message(self, message: discord.Message) -> None:
        if message.author.bot or not self._is_for_us(message):
            return
        if message.guild is None:
            self._parts.api.remember_direct(message.author.id, message.channel.id)
        self._ingest.put(message.channel.id, partial(self._take, message))

    def _is_for_us(self, message: discord.Message) -> bool:
        if message.guild is None or is_addressed(message, self.me):
            return True
        place = place_of(message.guild.id, message.channel, message.channel.id)
        return self._client.intents.message_content and self._inbox.overhears(Platform.DISCORD, place)

    async def _take(self, message: discord.Message) -> None:
        parsed = await self.heard(message)
        if parsed is not None:
            await self.accept(parsed)

    async def heard(self, message: discord.Message) -> IncomingMessage | None:
        """The message as core knows it, in the right place and with what its text files say."""
        if not self._is_for_us(message):
            return None
        texts = [await _read(one) for one in message.attachments if is_text(one)]
        parsed = parse(message, self.me, texts)
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

    async def accept(self, message: IncomingMessage) -> None:
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

    def on_edit(self, change: discord.RawMessageUpdateEvent) -> None:
        message = change.message
        if message.edited_at is None or message.author.bot:
            return  # a link's preview came
        self._ingest.put(message.channel.id, partial(self._take_edit, message, message.edited_at))

    async def _take_edit(self, message: discord.Message, at: datetime) -> None:
        parsed = parse(message, self.me)
        if isinstance(parsed, str):
            return
        if message.guild is not None:
            parsed = replace(parsed, chat_id=await self._place(message.guild, message.channel))
        event_id = f"{event_id_of(message)}:{int(at.timestamp() * 1000)}"
        late = datetime.now(UTC) - message.created_at > self._parts.settings.catch_up
        await self._inbox.note(Edited(replace(parsed, event_id=event_id, sent_at=at, command=None), late))

    def on_delete(self, gone: discord.RawMessageDeleteEvent) -> None:
        self._deleted(gone.guild_id, gone.channel_id, {gone.message_id})

    def on_bulk_delete(self, gone: discord.RawBulkMessageDeleteEvent) -> None:
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
            guild = self._client.get_guild(guild_id)
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

    def on_reaction(self, reaction: discord.RawReactionActionEvent) -> None:
        if reaction.user_id == self.me.id:
            return
        if reaction.message_author_id not in (0, None, self.me.id):
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
