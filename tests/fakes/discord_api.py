"""Discord's REST API, version 10, and its CDN: discord.com/developers/docs, as far as a chat bot uses it.

Every body is checked (see `discord_rules`), permissions are asked for as documented, and rates are limited. What a
request changes is told to the gateway. Nothing here is shared with the program under test.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from aiohttp import BodyPartReader, web

from tests.fakes import discord_gateway as gateways
from tests.fakes import discord_rules as rules
from tests.fakes import discord_world as worlds
from tests.fakes.discord_gateway import Gateway
from tests.fakes.discord_interactions import DEFERRED_UPDATE, MODAL, Answers, Interaction
from tests.fakes.discord_limits import RateLimits, Trouble
from tests.fakes.discord_rules import Form, Refused
from tests.fakes.discord_world import Attachment, Channel, Guild, Message, World

NONCE_SECONDS = 180.0
MESSAGE_RATE = (5, 5.0)
REACTION_RATE = (1, 0.25)
MAY_BE_SET = 1 << 2 | 1 << 12 | rules.V2 | worlds.VOICE_MESSAGE
"""The flags that a bot can give to a message: no previews, silent, components alone, spoken."""
_MESSAGES = r"/channels/(?P<channel>[0-9]+)/messages"
_MESSAGE = _MESSAGES + r"/(?P<message>[0-9]+)"
_REACTION = r"/reactions/(?P<emoji>[^/]+)"
_COMMANDS = r"/applications/(?P<application>[0-9]+)/commands"
_GUILD_COMMANDS = r"/applications/(?P<application>[0-9]+)/guilds/(?P<guild>[0-9]+)/commands"
_WEBHOOK = r"/webhooks/(?P<application>[0-9]+)/(?P<token>[^/]+)"
_ANSWER = _WEBHOOK + r"/messages/(?P<answer>@original|[0-9]+)"
_CALLBACK = r"/interactions/(?P<interaction>[0-9]+)/(?P<token>[^/]+)/callback"


@dataclass
class Call:
    """A request that was understood."""

    method: str
    path: str
    parts: dict[str, str]
    query: dict[str, str]
    body: Any = None
    files: dict[int, tuple[str, bytes, str | None]] = field(default_factory=dict)

    def id(self, name: str) -> int:
        return int(self.parts[name])


Handler = Callable[[Call], Any]
NOTHING = object()
"""Answered with 204."""


class DiscordApi:
    def __init__(self, world: World, gateway: Gateway, stirred: Callable[[], None]) -> None:
        self.world = world
        self.gateway = gateway
        self._stirred = stirred
        self.token = ""
        self.rates_on = True
        self.too_many = 0
        self.requests: list[tuple[str, str, int]] = []
        self.typing: list[tuple[int, float]] = []
        self.hanging = 0
        """Requests that are being delayed."""
        self.commands: dict[int, list[dict[str, Any]]] = {0: []}
        """As registered, by server; 0: everywhere."""
        self.trouble = Trouble()
        self.answers = Answers(world.application_id, self._post_answer, self._change, self.remove)
        self._nonces: dict[tuple[int, str], tuple[float, Message]] = {}
        self._routes = [
            (m, re.compile(f"{p}/?"), handler, f"{m} {p}") for m, p, handler in self._all_routes()
        ]
        self.limits = RateLimits(
            {
                f"POST {_MESSAGES}": MESSAGE_RATE,
                f"PATCH {_MESSAGE}": MESSAGE_RATE,
                f"POST {_WEBHOOK}": (5, 2.0),
                f"PUT {_MESSAGE}{_REACTION}/@me": REACTION_RATE,
                f"DELETE {_MESSAGE}{_REACTION}/@me": REACTION_RATE,
            }
        )

    def _all_routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/gateway/bot", self._gateway_bot),
            ("GET", "/gateway", lambda _: {"url": self.gateway.url}),
            ("GET", "/users/@me", self._me),
            ("GET", r"/users/@me/guilds", self._my_guilds),
            ("POST", r"/users/@me/channels", self._open_direct),
            ("GET", r"/users/(?P<user>[0-9]+)", self._user),
            ("GET", "/applications/@me", self._application),
            ("GET", "/oauth2/applications/@me", self._application),
            ("GET", r"/channels/(?P<channel>[0-9]+)", lambda call: self._json(self._channel(call))),
            ("PATCH", r"/channels/(?P<channel>[0-9]+)", self._edit_thread),
            ("POST", r"/channels/(?P<channel>[0-9]+)/typing", self._typing),
            ("PUT", r"/channels/(?P<channel>[0-9]+)/thread-members/@me", self._join_thread),
            ("DELETE", r"/channels/(?P<channel>[0-9]+)/thread-members/@me", self._leave_thread),
            ("GET", _MESSAGES, self._history),
            ("POST", _MESSAGES, self._post),
            ("GET", _MESSAGE, self._get_message),
            ("PATCH", _MESSAGE, self._edit),
            ("DELETE", _MESSAGE, self._delete),
            ("POST", _MESSAGES + "/bulk-delete", self._bulk_delete),
            ("PUT", f"{_MESSAGE}{_REACTION}/@me", self._react),
            ("DELETE", f"{_MESSAGE}{_REACTION}/@me", self._unreact),
            ("GET", f"{_MESSAGE}{_REACTION}", self._who_reacted),
            ("DELETE", f"{_MESSAGE}/reactions", self._clear_reactions),
            *self._guild_routes(),
            *self._command_routes(),
        ]

    def _guild_routes(self) -> list[tuple[str, str, Handler]]:
        guild = r"/guilds/(?P<guild>[0-9]+)"
        return [
            ("GET", guild, self._get_guild),
            ("GET", guild + "/channels", self._guild_channels),
            ("GET", guild + "/threads/active", self._active_threads),
            ("GET", guild + r"/members/(?P<user>[0-9]+)", self._member),
            ("GET", guild + r"/roles", lambda call: self._guild(call).json()["roles"]),
            ("DELETE", r"/users/@me/guilds/(?P<guild>[0-9]+)", self._leave_guild),
        ]

    def _command_routes(self) -> list[tuple[str, str, Handler]]:
        return [
            *(
                (method, path, self._get_commands)
                for method, path in (("GET", _COMMANDS), ("GET", _GUILD_COMMANDS))
            ),
            *(
                (method, path, self._put_commands)
                for method, path in (("PUT", _COMMANDS), ("PUT", _GUILD_COMMANDS))
            ),
            *(
                (method, path, self._add_command)
                for method, path in (("POST", _COMMANDS), ("POST", _GUILD_COMMANDS))
            ),
            ("GET", _COMMANDS + r"/(?P<command>[0-9]+)", self._get_command),
            ("GET", _GUILD_COMMANDS + r"/(?P<command>[0-9]+)", self._get_command),
            ("DELETE", _COMMANDS + r"/(?P<command>[0-9]+)", self._delete_command),
            ("DELETE", _GUILD_COMMANDS + r"/(?P<command>[0-9]+)", self._delete_command),
            ("POST", _CALLBACK, self._callback),
            ("POST", _WEBHOOK, self._follow_up),
            ("GET", _ANSWER, self._get_answer),
            ("PATCH", _ANSWER, self._edit_answer),
            ("DELETE", _ANSWER, self._delete_answer),
        ]

    # --- requests -------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = "/" + request.match_info["path"]
        raw = request.raw_path.partition("?")[0].partition("/v10")[2]
        await self._wait(self.trouble.delay(request.method, path))
        failure = self.trouble.failure(request.method, path)
        if failure is not None and not failure.after_effect:
            return self._failed(request, path, failure.status, failure.body, failure.headers)
        response = await self._answered(request, raw)
        await self._wait(self.trouble.delay(request.method, path, after_effect=True))
        if failure is not None:
            return self._failed(request, path, failure.status, failure.body, failure.headers)
        return self._seen(request.method, path, response)

    async def _wait(self, seconds: float) -> None:
        if not seconds:
            return
        self.hanging += 1
        self._stirred()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.hanging -= 1

    def _seen(self, method: str, path: str, response: web.Response) -> web.Response:
        self.requests.append((method, path, response.status))
        self._stirred()
        return response

    def _failed(
        self, request: web.Request, path: str, status: int, body: Any, headers: dict[str, str]
    ) -> web.Response:
        if status == 0:
            if request.transport is not None:
                request.transport.abort()
            return self._seen(request.method, path, web.Response(status=499))
        if status == 429:
            self.too_many += 1
            body = body or {"message": "You are being rate limited.", "retry_after": 0.2, "global": False}
            headers = {**_headers_of_429(body), **headers}
        if isinstance(body, str | bytes):
            raw = body.encode() if isinstance(body, str) else body
            response = web.Response(status=status, body=raw, headers=headers, content_type="text/html")
        else:
            known = body or {"message": f"{status}: from the fake", "code": 0}
            response = _json_response(known, status=status, headers=headers)
        return self._seen(request.method, path, response)

    async def _answered(self, request: web.Request, path: str) -> web.Response:
        headers = {"Via": "1.1 google"}
        try:
            handler, call, route = self._find(request, path)
            self._authorized(request, path)
            late = self._limited(call, route, headers)
            if late is not None:
                await request.read()
                return late
            await _read(request, call)
            result = handler(call)
            if isinstance(result, Awaitable):
                result = await result
        except Refused as refused:
            return _json_response(refused.body, status=refused.status, headers=headers)
        if result is NOTHING:
            return web.Response(status=204, headers=headers)
        status, body = result if isinstance(result, tuple) else (200, result)
        return _json_response(body, status=status, headers=headers)

    def _find(self, request: web.Request, path: str) -> tuple[Handler, Call, str]:
        known = False
        for method, regex, handler, route in self._routes:
            match = regex.fullmatch(path)
            known = known or match is not None
            if match is not None and method == request.method:
                parts = {key: unquote(value) for key, value in match.groupdict().items()}
                return handler, Call(method, path, parts, dict(request.query)), route
        raise Refused(405, 0, "405: Method Not Allowed") if known else Refused(404, 0, "404: Not Found")

    def _authorized(self, request: web.Request, path: str) -> None:
        if path.startswith(("/interactions/", "/webhooks/")):
            return
        if request.headers.get("Authorization") != f"Bot {self.token}":
            raise Refused(*rules.UNAUTHORIZED)

    def _limited(self, call: Call, route: str, headers: dict[str, str]) -> web.Response | None:
        if not self.rates_on or call.path.startswith("/interactions/"):
            return None
        major = next((call.parts[key] for key in ("channel", "guild", "token") if key in call.parts), "")
        verdict = self.limits.ask(route, major, counts_globally=not call.path.startswith("/webhooks/"))
        headers |= verdict.headers
        if verdict.retry_after is None:
            return None
        self.too_many += 1
        headers["Retry-After"] = str(int(verdict.retry_after) + 1)
        body = {
            "message": "You are being rate limited.",
            "retry_after": round(verdict.retry_after + 0.001, 3),
            "global": verdict.is_global,
        }
        return _json_response(body, status=429, headers=headers)

    async def serve_file(self, request: web.Request) -> web.StreamResponse:
        """The CDN."""
        path = request.raw_path.partition("?")[0].removeprefix("/cdn")
        await self._wait(self.trouble.delay("GET", f"/cdn{path}"))
        failure = self.trouble.failure("GET", f"/cdn{path}")
        if failure is not None:
            return self._failed(request, f"/cdn{path}", failure.status, failure.body, failure.headers)
        found = self.world.files.get(path)
        expires = int(request.query.get("ex", "0"), 16)
        if found is None or (path.startswith("/attachments/") and expires < self.world.now()):
            response = web.Response(status=404, text="This content is no longer available.")
        else:
            response = web.Response(body=found[0], headers={"Content-Type": found[1]})
        return self._seen("GET", f"/cdn{path}", response)

    # --- who and where -------------------------------------------------------------------------------

    def _gateway_bot(self, _: Call) -> Any:
        return {
            "url": self.gateway.url,
            "shards": self.gateway.shards,
            "session_start_limit": {
                "total": 1000,
                "remaining": max(self.gateway.starts_left, 0),
                "reset_after": 14_400_000,
                "max_concurrency": 1,
            },
        }

    def _me(self, _: Call) -> Any:
        more = {
            "verified": True,
            "mfa_enabled": False,
            "email": None,
            "flags": 0,
            "locale": "en-US",
            "bio": "",
        }
        return {**self.world.bot.json(), **more}

    def _user(self, call: Call) -> Any:
        user = self.world.users.get(call.id("user"))
        if user is None:
            raise Refused(*rules.UNKNOWN_USER)
        return user.json()

    def _application(self, _: Call) -> Any:
        owner = next((user for user in self.world.users.values() if not user.bot), self.world.bot)
        return {
            "id": str(self.world.application_id),
            "name": self.world.bot.name,
            "icon": None,
            "description": "",
            "summary": "",
            "type": None,
            "bot_public": True,
            "bot_require_code_grant": False,
            "verify_key": "0" * 64,
            "flags": self.gateway.application_flags,
            "owner": owner.json(),
            "team": None,
            "bot": self.world.bot.json(),
            "approximate_guild_count": len(self.world.guilds_of_bot()),
            "redirect_uris": [],
            "interactions_endpoint_url": None,
            "role_connections_verification_url": None,
            "integration_types_config": {"0": {}, "1": {}},
        }

    def _my_guilds(self, call: Call) -> Any:
        limit = _limit(call, 200, 200)
        after = int(call.query.get("after", 0))
        guilds = [guild for guild in self.world.guilds_of_bot() if guild.id > after][:limit]
        keys = ("id", "name", "icon", "banner", "features")
        me = self.world.bot.id
        return [
            {key: value for key, value in guild.json().items() if key in keys}
            | {"owner": guild.owner.id == me, "permissions": str(guild.base_permissions(me))}
            for guild in guilds
        ]

    def _open_direct(self, call: Call) -> Any:
        form = Form()
        user_id = rules.snowflake(form, call.body.get("recipient_id"), "recipient_id")
        form.check()
        user = self.world.users.get(user_id)
        if user is None or user is self.world.bot:
            form.wrong("recipient_id", "USER_NOT_FOUND", "Unknown user")
            form.check()
        assert user is not None
        return self._json(self.world.direct(user))

    def _json(self, channel: Channel) -> Any:
        return channel.json(self.world.bot.id)

    def _channel(self, call: Call) -> Channel:
        channel = self.world.channels.get(call.id("channel"))
        if channel is None or channel.deleted:
            raise Refused(*rules.UNKNOWN_CHANNEL)
        if not self.world.sees(channel):
            raise Refused(*rules.MISSING_ACCESS)
        return channel

    def _guild(self, call: Call) -> Guild:
        guild = self.world.guilds.get(call.id("guild"))
        if guild is None or not self.world.in_guild(guild):
            raise Refused(*rules.UNKNOWN_GUILD)
        return guild

    def _get_guild(self, call: Call) -> Any:
        guild = self._guild(call)
        counts = {
            "approximate_member_count": len(guild.members),
            "approximate_presence_count": len(guild.members),
        }
        return {**guild.json(), **(counts if call.query.get("with_counts") in ("true", "1") else {})}

    def _guild_channels(self, call: Call) -> Any:
        channels = self._guild(call).channels.values()
        return [self._json(channel) for channel in channels if not channel.is_thread and not channel.deleted]

    def _active_threads(self, call: Call) -> Any:
        found = [
            channel
            for channel in self._guild(call).channels.values()
            if channel.is_thread and not channel.deleted and not channel.archived and self.world.sees(channel)
        ]
        threads = [self._json(thread) for thread in sorted(found, key=lambda thread: -thread.id)]
        return {"threads": threads, "members": [thread["member"] for thread in threads if "member" in thread]}

    def _member(self, call: Call) -> Any:
        member = self._guild(call).members.get(call.id("user"))
        if member is None:
            known = call.id("user") in self.world.users
            raise Refused(*(rules.UNKNOWN_MEMBER if known else rules.UNKNOWN_USER))
        return member.json()

    def _leave_guild(self, call: Call) -> Any:
        guild = self._guild(call)
        if guild.owner is self.world.bot:
            raise Refused(400, 50055, "Invalid Guild")
        self.leave(guild)
        return NOTHING

    def leave(self, guild: Guild) -> None:
        del guild.members[self.world.bot.id]
        gone = {"id": str(guild.id)}
        self.gateway.dispatch("GUILD_DELETE", gone, guild, gateways.GUILDS)

    def _typing(self, call: Call) -> Any:
        channel = self._channel(call)
        self._may_speak(channel)
        self.typing.append((channel.id, time.monotonic()))
        return NOTHING

    def _join_thread(self, call: Call) -> Any:
        thread = self._thread(call)
        if thread.archived:
            raise Refused(*rules.ARCHIVED)
        self.enters(thread)
        return NOTHING

    def enters(self, thread: Channel) -> None:
        """The bot becomes a member of a thread that it sees."""
        if self.world.bot.id not in thread.joined:
            thread.joined.add(self.world.bot.id)
            self._thread_members(thread, added=True)

    def _leave_thread(self, call: Call) -> Any:
        thread = self._thread(call)
        thread.joined.discard(self.world.bot.id)
        self._thread_members(thread, added=False)
        return NOTHING

    def _thread(self, call: Call) -> Channel:
        thread = self._channel(call)
        if not thread.is_thread:
            raise Refused(400, 50024, "Cannot execute action on this channel type")
        return thread

    def _thread_members(self, thread: Channel, *, added: bool) -> None:
        assert thread.guild is not None
        me = str(self.world.bot.id)
        mine = {
            "id": str(thread.id),
            "user_id": me,
            "flags": 0,
            "join_timestamp": worlds.iso(datetime.now(UTC)),
        }
        change: dict[str, Any] = {"added_members": [mine]} if added else {"removed_member_ids": [me]}
        ids = {"id": str(thread.id), "guild_id": str(thread.guild.id), "member_count": len(thread.joined)}
        self.gateway.dispatch("THREAD_MEMBERS_UPDATE", {**ids, **change}, thread.guild, gateways.GUILDS)

    def _edit_thread(self, call: Call) -> Any:
        """Of the channels' settings only those of a thread."""
        thread = self._thread(call)
        mine = thread.owner is self.world.bot
        if not mine and not thread.may(self.world.bot.id, "manage_threads"):
            raise Refused(*rules.MISSING_PERMISSIONS)
        thread.archived = bool(call.body.get("archived", thread.archived))
        thread.locked = bool(call.body.get("locked", thread.locked))
        thread.name = str(call.body.get("name", thread.name))
        self.thread_changed(thread)
        return self._json(thread)

    def thread_changed(self, thread: Channel) -> None:
        if not self.world.sees(thread):
            return
        self.gateway.dispatch("THREAD_UPDATE", self._json(thread), thread.guild, gateways.GUILDS)

    # --- messages -----------------------------------------------------------------------------------

    def _may_speak(self, channel: Channel) -> None:
        if channel.kind in worlds.WITHOUT_MESSAGES:
            raise Refused(*rules.NOT_TEXT)
        if channel.recipient is not None and not channel.recipient.dms_open:
            raise Refused(*rules.CLOSED_DM)
        if not channel.may_speak(self.world.bot.id):
            raise Refused(*rules.MISSING_PERMISSIONS)

    def _may_add(self, channel: Channel, body: dict[str, Any], files: dict[int, Any]) -> None:
        me = self.world.bot.id
        if files and not channel.may(me, "attach_files"):
            raise Refused(*rules.MISSING_PERMISSIONS)
        if body.get("embeds") and not channel.may(me, "embed_links"):
            raise Refused(*rules.MISSING_PERMISSIONS)

    def _history(self, call: Call) -> Any:
        channel = self._channel(call)
        if channel.kind in worlds.WITHOUT_MESSAGES:
            raise Refused(*rules.NOT_TEXT)
        limit = _limit(call, 50, 100)
        asked = [key for key in ("before", "after", "around") if key in call.query]
        if len(asked) > 1:
            form = Form()
            form.wrong("after", "BASE_TYPE_EXCLUSIVE", "Only one of before, after and around may be given.")
            form.check()
        if not channel.may(self.world.bot.id, "read_message_history"):
            return []
        ids = sorted(channel.messages)
        chosen = _page(ids, asked[0] if asked else "", int(call.query[asked[0]]) if asked else 0, limit)
        return [self.world.message_json(channel.messages[key]) for key in sorted(chosen, reverse=True)]

    def _found(self, call: Call, channel: Channel) -> Message:
        message = channel.messages.get(call.id("message"))
        if message is None:
            raise Refused(*rules.UNKNOWN_MESSAGE)
        return message

    def _get_message(self, call: Call) -> Any:
        channel = self._channel(call)
        if not channel.may(self.world.bot.id, "read_message_history"):
            raise Refused(*rules.MISSING_ACCESS)
        return self.world.message_json(self._found(call, channel))

    def _post(self, call: Call) -> Any:
        channel = self._channel(call)
        self._may_speak(channel)
        form = Form()
        rules.check_message(form, call.body)
        form.check()
        self._may_add(channel, call.body, call.files)
        existing = self._known_nonce(channel, call.body)
        if existing is not None:
            return self.world.message_json(existing)
        self._open_thread(channel)
        reference = self._reference(channel, call.body)
        body = {**call.body, "flags": int(call.body.get("flags") or 0) & MAY_BE_SET}
        message = self._make(channel, body, call.files, reference, worlds.REPLY if reference else 0)
        if message.nonce is None:
            self.gateway.message_event("MESSAGE_CREATE", message)
            return self.world.message_json(message)
        self._nonces[channel.id, str(message.nonce)] = (self.world.now(), message)
        self.gateway.message_event("MESSAGE_CREATE", message)
        return {**self.world.message_json(message), "nonce": message.nonce}

    def _known_nonce(self, channel: Channel, body: dict[str, Any]) -> Message | None:
        nonce = body.get("nonce")
        if nonce is None or body.get("enforce_nonce") is not True:
            return None
        when, message = self._nonces.get((channel.id, str(nonce)), (0.0, None))
        return message if self.world.now() - when < NONCE_SECONDS else None

    def _open_thread(self, channel: Channel) -> None:
        """Writing to an archived thread brings it back, unless it is locked."""
        manages = channel.is_thread and channel.may(self.world.bot.id, "manage_threads")
        if channel.locked and not manages:
            raise Refused(*(rules.ARCHIVED if channel.archived else rules.LOCKED))
        if channel.archived:
            channel.archived = False
            self.thread_changed(channel)

    def _reference(self, channel: Channel, body: dict[str, Any]) -> Message | None:
        asked = body.get("message_reference")
        if asked is None:
            return None
        form = Form()
        message_id = rules.snowflake(form, asked.get("message_id"), "message_reference.message_id")
        if int(asked.get("channel_id") or channel.id) != channel.id:
            code = "REPLIES_CANNOT_REPLY_TO_MESSAGE_IN_OTHER_CHANNEL"
            form.wrong("message_reference", code, "Cannot reply to a message in another channel")
        found = channel.messages.get(message_id)
        if found is None and asked.get("fail_if_not_exists", True):
            form.wrong("message_reference", "MESSAGE_REFERENCE_UNKNOWN_MESSAGE", "Unknown message")
        if found is not None and found.kind in (worlds.THREAD_CREATED, worlds.THREAD_STARTER):
            code = "REPLIES_CANNOT_REPLY_TO_SYSTEM_MESSAGE"
            form.wrong("message_reference", code, "Cannot reply to a system message")
        form.check()
        if found is not None and not channel.may(self.world.bot.id, "read_message_history"):
            raise Refused(*rules.NO_HISTORY_FOR_REPLY)
        return found

    def _make(
        self,
        channel: Channel,
        body: dict[str, Any],
        files: dict[int, Any],
        reference: Message | None,
        kind: int,
        **more: Any,
    ) -> Message:
        """A message of the bot, of a body that was checked."""
        text = str(body.get("content") or "").strip()
        flags = int(body.get("flags") or 0)
        stickers = body.get("sticker_ids")
        v2 = flags & rules.V2 and body.get("components")
        waited = flags & worlds.LOADING
        if not (text or body.get("embeds") or files or stickers or body.get("poll") or v2 or waited):
            raise Refused(*rules.EMPTY_MESSAGE)
        attachments = self._attached(channel, body, files)
        allowed = body.get("allowed_mentions")
        replied = reference if kind == worlds.REPLY else None
        message = self.world.add_message(
            channel,
            self.world.bot,
            text,
            kind=kind,
            flags=flags,
            pings=self.world.pinged(channel, self.world.bot, text, replied, allowed),
            attachments=attachments,
            embeds=[{"type": "rich", **embed} for embed in body.get("embeds") or ()],
            components=_numbered(body.get("components") or []),
            nonce=body.get("nonce"),
            reference=reference,
            poll=body.get("poll"),
            tts=bool(body.get("tts")),
            **more,
        )
        if channel.is_thread:
            self.enters(channel)
        return message

    def _attached(self, channel: Channel, body: dict[str, Any], files: dict[int, Any]) -> list[Attachment]:
        described = {str(item.get("id")): item for item in body.get("attachments") or ()}
        attachments = []
        for number, (name, content, content_type) in sorted(files.items()):
            if len(content) > worlds.UPLOAD_LIMIT:
                raise Refused(*rules.TOO_LARGE)
            known = described.get(str(number), {})
            plain = content_type if content_type != "application/octet-stream" else None
            made = self.world.add_attachment(
                channel,
                known.get("filename") or name,
                content,
                content_type=plain,
                description=known.get("description"),
                duration=known.get("duration_secs"),
                waveform=known.get("waveform"),
            )
            attachments.append(made)
        if len(attachments) > 10:
            form = Form()
            form.wrong("attachments", "BASE_TYPE_MAX_LENGTH", "Must be 10 or fewer in length.")
            form.check()
        return attachments

    def _edit(self, call: Call) -> Any:
        channel = self._channel(call)
        message = self._found(call, channel)
        if message.author is not self.world.bot:
            raise Refused(*rules.NOT_THEIRS)
        if channel.archived:
            raise Refused(*rules.ARCHIVED)
        self._may_add(channel, call.body, call.files)
        return self.world.message_json(self._change(message, call.body, call.files))

    def _change(self, message: Message, body: dict[str, Any], files: dict[int, Any]) -> Message:
        """An edit; also how the answer that was waited for takes its place."""
        form = Form()
        was_v2 = message.flags & rules.V2
        rules.check_message(form, {**body, "flags": int(body.get("flags") or 0) | was_v2})
        form.check()
        text = message.text if "content" not in body else str(body["content"] or "").strip()
        embeds = (
            [{"type": "rich", **embed} for embed in body.get("embeds") or ()]
            if "embeds" in body
            else message.embeds
        )
        kept = message.attachments
        if "attachments" in body:
            ids = {str(item.get("id")) for item in body["attachments"] or ()}
            kept = [attachment for attachment in kept if str(attachment.id) in ids]
        kept = kept + self._attached(message.channel, body, files)
        v2 = (was_v2 or int(body.get("flags") or 0) & rules.V2) and (
            body.get("components") or message.components
        )
        if not (text or embeds or kept or message.stickers or v2):
            raise Refused(*rules.EMPTY_MESSAGE)
        message.embeds, message.attachments = embeds, kept
        if "components" in body:
            message.components = _numbered(body["components"] or [])
        self._retext(message, text, body)
        self.gateway.message_event("MESSAGE_UPDATE", message)
        return message

    def _retext(self, message: Message, text: str, body: dict[str, Any]) -> None:
        """Edits mention, but ring nobody's phone: pings are of what a waiting answer becomes alone."""
        waited = bool(message.flags & worlds.LOADING)
        message.flags = message.flags & ~worlds.LOADING | (int(body.get("flags") or 0) & (rules.V2 | 4))
        if waited:
            message.text, message.edits = text, [text]
            allowed = body.get("allowed_mentions")
            message.pings = self.world.pinged(message.channel, self.world.bot, text, None, allowed)
            return
        message.change_text(text)
        message.edited_at = datetime.fromtimestamp(self.world.now(), UTC)

    def _delete(self, call: Call) -> Any:
        channel = self._channel(call)
        message = self._found(call, channel)
        if message.author is not self.world.bot:
            if channel.guild is None:
                raise Refused(*rules.NOT_IN_DM)
            if not channel.may(self.world.bot.id, "manage_messages"):
                raise Refused(*rules.MISSING_PERMISSIONS)
        self.remove(message)
        return NOTHING

    def _bulk_delete(self, call: Call) -> Any:
        channel = self._channel(call)
        if channel.guild is None:
            raise Refused(*rules.NOT_IN_DM)
        if not channel.may(self.world.bot.id, "manage_messages"):
            raise Refused(*rules.MISSING_PERMISSIONS)
        ids = call.body.get("messages") or []
        if not 2 <= len(ids) <= 100:
            form = Form()
            form.wrong("messages", "BASE_TYPE_BAD_LENGTH", "Must be between 2 and 100 in length.")
            form.check()
        found = [channel.messages[int(key)] for key in ids if int(key) in channel.messages]
        if any(self.world.now() - message.at.timestamp() > 14 * 86400 for message in found):
            raise Refused(*rules.BULK_TOO_OLD)
        self.remove_many(found)
        return NOTHING

    def remove(self, message: Message) -> None:
        message.deleted = True
        message.channel.messages.pop(message.id, None)
        if not message.ephemeral and self.world.sees(message.channel):
            gone = {
                "id": str(message.id),
                "channel_id": str(message.channel.id),
                **_of_guild(message.channel),
            }
            self.gateway.dispatch(
                "MESSAGE_DELETE", gone, message.channel.guild, _messages_intent(message.channel)
            )

    def remove_many(self, messages: list[Message]) -> None:
        if not messages:
            return
        channel = messages[0].channel
        for message in messages:
            message.deleted = True
            channel.messages.pop(message.id, None)
        ids = [str(message.id) for message in messages]
        gone = {"ids": ids, "channel_id": str(channel.id), **_of_guild(channel)}
        if self.world.sees(channel):
            self.gateway.dispatch("MESSAGE_DELETE_BULK", gone, channel.guild, _messages_intent(channel))

    def _react(self, call: Call) -> Any:
        channel = self._channel(call)
        message = self._found(call, channel)
        emoji = call.parts["emoji"]
        if emoji.isascii() and ":" not in emoji:
            raise Refused(400, 10014, "Unknown Emoji")
        permissions = (
            ("read_message_history",)
            if emoji in message.reactions
            else ("read_message_history", "add_reactions")
        )
        if not all(channel.may(self.world.bot.id, permission) for permission in permissions):
            raise Refused(*rules.MISSING_PERMISSIONS)
        self.react(self.world.bot.id, message, emoji)
        return NOTHING

    def _unreact(self, call: Call) -> Any:
        message = self._found(call, self._channel(call))
        self.unreact(self.world.bot.id, message, call.parts["emoji"])
        return NOTHING

    def _who_reacted(self, call: Call) -> Any:
        message = self._found(call, self._channel(call))
        after = int(call.query.get("after", 0))
        users = sorted(user for user in message.reactions.get(call.parts["emoji"], ()) if user > after)
        return [self.world.users[user].json() for user in users[: _limit(call, 25, 100)]]

    def _clear_reactions(self, call: Call) -> Any:
        channel = self._channel(call)
        if not channel.may(self.world.bot.id, "manage_messages") or channel.guild is None:
            raise Refused(*rules.MISSING_PERMISSIONS)
        self.clear_reactions(self._found(call, channel))
        return NOTHING

    def clear_reactions(self, message: Message) -> None:
        message.reactions.clear()
        ids = {"channel_id": str(message.channel.id), "message_id": str(message.id)}
        gone = {**ids, **_of_guild(message.channel)}
        self._tell_reaction("MESSAGE_REACTION_REMOVE_ALL", message.channel, gone)

    def react(self, user_id: int, message: Message, emoji: str) -> None:
        users = message.reactions.setdefault(emoji, [])
        if user_id in users:
            return
        users.append(user_id)
        event = self._reaction(user_id, message, emoji) | {"message_author_id": str(message.author.id)}
        guild = message.channel.guild
        if guild is not None and user_id in guild.members:
            event["member"] = guild.members[user_id].json()
        self._tell_reaction("MESSAGE_REACTION_ADD", message.channel, event)

    def unreact(self, user_id: int, message: Message, emoji: str) -> None:
        users = message.reactions.get(emoji, [])
        if user_id not in users:
            return
        users.remove(user_id)
        if not users:
            del message.reactions[emoji]
        self._tell_reaction(
            "MESSAGE_REACTION_REMOVE", message.channel, self._reaction(user_id, message, emoji)
        )

    def _reaction(self, user_id: int, message: Message, emoji: str) -> dict[str, Any]:
        return {
            "user_id": str(user_id),
            "channel_id": str(message.channel.id),
            "message_id": str(message.id),
            "emoji": worlds.emoji_json(emoji),
            "burst": False,
            "type": 0,
            **_of_guild(message.channel),
        }

    def _tell_reaction(self, event: str, channel: Channel, data: dict[str, Any]) -> None:
        intent = gateways.DIRECT_REACTIONS if channel.guild is None else gateways.GUILD_REACTIONS
        if self.world.sees(channel):
            self.gateway.dispatch(event, data, channel.guild, intent)

    # --- commands -------------------------------------------------------------------------------------

    def _place(self, call: Call) -> int:
        if call.id("application") != self.world.application_id:
            raise Refused(403, 20012, "You are not authorized to perform this action on this application")
        if "guild" not in call.parts:
            return 0
        guild = self.world.guilds.get(call.id("guild"))
        if guild is None or not self.world.in_guild(guild):
            raise Refused(*rules.MISSING_ACCESS)
        return guild.id

    def _get_commands(self, call: Call) -> Any:
        commands = self.commands.get(self._place(call), [])
        if call.query.get("with_localizations") in ("true", "True", "1"):
            return commands
        hidden = ("name_localizations", "description_localizations")
        return [{key: value for key, value in command.items() if key not in hidden} for command in commands]

    def _put_commands(self, call: Call) -> Any:
        place = self._place(call)
        form = Form()
        rules.check_commands(form, call.body)
        form.check()
        known = {
            (command["type"], command["name"]): command["id"] for command in self.commands.get(place, ())
        }
        made = [self._registered(command, place, known) for command in call.body]
        self.commands[place] = made
        return made

    def _add_command(self, call: Call) -> Any:
        place = self._place(call)
        form = Form()
        rules.check_command(form, call.body)
        form.check()
        before = self.commands.get(place, [])
        known = {(command["type"], command["name"]): command["id"] for command in before}
        made = self._registered(call.body, place, known)
        self.commands[place] = [command for command in before if command["id"] != made["id"]] + [made]
        return (200 if len(self.commands[place]) == len(before) else 201), made

    def _registered(
        self, command: dict[str, Any], place: int, known: dict[tuple[int, str], str]
    ) -> dict[str, Any]:
        kind = command.get("type") or 1
        made: dict[str, Any] = {
            "id": known.get((kind, command["name"])) or str(self.world.snowflake()),
            "application_id": str(self.world.application_id),
            "version": str(self.world.snowflake()),
            "default_member_permissions": None,
            "type": kind,
            "nsfw": False,
            "description": "",
            "integration_types": [0],
            "contexts": None,
            "name_localizations": None,
            "description_localizations": None,
            **{key: value for key, value in command.items() if key not in ("id", "type")},
        }
        needed = made["default_member_permissions"]
        made["default_member_permissions"] = None if needed is None else str(needed)
        if place:
            return {**made, "guild_id": str(place)}
        contexts = made["contexts"]
        in_direct = command.get("dm_permission") is not False if contexts is None else 1 in contexts
        return {**made, "dm_permission": in_direct}

    def _get_command(self, call: Call) -> Any:
        for command in self.commands.get(self._place(call), ()):
            if command["id"] == call.parts["command"]:
                return command
        raise Refused(*rules.UNKNOWN_COMMAND)

    def _delete_command(self, call: Call) -> Any:
        place = self._place(call)
        left = [command for command in self.commands.get(place, []) if command["id"] != call.parts["command"]]
        if len(left) == len(self.commands.get(place, [])):
            raise Refused(*rules.UNKNOWN_COMMAND)
        self.commands[place] = left
        return NOTHING

    # --- interactions ------------------------------------------------------------------------------------

    def _callback(self, call: Call) -> Any:
        form = Form()
        data = call.body.get("data") if isinstance(call.body, dict) else None
        kind = call.body.get("type") if isinstance(call.body, dict) else None
        if kind in (4, 7) and isinstance(data, dict):
            rules.check_message(form, data, "data.")
        form.check()
        if kind == 4 and not isinstance(data, dict):
            raise Refused(*rules.EMPTY_MESSAGE)
        interaction, kind = self.answers.respond(
            call.id("interaction"), call.parts["token"], call.body, call.files
        )
        if call.query.get("with_response") not in ("1", "true", "True"):
            return NOTHING
        return self._callback_response(interaction, kind)

    def _callback_response(self, interaction: Interaction, kind: int) -> dict[str, Any]:
        told: dict[str, Any] = {"id": str(interaction.id), "type": interaction.kind}
        resource: dict[str, Any] = {"type": kind}
        message = interaction.original
        if message is not None:
            told["response_message_id"] = str(message.id)
            told["response_message_loading"] = bool(message.flags & worlds.LOADING)
            told["response_message_ephemeral"] = message.ephemeral
        if message is not None and kind not in (DEFERRED_UPDATE, MODAL):
            resource["message"] = self.world.message_json(message)
        return {"interaction": told, "resource": resource}

    def _post_answer(
        self,
        interaction: Interaction,
        body: dict[str, Any],
        files: dict[int, Any],
        replied: Message | None,
        kind: int,
    ) -> Message:
        ephemeral = bool(int(body.get("flags") or 0) & worlds.EPHEMERAL)
        message = self._make(
            interaction.channel,
            body,
            files,
            replied if kind == worlds.REPLY else None,
            kind,
            only_for=interaction.user if ephemeral else None,
            interaction=interaction.metadata(),
        )
        self.gateway.message_event("MESSAGE_CREATE", message)
        return message

    def _followed(self, call: Call) -> Interaction:
        return self.answers.followed(call.id("application"), call.parts["token"])

    def _follow_up(self, call: Call) -> Any:
        interaction = self._followed(call)
        form = Form()
        rules.check_message(form, call.body)
        form.check()
        return self.world.message_json(self.answers.follow_up(interaction, call.body, call.files))

    def _get_answer(self, call: Call) -> Any:
        return self.world.message_json(self.answers.found(self._followed(call), call.parts["answer"]))

    def _edit_answer(self, call: Call) -> Any:
        interaction = self._followed(call)
        message = self.answers.edit(interaction, call.parts["answer"], call.body, call.files)
        return self.world.message_json(message)

    def _delete_answer(self, call: Call) -> Any:
        self.answers.delete(self._followed(call), call.parts["answer"])
        return NOTHING


def _json_response(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Without a charset: Discord names none, and discord.py takes nothing else for JSON."""
    raw = json.dumps(body, ensure_ascii=False).encode()
    return web.Response(
        body=raw, status=status, headers={**(headers or {}), "Content-Type": "application/json"}
    )


def _headers_of_429(body: Any) -> dict[str, str]:
    """An answer of Discord itself has a Via; a page of Cloudflare, before it, has none."""
    if not isinstance(body, dict):
        return {"Retry-After": "1", "Server": "cloudflare"}
    scope = {"X-RateLimit-Scope": "global", "X-RateLimit-Global": "true"}
    after = {"Via": "1.1 google", "Retry-After": str(int(body.get("retry_after", 0)) + 1)}
    return after | (scope if body.get("global") else {"X-RateLimit-Scope": "user"})


# --- reading -------------------------------------------------------------------------------------------------


async def _read(request: web.Request, call: Call) -> None:
    """The body: JSON, or a form with `payload_json` and `files[n]`."""
    if request.content_type == "multipart/form-data":
        await _read_form(request, call)
    elif request.can_read_body:
        raw = await request.read()
        if raw and request.content_type != "application/json":
            raise Refused(400, 50035, "Invalid Form Body")
        call.body = rules.parsed(raw) if raw else None
    if call.body is None:
        call.body = {}
    if not isinstance(call.body, dict) and not (call.method == "PUT" and isinstance(call.body, list)):
        raise Refused(*rules.BAD_JSON)


_FILE = re.compile(r"files\[([0-9]+)\]")


async def _read_form(request: web.Request, call: Call) -> None:
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        assert isinstance(part, BodyPartReader)
        match = _FILE.fullmatch(part.name or "")
        if match is not None:
            content = bytes(await part.read())
            call.files[int(match[1])] = (
                part.filename or "unknown",
                content,
                part.headers.get("Content-Type"),
            )
        elif part.name == "payload_json":
            call.body = rules.parsed(bytes(await part.read()))
        else:
            raise Refused(400, 50035, "Invalid Form Body")


def _limit(call: Call, default: int, most: int) -> int:
    raw = call.query.get("limit", str(default))
    form = Form()
    if not raw.isdigit():
        form.wrong("limit", "NUMBER_TYPE_COERCE", f'Value "{raw}" is not int.')
    elif not 1 <= int(raw) <= most:
        form.wrong("limit", "NUMBER_TYPE_RANGE", f"int value should be between 1 and {most}.")
    form.check()
    return int(raw)


def _page(ids: list[int], how: str, anchor: int, limit: int) -> list[int]:
    """`ids` are sorted. `after` gives those nearest to the anchor, as do the others."""
    if how == "after":
        return [key for key in ids if key > anchor][:limit]
    if how == "around":
        half = limit // 2
        before = [key for key in ids if key < anchor][-half:] if half else []
        return before + [key for key in ids if key >= anchor][: limit - half]
    return [key for key in ids if not how or key < anchor][-limit:]


def _numbered(components: list[dict[str, Any]], numbers: Iterator[int] | None = None) -> list[dict[str, Any]]:
    """Each component has an id in what Discord gives back, in order of appearance."""
    numbers = itertools.count(1) if numbers is None else numbers
    made = []
    for component in components:
        one = {"id": next(numbers), **component}
        if "components" in component:
            one["components"] = _numbered(component["components"], numbers)
        made.append(one)
    return made


def _of_guild(channel: Channel) -> dict[str, str]:
    return {} if channel.guild is None else {"guild_id": str(channel.guild.id)}


def _messages_intent(channel: Channel) -> int:
    return gateways.DIRECT_MESSAGES if channel.guild is None else gateways.GUILD_MESSAGES
