"""All of Discord on loopback: people, servers and channels, the gateway, the REST API, and trouble on demand.

Tests are the people and the network. Point discord.py at it with `fake.redirected()`, or by hand:
`discord.http.Route.BASE = f"{fake.base_url}/v10"`, and `DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(fake.gateway_url)`
(which it uses to identify anew, and when it is told the number of shards); `Asset.BASE = fake.cdn_url` for stickers.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.fakes import discord_commands as commands
from tests.fakes import discord_gateway as gateways
from tests.fakes import discord_world as worlds
from tests.fakes.discord_api import DiscordApi
from tests.fakes.discord_commands import NotOffered, Resolved
from tests.fakes.discord_gateway import Gateway
from tests.fakes.discord_interactions import COMMAND, COMPONENT, MODAL_SUBMIT, Interaction
from tests.fakes.discord_limits import Delay, Failure
from tests.fakes.discord_rules import Refused
from tests.fakes.discord_world import (
    ANNOUNCEMENT,
    DM,
    FORUM,
    PRIVATE_THREAD,
    PUBLIC_THREAD,
    TEXT,
    VOICE,
    Attachment,
    Channel,
    Guild,
    Message,
    Pings,
    Role,
    Sticker,
    User,
    World,
)

__all__ = [
    "ANNOUNCEMENT",
    "DM",
    "FORUM",
    "PRIVATE_THREAD",
    "PUBLIC_THREAD",
    "TEXT",
    "VOICE",
    "Attachment",
    "Channel",
    "FakeDiscord",
    "Guild",
    "Interaction",
    "Message",
    "NotOffered",
    "Pings",
    "Refused",
    "Role",
    "Sticker",
    "User",
    "Voice",
    "running_discord",
]
BODY_LIMIT = 128 * 1024 * 1024
LOOKS_AGAIN_SECONDS = 0.1
BURST_AT_ONCE = 100


@dataclass(frozen=True)
class Voice:
    """A voice message that somebody records."""

    content: bytes
    seconds: float = 2.5
    waveform: str = b64encode(bytes(range(0, 250, 10))).decode()


class FakeDiscord:
    def __init__(
        self,
        *,
        bot_name: str = "xinyu",
        token: str = "",
        shards: int = 1,
        heartbeat_seconds: float = 41.25,
        message_content: bool = True,
        rates_on: bool = True,
    ) -> None:
        self._changed = asyncio.Event()
        self.world = World(bot_name=bot_name)
        self.gateway = Gateway(self.world, self.stirred)
        self.api = DiscordApi(self.world, self.gateway, self.stirred)
        self.port = 0
        self.gateway.shards = shards
        self.gateway.heartbeat_seconds = heartbeat_seconds
        self.rates_on = rates_on
        self.enable_message_content(message_content)
        self._set_token(token or self._new_token())
        self._runner: web.AppRunner | None = None
        self._closing: asyncio.Task[None] | None = None
        """Of the connections whose token was revoked."""

    def _new_token(self) -> str:
        head = b64encode(str(self.world.bot.id).encode()).decode().rstrip("=")
        return f"{head}.{secrets.token_urlsafe(4)}.{secrets.token_urlsafe(28)}"

    def _set_token(self, token: str) -> None:
        self.token = self.api.token = self.gateway.token = token

    # --- the server -----------------------------------------------------------------------------

    async def start(self) -> FakeDiscord:
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_get("/gateway/", self.gateway.handle)
        app.router.add_get("/cdn/{path:.*}", self.api.serve_file)
        app.router.add_route("*", "/api/v10/{path:.*}", self.api.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024).start()
        self.port = self._runner.addresses[0][1]
        self.world.cdn_url = self.cdn_url
        self.gateway.url = self.gateway_url
        return self

    async def stop(self) -> None:
        if self._closing is not None:
            await self._closing
        await self.gateway.stop()
        await self._stop_serving()

    async def _stop_serving(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def base_url(self) -> str:
        """What stands for https://discord.com/api."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def gateway_url(self) -> str:
        """What stands for wss://gateway.discord.gg/."""
        return f"ws://127.0.0.1:{self.port}/gateway/"

    @property
    def cdn_url(self) -> str:
        """What stands for https://cdn.discordapp.com."""
        return f"http://127.0.0.1:{self.port}/cdn"

    @contextmanager
    def redirected(self) -> Iterator[None]:
        """discord.py's addresses lead here for as long as this lasts."""
        import yarl
        from discord.asset import Asset
        from discord.gateway import DiscordWebSocket
        from discord.http import Route

        before = Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY, Asset.BASE
        Route.BASE = f"{self.base_url}/v10"
        DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(self.gateway_url)
        Asset.BASE = self.cdn_url
        try:
            yield
        finally:
            Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY, Asset.BASE = before

    def stirred(self) -> None:
        """Something happened: whoever waits looks again."""
        self._changed.set()

    async def wait_until(self, predicate: Callable[[], bool], seconds: float = 10) -> None:
        """Looks again after every request and event, and now and then: some things only time changes."""
        async with asyncio.timeout(seconds):
            while not predicate():
                self._changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), LOOKS_AGAIN_SECONDS)

    def advance(self, seconds: float) -> None:
        """So much time passes at once, for what Discord counts: interactions, nonces, addresses of files, new ids.

        Rate limits and heartbeats are kept by the real clock, as the program waits for them by that.
        """
        self.world.ahead += seconds
        self.stirred()

    # --- the world ------------------------------------------------------------------------------------

    @property
    def bot(self) -> User:
        return self.world.bot

    @property
    def bot_id(self) -> int:
        return self.world.bot.id

    @property
    def application_id(self) -> int:
        return self.world.application_id

    def user(self, name: str, *, locale: str = "zh-CN", bot: bool = False) -> User:
        return self.world.add_user(name, locale=locale, bot=bot)

    def guild(
        self,
        name: str,
        *,
        owner: User,
        members: Sequence[User] = (),
        with_bot: bool = True,
        shard: int | None = None,
    ) -> Guild:
        """`with_bot`: whether the bot is in from the start; nobody is told. See `join`.

        `shard`: it gets an id that makes it belong to this one of the recommended shards.
        """
        place = None if shard is None else (shard, self.gateway.shards)
        guild = self.world.add_guild(name, owner, members, shard=place)
        if with_bot:
            self.world.add_member(guild, self.bot)
        return guild

    def member(self, guild: Guild, user: User, nick: str | None = None) -> None:
        """Somebody joins a server, or gets another nick there."""
        if user.id not in guild.members:
            self.world.add_member(guild, user)
        guild.members[user.id].nick = nick

    def role(
        self, guild: Guild, name: str, *, members: Sequence[User] = (), mentionable: bool = False
    ) -> Role:
        role = self.world.add_role(guild, name, members, mentionable=mentionable)
        self._role_appears(guild, role)
        if self.bot in members and self.world.in_guild(guild):
            mine = {"guild_id": str(guild.id), **guild.members[self.bot_id].json()}
            self.gateway.dispatch("GUILD_MEMBER_UPDATE", mine, guild, 0)
        return role

    def _role_appears(self, guild: Guild, role: Role) -> None:
        if self.world.in_guild(guild):
            made = {"guild_id": str(guild.id), "role": role.json()}
            self.gateway.dispatch("GUILD_ROLE_CREATE", made, guild, gateways.GUILDS)

    def channel(self, guild: Guild, name: str, kind: int = TEXT) -> Channel:
        channel = self.world.add_channel(guild, name, kind)
        if self.world.in_guild(guild):
            data = channel.json(self.bot_id)
            self.gateway.dispatch("CHANNEL_CREATE", data, guild, gateways.GUILDS)
        return channel

    def thread(
        self,
        parent: Channel,
        name: str,
        *,
        owner: User | None = None,
        starter: Message | None = None,
        private: bool = False,
    ) -> Channel:
        """A thread; of a message, if there is a `starter`, and then with that message's id.

        Discord says so itself, too, in messages that nobody wrote.
        """
        assert parent.guild is not None
        who = owner or (starter.author if starter is not None else parent.guild.owner)
        kind = PRIVATE_THREAD if private else PUBLIC_THREAD
        thread_id = starter.id if starter is not None else None
        thread = self.world.add_thread(parent, name, who, kind=kind, thread_id=thread_id)
        self._thread_appears(thread, newly=True)
        if starter is not None:
            starter.thread = thread
            self.gateway.message_event("MESSAGE_UPDATE", starter)
            note = self.world.add_message(thread, who, "", kind=worlds.THREAD_STARTER, reference=starter)
            self.gateway.message_event("MESSAGE_CREATE", note)
        elif not private:
            note = self.world.add_message(parent, who, name, kind=worlds.THREAD_CREATED, thread=thread)
            self.gateway.message_event("MESSAGE_CREATE", note)
        return thread

    async def opens_thread(
        self, user: User, parent: Channel, name: str, *, starter: Message | None = None, private: bool = False
    ) -> Channel:
        return self.thread(parent, name, owner=user, starter=starter, private=private)

    def _thread_appears(self, thread: Channel, *, newly: bool) -> None:
        """`newly`: it was made just now; otherwise the bot was let into it."""
        if self.world.sees(thread):
            data = thread.json(self.bot_id) | ({"newly_created": True} if newly else {})
            self.gateway.dispatch("THREAD_CREATE", data, thread.guild, gateways.GUILDS)

    async def forum_post(self, user: User, forum: Channel, name: str, text: str) -> tuple[Channel, Message]:
        """A post: a thread whose first message has the thread's id."""
        assert forum.kind == FORUM
        thread = self.world.add_thread(forum, name, user)
        pings = self.world.pinged(thread, user, text, None, None)
        message = Message(thread.id, thread, user, text, at=worlds.time_of(thread.id), pings=pings)
        thread.messages[thread.id] = message
        self._thread_appears(thread, newly=True)
        self.gateway.message_event("MESSAGE_CREATE", message)
        return thread, message

    async def invites_to_thread(self, thread: Channel, user: User | None = None) -> None:
        """`user` (None: the bot) is added to a thread."""
        if user is not None and user is not self.bot:
            thread.joined.add(user.id)
        elif self.world.sees(thread):
            self.api.enters(thread)
        else:
            thread.joined.add(self.bot_id)
            self._thread_appears(thread, newly=False)

    def archive(self, thread: Channel, *, archived: bool = True, locked: bool = False) -> None:
        thread.archived, thread.locked = archived, locked
        self.api.thread_changed(thread)

    def direct(self, user: User) -> Channel:
        """The direct channel of the bot and this person."""
        return self.world.direct(user)

    def sticker(self, name: str, *, format_type: int = 1, content: bytes = b"") -> Sticker:
        """1: png, 2: apng, 3: lottie, 4: gif."""
        return self.world.add_sticker(name, format_type=format_type, content=content)

    def allow(
        self,
        where: Channel | Guild,
        *,
        user_or_bot: User | Role | None = None,
        permissions: int | str | Iterable[str],
    ) -> None:
        """Names as discord.py has them, or bits. None: the bot. A `Role` too; `everyone(guild)` is one."""
        granted = worlds.bits(permissions)
        if isinstance(where, Guild):
            role = self._role_of(where, user_or_bot)
            role.permissions |= granted
            if self.world.in_guild(where):
                changed = {"guild_id": str(where.id), "role": role.json()}
                self.gateway.dispatch("GUILD_ROLE_UPDATE", changed, where, gateways.GUILDS)
            return
        key = (user_or_bot or self.bot).id
        where.allowed[key] = where.allowed.get(key, 0) | granted
        where.denied[key] = where.denied.get(key, 0) & ~granted
        self._channel_changed(where)

    def deny(
        self,
        where: Channel | Guild,
        *,
        user_or_bot: User | Role | None = None,
        permissions: int | str | Iterable[str],
    ) -> None:
        """In a server: in all of its channels."""
        if isinstance(where, Guild):
            for channel in [channel for channel in where.channels.values() if not channel.is_thread]:
                self.deny(channel, user_or_bot=user_or_bot, permissions=permissions)
            return
        key = (user_or_bot or self.bot).id
        taken = worlds.bits(permissions)
        where.denied[key] = where.denied.get(key, 0) | taken
        where.allowed[key] = where.allowed.get(key, 0) & ~taken
        self._channel_changed(where)

    def everyone(self, guild: Guild) -> Role:
        return guild.roles[guild.id]

    def _role_of(self, guild: Guild, who: User | Role | None) -> Role:
        if isinstance(who, Role):
            return who
        user = who or self.bot
        known = {role.id for role in guild.members[user.id].roles}
        role = self.world.own_role(guild, user)
        if role.id not in known:
            self._role_appears(guild, role)
        return role

    def _channel_changed(self, channel: Channel) -> None:
        if channel.guild is not None and self.world.in_guild(channel.guild):
            data = channel.json(self.bot_id)
            self.gateway.dispatch("CHANNEL_UPDATE", data, channel.guild, gateways.GUILDS)

    # --- people write ------------------------------------------------------------------------------------

    async def says(
        self,
        user: User,
        channel: Channel,
        text: str = "",
        *,
        reply_to: Message | None = None,
        mention_author: bool = True,
        attachments: Sequence[tuple[str, bytes] | tuple[str, bytes, str]] = (),
        stickers: Sequence[Sticker] = (),
        voice: Voice | bytes | None = None,
        embeds: Sequence[dict[str, Any]] = (),
        at: datetime | None = None,
        silently: bool = False,
        forward: Message | None = None,
        poll: dict[str, Any] | None = None,
        kind: int | None = None,
        webhook: bool = False,
    ) -> Message:
        """`attachments`: name, content and, if it is not to be guessed, type. `silently`: no event is sent.

        `forward`: what is passed on; then there is no text. `kind`: of a message that Discord writes, as 7 for
        who joined. `webhook`: it is one, and `user` its name; it need not be a member.
        """
        if not webhook and not self._may_write(user, channel):
            raise NotOffered(f"{user.name} cannot write there")
        allowed = {"parse": ["users", "roles", "everyone"], "replied_user": mention_author}
        if channel.is_thread and not webhook:
            self._writes_in_thread(user, channel)
        plain = worlds.REPLY if reply_to is not None else worlds.DEFAULT
        message = self.world.add_message(
            channel,
            user,
            text,
            at=at,
            kind=plain if kind is None else kind,
            flags=worlds.VOICE_MESSAGE if voice is not None else 0,
            pings=self.world.pinged(channel, user, text, reply_to, allowed),
            attachments=self._attached(channel, attachments, voice),
            stickers=list(stickers),
            embeds=list(embeds),
            nonce=str(self.world.snowflake()),
            reference=reply_to,
            forwarded=forward,
            poll=poll,
            of_webhook=webhook,
        )
        if channel.is_thread and self.bot_id in message.pings.users:
            await self.invites_to_thread(channel)
        if not silently:
            self.gateway.message_event("MESSAGE_CREATE", message)
        return message

    async def burst(self, said: Iterable[tuple[User, Channel, str]], *, keep: bool = True) -> list[Message]:
        """Many messages as fast as they are read; who may write where is not asked.

        `keep`: whether they stay in the channels, to be found in their history, and are returned.
        """
        kept: list[Message] = []
        for number, (user, channel, text) in enumerate(said, 1):
            pings = self.world.pinged(channel, user, text, None, None)
            message = self.world.add_message(channel, user, text, pings=pings)
            self.gateway.message_event("MESSAGE_CREATE", message)
            if keep:
                kept.append(message)
            else:
                del channel.messages[message.id]
            if number % BURST_AT_ONCE == 0:
                await self.wait_until(self.gateway.all_written, seconds=60)
        return kept

    def _writes_in_thread(self, user: User, thread: Channel) -> None:
        """Who writes is a member of it from then on, and it is no longer archived."""
        thread.joined.add(user.id)
        if thread.archived:
            self.archive(thread, archived=False)

    def _may_write(self, user: User, channel: Channel) -> bool:
        if channel.deleted or (channel.guild is not None and channel.guild.unavailable):
            return False
        if channel.locked and not channel.may(user.id, "manage_threads"):
            return False
        if channel.guild is None:
            return user is channel.recipient or user is self.bot
        return user.id in channel.guild.members and channel.may_speak(user.id)

    def _attached(
        self,
        channel: Channel,
        files: Sequence[tuple[str, bytes] | tuple[str, bytes, str]],
        voice: Voice | bytes | None,
    ) -> list[Attachment]:
        made = [
            self.world.add_attachment(
                channel, file[0], file[1], content_type=file[2] if len(file) > 2 else None
            )
            for file in files
        ]
        if voice is not None:
            spoken = voice if isinstance(voice, Voice) else Voice(voice)
            one = self.world.add_attachment(
                channel,
                "voice-message.ogg",
                spoken.content,
                content_type="audio/ogg",
                duration=spoken.seconds,
                waveform=spoken.waveform,
            )
            made.append(one)
        return made

    async def edits(self, message: Message, text: str) -> None:
        """Mentions that are new in it are shown as such, though they ring no phone."""
        message.change_text(text)
        message.edited_at = datetime.fromtimestamp(self.world.now(), UTC)
        allowed = {"parse": ["users", "roles", "everyone"], "replied_user": message.reference is not None}
        message.pings = self.world.pinged(message.channel, message.author, text, message.reference, allowed)
        self.gateway.message_event("MESSAGE_UPDATE", message)

    async def shows_preview(self, message: Message, embed: dict[str, Any]) -> None:
        """Discord adds the preview of a link: a MESSAGE_UPDATE that nobody wrote."""
        message.embeds = [*message.embeds, embed]
        self.gateway.message_event("MESSAGE_UPDATE", message)

    async def deletes(self, message: Message) -> None:
        self.api.remove(message)

    async def bulk_deletes(self, messages: Sequence[Message]) -> None:
        self.api.remove_many(list(messages))

    async def reacts(self, user: User, message: Message, emoji: str) -> None:
        self.api.react(user.id, message, emoji)

    async def unreacts(self, user: User, message: Message, emoji: str) -> None:
        self.api.unreact(user.id, message, emoji)

    async def clears_reactions(self, message: Message) -> None:
        """A moderator takes all of them away."""
        self.api.clear_reactions(message)

    async def deletes_channel(self, channel: Channel) -> None:
        """Its threads with it."""
        channel.deleted = True
        assert channel.guild is not None
        for thread in channel.guild.channels.values():
            thread.deleted = thread.deleted or thread.parent is channel
        event = "THREAD_DELETE" if channel.is_thread else "CHANNEL_DELETE"
        data = channel.json(self.bot_id)
        if channel.is_thread:
            data = {key: data[key] for key in ("id", "guild_id", "parent_id", "type")}
        if self.world.in_guild(channel.guild) and (not channel.is_thread or self.world.sees(channel)):
            self.gateway.dispatch(event, data, channel.guild, gateways.GUILDS)

    async def join(self, guild: Guild) -> None:
        """The bot is invited."""
        if not self.world.in_guild(guild):
            self.world.add_member(guild, self.bot)
            self.gateway.guild_appears(guild)

    async def leave(self, guild: Guild) -> None:
        """The bot is removed."""
        self.api.leave(guild)

    async def outage(self, guild: Guild) -> None:
        """Discord loses a server for a while; the bot is still a member."""
        guild.unavailable = True
        gone = {"id": str(guild.id), "unavailable": True}
        self.gateway.dispatch("GUILD_DELETE", gone, guild, gateways.GUILDS)

    async def outage_ends(self, guild: Guild) -> None:
        guild.unavailable = False
        self.gateway.guild_appears(guild, unavailable=False)

    # --- people use what the bot offers ----------------------------------------------------------------

    async def slash(
        self, user: User, channel: Channel, name: str, /, locale: str | None = None, **options: Any
    ) -> Interaction:
        """`name`: with its subcommands, as in "xinyu setup", in any language it is registered in."""
        self._check_member(channel)
        first, *path = name.removeprefix("/").split()
        command = commands.offered(self.api.commands, user, channel, first, 1)
        resolved = Resolved(self.world, channel)
        data = commands.command_data(command, path, options, resolved)
        return self._interact(COMMAND, user, channel, data, locale=locale)

    async def context_menu(
        self, user: User, channel: Channel, name: str, target: Message | User, *, locale: str | None = None
    ) -> Interaction:
        self._check_member(channel)
        kind = 2 if isinstance(target, User) else 3
        command = commands.offered(self.api.commands, user, channel, name, kind)
        resolved = Resolved(self.world, channel)
        data = {"id": command["id"], "name": command["name"], "type": kind, "target_id": resolved.add(target)}
        data |= {"resolved": resolved.tree}
        return self._interact(COMMAND, user, channel, data, locale=locale, command_kind=kind)

    async def presses(self, user: User, message: Message, label_or_custom_id: str) -> Interaction:
        self._check_sees(user, message)
        item = commands.button(message, label_or_custom_id)
        data = {"component_type": 2, "custom_id": item["custom_id"], "id": item.get("id", 1)}
        return self._interact(COMPONENT, user, message.channel, data, source=message)

    async def selects(
        self,
        user: User,
        message: Message,
        custom_id_or_placeholder: str,
        values: str | Sequence[str | User | Role | Channel],
    ) -> Interaction:
        """`values`: options by value or label; users, roles or channels in the menus of those."""
        self._check_sees(user, message)
        resolved = Resolved(self.world, message.channel)
        chosen: Sequence[str | User | Role | Channel] = [values] if isinstance(values, str) else values
        names = [value if isinstance(value, str) else resolved.add(value) for value in chosen]
        item, picked = commands.menu(message, custom_id_or_placeholder, names)
        data = {"component_type": item["type"], "custom_id": item["custom_id"], "values": picked}
        data |= {"id": item.get("id", 1)} | ({"resolved": resolved.tree} if resolved.tree else {})
        return self._interact(COMPONENT, user, message.channel, data, source=message)

    async def submits(
        self, user: User, modal_interaction: Interaction, values: dict[str, Any]
    ) -> Interaction:
        """`values`: by custom id or label."""
        if modal_interaction.modal is None or modal_interaction.user is not user:
            raise NotOffered("no form is shown to this person")
        data = commands.form_data(modal_interaction.modal, values)
        source = modal_interaction.source
        return self._interact(MODAL_SUBMIT, user, modal_interaction.channel, data, source=source)

    def _check_member(self, channel: Channel) -> None:
        if channel.deleted or (channel.guild is not None and not self.world.in_guild(channel.guild)):
            raise NotOffered("the bot's commands are not there")

    def _check_sees(self, user: User, message: Message) -> None:
        if message.deleted:
            raise NotOffered("that message is deleted")
        if message.only_for not in (None, user):
            raise NotOffered("that message is shown to somebody else alone")
        channel = message.channel
        sees = (
            channel.may(user.id, "view_channel") if channel.guild is not None else user is channel.recipient
        )
        if not sees:
            raise NotOffered(f"{user.name} does not see that channel")

    def _interact(
        self,
        kind: int,
        user: User,
        channel: Channel,
        data: dict[str, Any],
        *,
        source: Message | None = None,
        locale: str | None = None,
        command_kind: int = 1,
    ) -> Interaction:
        interaction = Interaction(
            self.world.snowflake(),
            kind,
            user,
            channel,
            data,
            source=source,
            command_kind=command_kind,
            clock=self.world.now,
        )
        self.api.answers.made[interaction.token] = interaction
        sessions = [session for session in self.gateway.sessions.values() if session.covers(channel.guild)]
        interaction.delivered = any(session.connection is not None for session in sessions)
        body = self._interaction_json(interaction, locale or user.locale)
        self.gateway.dispatch("INTERACTION_CREATE", body, channel.guild, 0)
        return interaction

    def _interaction_json(self, interaction: Interaction, locale: str) -> dict[str, Any]:
        channel, user, guild = interaction.channel, interaction.user, interaction.channel.guild
        body: dict[str, Any] = {
            "id": str(interaction.id),
            "application_id": str(self.application_id),
            "type": interaction.kind,
            "token": interaction.token,
            "version": 1,
            "data": interaction.data,
            "channel_id": str(channel.id),
            "channel": channel.json(self.bot_id) | {"permissions": str(channel.permissions_of(user.id))},
            "app_permissions": str(channel.permissions_of(self.bot_id)),
            "locale": locale,
            "entitlements": [],
            "entitlement_sku_ids": [],
            "authorizing_integration_owners": {"0": str(guild.id) if guild is not None else "0"},
            "context": 0 if guild is not None else 1,
            "attachment_size_limit": worlds.UPLOAD_LIMIT,
        }
        if interaction.source is not None:
            body["message"] = self.world.message_json(interaction.source)
        if guild is None:
            return {**body, "user": user.json()}
        member = guild.members[user.id].json() | {"permissions": str(channel.permissions_of(user.id))}
        partial = {"id": str(guild.id), "locale": guild.locale, "features": []}
        return {
            **body,
            "guild_id": str(guild.id),
            "guild": partial,
            "guild_locale": guild.locale,
            "member": member,
        }

    # --- what is seen --------------------------------------------------------------------------------

    def messages(self, channel: Channel, *, of_bot: bool = True) -> list[Message]:
        """What is to be seen there by all, in order. `of_bot`: of the bot alone."""
        kept = sorted(channel.messages.values(), key=lambda message: message.id)
        return [message for message in kept if not of_bot or message.author is self.bot]

    @property
    def typing(self) -> list[tuple[int, float]]:
        return self.api.typing

    @property
    def requests(self) -> list[tuple[str, str, int]]:
        """Method, path after /api/v10 (`/cdn/…` for files), and the status answered (499: none was)."""
        return self.api.requests

    @property
    def too_many(self) -> int:
        return self.api.too_many

    @property
    def rates_on(self) -> bool:
        return self.api.rates_on

    @rates_on.setter
    def rates_on(self, on: bool) -> None:
        self.api.rates_on = on

    @property
    def commands(self) -> list[dict[str, Any]]:
        """The global ones, as registered."""
        return self.api.commands[0]

    # --- trouble -----------------------------------------------------------------------------------------

    def revoke_token(self) -> str:
        """The token is worth nothing any more; connections end with 4004. Returns the new one."""
        self._set_token(self._new_token())
        self.gateway.sessions.clear()
        self._closing = asyncio.create_task(self.gateway.drop(4004))
        return self.token

    def enable_message_content(self, on: bool) -> None:
        """The switch on the application's page: who may identify with the intent, and what REST shows."""
        self.world.sees_content = on
        bit = gateways.MESSAGE_CONTENT
        self.gateway.privileged = self.gateway.privileged & ~bit | (bit if on else 0)

    def closes_dms(self, user: User, *, closed: bool = True) -> None:
        user.dms_open = not closed

    def fail_next(
        self,
        method: str,
        path_regex: str,
        status: int,
        *,
        body: Any = None,
        headers: dict[str, str] | None = None,
        times: int = 1,
        after_effect: bool = False,
    ) -> None:
        """The next `times` such requests fail. `status` 0: the connection is closed instead of an answer.

        `after_effect`: the request takes effect, and only its answer is lost, or replaced by one of `status`.
        `method`: "*" is any. `path_regex` is searched for in the path after /api/v10 (`/cdn/…` for files).
        """
        failure = Failure(method, re.compile(path_regex), status, body, headers or {}, times, after_effect)
        self.api.trouble.failures.append(failure)

    def delay(self, method: str, path_regex: str, seconds: float, *, after_effect: bool = False) -> None:
        """All such requests wait before they take effect, or their answers after it; 0 ends it."""
        delays = self.api.trouble.delays
        delays[:] = [one for one in delays if (one.method, one.path.pattern) != (method, path_regex)]
        if seconds:
            delays.append(Delay(method, re.compile(path_regex), seconds, after_effect))

    def limit_next(
        self, method: str, path_regex: str, seconds: float, *, everywhere: bool = False, times: int = 1
    ) -> None:
        """Such requests get a 429 that asks for so much patience; `everywhere`: it is the global one."""
        body = {"message": "You are being rate limited.", "retry_after": seconds, "global": everywhere}
        self.fail_next(method, path_regex, 429, body=body, times=times)

    def ban_next(self, method: str, path_regex: str, *, times: int = 1) -> None:
        """Cloudflare lets such requests not through: a 429 with a page, without Via."""
        page = "<html><title>Access denied | discord.com used Cloudflare</title>error code: 1015</html>"
        self.fail_next(method, path_regex, 429, body=page, times=times)

    async def drop(self, code: int = 1006) -> None:
        """Every gateway connection ends: 1006, as if a cable was pulled; otherwise closed with that code.

        After 4009 and the like the session is over; else it can be resumed.
        """
        await self.gateway.drop(code)

    async def reconnect(self) -> None:
        """Every client is asked to connect again and resume (op 7)."""
        await self.gateway.reconnect()

    async def invalidate_sessions(self, *, resumable: bool = False) -> None:
        """Every session is called invalid (op 9), and is over unless `resumable`."""
        await self.gateway.invalidate(resumable)

    def forget_sessions(self) -> None:
        """Silently all sessions are over: who comes to resume has to identify anew."""
        self.gateway.sessions.clear()

    async def go_away(self) -> None:
        """Nothing listens any more: connections break and new ones are refused, until `come_back`."""
        await self.gateway.drop(1006)
        await self._stop_serving()

    async def come_back(self) -> None:
        """On the same port. What happened meanwhile is told to who resumes."""
        await self.start()


@asynccontextmanager
async def running_discord(**options: Any) -> AsyncIterator[FakeDiscord]:
    """`options`: those of `FakeDiscord`."""
    fake = FakeDiscord(**options)
    try:
        yield await fake.start()
    finally:
        await fake.stop()
