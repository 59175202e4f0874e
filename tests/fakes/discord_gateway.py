"""Discord's gateway: WebSocket sessions that identify, are told what happens, break off and resume.

After discord.com/developers/docs/events/gateway. What happens is handed to `Gateway.dispatch` with the intent that
asks for it; each session of that shard keeps it in a bounded buffer, from which RESUME replays what was missed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from tests.fakes.discord_world import Guild, Message, World

GUILDS, GUILD_MEMBERS, GUILD_PRESENCES, GUILD_MESSAGES = 1 << 0, 1 << 1, 1 << 8, 1 << 9
GUILD_REACTIONS, DIRECT_MESSAGES, DIRECT_REACTIONS, MESSAGE_CONTENT = 1 << 10, 1 << 12, 1 << 13, 1 << 15
PRIVILEGED = GUILD_MEMBERS | GUILD_PRESENCES | MESSAGE_CONTENT
KNOWN_INTENTS = sum(1 << bit for bit in (*range(17), 20, 21, 24, 25))
BUFFERED_EVENTS = 500
EVENTS_A_MINUTE = 120

HEARTBEAT, IDENTIFY, PRESENCE, VOICE_STATE, RESUME, REQUEST_MEMBERS = 1, 2, 3, 4, 6, 8
RECONNECT, INVALID_SESSION, HELLO, HEARTBEAT_ACK = 7, 9, 10, 11

_GONE_FOR_GOOD = (1000, 1001)
"""A client that closes so ends its session; any other end can be resumed."""
_SESSION_IS_OVER = frozenset([4003, 4004, 4007, 4009, 4010, 4011, 4012, 4013, 4014])
"""Closed with one of these, a client has to identify anew, or may not come again at all."""


class _Closing(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(eq=False)
class Session:
    """What survives a connection."""

    id: str
    intents: int
    shard: tuple[int, int]
    seq: int = 0
    buffer: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=BUFFERED_EVENTS))
    connection: Connection | None = None

    def tell(self, event: str, data: Any) -> None:
        self.seq += 1
        frame = json.dumps({"t": event, "s": self.seq, "op": 0, "d": data}, ensure_ascii=False)
        self.buffer.append((self.seq, frame))
        if self.connection is not None:
            self.connection.send(frame)

    def covers(self, guild: Guild | None) -> bool:
        number, count = self.shard
        return number == 0 if guild is None else (guild.id >> 22) % count == number


@dataclass(eq=False)
class Connection:
    """One WebSocket, and what is still to be written to it."""

    socket: web.WebSocketResponse
    request: web.Request
    compressed: bool
    session: Session | None = None
    outgoing: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    arrived: deque[float] = field(default_factory=deque)
    """When the events of the last minute came."""
    heartbeats: int = 0
    last_heartbeat: float = field(default_factory=time.monotonic)
    closed_by_us: bool = False

    def __post_init__(self) -> None:
        self._deflate = zlib.compressobj()

    def send(self, frame: str) -> None:
        self.outgoing.put_nowait(frame)

    def op(self, op: int, data: Any = None) -> None:
        self.send(json.dumps({"t": None, "s": None, "op": op, "d": data}))

    async def write(self, stirred: Callable[[], None]) -> None:
        """Writes what was sent, in order, until the connection ends."""
        while True:
            if self.outgoing.empty():
                stirred()
            frame = await self.outgoing.get()
            if self.socket.closed:
                return
            try:
                await self._write(frame)
            except (ConnectionError, RuntimeError):
                return

    async def _write(self, frame: str) -> None:
        if not self.compressed:
            await self.socket.send_str(frame)
            return
        packed = self._deflate.compress(frame.encode()) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        await self.socket.send_bytes(packed)

    def cut(self) -> None:
        """The cable is pulled."""
        self.leave()
        transport = self.request.transport
        if transport is not None:
            transport.abort()

    def leave(self) -> None:
        if self.session is not None and self.session.connection is self:
            self.session.connection = None

    def count_event(self) -> None:
        now = time.monotonic()
        self.arrived.append(now)
        while self.arrived and self.arrived[0] < now - 60:
            self.arrived.popleft()
        if len(self.arrived) > EVENTS_A_MINUTE:
            raise _Closing(4008, "Rate limited.")


class Gateway:
    """All connections and sessions. `stirred` is called after everything that happens."""

    def __init__(self, world: World, stirred: Callable[[], None]) -> None:
        self._world = world
        self._stirred = stirred
        self.token = ""
        self.url = ""
        self.heartbeat_seconds = 41.25
        self.privileged = MESSAGE_CONTENT
        """The privileged intents that are switched on for the application."""
        self.shards = 1
        """How many are recommended."""
        self.starts_left = 1000
        self.identify_seconds = 0.0
        """Between two IDENTIFYs; who comes sooner gets an invalid session. Discord's are 5, which takes long here."""
        self.heartbeat_grace = 20.0
        """So many seconds after a heartbeat was due, its session has timed out (4009)."""
        self.deaf = False
        """Heartbeats are not acknowledged."""
        self.refuse = False
        """Handshakes fail with 503."""
        self.identified = 0
        self.resumed = 0
        self.intents: list[int] = []
        """Of each IDENTIFY."""
        self.heartbeats = 0
        self.closed: list[int] = []
        """Codes this side closed with."""
        self.connections: list[Connection] = []
        self.sessions: dict[str, Session] = {}
        self._last_identify = -5.0

    # --- the connection -----------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.refuse:
            self._stirred()
            return web.Response(status=503, text="upstream connect error")
        query = request.query
        socket = web.WebSocketResponse(autoping=True, compress=False, timeout=0.2, max_msg_size=4096 * 4)
        await socket.prepare(request)
        connection = Connection(socket, request, query.get("compress") == "zlib-stream")
        self.connections.append(connection)
        self._stirred()
        helpers = [
            asyncio.create_task(connection.write(self._stirred)),
            asyncio.create_task(self._watch(connection)),
        ]
        try:
            await self._serve(connection)
        finally:
            connection.leave()
            self.connections.remove(connection)
            for helper in helpers:
                helper.cancel()
            self._stirred()
        return socket

    async def _watch(self, connection: Connection) -> None:
        """Ends a connection whose client stopped sending heartbeats."""
        while True:
            due = connection.last_heartbeat + self.heartbeat_seconds + self.heartbeat_grace
            left = due - time.monotonic()
            if left <= 0:
                await self._close(connection, 4009)
                return
            await asyncio.sleep(left)

    async def _serve(self, connection: Connection) -> None:
        try:
            _check_query(connection.request)
            connection.op(HELLO, {"heartbeat_interval": int(self.heartbeat_seconds * 1000), "_trace": []})
            await self._listen(connection)
        except _Closing as closing:
            self.closed.append(closing.code)
            connection.closed_by_us = True
            await connection.socket.close(code=closing.code, message=closing.reason.encode())
        self._maybe_end(connection)

    def _maybe_end(self, connection: Connection) -> None:
        """A session whose client said goodbye is over."""
        session = connection.session
        if (
            session is not None
            and connection.socket.close_code in _GONE_FOR_GOOD
            and not connection.closed_by_us
        ):
            self.sessions.pop(session.id, None)

    async def _listen(self, connection: Connection) -> None:
        async for message in connection.socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            if len(message.data) > 4096:
                raise _Closing(4002, "Error while decoding payload.")
            connection.count_event()
            op, data = _decode(message.data)
            await self._take(connection, op, data)
            self._stirred()

    async def _take(self, connection: Connection, op: int, data: Any) -> None:
        if op == HEARTBEAT:
            self.heartbeats += 1
            connection.heartbeats += 1
            connection.last_heartbeat = time.monotonic()
            if not self.deaf:
                connection.op(HEARTBEAT_ACK)
        elif op == IDENTIFY:
            self._identify(connection, data)
        elif op == RESUME:
            self._resume(connection, data)
        elif op not in (PRESENCE, VOICE_STATE, REQUEST_MEMBERS):
            raise _Closing(4001, "Unknown opcode.")
        elif connection.session is None:
            raise _Closing(4003, "Not authenticated.")
        elif op == REQUEST_MEMBERS:
            self._members(connection.session, data)

    # --- sessions --------------------------------------------------------------------------------

    def _identify(self, connection: Connection, data: Any) -> None:
        if connection.session is not None:
            raise _Closing(4005, "Already authenticated.")
        if not isinstance(data, dict) or not isinstance(data.get("properties"), dict):
            raise _Closing(4002, "Error while decoding payload.")
        if data.get("token") != self.token:
            raise _Closing(4004, "Authentication failed.")
        shard = _checked_shard(data.get("shard", [0, 1]))
        intents = data.get("intents")
        if not isinstance(intents, int) or intents < 0 or intents & ~KNOWN_INTENTS:
            raise _Closing(4013, "Invalid intent(s).")
        if intents & PRIVILEGED & ~self.privileged:
            raise _Closing(4014, "Disallowed intent(s).")
        if time.monotonic() - self._last_identify < self.identify_seconds:
            connection.op(INVALID_SESSION, False)
            return
        self._last_identify = time.monotonic()
        self.identified += 1
        self.starts_left -= 1
        self.intents.append(intents)
        session = Session(secrets.token_hex(16), intents, shard, connection=connection)
        connection.session = self.sessions[session.id] = session
        self._greet(session)

    def _greet(self, session: Session) -> None:
        guilds = [guild for guild in self._world.guilds_of_bot() if session.covers(guild)]
        session.tell(
            "READY",
            {
                "v": 10,
                "user": {
                    **self._world.bot.json(),
                    "verified": True,
                    "mfa_enabled": False,
                    "email": None,
                    "flags": 0,
                },
                "guilds": [{"id": str(guild.id), "unavailable": True} for guild in guilds],
                "session_id": session.id,
                "session_type": "normal",
                "resume_gateway_url": self.url,
                "shard": list(session.shard),
                "application": {"id": str(self._world.application_id), "flags": self.application_flags},
                "private_channels": [],
                "_trace": [],
            },
        )
        for guild in guilds if session.intents & GUILDS else ():
            if guild.unavailable:
                continue
            session.tell("GUILD_CREATE", {**self._guild_json(guild, session), "unavailable": False})

    @property
    def application_flags(self) -> int:
        pairs = ((GUILD_PRESENCES, 1 << 13), (GUILD_MEMBERS, 1 << 15), (MESSAGE_CONTENT, 1 << 19))
        return sum(flag for intent, flag in pairs if self.privileged & intent)

    def _guild_json(self, guild: Guild, session: Session) -> dict[str, Any]:
        me = self._world.bot.id
        seen = [channel for channel in guild.channels.values() if channel.is_thread or not channel.deleted]
        everybody = bool(session.intents & GUILD_MEMBERS)
        return {
            **guild.json(),
            "joined_at": guild.members[me].json()["joined_at"],
            "large": len(guild.members) > 250,
            "member_count": len(guild.members),
            "voice_states": [],
            "members": [member.json() for key, member in guild.members.items() if everybody or key == me],
            "channels": [channel.json(me) for channel in seen if not channel.is_thread],
            "threads": [
                channel.json(me)
                for channel in seen
                if channel.is_thread and not channel.archived and self._world.sees(channel)
            ],
            "presences": [],
            "stage_instances": [],
            "guild_scheduled_events": [],
            "soundboard_sounds": [],
        }

    def _resume(self, connection: Connection, data: Any) -> None:
        if connection.session is not None:
            raise _Closing(4005, "Already authenticated.")
        if not isinstance(data, dict) or not isinstance(data.get("seq"), int | None):
            raise _Closing(4002, "Error while decoding payload.")
        if data.get("token") != self.token:
            raise _Closing(4004, "Authentication failed.")
        session = self.sessions.get(str(data.get("session_id")))
        seq = data.get("seq") or 0
        if session is None or seq > session.seq or (session.buffer and session.buffer[0][0] > seq + 1):
            connection.op(INVALID_SESSION, False)
            return
        if session.connection is not None:
            session.connection.cut()
        self.resumed += 1
        for number, frame in session.buffer:
            if number > seq:
                connection.send(frame)
        session.connection = connection
        connection.session = session
        session.tell("RESUMED", {"_trace": []})

    def _members(self, session: Session, data: Any) -> None:
        """REQUEST_GUILD_MEMBERS, by ids or by the start of the name."""
        guild = self._world.guilds.get(int(data.get("guild_id", 0)))
        if guild is None:
            return
        wanted = data.get("user_ids")
        ids = {int(key) for key in (wanted if isinstance(wanted, list) else [wanted])} if wanted else None
        start = data.get("query") or ""
        found = [
            member.json()
            for key, member in guild.members.items()
            if (key in ids if ids is not None else member.user.name.startswith(start))
        ]
        chunk = {"guild_id": str(guild.id), "members": found, "chunk_index": 0, "chunk_count": 1}
        session.tell("GUILD_MEMBERS_CHUNK", {**chunk, "nonce": data.get("nonce")})

    # --- telling ------------------------------------------------------------------------------------

    def dispatch(self, event: str, data: Any, guild: Guild | None, intent: int) -> None:
        """To the sessions whose shard and intents it is for. `intent` 0: to them whatever their intents."""
        for session in list(self.sessions.values()):
            if session.covers(guild) and (not intent or session.intents & intent):
                session.tell(event, data)
        self._stirred()

    def guild_appears(self, guild: Guild, **more: Any) -> None:
        """The bot is invited to a server; with `unavailable=False`, an outage of it is over."""
        for session in list(self.sessions.values()):
            if session.covers(guild) and session.intents & GUILDS:
                session.tell("GUILD_CREATE", self._guild_json(guild, session) | more)
        self._stirred()

    def message_event(self, event: str, message: Message) -> None:
        if message.ephemeral or not self._world.sees(message.channel):
            return
        guild = message.channel.guild
        intent = DIRECT_MESSAGES if guild is None else GUILD_MESSAGES
        shown: dict[bool, dict[str, Any]] = {}
        for session in list(self.sessions.values()):
            if not session.covers(guild) or not session.intents & intent:
                continue
            sees = bool(session.intents & MESSAGE_CONTENT)
            if sees not in shown:
                shown[sees] = self._world.event_json(message, sees=sees)
            session.tell(event, shown[sees])
        self._stirred()

    def all_written(self) -> bool:
        """Whether the clients were given all there is for them."""
        return all(connection.outgoing.empty() for connection in self.connections)

    # --- trouble ---------------------------------------------------------------------------------------

    async def drop(self, code: int = 1006) -> None:
        """Every connection ends: 1006, as if a cable was pulled; otherwise it is closed with that code."""
        for connection in list(self.connections):
            if code == 1006:
                connection.cut()
            else:
                await self._close(connection, code)
        self._stirred()

    async def _close(self, connection: Connection, code: int) -> None:
        if connection.session is not None and code in _SESSION_IS_OVER:
            self.sessions.pop(connection.session.id, None)
        connection.leave()
        connection.closed_by_us = True
        self.closed.append(code)
        await connection.socket.close(code=code, message=b"", drain=False)

    async def reconnect(self) -> None:
        """Every client is asked to come again (op 7)."""
        for connection in list(self.connections):
            connection.op(RECONNECT)

    async def invalidate(self, resumable: bool) -> None:
        """Every session is called invalid (op 9); it is over unless `resumable`."""
        for connection in list(self.connections):
            session = connection.session
            if session is not None and not resumable:
                self.sessions.pop(session.id, None)
            connection.op(INVALID_SESSION, resumable)

    def forget(self) -> None:
        """All sessions that are not connected are over."""
        self.sessions = {key: value for key, value in self.sessions.items() if value.connection is not None}

    async def stop(self) -> None:
        """Sessions are kept: who comes back to the same fake may resume."""
        for connection in list(self.connections):
            connection.closed_by_us = True
            await connection.socket.close(code=WSCloseCode.GOING_AWAY, drain=False)
            connection.cut()


def _check_query(request: web.Request) -> None:
    query = request.query
    if query.get("v", "10") != "10":
        raise _Closing(4012, "Invalid API version.")
    if query.get("encoding", "json") != "json":
        raise _Closing(4002, "This fake speaks JSON alone.")
    if query.get("compress", "zlib-stream") != "zlib-stream":
        raise _Closing(4002, "This fake compresses with zlib-stream alone.")


def _decode(raw: str | bytes) -> tuple[int, Any]:
    try:
        payload = json.loads(raw)
        return int(payload["op"]), payload.get("d")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _Closing(4002, "Error while decoding payload.") from None


def _checked_shard(shard: Any) -> tuple[int, int]:
    if isinstance(shard, list) and len(shard) == 2 and all(type(part) is int for part in shard):
        number, count = shard
        if 0 <= number < count:
            return number, count
    raise _Closing(4010, "Invalid shard.")
