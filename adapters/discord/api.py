"""What we ask of Discord's REST API, through the library's client: it knows every route's rate limits.

Logs in when it is first used. Raises what errors.FAILURES names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from typing import Any

import discord
from discord.http import Route, handle_message_parameters

from adapters.discord.handles import Handle
from adapters.discord.settings import DiscordSettings
from adapters.proxy import proxy_for

API_VERSION = 10
LONGEST_WAIT_SECONDS = 30.0
"""The library waits for a rate limit itself up to so long; the outbox waits out what is longer."""
DIRECTS_REMEMBERED = 20_000


class Callback(IntEnum):
    """Interaction callback types."""

    MESSAGE = 4
    DEFERRED_MESSAGE = 5
    DEFERRED_UPDATE = 6
    UPDATE_MESSAGE = 7
    MODAL = 9


@dataclass(frozen=True, slots=True)
class File:
    name: str
    data: bytes


def use_base_url(base_url: str) -> None:
    """Where the library finds Discord; the gateway's address it is told there. It need not warn of missing voice."""
    discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False
    Route.BASE = f"{base_url.rstrip('/')}/v{API_VERSION}"


class DiscordApi:
    def __init__(self, settings: DiscordSettings) -> None:
        use_base_url(settings.api_base_url)
        self._token = settings.token
        self._client = discord.Client(
            intents=discord.Intents(guilds=True),  # it opens no session; without, the library warns
            proxy=proxy_for(settings.api_base_url),
            max_messages=None,
            max_ratelimit_timeout=LONGEST_WAIT_SECONDS,
        )
        self._login = asyncio.Lock()
        self._logged_in = False
        self._directs: dict[int, int] = {}
        self._asking: set[asyncio.Task[Any]] = set()

    async def post(
        self, channel_id: int, payload: dict[str, Any], nonce: str, file: File | None = None
    ) -> int:
        """Send a message; the same nonce within some minutes finds the one that was sent (`enforce_nonce`)."""
        route = Route("POST", "/channels/{channel_id}/messages", channel_id=channel_id)
        sent = await self._request(route, {**payload, "nonce": nonce, "enforce_nonce": True}, file)
        return int(sent["id"])

    async def edit(self, channel_id: int, message_id: int, payload: dict[str, Any]) -> None:
        route = Route(
            "PATCH",
            "/channels/{channel_id}/messages/{message_id}",
            channel_id=channel_id,
            message_id=message_id,
        )
        await self._request(route, payload)

    async def show_typing(self, channel_id: int) -> None:
        await self._request(Route("POST", "/channels/{channel_id}/typing", channel_id=channel_id))

    async def call_back(
        self, handle: Handle, type_: Callback, data: dict[str, Any] | None = None, file: File | None = None
    ) -> int | None:
        """The first response to an interaction, which acknowledges it; the message's id, if it is one."""
        route = Route(
            "POST",
            "/interactions/{interaction_id}/{webhook_token}/callback?with_response=true",
            interaction_id=handle.interaction_id,
            webhook_token=handle.token,
        )
        payload = {"type": int(type_), **({"data": data} if data is not None else {})}
        answer = await self._request(route, payload, file)
        message = ((answer or {}).get("resource") or {}).get("message")
        return int(message["id"]) if message else None

    async def change_original(self, handle: Handle, payload: dict[str, Any], file: File | None = None) -> int:
        route = Route(
            "PATCH",
            "/webhooks/{webhook_id}/{webhook_token}/messages/@original",
            webhook_id=handle.application_id,
            webhook_token=handle.token,
        )
        return int((await self._request(route, payload, file))["id"])

    async def follow_up(self, handle: Handle, payload: dict[str, Any], file: File | None = None) -> int:
        route = Route(
            "POST",
            "/webhooks/{webhook_id}/{webhook_token}?wait=true",
            webhook_id=handle.application_id,
            webhook_token=handle.token,
        )
        return int((await self._request(route, payload, file))["id"])

    async def direct_with(self, user_id: int) -> int:
        """The channel of the private chat with somebody."""
        if user_id not in self._directs:
            opened = await self._request(Route("POST", "/users/@me/channels"), {"recipient_id": user_id})
            self.remember_direct(user_id, int(opened["id"]))
        return self._directs[user_id]

    def remember_direct(self, user_id: int, channel_id: int) -> None:
        self._directs[user_id] = channel_id
        while len(self._directs) > DIRECTS_REMEMBERED:
            del self._directs[next(iter(self._directs))]

    async def person_behind(self, channel_id: int) -> int | None:
        """Whose private chat a channel is; None if it is none."""
        for user_id, known in self._directs.items():
            if known == channel_id:
                return user_id
        found = await self._request(Route("GET", "/channels/{channel_id}", channel_id=channel_id))
        people = found.get("recipients", ())
        return int(people[0]["id"]) if people else None

    async def parent_of(self, channel_id: int) -> int | None:
        """The channel that a thread is in; None for what is no thread."""
        found = await self._request(Route("GET", "/channels/{channel_id}", channel_id=channel_id))
        is_thread = discord.ChannelType(found["type"]) in (
            discord.ChannelType.public_thread,
            discord.ChannelType.private_thread,
            discord.ChannelType.news_thread,
        )
        return int(found["parent_id"]) if is_thread else None

    async def may_manage(self, guild_id: int, user_id: int) -> bool:
        """Whether somebody has "Manage Server" there."""
        guild = await self._request(Route("GET", "/guilds/{guild_id}", guild_id=guild_id))
        if int(guild["owner_id"]) == user_id:
            return True
        member = await self._request(
            Route("GET", "/guilds/{guild_id}/members/{member_id}", guild_id=guild_id, member_id=user_id)
        )
        theirs = {int(role) for role in member["roles"]} | {guild_id}
        held = discord.Permissions.none()
        for role in guild["roles"]:
            if int(role["id"]) in theirs:
                held |= discord.Permissions(int(role["permissions"]))
        return held.manage_guild or held.administrator

    async def logged_in(self) -> discord.Client:
        """The client, for what the library offers itself. Raises LoginFailure where the token is refused."""
        async with self._login:
            if not self._logged_in:
                await self._client.login(self._token)
                self._logged_in = True
        return self._client

    async def close(self) -> None:
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await self._client.close()

    async def _request(
        self, route: Route, payload: dict[str, Any] | None = None, file: File | None = None
    ) -> Any:
        """Never cancelled: a request that is given up while the library waits for the global rate limit would leave
        every other one waiting for ever. Who gives up leaves it running; it is bounded by the library's timeouts."""
        task = asyncio.create_task(self._ask(route, payload, file), name="discord-request")
        self._asking.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # whoever gave up does not want to know

    async def _ask(self, route: Route, payload: dict[str, Any] | None, file: File | None) -> Any:
        http = (await self.logged_in()).http
        if payload is None:
            return await http.request(route)
        if file is None:
            return await http.request(route, json=payload)
        sent = discord.File(BytesIO(file.data), filename=file.name)
        parts = handle_message_parameters(file=sent)
        assert parts.multipart is not None
        return await http.request(route, form=_with_payload(parts.multipart, payload), files=[sent])


def _with_payload(multipart: Sequence[dict[str, Any]], payload: dict[str, Any]) -> list[dict[str, Any]]:
    """The library's form for a file, around our own JSON."""
    return [
        {**part, "value": discord.utils._to_json(payload)} if part["name"] == "payload_json" else dict(part)
        for part in multipart
    ]
