"""What WeChat's servers ask of us: to prove ourselves (GET), and to take messages and answer them (POST)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import timedelta

import structlog
from aiohttp import web
from wechatpy.replies import TextReply

from adapters.wechat.crypto import Envelope, Unreadable, is_signed
from adapters.wechat.delivery import HOLD_SECONDS, Responder, Response
from adapters.wechat.notices import Notices
from adapters.wechat.parse import Parsed, parse
from adapters.wechat.settings import WechatAccount
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
CLOCKS_APART_SECONDS = 300
NONCE_MEMORY = timedelta(minutes=11)
SAME_AGAIN_SECONDS = 30.0
"""The platform's own retries of a message end 15 s after it."""
NOT_KEPT_AFTER_SECONDS = 9.0
"""By then it is the last try of a message that could not be stored."""
DANGER_SECONDS = 1.5
"""How long the store may take before who is in danger is answered without it."""
KINDS_LIMIT = 100


class WechatCallback:
    """The address of one account."""

    def __init__(
        self,
        account: WechatAccount,
        inbox: Inbox,
        replies: PassiveReplies,
        responder: Responder,
        cache: SharedCache,
        protocols: Protocols,
        notices: Mapping[Language, Notices],
    ) -> None:
        self._account = account
        self._inbox = inbox
        self._replies = replies
        self._responder = responder
        self._cache = cache
        self._protocols = protocols
        self._notices = notices
        self._envelope = Envelope(account) if account.encoding_aes_key else None
        self._unknown: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        return [web.get(self._account.path, self.verify), web.post(self._account.path, self.receive)]

    async def verify(self, request: web.Request) -> web.StreamResponse:
        """developers.weixin.qq.com, "接入指南": echo what was sent, if it is signed with our token."""
        query = request.query
        echo = query.get("echostr", "")
        signature = query.get("signature", "")
        if not self._is_in_time(query.get("timestamp", "")) or not self._is_signed(signature, query):
            return web.Response(status=401)
        return web.Response(text=echo)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        asked_at = time.monotonic()
        encrypted = request.query.get("encrypt_type") == "aes"
        body = await _read(request)
        if body is None:
            return web.Response(status=413)
        try:
            xml = self._opened(request, body, encrypted=encrypted)
            if isinstance(xml, int):
                return web.Response(status=xml)
            parsed = parse(xml, self._account.app_id)
        except (BrokenXml, Unreadable, UnicodeDecodeError):
            return web.Response(status=400)
        if not await self._is_fresh(request, parsed):
            return web.Response(status=401)
        return await self._answer(request, parsed, asked_at, encrypted=encrypted)

    # --- is it WeChat? ----------------------------------------------------------------------

    def _opened(self, request: web.Request, body: bytes, *, encrypted: bool) -> str | int:
        """The XML, or the status for what is not signed. Raises BrokenXml, Unreadable, UnicodeDecodeError."""
        query = request.query
        if not self._is_in_time(query.get("timestamp", "")):
            return 401
        if not encrypted:
            return body.decode() if self._is_signed(query.get("signature", ""), query) else 401
        if self._envelope is None:
            self._tell_once("encrypted_without_key")
            return 400
        sealed = fields_of(body.decode()).get("Encrypt", "")
        if not self._is_signed(query.get("msg_signature", ""), query, sealed):
            return 401
        return self._envelope.open(sealed)

    def _is_signed(self, signature: str, query: Mapping[str, str], *more: str) -> bool:
        parts = (self._account.token, query.get("timestamp", ""), query.get("nonce", ""), *more)
        return is_signed(signature, *parts)

    @staticmethod
    def _is_in_time(timestamp: str) -> bool:
        return timestamp.isdecimal() and abs(int(timestamp[:12]) - time.time()) <= CLOCKS_APART_SECONDS

    async def _is_fresh(self, request: web.Request, parsed: Parsed) -> bool:
        """Whether nobody used its nonce, unless for the same message a moment ago: the platform's own retry."""
        timestamp, nonce = request.query.get("timestamp", ""), request.query.get("nonce", "")
        key = f"wechat:nonce:{self._account.app_id}:{timestamp}:{nonce}"[:256]
        stands = await self._cache.add(key, f"{time.time():.3f} {parsed.event_id}", NONCE_MEMORY)
        first_at, _, event_id = stands.partition(" ")
        return event_id == parsed.event_id and time.time() - float(first_at) < SAME_AGAIN_SECONDS

    # --- what came --------------------------------------------------------------------------

    async def _answer(
        self, request: web.Request, parsed: Parsed, asked_at: float, *, encrypted: bool
    ) -> web.StreamResponse:
        if not parsed.known:
            self._tell_once(parsed.kind)
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                if parsed.reach is not None:
                    await self._inbox.note(parsed.reach)
        except (StoreUnavailable, TimeoutError):
            return web.Response(status=503)
        if parsed.message is None:
            return _success()
        try:
            return await self._reply(request, parsed, parsed.message, asked_at, encrypted=encrypted)
        except IdempotencyConflict:  # asking again would change nothing
            log.warning("message_known_with_another_text")
            return _success()
        except (StoreUnavailable, TimeoutError):
            return self._without_store(request, parsed, parsed.message, encrypted=encrypted)

    async def _reply(
        self,
        request: web.Request,
        parsed: Parsed,
        message: IncomingMessage,
        asked_at: float,
        *,
        encrypted: bool,
    ) -> web.StreamResponse:
        """Store the message, wait for its answer and give it. Raises StoreUnavailable, TimeoutError."""

        def is_open() -> bool:
            return request.transport is not None and not request.transport.is_closing()

        seconds = HOLD_SECONDS if risk_of(message) is Risk.NONE else DANGER_SECONDS
        async with asyncio.timeout(seconds) as until_stored, self._replies.receiving(message) as arrival:
            until_stored.reschedule(None)
            response = await self._responder.respond(arrival, asked_at, is_open)
            if response is None:
                if request.transport is not None:
                    request.transport.abort()
                return _success()  # nobody hears it
            written = self._written(request, parsed, response, encrypted=encrypted)
            if not response.taken:
                return written
            if not is_open():  # it is asked for again, or comes with what they say next
                return written
            return await self._sent(request, written, arrival, response)

    async def _sent(
        self, request: web.Request, written: web.Response, arrival: Arrival, response: Response
    ) -> web.Response:
        """Write the response out, and then down that it is: in this order, so that a crash loses nothing."""
        try:
            await written.prepare(request)
            await written.write_eof()
        except ConnectionError:
            return written  # as above
        try:
            await self._replies.arrived(arrival, response.taken)
        except StoreUnavailable:  # then it may come once more, with what they say next
            log.warning("response_not_recorded", conversation_id=arrival.conversation_id)
        return written

    def _without_store(
        self, request: web.Request, parsed: Parsed, message: IncomingMessage, *, encrypted: bool
    ) -> web.StreamResponse:
        """Nothing can be kept. Who is in danger is answered all the same, and nobody is left with a trouble notice."""
        language = language_of(message.text, message.language)
        if risk_of(message) is Risk.HIGH:
            text = self._protocols.text(Risk.HIGH, language)
            return self._written(request, parsed, Response(text), encrypted=encrypted)
        age = time.time() - message.sent_at.timestamp()
        if age > NOT_KEPT_AFTER_SECONDS:
            text = self._notices[language].not_kept
            return self._written(request, parsed, Response(text), encrypted=encrypted)
        return web.Response(status=503)

    def _written(
        self, request: web.Request, parsed: Parsed, response: Response, *, encrypted: bool
    ) -> web.Response:
        if not response.text:
            return _success()
        # The library closes the section where the text does.
        text = response.text.replace("]]>", "]]]]><![CDATA[>")
        xml = TextReply(source=parsed.account_id, target=parsed.openid, content=text).render()
        if encrypted and self._envelope is not None:
            nonce = request.query.get("nonce", "")
            xml = self._envelope.seal(xml, str(int(time.time())), nonce)
        return web.Response(text=xml, content_type="application/xml")

    def _tell_once(self, kind: str) -> None:
        if kind not in self._unknown and len(self._unknown) < KINDS_LIMIT:
            self._unknown.add(kind)
            log.log(logging.INFO, "wechat_not_answered", kind=kind, app_id=self._account.app_id)


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
