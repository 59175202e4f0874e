"""Slash commands, menu entries, presses and forms: each is acknowledged in time, stored, and answered by the outbox.

Within two seconds an answer is the response itself; what takes longer is deferred (Discord then shows that it is
thought about) and comes as a follow-up.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import discord
import structlog

from adapters.discord.api import Callback, DiscordApi
from adapters.discord.components import IN_PRIVATE, OF_SERVER, Pressed, form, pressed
from adapters.discord.errors import ALREADY_ACKNOWLEDGED, FAILURES, word_for
from adapters.discord.handles import Handle, Responses
from adapters.discord.notices import Notices
from adapters.discord.parse import Me, name_of
from adapters.discord.places import place_of, private_with
from core.commands import asked
from core.errors import IdempotencyConflict, StoreUnavailable
from core.language import Language, language_of
from core.messages import Command, ConversationKind, IncomingMessage, Platform, Quote, Reacted
from core.ports import Inbox
from core.safety.protocol import Protocols
from core.safety.rules import Risk, risk_of
from core.text import NotText, clean

log = structlog.get_logger()

DEFER_AFTER_SECONDS = 1.5
"""Of three, half for the way there and for a busy moment."""
STORE_SECONDS = 60.0
"""How long a store that is away is waited for; the person sees that it is thought about."""
IN_SERVER_ITSELF = frozenset({"help", "reset", "pause", "resume"})
"""What asks about the channel it is asked in; all else is the person's own, wherever they ask."""
EPHEMERAL = 1 << 6
Interaction = discord.Interaction[discord.Client]


@dataclass(frozen=True, slots=True)
class _Where:
    """The conversation that an interaction belongs to, and whether only its person sees the answer."""

    chat_id: str
    kind: ConversationKind
    ephemeral: bool


class Interactions:
    """Implements commands.Takes, and takes presses and forms."""

    def __init__(
        self,
        api: DiscordApi,
        responses: Responses,
        notices: Notices,
        protocols: Protocols,
        inbox: Inbox,
        me: Me,
    ) -> None:
        """`protocols`: what is said to a person in danger while nothing can be stored."""
        self._api = api
        self._responses = responses
        self._notices = notices
        self._protocols = protocols
        self._inbox = inbox
        self._me = me

    # --- what people ask for ----------------------------------------------------------------

    async def talk(self, interaction: Interaction, text: str) -> None:
        try:
            said = clean(text)
        except NotText:
            said = ""
        where = _here(interaction, ephemeral=False)
        await self._take(interaction, where, said or "👋", on_message=False)

    async def command(self, interaction: Interaction, name: str, argument: str = "") -> None:
        here = name in IN_SERVER_ITSELF
        where = _here(interaction, ephemeral=True) if here else _private(interaction)
        await self._take(interaction, where, "", Command(name, argument), on_message=False)

    async def set_up(self, interaction: Interaction) -> None:
        await self._take(interaction, _of_server(interaction), "", Command("settings"), on_message=False)

    async def talk_about(self, interaction: Interaction, message: discord.Message) -> None:
        """About somebody's words, with the bot alone."""
        try:
            words = clean(message.content)
        except NotText:
            words = ""
        theirs = message.author.id == interaction.user.id
        quote = Quote(
            words, message.author.id == self._me.id, "" if theirs else name_of(message.author.display_name)
        )
        ask = self._notices.commands[_language(interaction)]["talk_about"]
        await self._take(
            interaction, _private(interaction), ask, on_message=False, quote=quote if words else None
        )

    async def not_good(self, interaction: Interaction, message: discord.Message) -> None:
        handle = self._handle(interaction, on_message=False, ephemeral=True)
        acknowledging = asyncio.create_task(self._acknowledge_in_time(handle), name="acknowledge")
        word = self._notices.not_mine
        if message.author.id == self._me.id:
            word = self._notices.noted
            place, person = _here(interaction, ephemeral=True).chat_id, str(interaction.user.id)
            try:
                await self._inbox.note(Reacted(Platform.DISCORD, place, person, str(message.id), ("👎",)))
            except StoreUnavailable as error:
                log.warning("interaction_not_stored", reason=str(error))
                word = self._notices.trouble
        await self._say(interaction, word[_language(interaction)])
        await acknowledging

    async def of_component(self, interaction: Interaction) -> None:
        """A press of a button, or a choice of a list."""
        data: Any = interaction.data or {}
        custom_id = str(data.get("custom_id", ""))
        said = pressed(custom_id, list(data.get("values", ())), interaction.user.id)
        if said is None:
            await self._say(interaction, self._notices.not_yours[_language(interaction)])
            return
        if said.asks:
            title = _label_of(interaction, custom_id) or said.asks
            await self._open_form(interaction, form(custom_id, title, said.asks))
            return
        await self._take_press(interaction, said)

    async def of_form(self, interaction: Interaction) -> None:
        data: Any = interaction.data or {}
        said = pressed(str(data.get("custom_id", "")), [], interaction.user.id)
        value = _first_value(data.get("components", ()))
        if said is None:
            await self._say(interaction, self._notices.not_yours[_language(interaction)])
            return
        # Nothing but blanks: they are asked again.
        command = f"{said.command}={value}" if value else said.command
        await self._take_press(interaction, Pressed(said.belongs, command))

    async def _take_press(self, interaction: Interaction, said: Pressed) -> None:
        message_id = interaction.message.id if interaction.message is not None else 0
        command = asked.pressed(said.command, str(message_id))
        where = {IN_PRIVATE: _private, OF_SERVER: _of_server}.get(said.belongs)
        place = where(interaction) if where is not None else _here(interaction, ephemeral=True)
        if command is None or (said.belongs != IN_PRIVATE and interaction.guild_id is None):
            await self._say(interaction, self._notices.not_yours[_language(interaction)])
            return
        await self._take(interaction, place, "", command, on_message=True)

    # --- taking and acknowledging -----------------------------------------------------------

    async def _take(
        self,
        interaction: Interaction,
        where: _Where,
        text: str,
        command: Command | None = None,
        *,
        on_message: bool,
        quote: Quote | None = None,
    ) -> None:
        handle = self._handle(interaction, on_message=on_message, ephemeral=where.ephemeral)
        acknowledging = asyncio.create_task(self._acknowledge_in_time(handle), name="acknowledge")
        message = IncomingMessage(
            platform=Platform.DISCORD,
            event_id=f"interaction:{interaction.id}",
            chat_id=where.chat_id,
            sender_id=str(interaction.user.id),
            text=text,
            sent_at=interaction.created_at,
            kind=where.kind,
            alone=True,
            language=interaction.locale.value,
            quote=quote,
            speaker=name_of(interaction.user.display_name) if where.kind is ConversationKind.GROUP else "",
            command=command,
            response=handle.packed(),
            manages=_manages(interaction) if where.kind is ConversationKind.GROUP else None,
        )
        try:
            async with asyncio.timeout(STORE_SECONDS):
                heard = await self._stored(interaction, message)
        except TimeoutError:
            protocol = self._protocol_for(message)
            await self._say(interaction, protocol or self._notices.trouble[_language(interaction)])
        else:
            if not heard:
                await self._say(interaction, self._notices.silent_here[_language(interaction)])
        await acknowledging

    async def _stored(self, interaction: Interaction, message: IncomingMessage) -> bool:
        """Until it is; False where the bot was told to be silent. Whoever is in danger does not wait for the store."""
        wait, protocol = 0.25, self._protocol_for(message)
        while True:
            try:
                return await self._inbox.accept(message) is not None
            except IdempotencyConflict:  # handed over twice
                return True
            except StoreUnavailable as error:
                log.warning("interaction_not_stored", reason=str(error))
            if protocol:  # the turn says the same in its place, as soon as there is one
                await self._say(interaction, protocol)
                protocol = ""
            await asyncio.sleep(wait)
            wait = min(2 * wait, 5.0)

    def _protocol_for(self, message: IncomingMessage) -> str:
        """What a person in danger is told; nothing to anybody else."""
        if risk_of(message) is not Risk.HIGH:
            return ""
        return self._protocols.text(Risk.HIGH, language_of(message.text, message.language))

    async def _acknowledge_in_time(self, handle: Handle) -> None:
        response = self._responses.of(handle.interaction_id)
        try:
            async with asyncio.timeout(DEFER_AFTER_SECONDS):
                await response.acknowledged.wait()
            return
        except TimeoutError:
            pass
        if response.turn.locked():  # the answer itself is on its way
            return
        async with response.turn:
            if not response.acknowledged.is_set():
                await self._defer(handle)
                response.acknowledged.set()

    async def _defer(self, handle: Handle) -> None:
        """Say that the answer comes later."""
        type_ = Callback.DEFERRED_UPDATE if handle.on_message else Callback.DEFERRED_MESSAGE
        data = {"flags": EPHEMERAL} if handle.ephemeral and not handle.on_message else None
        try:
            await self._api.call_back(handle, type_, data)
        except discord.HTTPException as error:
            if error.code != ALREADY_ACKNOWLEDGED:  # by whoever answers it
                log.warning("interaction_not_acknowledged", reason=word_for(error), code=error.code)
        except FAILURES as error:
            log.warning("interaction_not_acknowledged", reason=word_for(error))

    async def _say(self, interaction: Interaction, text: str) -> None:
        """A word of the adapter's own, for them alone."""
        handle = self._handle(interaction, on_message=interaction.message is not None, ephemeral=True)
        response = self._responses.of(handle.interaction_id)
        payload = {"content": text, "flags": EPHEMERAL}
        async with response.turn:
            try:
                if not response.acknowledged.is_set():
                    await self._api.call_back(handle, Callback.MESSAGE, payload)
                elif handle.on_message:  # its original is the message that was pressed on
                    await self._api.follow_up(handle, payload)
                else:
                    await self._api.change_original(handle, {"content": text})
            except FAILURES as error:
                log.warning("interaction_not_answered", reason=word_for(error))
            response.acknowledged.set()

    async def _open_form(self, interaction: Interaction, data: dict[str, Any]) -> None:
        handle = self._handle(interaction, on_message=True, ephemeral=True)
        try:
            await self._api.call_back(handle, Callback.MODAL, data)
        except FAILURES as error:
            log.warning("form_not_opened", reason=word_for(error))

    def _handle(self, interaction: Interaction, *, on_message: bool, ephemeral: bool) -> Handle:
        return Handle(interaction.id, interaction.application_id, interaction.token, on_message, ephemeral)


def _private(interaction: Interaction) -> _Where:
    """The person's own conversation; in a server only they see the answer."""
    in_server = interaction.guild_id is not None
    return _Where(private_with(interaction.user.id), ConversationKind.PRIVATE, in_server)


def _of_server(interaction: Interaction) -> _Where:
    return _Where(str(interaction.guild_id), ConversationKind.GROUP, ephemeral=True)


def _here(interaction: Interaction, *, ephemeral: bool) -> _Where:
    """Where it was asked."""
    if interaction.guild_id is None or interaction.channel_id is None:
        return _private(interaction)
    place = place_of(interaction.guild_id, interaction.channel, interaction.channel_id)
    return _Where(place, ConversationKind.GROUP, ephemeral)


def _manages(interaction: Interaction) -> bool:
    """Discord says beside each interaction what its person may do there."""
    return interaction.permissions.manage_guild or interaction.permissions.administrator


def _language(interaction: Interaction) -> Language:
    return language_of("", interaction.locale.value)


def _label_of(interaction: Interaction, custom_id: str) -> str:
    """What the pressed button is called."""
    rows = interaction.message.components if interaction.message is not None else []
    buttons = [child for row in rows for child in getattr(row, "children", [])]
    return next(
        (str(button.label) for button in buttons if getattr(button, "custom_id", "") == custom_id), ""
    )


def _first_value(components: Any) -> str:
    """What was written into a form's one field."""
    for row in components:
        for field in row.get("components", ()):
            return " ".join(str(field.get("value", "")).split())
    return ""
