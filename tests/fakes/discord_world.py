"""What Discord knows: users, servers, channels, messages, and each of them as the JSON it sends.

After discord.com/developers/docs/resources. Permissions are worked out as documented (@everyone, the member's roles,
the channel's overwrites), so that discord.py comes to the same answer from the same objects.
"""

from __future__ import annotations

import itertools
import mimetypes
import re
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

EPOCH_MS = 1_420_070_400_000
TEXT, DM, VOICE, CATEGORY, ANNOUNCEMENT, PUBLIC_THREAD, PRIVATE_THREAD, FORUM = 0, 1, 2, 4, 5, 11, 12, 15
THREADS = (10, PUBLIC_THREAD, PRIVATE_THREAD)
WITHOUT_MESSAGES = (CATEGORY, FORUM)

DEFAULT, THREAD_CREATED, REPLY, CHAT_INPUT_COMMAND, THREAD_STARTER, CONTEXT_MENU_COMMAND = (
    0,
    18,
    19,
    20,
    21,
    23,
)
HAS_THREAD, EPHEMERAL, LOADING, VOICE_MESSAGE = 1 << 5, 1 << 6, 1 << 7, 1 << 13
UPLOAD_LIMIT = 10 * 1024 * 1024
URL_SECONDS = 86400

PERMISSIONS = {
    "create_instant_invite": 1 << 0,
    "kick_members": 1 << 1,
    "ban_members": 1 << 2,
    "administrator": 1 << 3,
    "manage_channels": 1 << 4,
    "manage_guild": 1 << 5,
    "add_reactions": 1 << 6,
    "view_audit_log": 1 << 7,
    "priority_speaker": 1 << 8,
    "stream": 1 << 9,
    "view_channel": 1 << 10,
    "send_messages": 1 << 11,
    "send_tts_messages": 1 << 12,
    "manage_messages": 1 << 13,
    "embed_links": 1 << 14,
    "attach_files": 1 << 15,
    "read_message_history": 1 << 16,
    "mention_everyone": 1 << 17,
    "use_external_emojis": 1 << 18,
    "view_guild_insights": 1 << 19,
    "connect": 1 << 20,
    "speak": 1 << 21,
    "mute_members": 1 << 22,
    "deafen_members": 1 << 23,
    "move_members": 1 << 24,
    "use_voice_activation": 1 << 25,
    "change_nickname": 1 << 26,
    "manage_nicknames": 1 << 27,
    "manage_roles": 1 << 28,
    "manage_webhooks": 1 << 29,
    "manage_expressions": 1 << 30,
    "use_application_commands": 1 << 31,
    "request_to_speak": 1 << 32,
    "manage_events": 1 << 33,
    "manage_threads": 1 << 34,
    "create_public_threads": 1 << 35,
    "create_private_threads": 1 << 36,
    "use_external_stickers": 1 << 37,
    "send_messages_in_threads": 1 << 38,
    "use_embedded_activities": 1 << 39,
    "moderate_members": 1 << 40,
    "use_soundboard": 1 << 42,
    "send_voice_messages": 1 << 46,
    "send_polls": 1 << 49,
    "use_external_apps": 1 << 50,
}
ALIASES = {"read_messages": "view_channel", "external_emojis": "use_external_emojis"}
ALL_PERMISSIONS = sum(PERMISSIONS.values())
EVERYONE_MAY = ALL_PERMISSIONS - sum(
    bit
    for name, bit in PERMISSIONS.items()
    if name.startswith(("manage_", "view_audit", "view_guild"))
    or name.endswith(("_members", "administrator", "priority_speaker"))
)
"""What a new server lets everyone do; @everyone too, as in a real one."""

_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_USER = re.compile(r"<@!?([0-9]+)>")
_ROLE = re.compile(r"<@&([0-9]+)>")
_EVERYONE = re.compile(r"@(everyone|here)")


def bits(permissions: int | str | Iterable[str]) -> int:
    """Permissions by number, or by the names discord.py has for them."""
    if isinstance(permissions, int):
        return permissions
    names = [permissions] if isinstance(permissions, str) else permissions
    total = 0
    for name in names:
        total |= PERMISSIONS[ALIASES.get(name, name)]
    return total


def iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def time_of(snowflake: int) -> datetime:
    return datetime.fromtimestamp(((snowflake >> 22) + EPOCH_MS) / 1000, UTC)


@dataclass(eq=False)
class User:
    id: int
    name: str
    locale: str = "zh-CN"
    bot: bool = False
    display_name: str | None = None
    dms_open: bool = True

    @property
    def mention(self) -> str:
        return f"<@{self.id}>"

    def json(self) -> dict[str, Any]:
        user: dict[str, Any] = {
            "id": str(self.id),
            "username": self.name,
            "discriminator": "0" if not self.bot else "0042",
            "global_name": None if self.bot else (self.display_name or self.name),
            "avatar": None,
            "avatar_decoration_data": None,
            "collectibles": None,
            "primary_guild": None,
            "clan": None,
            "public_flags": 0,
        }
        return {**user, "bot": True} if self.bot else user


@dataclass(eq=False)
class Role:
    id: int
    name: str
    permissions: int = 0
    mentionable: bool = False
    position: int = 0
    managed_by: int | None = None
    """The bot whose own role it is."""

    @property
    def mention(self) -> str:
        return f"<@&{self.id}>"

    def json(self) -> dict[str, Any]:
        role: dict[str, Any] = {
            "id": str(self.id),
            "name": self.name,
            "color": 0,
            "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
            "hoist": False,
            "icon": None,
            "unicode_emoji": None,
            "position": self.position,
            "permissions": str(self.permissions),
            "managed": self.managed_by is not None,
            "mentionable": self.mentionable,
            "flags": 0,
        }
        return {**role, "tags": {"bot_id": str(self.managed_by)}} if self.managed_by else role


@dataclass(eq=False)
class Member:
    user: User
    joined_at: datetime
    roles: list[Role] = field(default_factory=list)
    nick: str | None = None

    def json(self, *, with_user: bool = True) -> dict[str, Any]:
        member: dict[str, Any] = {
            "roles": [str(role.id) for role in self.roles],
            "joined_at": iso(self.joined_at),
            "nick": self.nick,
            "avatar": None,
            "banner": None,
            "premium_since": None,
            "communication_disabled_until": None,
            "pending": False,
            "deaf": False,
            "mute": False,
            "flags": 0,
        }
        return {"user": self.user.json(), **member} if with_user else member


@dataclass(eq=False)
class Guild:
    id: int
    name: str
    owner: User
    members: dict[int, Member] = field(default_factory=dict)
    roles: dict[int, Role] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    """Threads too."""
    locale: str = "zh-CN"
    unavailable: bool = False
    """Whether Discord itself lost it for now: an outage."""

    def base_permissions(self, user_id: int) -> int:
        if user_id == self.owner.id:
            return ALL_PERMISSIONS
        member = self.members.get(user_id)
        if member is None:
            return 0
        total = self.roles[self.id].permissions
        for role in member.roles:
            total |= role.permissions
        return ALL_PERMISSIONS if total & PERMISSIONS["administrator"] else total

    def json(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "name": self.name,
            "icon": None,
            "splash": None,
            "discovery_splash": None,
            "banner": None,
            "description": None,
            "owner_id": str(self.owner.id),
            "region": "deprecated",
            "afk_channel_id": None,
            "afk_timeout": 300,
            "verification_level": 0,
            "default_message_notifications": 0,
            "explicit_content_filter": 0,
            "roles": [role.json() for role in self.roles.values()],
            "emojis": [],
            "stickers": [],
            "features": [],
            "mfa_level": 0,
            "nsfw_level": 0,
            "application_id": None,
            "system_channel_id": None,
            "system_channel_flags": 0,
            "rules_channel_id": None,
            "public_updates_channel_id": None,
            "vanity_url_code": None,
            "premium_tier": 0,
            "premium_progress_bar_enabled": False,
            "preferred_locale": self.locale,
            "max_members": 500000,
            "incidents_data": None,
        }


@dataclass(eq=False)
class Channel:
    id: int
    name: str
    kind: int
    guild: Guild | None = None
    parent: Channel | None = None
    recipient: User | None = None
    """Of a direct channel."""
    owner: User | None = None
    """Of a thread."""
    allowed: dict[int, int] = field(default_factory=dict)
    denied: dict[int, int] = field(default_factory=dict)
    """Overwrites, by member or role."""
    messages: dict[int, Message] = field(default_factory=dict)
    joined: set[int] = field(default_factory=set)
    """Who is in a thread."""
    archived: bool = False
    locked: bool = False
    deleted: bool = False

    @property
    def is_thread(self) -> bool:
        return self.kind in THREADS

    @property
    def mention(self) -> str:
        return f"<#{self.id}>"

    def permissions_of(self, user_id: int) -> int:
        """What somebody may do here, as documented; in a direct channel all that makes sense there."""
        if self.guild is None:
            return EVERYONE_MAY
        base = self.guild.base_permissions(user_id)
        if base == ALL_PERMISSIONS:
            return base
        where = self.parent if self.is_thread and self.parent is not None else self
        granted = where._overwritten(base, user_id)
        if not granted & PERMISSIONS["view_channel"]:
            return 0
        hidden = self.kind == PRIVATE_THREAD and user_id not in self.joined
        return 0 if hidden and not granted & PERMISSIONS["manage_threads"] else granted

    def _overwritten(self, base: int, user_id: int) -> int:
        assert self.guild is not None
        member = self.guild.members.get(user_id)
        base = base & ~self.denied.get(self.guild.id, 0) | self.allowed.get(self.guild.id, 0)
        roles = [role.id for role in member.roles] if member else []
        denied = allowed = 0
        for role_id in roles:
            denied |= self.denied.get(role_id, 0)
            allowed |= self.allowed.get(role_id, 0)
        base = base & ~denied | allowed
        return base & ~self.denied.get(user_id, 0) | self.allowed.get(user_id, 0)

    def may(self, user_id: int, permission: str) -> bool:
        return bool(self.permissions_of(user_id) & PERMISSIONS[permission])

    def may_speak(self, user_id: int) -> bool:
        return self.may(user_id, "send_messages_in_threads" if self.is_thread else "send_messages")

    def json(self, me: int = 0) -> dict[str, Any]:
        last = str(max(self.messages)) if self.messages else None
        common: dict[str, Any] = {"id": str(self.id), "type": self.kind, "last_message_id": last, "flags": 0}
        if self.recipient is not None:
            return {**common, "recipients": [self.recipient.json()]}
        assert self.guild is not None
        common |= {"guild_id": str(self.guild.id), "name": self.name, "rate_limit_per_user": 0, "nsfw": False}
        if self.is_thread:
            return {**common, **self._thread_json(me)}
        return {**common, **self._guild_channel_json()}

    def _guild_channel_json(self) -> dict[str, Any]:
        channel: dict[str, Any] = {
            "position": 0,
            "parent_id": str(self.parent.id) if self.parent else None,
            "permission_overwrites": [self._overwrite(key) for key in {**self.allowed, **self.denied}],
            "topic": None,
        }
        if self.kind == VOICE:
            channel |= {"bitrate": 64000, "user_limit": 0, "rtc_region": None}
        if self.kind == FORUM:
            channel |= {"available_tags": [], "default_reaction_emoji": None, "default_sort_order": None}
        return channel

    def _overwrite(self, key: int) -> dict[str, Any]:
        assert self.guild is not None
        return {
            "id": str(key),
            "type": 0 if key in self.guild.roles else 1,
            "allow": str(self.allowed.get(key, 0)),
            "deny": str(self.denied.get(key, 0)),
        }

    def _thread_json(self, me: int) -> dict[str, Any]:
        assert self.parent is not None
        made = iso(time_of(self.id))
        thread: dict[str, Any] = {
            "parent_id": str(self.parent.id),
            "owner_id": str(self.owner.id) if self.owner else "0",
            "message_count": len(self.messages),
            "total_message_sent": len(self.messages),
            "member_count": len(self.joined),
            "thread_metadata": {
                "archived": self.archived,
                "locked": self.locked,
                "auto_archive_duration": 1440,
                "archive_timestamp": made,
                "create_timestamp": made,
            },
        }
        if me in self.joined:
            thread["member"] = {"id": str(self.id), "user_id": str(me), "join_timestamp": made, "flags": 0}
        return thread


@dataclass(eq=False)
class Attachment:
    """A file of a message. `bytes(attachment.content)` is what was uploaded."""

    id: int
    name: str
    content: bytes
    channel_id: int
    content_type: str | None = None
    description: str | None = None
    duration: float | None = None
    waveform: str | None = None
    title: str | None = None

    @property
    def path(self) -> str:
        return f"/attachments/{self.channel_id}/{self.id}/{quote(self.name)}"

    def json(self, cdn_url: str, now: float) -> dict[str, Any]:
        """Its address is good for a day; who comes later has to ask for the message again."""
        until = int(now) + URL_SECONDS
        signed = f"{cdn_url}{self.path}?ex={until:x}&is={int(now):x}&hm={self.id:064x}"
        attachment: dict[str, Any] = {
            "id": str(self.id),
            "filename": self.name,
            "size": len(self.content),
            "url": signed,
            "proxy_url": signed,
            "content_scan_version": 1,
        }
        if self.content_type:
            attachment["content_type"] = self.content_type
            if self.content_type.startswith("image/"):
                attachment["width"], attachment["height"] = _size_of_picture(self.content)
        optional = {"description": self.description, "title": self.title, "waveform": self.waveform}
        attachment |= {key: value for key, value in optional.items() if value is not None}
        return {**attachment, "duration_secs": self.duration} if self.duration is not None else attachment


@dataclass(frozen=True)
class Sticker:
    id: int
    name: str
    format_type: int = 1
    content: bytes = b""

    @property
    def path(self) -> str:
        return f"/stickers/{self.id}.{ {1: 'png', 2: 'png', 3: 'json', 4: 'gif'}[self.format_type] }"

    def json(self) -> dict[str, Any]:
        return {"id": str(self.id), "name": self.name, "format_type": self.format_type}


@dataclass(frozen=True)
class Pings:
    """Whose phone rings for a message."""

    everyone: bool = False
    here: bool = False
    users: frozenset[int] = frozenset()
    roles: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.everyone or self.here or self.users or self.roles)


@dataclass(eq=False)
class Message:
    id: int
    channel: Channel
    author: User
    text: str
    at: datetime
    kind: int = DEFAULT
    flags: int = 0
    pings: Pings = Pings()
    attachments: list[Attachment] = field(default_factory=list)
    stickers: list[Sticker] = field(default_factory=list)
    embeds: list[dict[str, Any]] = field(default_factory=list)
    components: list[dict[str, Any]] = field(default_factory=list)
    nonce: str | int | None = None
    reference: Message | None = None
    """What it answers, even when that is deleted by now."""
    edits: list[str] = field(default_factory=list)
    """All texts it had, the present one last."""
    edited_at: datetime | None = None
    reactions: dict[str, list[int]] = field(default_factory=dict)
    """Emoji, and by whom."""
    deleted: bool = False
    tts: bool = False
    thread: Channel | None = None
    only_for: User | None = None
    """Who alone sees it: an ephemeral answer."""
    interaction: dict[str, Any] | None = None
    """The metadata of the interaction that it answers."""
    poll: dict[str, Any] | None = None
    forwarded: Message | None = None
    """Of what it is a copy: it says nothing of its own then."""
    of_webhook: bool = False

    def __post_init__(self) -> None:
        self.edits = [self.text]

    @property
    def ephemeral(self) -> bool:
        return bool(self.flags & EPHEMERAL)

    @property
    def silent(self) -> bool:
        """Whether it was sent without notifying anybody."""
        return bool(self.flags & 1 << 12)

    def change_text(self, text: str) -> None:
        if text != self.text:
            self.edits.append(text)
        self.text = text


class World:
    """All there is. Changes of it are told to nobody here: that is for the API and for the people."""

    def __init__(self, *, bot_name: str = "xinyu") -> None:
        self.cdn_url = ""
        self.clock: Callable[[], float] = time.time
        self.ahead = 0.0
        """Seconds that tests let pass without waiting for them."""
        self._last = 0
        self._used: set[int] = set()
        self._counter = itertools.count()
        self.users: dict[int, User] = {}
        self.guilds: dict[int, Guild] = {}
        """The bot may have left some: see `in_guild`."""
        self.channels: dict[int, Channel] = {}
        self.files: dict[str, tuple[bytes, str]] = {}
        """What the CDN has, by path: content and type."""
        year_ago = self.now() - 365 * 86400
        self.bot = self.add_user(bot_name, bot=True, at=year_ago)
        self.application_id = self.bot.id
        self.sees_content = True
        """Whether REST shows the bot messages whole that do not mention it: the switch on the application's page.

        The gateway asks each session's intents instead.
        """

    # --- ids ----------------------------------------------------------------------------------

    def now(self) -> float:
        return self.clock() + self.ahead

    def snowflake(self, at: float | datetime | None = None) -> int:
        """A new id: of now, and then above all others of now; or of another time."""
        seconds = at.timestamp() if isinstance(at, datetime) else at
        candidate = (int((self.now() if seconds is None else seconds) * 1000) - EPOCH_MS) << 22
        if seconds is None:
            candidate = self._last = max(candidate, self._last + 1)
        while candidate in self._used:
            candidate += 1
        if seconds is None:
            self._last = candidate
        self._used.add(candidate)
        return candidate

    # --- making things --------------------------------------------------------------------------

    def add_user(
        self, name: str, *, locale: str = "zh-CN", bot: bool = False, at: float | None = None
    ) -> User:
        made = self.now() - 86400 * 30 if at is None else at
        user = User(self.snowflake(made), name, locale, bot)
        self.users[user.id] = user
        return user

    def add_guild(
        self, name: str, owner: User, members: Sequence[User], *, shard: tuple[int, int] | None = None
    ) -> Guild:
        """`shard`: the number of the shard it shall be of, and how many there are."""
        at = self.now() - 86400 * 20
        guild_id = self.snowflake(at)
        while shard is not None and (guild_id >> 22) % shard[1] != shard[0]:
            at += 0.001
            guild_id = self.snowflake(at)
        guild = Guild(guild_id, name, owner)
        guild.roles[guild_id] = Role(guild_id, "@everyone", EVERYONE_MAY)
        self.guilds[guild_id] = guild
        for user in dict.fromkeys([owner, *members]):
            self.add_member(guild, user)
        return guild

    def add_member(self, guild: Guild, user: User) -> Member:
        member = Member(user, time_of(self.snowflake()))
        guild.members[user.id] = member
        if user.bot:
            role = self.own_role(guild, user)
            role.managed_by = user.id
        return member

    def own_role(self, guild: Guild, user: User) -> Role:
        """A role that this member alone has: a bot's own, or for what only they may do."""
        member = guild.members[user.id]
        for role in member.roles:
            if role.name == user.name:
                return role
        return self.add_role(guild, user.name, [user])

    def add_role(
        self, guild: Guild, name: str, members: Sequence[User], *, mentionable: bool = False
    ) -> Role:
        role = Role(self.snowflake(), name, 0, mentionable, position=len(guild.roles))
        guild.roles[role.id] = role
        for user in members:
            guild.members[user.id].roles.append(role)
        return role

    def add_channel(self, guild: Guild, name: str, kind: int) -> Channel:
        return self._keep(Channel(self.snowflake(), name, kind, guild))

    def add_thread(
        self,
        parent: Channel,
        name: str,
        owner: User,
        *,
        kind: int = PUBLIC_THREAD,
        thread_id: int | None = None,
    ) -> Channel:
        thread = Channel(thread_id or self.snowflake(), name, kind, parent.guild, parent, owner=owner)
        thread.joined.add(owner.id)
        return self._keep(thread)

    def direct(self, user: User) -> Channel:
        for channel in self.channels.values():
            if channel.recipient is user:
                return channel
        return self._keep(Channel(self.snowflake(), "", DM, recipient=user))

    def _keep(self, channel: Channel) -> Channel:
        self.channels[channel.id] = channel
        if channel.guild is not None:
            channel.guild.channels[channel.id] = channel
        return channel

    def add_attachment(
        self,
        channel: Channel,
        name: str,
        content: bytes,
        *,
        content_type: str | None = None,
        description: str | None = None,
        duration: float | None = None,
        waveform: str | None = None,
    ) -> Attachment:
        """Names are made plain as Discord makes them: the rest of the original is its title."""
        plain = re.sub(r"[^\w.\-]", "", name.replace(" ", "_"), flags=re.ASCII)
        if not plain.partition(".")[0]:
            plain = f"file{plain}"
        guessed = content_type or mimetypes.guess_type(name)[0]
        attachment = Attachment(
            self.snowflake(), plain, content, channel.id, guessed, description, duration, waveform
        )
        if plain != name:
            attachment.title = name.rpartition(".")[0] or name
        self.files[attachment.path] = (content, guessed or "application/octet-stream")
        return attachment

    def add_sticker(self, name: str, *, format_type: int = 1, content: bytes = b"") -> Sticker:
        sticker = Sticker(self.snowflake(), name, format_type, content)
        kinds = {3: "application/json", 4: "image/gif"}
        self.files[sticker.path] = (content, kinds.get(format_type, "image/png"))
        return sticker

    def add_message(
        self, channel: Channel, author: User, text: str, *, at: datetime | None = None, **more: Any
    ) -> Message:
        """`more`: fields of the message."""
        message_id = self.snowflake(at)
        message = Message(message_id, channel, author, text, at=time_of(message_id), **more)
        if message.poll is not None:
            message.poll = _opened(message.poll, message.at)
        if not message.ephemeral:
            channel.messages[message_id] = message
        return message

    # --- looking things up --------------------------------------------------------------------------

    def in_guild(self, guild: Guild) -> bool:
        return self.bot.id in guild.members

    def guilds_of_bot(self) -> list[Guild]:
        return sorted((guild for guild in self.guilds.values() if self.in_guild(guild)), key=lambda g: g.id)

    def sees(self, channel: Channel) -> bool:
        """Whether the bot does."""
        guild = channel.guild
        return guild is None or (
            self.in_guild(guild) and not guild.unavailable and channel.may(self.bot.id, "view_channel")
        )

    def pinged(
        self,
        channel: Channel,
        author: User,
        text: str,
        answered: Message | None,
        allowed: dict[str, Any] | None,
    ) -> Pings:
        """Who is pinged. `allowed`: the `allowed_mentions` of the message; without it, all that is written."""
        plain = _CODE.sub(" ", text)
        parse = {"everyone", "roles", "users"} if allowed is None else set(allowed.get("parse") or ())
        listed = {
            key: {int(value) for value in ((allowed or {}).get(key) or ())} for key in ("users", "roles")
        }
        users = {int(found) for found in _USER.findall(plain)} & set(self.users)
        users = {user for user in users if "users" in parse or user in listed["users"]}
        if channel.guild is None:
            members = {self.bot.id, channel.recipient.id if channel.recipient else 0}
            users &= members
        if answered is not None and (allowed is None or allowed.get("replied_user")):
            users.add(answered.author.id)
        broad, roles = self._broad_pings(channel, author, plain, parse, listed["roles"])
        return Pings("everyone" in broad, "here" in broad, frozenset(users), roles)

    def _broad_pings(
        self, channel: Channel, author: User, plain: str, parse: set[str], listed: set[int]
    ) -> tuple[set[str], frozenset[int]]:
        if channel.guild is None:
            return set(), frozenset()
        everyone = channel.may(author.id, "mention_everyone")
        broad = set(_EVERYONE.findall(plain)) if everyone and "everyone" in parse else set()
        roles = [channel.guild.roles.get(int(found)) for found in _ROLE.findall(plain)]
        rung = {
            role.id
            for role in roles
            if role is not None and (everyone or role.mentionable) and ("roles" in parse or role.id in listed)
        }
        return broad, frozenset(rung)

    # --- messages as JSON -----------------------------------------------------------------------------

    def message_json(
        self,
        message: Message,
        *,
        whole: bool | None = None,
        sees: bool | None = None,
        nested: bool = False,
    ) -> dict[str, Any]:
        """As the REST API has it. `whole`: with its content though the bot would not be shown that.

        `sees`: whether who asks is shown content; else it is the application that is asked. There is no nonce
        in it: only who sends and who is told at once gets that.
        """
        sees = self.sees_content if sees is None else sees
        pinged = [self.users[user] for user in sorted(message.pings.users)]
        body: dict[str, Any] = {
            "id": str(message.id),
            "channel_id": str(message.channel.id),
            "type": message.kind,
            "author": message.author.json(),
            "content": message.text,
            "timestamp": iso(message.at),
            "edited_timestamp": iso(message.edited_at) if message.edited_at else None,
            "tts": message.tts,
            "pinned": False,
            "mention_everyone": message.pings.everyone or message.pings.here,
            "mentions": [user.json() for user in pinged],
            "mention_roles": [str(role) for role in sorted(message.pings.roles)],
            "attachments": [one.json(self.cdn_url, self.now()) for one in message.attachments],
            "embeds": message.embeds,
            "components": message.components,
            "flags": message.flags | (HAS_THREAD if message.thread else 0),
        }
        body |= self._optional_json(message, sees, nested)
        if not (self.shown_whole(message, sees) if whole is None else whole):
            body |= {"content": "", "attachments": [], "embeds": [], "components": []}
            body.pop("poll", None)
            body.pop("message_snapshots", None)
        return body

    def shown_whole(self, message: Message, sees: bool) -> bool:
        """Message Content: direct messages, what the bot wrote or what mentions it are always shown."""
        return (
            sees
            or message.channel.guild is None
            or message.author is self.bot
            or self.bot.id in message.pings.users
        )

    def _optional_json(self, message: Message, sees: bool, nested: bool) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if message.stickers:
            body["sticker_items"] = [sticker.json() for sticker in message.stickers]
        if message.reactions:
            body["reactions"] = [self._reaction_json(*pair) for pair in message.reactions.items()]
        if message.poll is not None:
            body["poll"] = message.poll
        if message.thread is not None:
            body["thread"] = message.thread.json(self.bot.id)
        if message.interaction is not None:
            body["application_id"] = body["webhook_id"] = str(self.application_id)
            body["interaction_metadata"] = message.interaction
        elif message.author is self.bot:
            body["application_id"] = str(self.application_id)
        if message.of_webhook:
            body["webhook_id"] = str(message.author.id)
        return body | self._reference_json(message, sees, nested)

    def _reference_json(self, message: Message, sees: bool, nested: bool) -> dict[str, Any]:
        answered = message.reference or message.forwarded
        if answered is None:
            if message.kind != THREAD_CREATED or message.thread is None:
                return {}
            return {"message_reference": {"type": 0, **_place(message.thread)}}
        reference = {**_place(answered.channel), "message_id": str(answered.id)}
        if message.forwarded is not None:
            snapshot = {key: self.message_json(answered, whole=True)[key] for key in _SNAPSHOT}
            return {
                "message_reference": {"type": 1, **reference},
                "message_snapshots": [{"message": snapshot}],
            }
        reference = {"type": 0, **reference}
        if nested:
            return {"message_reference": reference}
        there = None if answered.deleted else self.message_json(answered, sees=sees, nested=True)
        return {"message_reference": reference, "referenced_message": there}

    def _reaction_json(self, emoji: str, users: list[int]) -> dict[str, Any]:
        return {
            "emoji": emoji_json(emoji),
            "count": len(users),
            "count_details": {"burst": 0, "normal": len(users)},
            "burst_colors": [],
            "me": self.bot.id in users,
            "me_burst": False,
        }

    def event_json(self, message: Message, *, sees: bool) -> dict[str, Any]:
        """As the gateway has it: with the server, and with the author and the mentioned as its members."""
        body = self.message_json(message, sees=sees)
        body["channel_type"] = message.channel.kind
        if message.nonce is not None:
            body["nonce"] = message.nonce
        guild = message.channel.guild
        if guild is None:
            return body
        body["guild_id"] = str(guild.id)
        if message.author.id in guild.members and message.interaction is None:
            body["member"] = guild.members[message.author.id].json(with_user=False)
        for mentioned in body["mentions"]:
            member = guild.members.get(int(mentioned["id"]))
            if member is not None:
                mentioned["member"] = member.json(with_user=False)
        return body


_SNAPSHOT = (
    "type",
    "content",
    "mentions",
    "mention_roles",
    "attachments",
    "embeds",
    "timestamp",
    "edited_timestamp",
    "flags",
    "components",
)


def _opened(poll: dict[str, Any], at: datetime) -> dict[str, Any]:
    """A poll as it is given back: answers are numbered, and it says when it ends instead of how long it lasts."""
    answers = [{"answer_id": number, **answer} for number, answer in enumerate(poll.get("answers") or (), 1)]
    return {
        "question": poll["question"],
        "answers": answers,
        "expiry": iso(at + timedelta(hours=poll.get("duration") or 24)),
        "allow_multiselect": bool(poll.get("allow_multiselect")),
        "layout_type": 1,
        "results": {"is_finalized": False, "answer_counts": []},
    }


def _place(channel: Channel) -> dict[str, Any]:
    of_guild = {"guild_id": str(channel.guild.id)} if channel.guild is not None else {}
    return {"channel_id": str(channel.id), **of_guild}


def emoji_json(emoji: str) -> dict[str, Any]:
    """`❤️`, or `name:id` of a server's own."""
    name, _, emoji_id = emoji.strip("<>").removeprefix(":").partition(":")
    return {"id": emoji_id or None, "name": name}


def _size_of_picture(content: bytes) -> tuple[int, int]:
    if content.startswith(b"\x89PNG") and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return width, height
    return 640, 480
