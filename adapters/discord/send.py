"""Sending to Discord. Nothing we say can ping anybody."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import aiohttp
import discord
import structlog

from adapters.discord.api import Callback, DiscordApi, File
from adapters.discord.components import components_of
from adapters.discord.errors import (
    ALREADY_ACKNOWLEDGED,
    FAILURES,
    INTERACTION_GONE,
    UNKNOWN_MESSAGE,
    translate,
    word_for,
)
from adapters.discord.handles import Handle, Responses
from adapters.discord.notices import Notices
from adapters.discord.places import channel_in, is_server, person_in, server_in
from adapters.discord.render import render
from core.errors import DeliveryFailed
from core.messages import Delivery, MediaKind, Segment

log = structlog.get_logger()

NO_PINGS: dict[str, Any] = {"parse": [], "replied_user": False}
EPHEMERAL, SILENT = 1 << 6, 1 << 12
TYPING_A_SECOND = 8


class DiscordSender:
    """Implements core.ports.Sender."""

    def __init__(self, api: DiscordApi, responses: Responses, notices: Notices) -> None:
        self._api = api
        self._responses = responses
        self._notices = notices
        self._typed_at: deque[float] = deque(maxlen=TYPING_A_SECOND)

    async def send(self, delivery: Delivery) -> str | None:
        try:
            if delivery.segment.response is not None:
                sent = await self._respond(delivery, Handle.of(delivery.segment.response))
            else:
                sent = await self._say(delivery)
        except FAILURES as error:
            if isinstance(error, discord.HTTPException) and 400 <= error.status < 500:
                log.warning("discord_refused", code=error.code, status=error.status, delivery_id=delivery.id)
            raise translate(error) from error
        except ValueError as error:  # a button that says more than one can hold: it never will
            log.exception("segment_does_not_fit", delivery_id=delivery.id)
            raise DeliveryFailed("refused", permanent=True) from error
        return None if sent is None else str(sent)

    # --- messages ---------------------------------------------------------------------------

    async def _say(self, delivery: Delivery) -> int | None:
        segment, channel_id = delivery.segment, await self._channel(delivery.chat_id)
        if segment.replaces is not None and segment.media is None:
            return await self._replace(
                channel_id, delivery.chat_id, segment, segment.replaces, str(delivery.id)
            )
        return await self._post(channel_id, delivery.chat_id, segment, str(delivery.id))

    async def _post(self, channel_id: int, place: str, segment: Segment, nonce: str) -> int | None:
        payload = self._payload(segment, place)
        if is_empty(payload, segment):
            return None  # Discord refuses it, nobody misses it
        if segment.answers is not None:
            payload["message_reference"] = {"message_id": segment.answers, "fail_if_not_exists": False}
        if segment.silent:
            payload["flags"] = SILENT
        return await self._api.post(channel_id, payload, nonce, _file(segment))

    async def _replace(
        self, channel_id: int, place: str, segment: Segment, message_id: str, nonce: str
    ) -> int | None:
        """Change a message of ours; one that is no more is sent anew."""
        payload = self._payload(segment, place)
        if not segment.text.strip():
            payload = {"components": payload["components"]}
        try:
            await self._api.edit(channel_id, int(message_id), payload)
        except discord.NotFound as error:
            if error.code != UNKNOWN_MESSAGE:
                raise
            return await self._post(channel_id, place, segment, nonce)
        return int(message_id) if segment.text.strip() else None

    async def _channel(self, place: str) -> int:
        person = person_in(place)
        return await self._api.direct_with(person) if person is not None else channel_in(place)

    def _payload(self, segment: Segment, place: str) -> dict[str, Any]:
        """What a message holds, whichever way it goes."""
        payload: dict[str, Any] = {
            "content": segment.text,
            "components": components_of(segment, place, self._notices),
            "allowed_mentions": NO_PINGS,
        }
        if segment.media is not None and segment.media.kind is MediaKind.PHOTO:
            picture = {"url": f"attachment://{segment.media.name}"}
            payload["embeds"] = [
                {"image": picture, **({"description": segment.text} if segment.text else {})}
            ]
            payload["content"] = ""
        return payload

    # --- interactions -----------------------------------------------------------------------

    async def _respond(self, delivery: Delivery, handle: Handle) -> int | None:
        """Answer a command or a press by its own way; by a message where that is closed."""
        segment = delivery.segment
        payload = self._payload(segment, delivery.chat_id)
        in_place = handle.on_message and segment.replaces is not None
        if in_place and not segment.text.strip():
            payload = {"components": payload["components"]}
        elif is_empty(payload, segment):
            return None
        elif handle.ephemeral and not in_place:
            payload["flags"] = EPHEMERAL
        response = self._responses.of(handle.interaction_id)
        async with response.turn:
            try:
                if not response.acknowledged.is_set():
                    type_ = Callback.UPDATE_MESSAGE if in_place else Callback.MESSAGE
                    try:
                        sent = await self._api.call_back(handle, type_, payload, _file(segment))
                    except discord.HTTPException as error:
                        if error.code != ALREADY_ACKNOWLEDGED:
                            raise
                        response.acknowledged.set()
                    else:
                        response.acknowledged.set()
                        return sent if segment.text.strip() else None
                if in_place or not (handle.on_message or segment.follows):
                    return await self._api.change_original(handle, payload, _file(segment))
                return await self._api.follow_up(handle, payload, _file(segment))
            except discord.HTTPException as error:
                if error.code not in INTERACTION_GONE:
                    raise
        return await self._without_interaction(delivery, handle)

    async def _without_interaction(self, delivery: Delivery, handle: Handle) -> int | None:
        """Its 15 minutes are over (a crash, a model that was away): what is private goes to the private chat."""
        if is_server(delivery.chat_id) or (handle.ephemeral and person_in(delivery.chat_id) is None):
            raise DeliveryFailed("interaction_expired", permanent=True)
        channel_id = await self._channel(delivery.chat_id)
        return await self._post(channel_id, delivery.chat_id, delivery.segment, str(delivery.id))

    # --- the rest of a sender ---------------------------------------------------------------

    async def show_typing(self, chat_id: str) -> None:
        if is_server(chat_id) or not self._may_show_typing():
            return
        try:
            await self._api.show_typing(await self._channel(chat_id))
        except FAILURES as error:
            log.debug("typing_not_shown", reason=word_for(error))

    def _may_show_typing(self) -> bool:
        """A courtesy: it must not take the answers' part of what Discord lets us ask in a second."""
        now = time.monotonic()
        if len(self._typed_at) == TYPING_A_SECOND and now - self._typed_at[0] < 1:
            return False
        self._typed_at.append(now)
        return True

    async def show_preview(
        self, chat_id: str, preview_id: int, text: str, message_id: str | None
    ) -> str | None:
        beginning = render(text)[0]
        try:
            channel_id = await self._channel(chat_id)
            if message_id is None:
                nonce = f"preview-{preview_id}"
                try:
                    sent = await self._post(channel_id, chat_id, beginning, nonce)
                except (aiohttp.ClientError, OSError):  # it may be there: the nonce finds it
                    sent = await self._post(channel_id, chat_id, beginning, nonce)
                return None if sent is None else str(sent)
            await self._api.edit(channel_id, int(message_id), self._payload(beginning, chat_id))
        except FAILURES as error:
            raise translate(error) from error
        return message_id

    async def may_manage(self, chat_id: str, user_id: str) -> bool:
        try:
            return await self._api.may_manage(server_in(chat_id), int(user_id))
        except FAILURES as error:
            raise translate(error) from error


def is_empty(payload: dict[str, Any], segment: Segment) -> bool:
    return not segment.text.strip() and not payload.get("components") and segment.media is None


def _file(segment: Segment) -> File | None:
    return File(segment.media.name, segment.media.data) if segment.media is not None else None
