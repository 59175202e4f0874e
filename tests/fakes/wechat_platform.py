"""WeChat's side of one Official Account: people with phones, the pushes to its webhook, and the API it calls.

After 「接收普通消息」 and 「被动回复用户消息」 (developers.weixin.qq.com): a push not answered within five seconds is
cut off and made again, three times in all, with the same MsgId; then, or after an answer that is not legal, the
phone shows that the account has trouble. Tests are the people. Nothing here is shared with the program under test.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import aiohttp
from aiohttp import web

from tests.fakes import wechat_wire as wire
from tests.fakes.wechat_api import Person, Shown, WechatApi
from tests.fakes.wechat_wire import TROUBLE, Envelope, Fields, Illegal

PATIENCE = 15.0
UPLOAD_LIMIT = 64 * 1024 * 1024

Mode = Literal["plain", "compatible", "safe"]
Outcome = Literal["answered", "success", "timeout", "refused", "error"]


@dataclass(frozen=True, slots=True)
class Try:
    """One POST of a push.

    `answered`: a legal reply. `success`: that word, or nothing. `timeout`. `refused`: no connection, or it was
    closed early. `error`: a 5xx (tried again), or an answer that is not legal (not tried again).
    """

    number: int
    """From 1."""
    url: str
    start: float
    """Monotonic."""
    duration: float
    status: int | None
    outcome: Outcome
    problem: str = ""
    """Why a reply is not legal, or what went wrong."""


@dataclass(frozen=True, slots=True)
class _Answer:
    outcome: Outcome
    status: int | None = None
    reply: wire.Reply | None = None
    problem: str = ""
    final: bool = True


@dataclass
class FakeWechat:
    """Start it, point the program's API address at `base_url` and `webhook_url` at the program, let people write."""

    app_id: str = "wx0123456789abcdef"
    secret: str = "0123456789abcdef0123456789abcdef"
    token: str = "xinyu_token_0"
    aes_key: str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
    original_id: str = "gh_0123456789ab"
    mode: Mode = "plain"
    certified: bool = True
    """Otherwise the API refuses (48001) all but the token and the probe."""
    webhook_url: str = ""
    routes: list[str] = field(default_factory=list)
    """Instead of `webhook_url`: try k goes to the k-th of these, and round again."""
    port: int = 0
    patience_seconds: float = 5.0
    tries: int = 3
    same_nonce_on_retry: bool = False
    """Whether a retry is the same request byte for byte, or signed (and encrypted) anew: WeChat does both."""
    quota_left: int = 500_000
    """Customer messages that may be sent today."""

    tokens_issued: int = field(default=0, init=False)
    forced_refreshes: int = field(default=0, init=False)
    hanging: int = field(default=0, init=False)
    """API calls that will never be answered."""
    calls: Counter[str] = field(default_factory=Counter, init=False)
    """API calls by path, refused ones too."""
    refusals: Counter[int] = field(default_factory=Counter, init=False)
    """Answers by errcode."""
    shown: list[Shown] = field(default_factory=list, init=False)
    tried: dict[str, list[Try]] = field(default_factory=dict, init=False)
    """By MsgId or the event's key."""

    def __post_init__(self) -> None:
        self.api = WechatApi(self)
        self.fail_next = self.api.fail_next
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._changed = asyncio.Event()
        self._posts: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(20_000_000_000_000_000 + time.time_ns() // 1_000)

    @property
    def base_url(self) -> str:
        """What stands for https://api.weixin.qq.com."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def envelope(self) -> Envelope:
        return Envelope(self.token, self.aes_key, self.app_id)

    @property
    def menu(self) -> dict[str, Any] | None:
        """The menu that was created, as it was."""
        return self.api.menu

    @property
    def uploads(self) -> list[tuple[str, str, bytes]]:
        """Kind, file name and content of the media that were uploaded."""
        return self.api.uploads

    async def start(self) -> FakeWechat:
        app = web.Application(client_max_size=UPLOAD_LIMIT)
        app.router.add_route("*", "/{path:.*}", self.api.call)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=4096).start()
        self.port = self._runner.addresses[0][1]
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def stop(self) -> None:
        for post in self._posts:
            post.cancel()
        await asyncio.gather(*self._posts, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> FakeWechat:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- the people: each returns the MsgId, or the event's key ---------------------------------

    def say(self, openid: str, text: str, *, msg_id: str = "") -> str:
        """Somebody writes. `msg_id`: instead of a new one."""
        return self._message(openid, wire.text(text), msg_id)

    def press_link(self, openid: str, content: str, menu_id: str = "1") -> str:
        """They tap a `weixin://bizmsgmenu` link: that text is sent, but allows only what a click does."""
        return self._message(openid, wire.text(content, menu_id), only_an_act=True)

    def send_image(
        self, openid: str, picture_url: str = "http://mmbiz.example/p/0", media_id: str = ""
    ) -> str:
        return self._message(openid, wire.image(picture_url, media_id or self._medium("image")))

    def send_voice(self, openid: str, recognition: str | None = "", media_id: str = "") -> str:
        """`recognition`: what was heard. "": the account does not recognise. None: it heard nothing (empty)."""
        heard = "" if recognition is None else recognition or None
        return self._message(openid, wire.voice(media_id or self._medium("voice"), heard))

    def send_video(self, openid: str) -> str:
        return self._message(openid, wire.video(self._medium("video"), self._medium("thumb")))

    def send_short_video(self, openid: str) -> str:
        return self._message(openid, wire.video(self._medium("video"), self._medium("thumb"), short=True))

    def send_location(
        self, openid: str, label: str = "北京市海淀区", latitude: float = 39.98, longitude: float = 116.31
    ) -> str:
        return self._message(openid, wire.location(latitude, longitude, label))

    def send_link(
        self, openid: str, title: str = "标题", description: str = "", url: str = "https://example.com/"
    ) -> str:
        return self._message(openid, wire.link(title, description, url))

    def press_menu(self, openid: str, key: str) -> str:
        return self._event(openid, wire.event("CLICK", key), acts=True)

    def view_menu(self, openid: str, url: str = "https://example.com/") -> str:
        return self._event(openid, wire.event("VIEW", url, more=(("MenuId", 213_748_348),)))

    def subscribe(self, openid: str, scene: str = "") -> str:
        """`scene`: of the QR code that was scanned to do so."""
        self.api.people[openid] = Person()
        ticket = secrets.token_urlsafe(60) if scene else ""
        return self._event(
            openid, wire.event("subscribe", f"qrscene_{scene}" if scene else "", ticket), acts=True
        )

    def unsubscribe(self, openid: str) -> str:
        """From now on nothing is shown to them, and nothing they were allowed to be sent is left."""
        key = self._event(openid, wire.event("unsubscribe", ""))
        self.api.people[openid] = Person(following=False)
        return key

    def scan(self, openid: str, scene: str = "1") -> str:
        """A follower scans a QR code."""
        return self._event(openid, wire.event("SCAN", scene, secrets.token_urlsafe(60)), acts=True)

    def report_location(self, openid: str, latitude: float = 39.98, longitude: float = 116.31) -> str:
        return self._event(openid, wire.location_event(latitude, longitude, 119.385))

    def event(self, openid: str, name: str, key: str | None = None, more: Fields = ()) -> str:
        """Any event whatsoever."""
        return self._event(openid, wire.event(name, key, more=more))

    def on_phone(self, openid: str) -> list[str]:
        """The texts that somebody sees, in order, the trouble notice among them."""
        return [shown.text for shown in self.shown if shown.openid == openid and shown.text]

    # --- what tests wait for --------------------------------------------------------------------

    async def wait_until(self, holds: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """Wait until something about this WeChat is true. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not holds():
                await self._changed.wait()

    async def wait_for(self, openid: str, count: int = 1, timeout: float = PATIENCE) -> list[str]:
        """Wait until somebody sees so many texts, and return them all."""
        await self.wait_until(lambda: len(self.on_phone(openid)) >= count, timeout)
        return self.on_phone(openid)

    async def settled(self, timeout: float = PATIENCE) -> None:
        """Wait until every push is over: answered, or given up."""
        await self.wait_until(lambda: not self._posts, timeout)

    async def verify(self, url: str = "") -> bool:
        """The console's GET of the webhook (「消息推送」): whether it echoed. `echostr` is plain in every mode."""
        assert self._session is not None
        echo = str(secrets.randbits(62))
        params = {**self._signed(), "echostr": echo}
        try:
            async with (
                asyncio.timeout(self.patience_seconds),
                self._session.get(url or self.webhook_url, params=params, allow_redirects=False) as response,
            ):
                return response.status == 200 and await response.read() == echo.encode()
        except (TimeoutError, aiohttp.ClientError):
            return False

    # --- what goes wrong (and `fail_next(path, times, errcode= | status= | html= | hang=, done=)`) ----

    def expire_token(self, errcode: int = 42001) -> None:
        """The token that was given out is no good any more; 40001: as if somebody else had refreshed it."""
        self.api.tokens.kill(errcode)

    def hang(self) -> None:
        """API calls are not answered from here on; those under way then never will be."""
        self.api.silent = True

    def recover(self) -> None:
        self.api.silent = False

    def forward(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """So much time passes for the windows of people and for media (pushes keep the real time)."""
        self.api.ahead += hours * 3600 + minutes * 60 + seconds

    def forward_tokens(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """So much time passes for tokens and their limits."""
        self.api.tokens.ahead += hours * 3600 + minutes * 60 + seconds

    def exhaust(self, openid: str) -> None:
        """Nothing of what may be sent to them is left (45047), until they do something."""
        self.api.people.setdefault(openid, Person()).exhaust(self.api.now())

    def bump(self) -> None:
        """Wake whoever waits for something to become true."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # --- pushing --------------------------------------------------------------------------------

    def _message(self, openid: str, fields: Fields, msg_id: str = "", *, only_an_act: bool = False) -> str:
        person = self._follower(openid)
        if only_an_act:
            person.acted(self.api.now())
        else:
            person.said(self.api.now())
        msg_id = msg_id or str(next(self._ids))
        return self._push(openid, fields, msg_id, msg_id)

    def _event(self, openid: str, fields: Fields, *, acts: bool = False) -> str:
        person = self._follower(openid)
        if acts:
            person.acted(self.api.now())
        name = next(str(value) for field_, value in fields if field_ == "Event")
        key = f"{openid}:{int(time.time())}:{name}"
        number = sum(1 for known in self.tried if known.partition("#")[0] == key)
        return self._push(openid, fields, f"{key}#{number + 1}" if number else key)

    def _follower(self, openid: str) -> Person:
        person = self.api.people.setdefault(openid, Person())
        assert person.following, f"{openid} has unsubscribed: they cannot write"
        return person

    def _medium(self, kind: str) -> str:
        """Something a person sent is a medium as well, for three days."""
        media_id = secrets.token_urlsafe(48)
        self.api.media[media_id] = (kind, self.api.now() + 3 * 24 * 3600)
        return media_id

    def _push(self, openid: str, fields: Fields, key: str, msg_id: str = "") -> str:
        plain = wire.push(self.original_id, openid, int(time.time()), fields, msg_id)
        self.tried.setdefault(key, [])
        post = asyncio.create_task(self._deliver(openid, plain, key), name=f"push {key}")
        self._posts.add(post)
        post.add_done_callback(self._over)
        return key

    def _over(self, post: asyncio.Task[None]) -> None:
        self._posts.discard(post)
        self.bump()

    async def _deliver(self, openid: str, plain: str, key: str) -> None:
        query, body = self._request(openid, plain)
        answer = _Answer("error", problem="never tried")
        for number in range(1, self.tries + 1):
            if number > 1 and not self.same_nonce_on_retry:
                query, body = self._request(openid, plain)
            url = self.routes[(number - 1) % len(self.routes)] if self.routes else self.webhook_url
            start = time.monotonic()
            answer = await self._post(url, query, body, openid)
            spent = time.monotonic() - start
            self.tried[key].append(
                Try(number, url, start, spent, answer.status, answer.outcome, answer.problem)
            )
            if answer.final:
                break
            self.bump()
        if answer.reply is not None:
            self._show(openid, answer.reply.kind, answer.reply.text, answer.reply.media_id, key, number)
        elif answer.outcome != "success":
            self._show(openid, "trouble", TROUBLE, "", key, number)
        self.bump()

    def _show(
        self,
        openid: str,
        kind: Literal["text", "image", "voice", "trouble"],
        text: str,
        media_id: str,
        key: str,
        number: int,
    ) -> None:
        if self.api.people[openid].following:
            at = time.monotonic()
            self.shown.append(Shown(openid, kind, text, media_id, "passive", at, key, number))

    def _signed(self) -> dict[str, str]:
        timestamp, nonce = str(int(time.time())), str(secrets.randbelow(2**31))
        return {
            "signature": wire.signature(self.token, timestamp, nonce),
            "timestamp": timestamp,
            "nonce": nonce,
        }

    def _request(self, openid: str, plain: str) -> tuple[dict[str, str], str]:
        """Query and body of a push in this account's mode (「消息加解密说明」)."""
        query = {**self._signed(), "openid": openid}
        if self.mode == "plain":
            return query, plain
        encrypted = self.envelope.encrypt(plain)
        query["encrypt_type"] = "aes"
        query["msg_signature"] = self.envelope.sign(query["timestamp"], query["nonce"], encrypted)
        beside = plain if self.mode == "compatible" else ""
        return query, wire.sealed(self.original_id, encrypted, beside)

    async def _post(self, url: str, query: dict[str, str], body: str, openid: str) -> _Answer:
        assert self._session is not None
        try:
            async with (
                asyncio.timeout(self.patience_seconds),
                self._session.post(
                    url,
                    params=query,
                    data=body.encode(),
                    headers={"Content-Type": "text/xml", "User-Agent": "Mozilla/4.0", "Pragma": "no-cache"},
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as response,
            ):
                status, answered = response.status, await response.read()
        except TimeoutError:
            return _Answer("timeout", final=False)
        except aiohttp.ClientError as problem:
            return _Answer("refused", problem=type(problem).__name__, final=False)
        if status >= 500:
            return _Answer("error", status, problem=f"HTTP {status}", final=False)
        try:
            reply = self._read(status, answered, openid)
        except Illegal as problem:
            return _Answer("error", status, problem=str(problem))
        return _Answer("answered" if reply else "success", status, reply)

    def _read(self, status: int, answered: bytes, openid: str) -> wire.Reply | None:
        """In compatible mode a reply may be plain or encrypted, in safe mode encrypted alone."""
        if status != 200:
            raise Illegal(f"HTTP {status}")
        if answered not in (b"", b"success"):
            enveloped = b"<MsgType>" not in answered
            if self.mode == "safe" or (self.mode == "compatible" and enveloped):
                answered = self.envelope.open_reply(answered)
        reply = wire.reply(answered, openid, self.original_id)
        if reply is not None and reply.kind != "text" and not self.api.has_media(reply.kind, reply.media_id):
            raise Illegal("no such media")
        return reply
