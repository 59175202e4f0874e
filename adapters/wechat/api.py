"""WeChat's API as far as it is used here, over aiohttp. No call of it is ever waited for by a webhook.

Error codes: developers.weixin.qq.com, "全局返回码" (Return codes).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import structlog

from adapters.wechat.settings import Delivery, WechatAccount
from core.ports import SharedCache

log = structlog.get_logger()

CALL_SECONDS = 4.0
"""Less than a response may be held back: what a call that hangs has in its hands can still ride on one."""
UPLOAD_SECONDS = 30.0
ANSWER_BYTES = 1024 * 1024
STALE_TOKEN = frozenset({40001, 40014, 42001})
UNAUTHORIZED = 48001
UNKNOWN_PERSON = 40003
QUOTA = 45009
QUOTA_PAUSE = timedelta(hours=1)
LONGEST_AWAY_SECONDS = 60.0
TOKEN_EARLY = timedelta(minutes=10)
"""A token is renewed so long before its end (at most half its life): WeChat has a new one from 5 minutes before."""
RENEWING = timedelta(seconds=25)
"""Who renews a token does it for everybody; longer than a call takes it does not."""
REMEMBER_REACH = timedelta(hours=1)
NOBODY = "xinyu-asks-whether-it-may"


class ApiError(Exception):
    """The API did not do it. `code` is WeChat's errcode, 0 where there is none; `reason` a fixed word."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(f"{reason} {code}")
        self.reason = reason
        self.code = code


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as the body of a call."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    renew_at: float
    """By time.time(): all processes share it."""

    def packed(self) -> str:
        return f"{self.renew_at:.0f} {self.value}"


class WechatApi:
    """One account's API."""

    def __init__(self, account: WechatAccount, cache: SharedCache, session: Session) -> None:
        self.account = account
        self._cache = cache
        self._session = session
        self._renewing = asyncio.Lock()
        self.may_push: bool | None = {
            Delivery.CERTIFIED: True,
            Delivery.UNCERTIFIED: False,
            Delivery.QUICK: False,
        }.get(account.delivery)
        """Whether customer-service messages can be sent, as far as is known; None: not yet."""
        if not account.app_secret:
            self.may_push = False
        self.unreadable_at: float | None = None
        """When, by time.monotonic(), a message last came that was signed with our Token and did not open."""
        self._quota_until = 0.0
        self._away_until = 0.0
        self._failures = 0
        """How often in a row a message was sent in vain."""
        self.trouble: str | None = None
        """A fixed word for what keeps the API from working, for /health."""

    @property
    def quota_used_up(self) -> bool:
        return time.time() < self._quota_until

    @property
    def is_away(self) -> bool:
        return time.monotonic() < self._away_until

    @property
    def _quota_key(self) -> str:
        return f"wechat:quota:{self.account.app_id}"

    def _note_away(self) -> None:
        """Nothing is pushed for a while: what people are owed rides on responses meanwhile."""
        self._failures += 1
        self._away_until = time.monotonic() + min(2.0 ** min(self._failures, 10), LONGEST_AWAY_SECONDS)

    @property
    def away_for(self) -> timedelta:
        return timedelta(seconds=max(0.5, self._away_until - time.monotonic()))

    async def learn(self) -> None:
        """What other processes found out of the account, where they share a cache."""
        if not self.account.app_secret or self.account.delivery in (Delivery.QUICK, Delivery.UNCERTIFIED):
            return
        known = await self._cache.get(self._push_key)
        if known is not None:
            self.may_push = known == "yes"
        until = await self._cache.get(self._quota_key)
        if until is not None:
            self._quota_until = max(self._quota_until, float(until))

    @property
    def _push_key(self) -> str:
        return f"wechat:push:{self.account.app_id}"

    @property
    def pushes(self) -> bool:
        """Whether what does not ride on a response can be pushed at this moment, as far as is known."""
        return bool(self.may_push) and not self.quota_used_up and not self.is_away

    # --- what it is used for ----------------------------------------------------------------

    async def send_text(self, openid: str, text: str) -> None:
        """Raises ApiError."""
        await self._send(openid, "text", {"content": text})

    async def send_media(self, openid: str, kind: str, media_id: str) -> None:
        """`kind`: image, voice. Raises ApiError."""
        await self._send(openid, kind, {"media_id": media_id})

    async def _send(self, openid: str, kind: str, content: dict[str, str]) -> None:
        body = {"touser": openid, "msgtype": kind, kind: content}
        try:
            await self.call("POST", "/cgi-bin/message/custom/send", body)
        except ApiError as error:
            if error.code == QUOTA:
                self._quota_until = time.time() + QUOTA_PAUSE.total_seconds()
                await self._cache.put(self._quota_key, str(self._quota_until), QUOTA_PAUSE)
            elif not error.code:
                self._note_away()
            raise
        self._failures = 0

    async def show_typing(self, openid: str) -> None:
        """Raises ApiError."""
        body = {"touser": openid, "command": "Typing"}
        await self.call("POST", "/cgi-bin/message/custom/typing", body)

    async def upload(self, kind: str, name: str, data: bytes) -> str:
        """The media id of a picture or a voice note, good for three days. Raises ApiError."""
        answer = await self.call("POST", "/cgi-bin/media/upload", Upload(name, data), {"type": kind})
        return str(answer["media_id"])

    async def set_menu(self, menu: Mapping[str, Any]) -> None:
        """Raises ApiError."""
        await self.call("POST", "/cgi-bin/menu/create", menu)

    async def look_whether_it_may_push(self) -> bool:
        """Ask the API, unless it was asked lately: a message to nobody is refused as such, or as not ours to send.

        Raises ApiError where it does not tell.
        """
        known = await self._cache.get(self._push_key)
        if known is None:
            known = "no" if await self._is_unauthorized() else "yes"
            await self._cache.put(self._push_key, known, REMEMBER_REACH)
        self.may_push = known == "yes"
        return self.may_push

    async def _is_unauthorized(self) -> bool:
        try:
            await self.send_text(NOBODY, "…")
        except ApiError as error:
            if error.code not in (UNAUTHORIZED, UNKNOWN_PERSON):
                raise
            return error.code == UNAUTHORIZED
        return False

    async def note_unauthorized(self) -> None:
        """The account may not push after all."""
        self.may_push = False
        await self._cache.put(self._push_key, "no", REMEMBER_REACH)

    # --- calls ------------------------------------------------------------------------------

    async def call(
        self, method: str, path: str, body: Any = None, query: Mapping[str, str] = {}
    ) -> dict[str, Any]:
        """One call with the access token, which is renewed once if it turns out to be stale. Raises ApiError."""
        token = await self.token()
        try:
            return await self._once(method, path, body, {**query, "access_token": token})
        except ApiError as error:
            if error.code not in STALE_TOKEN:
                raise
        token = await self.token(stale=token)
        return await self._once(method, path, body, {**query, "access_token": token})

    async def _once(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            answer = await self._session.ask(method, f"{self.account.api_base_url}{path}", body, query)
        except ApiError as error:
            self.trouble = error.reason
            raise
        code = answer.get("errcode", 0)
        if not isinstance(code, int):
            raise ApiError("answers_oddly")
        self._note(code)
        if code:
            raise ApiError(_REASONS.get(code, "refused"), code)
        return answer

    def _note(self, code: int) -> None:
        """What is the operator's to mend shows in /health, and once in the log."""
        trouble = reason if (reason := _REASONS.get(code)) in OF_THE_ACCOUNT else None
        if trouble is not None and trouble != self.trouble:
            log.error("wechat_api", reason=trouble, code=code, app_id=self.account.app_id)
        self.trouble = trouble

    # --- the access token -------------------------------------------------------------------

    async def token(self, stale: str | None = None) -> str:
        """The access token that all processes share, renewed before it ends; never `stale`, which WeChat refused.

        Raises ApiError.
        """
        key = f"wechat:token:{self.account.app_id}"
        known = _unpacked(await self._cache.get(key))
        if known is not None and known.value != stale and known.renew_at > time.time():
            return known.value
        async with self._renewing:
            return await self._renew(key, stale)

    async def _renew(self, key: str, stale: str | None) -> str:
        """One process asks for everybody; the others wait for what it gets."""
        me, lock = f"{id(self)}:{time.monotonic()}", f"{key}:renewing"
        ends = time.monotonic() + RENEWING.total_seconds()
        while True:
            known = _unpacked(await self._cache.get(key))
            if known is not None and known.value != stale and known.renew_at > time.time():
                return known.value
            if await self._cache.add(lock, me, RENEWING) == me or time.monotonic() > ends:
                break
            await asyncio.sleep(0.1)
        try:
            token = await self._ask_token(stale)
            life = max(1.0, token.renew_at - time.time() + TOKEN_EARLY.total_seconds())
            await self._cache.put(key, token.packed(), timedelta(seconds=life))
            return token.value
        finally:
            await self._cache.remove(lock, me)

    async def _ask_token(self, stale: str | None) -> _Token:
        """developers.weixin.qq.com, "获取稳定版接口调用凭据": asked ordinarily, it gives everybody the same; only where
        that is the stale one a new one is forced (20 times a day, not within 30 s)."""
        token = await self._ask_stable_token(force=False)
        if token.value == stale:
            log.warning("wechat_token_forced", app_id=self.account.app_id)
            token = await self._ask_stable_token(force=True)
        return token

    async def _ask_stable_token(self, *, force: bool) -> _Token:
        body = {
            "grant_type": "client_credential",
            "appid": self.account.app_id,
            "secret": self.account.app_secret,
            "force_refresh": force,
        }
        answer = await self._once("POST", "/cgi-bin/stable_token", body, {})
        value, seconds = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(value, str) or not value or not isinstance(seconds, int) or seconds <= 0:
            raise ApiError("answers_oddly")
        return _Token(value, time.time() + seconds - min(TOKEN_EARLY.total_seconds(), seconds / 2))


class Session:
    """The HTTP connections to the API, opened when they are first used."""

    def __init__(self, proxy: str | None = None) -> None:
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, method: str, url: str, body: Any, query: Mapping[str, str]) -> dict[str, Any]:
        """The JSON object that was answered. Raises ApiError."""
        if self._session is None:
            self._session = aiohttp.ClientSession(proxy=self._proxy)
        try:
            async with self._session.request(method, url, params=dict(query), **_content(body)) as response:
                answered = await _whole(response.content)
                status = response.status
        except TimeoutError as error:
            raise ApiError("timeout") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError("unreachable") from error
        try:
            answer = json.loads(answered)
        except (ValueError, RecursionError):
            answer = None
        if status != 200 or not isinstance(answer, dict):
            raise ApiError("answers_oddly")
        return answer

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """The body, however many pieces it comes in. Raises ApiError for more than any answer has."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > ANSWER_BYTES:
            raise ApiError("answers_oddly")
    return bytes(body)


def _content(body: Any) -> dict[str, Any]:
    if isinstance(body, Upload):
        form = aiohttp.FormData()
        form.add_field("media", body.data, filename=body.name, content_type="application/octet-stream")
        return {"data": form, "timeout": aiohttp.ClientTimeout(total=UPLOAD_SECONDS)}
    # Not escaped: WeChat shows \\uXXXX as it is written.
    return {
        "data": json.dumps(body, ensure_ascii=False).encode(),
        "headers": {"Content-Type": "application/json; charset=utf-8"},
        "timeout": aiohttp.ClientTimeout(total=CALL_SECONDS),
    }


def _unpacked(text: str | None) -> _Token | None:
    renew_at, _, value = (text or "").partition(" ")
    return _Token(value, float(renew_at)) if value else None


_REASONS = {
    -1: "busy",
    40001: "stale_token",
    40014: "stale_token",
    42001: "stale_token",
    40003: "unknown_person",
    40013: "wrong_app_id",
    40125: "wrong_secret",
    40164: "address_not_allowed",
    43004: "not_following",
    43019: "blocked",
    45009: "quota_exhausted",
    45011: "too_fast",
    45015: "window_closed",
    45047: "count_exhausted",
    48001: "not_certified",
    48004: "api_forbidden",
    50002: "account_limited",
}
OF_THE_ACCOUNT = frozenset(
    {
        *("wrong_app_id", "wrong_secret", "address_not_allowed", "quota_exhausted", "api_forbidden"),
        "account_limited",
    }
)
"""Reasons that are the operator's to mend."""
