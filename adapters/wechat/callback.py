"""What WeChat's servers ask of us: to prove ourselves (GET), and to take messages and answer them (POST)."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

import structlog
from aiohttp import web
from wechatpy.replies import TextReply

from adapters.wechat.api import WechatApi
from adapters.wechat.crypto import Envelope, Unreadable, is_signed
from adapters.wechat.delivery import CLOSED_AFTER_SECONDS, HOLD_SECONDS, Responder, Response
from adapters.wechat.notices import Notices
from adapters.wechat.parse import Parsed, parse
from adapters.wechat.xml import BrokenXml, fields_of
from core.errors import IdempotencyConflict, StoreUnavailable
from core.language import Language, language_of
from core.messages import IncomingMessage
from core.passive import Arrival, PassiveReplies
from core.ports import Inbox, SharedCache
from core.safety.protocol import Protocols
from core.safety.rules import Risk, risk_of

log = structlog.get_logger()

BODY_LIMIT = 1024 * 1024
BODY_SECONDS = 5.0
REFUSED_TOLD_SECONDS = 300.0
CLOCKS_APART_SECONDS = 300
NONCE_MEMORY = timedelta(minutes=11)
SAME_AGAIN_SECONDS = 30.0
"""The platform's own retries of a message end 15 s after it."""
NOT_KEPT_AFTER_SECONDS = 9.0
"""By then it is the last try of a message that could not be stored."""
DANGER_SECONDS = 1.5
"""How long the store may take before who is in danger is answered without it."""
STORE_SECONDS = 0.2
STORE_AGAIN_SECONDS = 0.5
"""Between two tries to store what came, while WeChat waits."""
FAREWELL_AGAIN = timedelta(seconds=60)
CROWD_SECONDS = 0.002
CROWD_LONGEST_SECONDS = 1.5
KINDS_LIMIT = 100
KEPT_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class _Call:
    """One try of WeChat's, proved and parsed."""

    request: web.Request
    parsed: Parsed
    asked_at: float
    """When it came, by time.monotonic()."""
    encrypted: bool

    @property
    def left(self) -> float:
        """Seconds for which the response may still be held back."""
        return self.asked_at + HOLD_SECONDS - time.monotonic()

    def is_open(self) -> bool:
        return self.request.transport is not None and not self.request.transport.is_closing()

    def left_alone(self) -> web.Response:
        """No response: WeChat comes again."""
        if self.request.transport is not None:
            self.request.transport.abort()
        return _success()  # nobody hears it


class WechatCallback:
    """The address of one account."""

    def __init__(
        self,
        api: WechatApi,
        inbox: Inbox,
        replies: PassiveReplies,
        responder: Responder,
        cache: SharedCache,
        protocols: Protocols,
        notices: Mapping[Language, Notices],
    ) -> None:
        self._api = api
        self._account = api.account
        self._inbox = inbox
        self._replies = replies
        self._responder = responder
        self._cache = cache
        self._protocols = protocols
        self._notices = notices
        self._envelope = Envelope(api.account) if api.account.encoding_aes_key else None
        self._unknown: set[str] = set()
        self._refused_at: dict[str, float] = {}
        self._waiting = 0
        """Requests that are not answered yet."""
        self._kept: OrderedDict[str, None] = OrderedDict()
        """Messages of late that are stored for sure."""

    def routes(self) -> list[web.RouteDef]:
        return [web.get(self._account.path, self.verify), web.post(self._account.path, self.receive)]

    async def verify(self, request: web.Request) -> web.StreamResponse:
        """developers.weixin.qq.com, "接入指南": echo what was sent, if it is signed with our token."""
        query = request.query
        echo = query.get("echostr", "")
        signature = query.get("signature", "")
        if not self._is_in_time(query.get("timestamp", "")) or not self._is_signed(signature, query):
            self._why(query, signature)
            return web.Response(status=401)
        if not await self._is_fresh(request, f"echo:{echo}"):
            self._refused("nonce_used_again")
            return web.Response(status=401)
        return web.Response(text=echo)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        asked_at = time.monotonic()
        encrypted = request.query.get("encrypt_type") == "aes"
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(request)
        except TimeoutError:
            return web.Response(status=408)
        except web.RequestPayloadError:  # it is not packed as it says
            return web.Response(status=400)
        if body is None:
            return web.Response(status=413)
        try:
            xml = self._opened(request, body, encrypted=encrypted)
            if isinstance(xml, int):
                return web.Response(status=xml)
            parsed = parse(xml, self._account.app_id)
        except (BrokenXml, UnicodeDecodeError):
            return web.Response(status=400)
        except Unreadable:
            self._refused("another_aes_key_or_app_id")
            self._api.unreadable_at = time.monotonic()
            return web.Response(status=400)
        if not await self._is_fresh(request, parsed.event_id):
            self._refused("nonce_used_again")
            return web.Response(status=401)
        return await self._answer(request, parsed, asked_at, encrypted=encrypted)

    # --- is it WeChat? ----------------------------------------------------------------------

    def _opened(self, request: web.Request, body: bytes, *, encrypted: bool) -> str | int:
        """The XML, or the status for what is not signed. Raises BrokenXml, Unreadable, UnicodeDecodeError."""
        query = request.query
        if not self._is_in_time(query.get("timestamp", "")):
            self._why(query, query.get("signature", ""))
            return 401
        if not encrypted:
            if self._is_signed(query.get("signature", ""), query):
                return body.decode()
            self._refused("another_token")
            return 401
        if self._envelope is None:
            self._refused("encrypted_without_key")
            if self._is_signed(query.get("signature", ""), query):
                self._api.unreadable_at = time.monotonic()
            return 400
        sealed = fields_of(body.decode()).get("Encrypt", "")
        if not self._is_signed(query.get("msg_signature", ""), query, sealed):
            self._refused("another_token")
            return 401
        return self._envelope.open(sealed)

    def _why(self, query: Mapping[str, str], signature: str) -> None:
        """Tell the operator, not who asks, whether it is the Token or the clock."""
        self._refused("clocks_apart" if self._is_signed(signature, query) else "another_token")

    def _refused(self, reason: str) -> None:
        """A warning now and then: anybody may knock here."""
        now = time.monotonic()
        if now - self._refused_at.get(reason, -REFUSED_TOLD_SECONDS) >= REFUSED_TOLD_SECONDS:
            self._refused_at[reason] = now
            log.warning("wechat_refused", reason=reason, app_id=self._account.app_id)

    def _is_signed(self, signature: str, query: Mapping[str, str], *more: str) -> bool:
        parts = (self._account.token, query.get("timestamp", ""), query.get("nonce", ""), *more)
        return is_signed(signature, *parts)

    @staticmethod
    def _is_in_time(timestamp: str) -> bool:
        return timestamp.isdecimal() and abs(int(timestamp[:12]) - time.time()) <= CLOCKS_APART_SECONDS

    async def _is_fresh(self, request: web.Request, content: str) -> bool:
        """Whether nobody used its nonce, unless for the same content a moment ago: the platform's own retry."""
        timestamp, nonce = request.query.get("timestamp", ""), request.query.get("nonce", "")
        key = f"wechat:nonce:{self._account.app_id}:{timestamp}:{nonce}"[:256]
        stands = await self._cache.add(key, f"{time.time():.3f} {content}", NONCE_MEMORY)
        first_at, _, used_for = stands.partition(" ")
        return used_for == content and time.time() - float(first_at) < SAME_AGAIN_SECONDS

    # --- what came --------------------------------------------------------------------------

    async def _answer(
        self, request: web.Request, parsed: Parsed, asked_at: float, *, encrypted: bool
    ) -> web.StreamResponse:
        if not parsed.known:
            self._tell_once(parsed.kind)
        # A crowd takes its time, before a request is looked at and when its time is over: the last are due earlier.
        earlier = min(CROWD_LONGEST_SECONDS, self._waiting * CROWD_SECONDS)
        call = _Call(request, parsed, asked_at - earlier, encrypted)
        self._waiting += 1
        try:
            return await self._answered(call)
        finally:
            self._waiting -= 1

    async def _answered(self, call: _Call) -> web.StreamResponse:
        while True:
            try:
                return await self._reply(call)
            except IdempotencyConflict:  # asking again would change nothing
                log.warning("message_known_with_another_text")
                return _success()
            except (StoreUnavailable, TimeoutError):
                response = await self._without_store(call)
                if response is not None:
                    return response

    async def _reply(self, call: _Call) -> web.StreamResponse:
        """Store what came, wait for its answer and give it. Raises StoreUnavailable, TimeoutError."""
        message = call.parsed.message
        in_danger = message is not None and risk_of(message) is not Risk.NONE
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(DANGER_SECONDS if in_danger else max(call.left, STORE_SECONDS)):
                if call.parsed.reach is not None:
                    await self._inbox.note(call.parsed.reach)
                if message is None:
                    return _success()
                farewell = await self._farewell_of(message)
                if farewell:
                    return self._written(call, Response(farewell))
                arrival = await stack.enter_async_context(self._replies.receiving(message))
            self._note_kept(message.event_id)
            response = await self._responder.respond(arrival, call.asked_at, call.is_open)
            if response is None:
                return call.left_alone()
            written = self._written(call, response)
            if (
                response.taken and call.is_open()
            ):  # else it is asked for again, or comes with what they say next
                return await self._sent(call, written, arrival, response)
            return written

    async def _sent(
        self, call: _Call, written: web.Response, arrival: Arrival, response: Response
    ) -> web.Response:
        """Write the response out, and then down that it is: in this order, so that a crash loses nothing."""
        try:
            await written.prepare(call.request)
            await written.write_eof()
        except ConnectionError:
            return written  # it is asked for again, or comes with what they say next
        if _erases(arrival.message):
            await self._cache.put(
                f"wechat:farewell:{arrival.message.event_id}", response.text, FAREWELL_AGAIN
            )
        try:
            await self._replies.arrived(arrival, response.taken)
        except StoreUnavailable:  # then it may come once more, with what they say next
            log.warning("response_not_recorded", conversation_id=arrival.conversation_id)
        return written

    async def _farewell_of(self, message: IncomingMessage) -> str | None:
        """What was said when everything was erased, itself this message: brought again, it is nobody's any more."""
        return await self._cache.get(f"wechat:farewell:{message.event_id}") if _erases(message) else None

    async def _without_store(self, call: _Call) -> web.StreamResponse | None:
        """Nothing can be kept at this moment. None: try it again.

        Who is in danger is answered all the same, and nobody is left with a trouble notice: an error would have
        WeChat come again at once, three times in a moment. So the connection stays open as long as it does.
        """
        message = call.parsed.message
        language = language_of(message.text, message.language) if message is not None else Language.ZH
        if message is not None and risk_of(message) is Risk.HIGH:
            return self._written(call, Response(self._protocols.text(Risk.HIGH, language)))
        age = time.time() - message.sent_at.timestamp() if message is not None else 0.0
        if age > NOT_KEPT_AFTER_SECONDS and call.left < STORE_AGAIN_SECONDS:
            if call.parsed.event_id in self._kept:  # an earlier try was stored: its answer is to come
                return self._written(call, self._responder.later(message, language))
            return self._written(call, Response(self._notices[language].not_kept))
        if call.left <= 0 or not call.is_open():
            await asyncio.sleep(max(0.0, call.asked_at + CLOSED_AFTER_SECONDS - time.monotonic()))
            return call.left_alone()
        await asyncio.sleep(STORE_AGAIN_SECONDS)
        return None

    def _note_kept(self, event_id: str) -> None:
        self._kept[event_id] = None
        if len(self._kept) > KEPT_LIMIT:
            self._kept.popitem(last=False)

    def _written(self, call: _Call, response: Response) -> web.Response:
        if not response.text:
            return _success()
        # The library closes the section where the text does.
        text = _NOT_XML.sub("", response.text).replace("]]>", "]]]]><![CDATA[>")
        xml = TextReply(source=call.parsed.account_id, target=call.parsed.openid, content=text).render()
        if call.encrypted and self._envelope is not None:
            nonce = call.request.query.get("nonce", "")
            xml = self._envelope.seal(xml, str(int(time.time())), nonce)
        return web.Response(text=xml, content_type="application/xml")

    def _tell_once(self, kind: str) -> None:
        if kind not in self._unknown and len(self._unknown) < KINDS_LIMIT:
            self._unknown.add(kind)
            log.log(logging.INFO, "wechat_not_answered", kind=kind, app_id=self._account.app_id)


_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
"""What no XML 1.0 document may hold (section 2.2)."""


def _erases(message: IncomingMessage) -> bool:
    """Whether it may have everything of its sender erased, itself included."""
    return message.command is not None and message.command.name in ("delete_me", "consent")


def _success() -> web.Response:
    return web.Response(text="success")


async def _read(request: web.Request) -> bytes | None:
    """The body, or None if it is larger than any message."""
    if (request.content_length or 0) > BODY_LIMIT:
        return None
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT:
            return None
    return bytes(body)
