"""The fake's side of https://api.weixin.qq.com: tokens, customer messages, media and the menu of one account.

Rules and codes from developers.weixin.qq.com: 「获取稳定版接口调用凭据」, 「发送客服消息」, 「客服消息介绍」,
「客服输入状态」, 「新增临时素材」, 「自定义菜单创建接口」, 「全局返回码说明」. Errors come with HTTP 200, as theirs.
Where the real one only hides a mistake this one is stricter: it refuses what it does not know, and \\uXXXX for letters.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from aiohttp import web

from tests.fakes.wechat_wire import TEXT_BYTES

STABLE_TOKEN = "/cgi-bin/stable_token"
SEND = "/cgi-bin/message/custom/send"
TYPING = "/cgi-bin/message/custom/typing"
UPLOAD = "/cgi-bin/media/upload"
MENU_CREATE = "/cgi-bin/menu/create"
MENU_GET = "/cgi-bin/menu/get"
MENU_DELETE = "/cgi-bin/menu/delete"
DOMAIN_IP = "/cgi-bin/get_api_domain_ip"

TOKEN_SECONDS = 7200
TOKEN_OVERLAP_SECONDS = 300
FORCED_A_DAY, FORCED_APART_SECONDS = 20, 30
AFTER_A_MESSAGE, MESSAGE_SECONDS = 5, 48 * 3600.0
AFTER_AN_ACT, ACT_SECONDS = 3, 60.0
MEDIA_SECONDS = 3 * 24 * 3600.0
IMAGE_BYTES, VOICE_BYTES, VOICE_SECONDS = 10 * 1024 * 1024, 2 * 1024 * 1024, 60.0

_MESSAGES = {
    -1: "system error",
    40001: "invalid credential, access_token is invalid or not latest",
    40164: "invalid ip 203.0.113.9, not in whitelist",
    42001: "access_token expired",
    45009: "reach max api daily quota limit",
    45011: "api minute-quota reach limit, must slower, retry next minute",
    45015: "response out of time limit or subscription is canceled",
    45047: "out of response count limit",
    48001: "api unauthorized",
}


class Refused(Exception):
    """An answer with an errcode."""

    def __init__(self, errcode: int, errmsg: str = "") -> None:
        self.errcode = errcode
        self.errmsg = errmsg or _MESSAGES.get(errcode, "error")
        super().__init__(f"{errcode} {self.errmsg}")


@dataclass(frozen=True, slots=True)
class Shown:
    """What the phone showed. A trouble notice is `passive`: it stands where the reply would."""

    openid: str
    kind: Literal["text", "image", "voice", "trouble", "typing"]
    text: str
    media_id: str
    by: Literal["passive", "api"]
    at: float
    """Monotonic."""
    msg_id: str = ""
    """The message (event) that a passive reply answers."""
    try_number: int = 0
    """Which try it came in answer to, from 1."""


class Account(Protocol):
    """What the API reads and counts of the account it serves."""

    app_id: str
    secret: str
    certified: bool
    quota_left: int
    tokens_issued: int
    forced_refreshes: int
    hanging: int
    calls: Counter[str]
    refusals: Counter[int]
    shown: list[Shown]

    def bump(self) -> None: ...


@dataclass(slots=True)
class _Allowance:
    left: int
    until: float


@dataclass(slots=True)
class Person:
    """A follower, and how many customer messages they may be sent (「客服消息下发规则」).

    What a message allows and what a click, a scan or a subscription allows are never added up: the larger counts.
    """

    following: bool = True
    message: _Allowance | None = None
    act: _Allowance | None = None
    in_touch_at: float = -1e9
    typing_until: float = -1e9

    def said(self, now: float) -> None:
        self.message, self.in_touch_at = _Allowance(AFTER_A_MESSAGE, now + MESSAGE_SECONDS), now

    def acted(self, now: float) -> None:
        self.act, self.in_touch_at = _Allowance(AFTER_AN_ACT, now + ACT_SECONDS), now

    def allowed(self, now: float) -> list[_Allowance]:
        found = [allowance for allowance in (self.message, self.act) if allowance and now < allowance.until]
        if not found or not self.following:
            raise Refused(45015)
        return found

    def spend(self, now: float) -> None:
        allowed = self.allowed(now)
        if not any(allowance.left for allowance in allowed):
            raise Refused(45047)
        for allowance in allowed:
            allowance.left = max(0, allowance.left - 1)
        self.in_touch_at, self.typing_until = now, -1e9

    def exhaust(self, now: float) -> None:
        self.message, self.act = _Allowance(0, now + MESSAGE_SECONDS), None


@dataclass(slots=True)
class Tokens:
    """Ordinary calls are told the same token until five minutes before its end; a forced one voids what was."""

    current: str = ""
    ahead: float = 0.0
    """Seconds by which this clock is ahead."""
    ends: dict[str, float] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    """Tokens that are no good any more, and the errcode that says so."""
    forced: deque[float] = field(default_factory=deque)

    def now(self) -> float:
        return time.monotonic() + self.ahead

    def ordinary(self) -> bool:
        """Whether a new one was made."""
        if self.current and self.ends[self.current] - self.now() > TOKEN_OVERLAP_SECONDS:
            return False
        self._make()
        return True

    def force(self) -> bool:
        now = self.now()
        if self.current and self.forced and now - self.forced[-1] < FORCED_APART_SECONDS:
            return False
        while self.forced and now - self.forced[0] >= 24 * 3600:
            self.forced.popleft()
        if len(self.forced) >= FORCED_A_DAY:
            raise Refused(45009)
        self.forced.append(now)
        self.dead |= dict.fromkeys(self.ends.keys() - self.dead.keys(), 40001)
        self._make()
        return True

    def kill(self, errcode: int) -> None:
        if self.current:
            self.dead[self.current] = errcode
        self.current = ""

    def check(self, token: str) -> None:
        if not token:
            raise Refused(41001, "access_token missing")
        if token in self.dead:
            raise Refused(self.dead[token])
        if token not in self.ends:
            raise Refused(40014, "invalid access_token")
        if self.now() >= self.ends[token]:
            raise Refused(42001)

    def _make(self) -> None:
        self.current = f"{len(self.ends) + 1}_{secrets.token_urlsafe(100)}"
        self.ends[self.current] = self.now() + TOKEN_SECONDS


@dataclass(frozen=True, slots=True)
class _Failure:
    errcode: int | None
    status: int | None
    html: bool
    hang: bool
    done: bool


class WechatApi:
    """The calls; `people` and `media` are known to both the API and the platform."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.people: dict[str, Person] = {}
        self.tokens = Tokens()
        self.media: dict[str, tuple[str, float]] = {}
        """Kind and end, by media id."""
        self.uploads: list[tuple[str, str, bytes]] = []
        """Kind, file name and content of what was uploaded."""
        self.menu: dict[str, Any] | None = None
        self.silent = False
        self.ahead = 0.0
        self._failures: dict[str, deque[_Failure]] = {}
        self._calls = {
            STABLE_TOKEN: ("POST", self._token),
            SEND: ("POST", self._send),
            TYPING: ("POST", self._typing),
            UPLOAD: ("POST", self._upload),
            MENU_CREATE: ("POST", self._menu_create),
            MENU_GET: ("GET", self._menu_get),
            MENU_DELETE: ("GET", self._menu_delete),
            DOMAIN_IP: ("GET", self._domain_ip),
        }

    def now(self) -> float:
        """The clock of windows and media; that of tokens is their own."""
        return time.monotonic() + self.ahead

    def fail_next(
        self,
        path: str,
        times: int = 1,
        *,
        errcode: int | None = None,
        status: int | None = None,
        html: bool = False,
        hang: bool = False,
        done: bool = False,
    ) -> None:
        """The next calls of a path fail; `done`: they do their work all the same, only the answer is another.

        `html`: a page instead of JSON (with HTTP 200 unless `status` says otherwise). `hang`: no answer ever.
        """
        assert errcode is not None or status is not None or html or hang, "say how it fails"
        failures = self._failures.setdefault(path, deque())
        failures.extend([_Failure(errcode, status, html, hang, done)] * times)

    async def call(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.account.calls[path] += 1
        self.account.bump()
        waiting = self._failures.get(path)
        failure = waiting.popleft() if waiting else None
        if self.silent:
            await self._hang()
        if failure is not None and not failure.done:
            return await self._fail(failure)
        if path not in self._calls:
            return _page(404)
        method, run = self._calls[path]
        try:
            if request.method != method:
                code = 43001 if method == "GET" else 43002
                raise Refused(code, f"require {method} method")
            answer = await run(request)
        except Refused as refused:
            answer = self._refusal(refused)
        self.account.bump()
        if failure is not None:
            return await self._fail(failure)
        return _answer(answer, "text/plain" if path == UPLOAD else "application/json; encoding=utf-8")

    async def _fail(self, failure: _Failure) -> web.Response:
        if failure.hang:
            await self._hang()
        if failure.html:
            return _page(failure.status or 200)
        if failure.errcode is None:
            return web.Response(status=failure.status or 500)
        return _answer(self._refusal(Refused(failure.errcode)), status=failure.status or 200)

    async def _hang(self) -> None:
        self.account.hanging += 1
        self.account.bump()
        try:
            await asyncio.Event().wait()
        finally:
            self.account.hanging -= 1
            self.account.bump()

    def _refusal(self, refused: Refused) -> dict[str, Any]:
        self.account.refusals[refused.errcode] += 1
        rid = "-".join(secrets.token_hex(4) for _ in range(3))
        return {"errcode": refused.errcode, "errmsg": f"{refused.errmsg} rid: {rid}"}

    # --- the calls ----------------------------------------------------------------------

    async def _token(self, request: web.Request) -> dict[str, Any]:
        body = await _json(request, {"grant_type", "appid", "secret", "force_refresh"})
        if body.get("grant_type") != "client_credential":
            raise Refused(40002, "invalid grant_type")
        if not body.get("appid"):
            raise Refused(41002, "appid missing")
        if body["appid"] != self.account.app_id:
            raise Refused(40013, "invalid appid")
        if not body.get("secret"):
            raise Refused(41004, "appsecret missing")
        if body["secret"] != self.account.secret:
            raise Refused(40125, "invalid appsecret")
        forced = body.get("force_refresh", False)
        if not isinstance(forced, bool):
            raise Refused(47001, "data format error")
        new = self.tokens.force() if forced else self.tokens.ordinary()
        self.account.tokens_issued += new
        self.account.forced_refreshes += new and forced
        left = self.tokens.ends[self.tokens.current] - self.tokens.now()
        return {"access_token": self.tokens.current, "expires_in": round(left)}

    async def _send(self, request: web.Request) -> dict[str, Any]:
        self._authorised(request)
        kind_fields = {"text", "image", "voice"}
        body = await _json(request, {"touser", "msgtype", "customservice", "aimsgcontext", *kind_fields})
        openid, person = self._person(body)
        kind = body.get("msgtype")
        if kind not in ("text", "image", "voice") or kind_fields & body.keys() != {kind}:
            raise Refused(40008, "invalid message type")
        content, media_id = "", ""
        if kind == "text":
            content = _string(body, "text", "content")
            if not content:
                raise Refused(44004, "empty content")
            if len(content.encode("utf-8", "replace")) > TEXT_BYTES:
                raise Refused(45002, "content size out of limit")
        else:
            media_id = _string(body, kind, "media_id")
            if not self.has_media(kind, media_id):
                raise Refused(40007, "invalid media_id")
        if self.account.quota_left <= 0:
            raise Refused(45009)
        person.spend(self.now())
        self.account.quota_left -= 1
        self.account.shown.append(Shown(openid, kind, content, media_id, "api", time.monotonic()))
        return {"errcode": 0, "errmsg": "ok"}

    async def _typing(self, request: web.Request) -> dict[str, Any]:
        """「客服消息输入状态」: only within 30 s of the last word, and not again for 15 s or until a message."""
        self._authorised(request)
        body = await _json(request, {"touser", "command"})
        openid, person = self._person(body)
        command, now = body.get("command"), self.now()
        if command not in ("Typing", "CancelTyping"):
            raise Refused(45072, "invalid command")
        person.allowed(now)
        if command == "CancelTyping":
            person.typing_until = -1e9
            return {"errcode": 0, "errmsg": "ok"}
        if now - person.in_touch_at > 30:
            raise Refused(45080, "need sending message to user, or recving message from user in the last 30s")
        if now < person.typing_until:
            raise Refused(45081, "command already sent, wait a while")
        person.typing_until = now + 15
        self.account.shown.append(Shown(openid, "typing", "", "", "api", time.monotonic()))
        return {"errcode": 0, "errmsg": "ok"}

    async def _upload(self, request: web.Request) -> dict[str, Any]:
        self._authorised(request)
        kind = request.query.get("type", "")
        if kind not in ("image", "voice"):
            raise Refused(40004, "invalid media type")
        given = (await request.post()).get("media") if request.content_type == "multipart/form-data" else None
        if not isinstance(given, web.FileField) or not given.filename:
            raise Refused(41005, "media data missing")
        content = given.file.read()
        _check_media(kind, given.filename, content)
        media_id = secrets.token_urlsafe(48)
        self.media[media_id] = (kind, self.now() + MEDIA_SECONDS)
        self.uploads.append((kind, given.filename, content))
        return {"type": kind, "media_id": media_id, "created_at": int(time.time()), "item": []}

    async def _menu_create(self, request: web.Request) -> dict[str, Any]:
        self._authorised(request)
        body = await _json(request, {"button"})
        _check_menu(body.get("button"))
        self.menu = body
        return {"errcode": 0, "errmsg": "ok"}

    async def _menu_get(self, request: web.Request) -> dict[str, Any]:
        self._authorised(request)
        if self.menu is None:
            raise Refused(46003, "menu no exist")
        return {"menu": {"button": [{**button, **_subs(button)} for button in self.menu["button"]]}}

    async def _menu_delete(self, request: web.Request) -> dict[str, Any]:
        self._authorised(request)
        self.menu = None
        return {"errcode": 0, "errmsg": "ok"}

    async def _domain_ip(self, request: web.Request) -> dict[str, Any]:
        self.tokens.check(request.query.get("access_token", ""))
        return {"ip_list": ["203.0.113.7", "203.0.113.8"]}

    def has_media(self, kind: str, media_id: str) -> bool:
        known, end = self.media.get(media_id, ("", 0.0))
        return known == kind and self.now() < end

    def _authorised(self, request: web.Request) -> None:
        self.tokens.check(request.query.get("access_token", ""))
        if not self.account.certified:
            raise Refused(48001)

    def _person(self, body: dict[str, Any]) -> tuple[str, Person]:
        openid = body.get("touser")
        if not isinstance(openid, str) or openid not in self.people:
            raise Refused(40003, "invalid openid")
        return openid, self.people[openid]


def _answer(
    answer: dict[str, Any], content_type: str = "application/json; encoding=utf-8", status: int = 200
) -> web.Response:
    body = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
    return web.Response(body=body, status=status, headers={"Content-Type": content_type})


def _page(status: int) -> web.Response:
    page = f"<html>\r\n<head><title>{status}</title></head>\r\n<body><center>nginx</center></body>\r\n</html>\r\n"
    return web.Response(text=page, status=status, content_type="text/html")


async def _json(request: web.Request, known: set[str]) -> dict[str, Any]:
    raw = await request.read()
    if not raw:
        raise Refused(44002, "empty post data")
    try:
        written = raw.decode()
        body = json.loads(written)
    except ValueError:
        raise Refused(47001, "data format error") from None
    if not isinstance(body, dict):
        raise Refused(47001, "data format error")
    escapes = re.finditer(r"(?<!\\)(?:\\\\)*\\u([0-9a-fA-F]{4})", written)
    if any(int(escape[1], 16) >= 0x80 for escape in escapes):
        raise Refused(
            40033, r"invalid charset. please check your request, if include \uxxxx will create fail!"
        )
    if body.keys() - known:
        raise Refused(40035, f"invalid parameter {sorted(body.keys() - known)}")
    return body


def _string(body: dict[str, Any], outer: str, inner: str) -> str:
    part = body[outer]
    value = part.get(inner) if isinstance(part, dict) and len(part) == 1 else None
    if not isinstance(value, str):
        raise Refused(47001, "data format error")
    return value


# --- media and menus ------------------------------------------------------------------------

_BEGINNINGS = {
    "image": {"jpg": b"\xff\xd8\xff", "jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF8"},
    "voice": {"amr": b"#!AMR\n", "mp3": b""},
}
_AMR_FRAMES = (13, 14, 16, 18, 20, 21, 27, 32, 6)
"""Bytes of a frame of 20 ms, by mode (RFC 4867)."""
_MP3_KBITS = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def _check_media(kind: str, name: str, content: bytes) -> None:
    if not content:
        raise Refused(44001, "empty media data")
    if kind == "image" and len(content) > IMAGE_BYTES:
        raise Refused(40009, "invalid image size")
    if kind == "voice" and len(content) > VOICE_BYTES:
        raise Refused(40010, "invalid voice size")
    beginning = _BEGINNINGS[kind].get(name.rpartition(".")[2].lower())
    if beginning is None or not content.startswith(beginning):
        raise Refused(40005, "invalid file type")
    if kind == "voice":
        seconds = _amr_seconds(content) if beginning else _mp3_seconds(content)
        if not seconds:
            raise Refused(40005, "invalid file type")
        if seconds > VOICE_SECONDS:
            raise Refused(45007, "playtime out of limit")


def _amr_seconds(content: bytes) -> float:
    at, frames = len(b"#!AMR\n"), 0
    while at < len(content):
        mode = content[at] >> 3 & 15
        at += _AMR_FRAMES[mode] if mode < len(_AMR_FRAMES) else 1
        frames += 1
    return frames * 0.02


def _mp3_seconds(content: bytes) -> float:
    at, seconds = 0, 0.0
    if content.startswith(b"ID3") and len(content) > 10:
        at = 10 + sum(byte << 7 * place for byte, place in zip(content[6:10], (3, 2, 1, 0), strict=True))
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] & 0xE6 == 0xE2:
        version, kbits, rate = content[at + 1] >> 3 & 3, content[at + 2] >> 4, content[at + 2] >> 2 & 3
        if version == 1 or kbits in (0, 15) or rate == 3:
            break
        samples, hertz = (1152 if version == 3 else 576), _MP3_RATES[version][rate]
        at += samples // 8 * _MP3_KBITS[version == 3][kbits] * 1000 // hertz + (content[at + 2] >> 1 & 1)
        seconds += samples / hertz
    return seconds


_BUTTON_TYPES = frozenset(["click", "view", "scancode_push", "scancode_waitmsg", "pic_sysphoto"])
_BUTTON_TYPES |= {"pic_photo_or_album", "pic_weixin", "location_select"}


def _check_menu(buttons: Any) -> None:
    if not isinstance(buttons, list) or not 1 <= len(buttons) <= 3 or not all(map(_is_object, buttons)):
        raise Refused(40016, "invalid button size")
    for button in buttons:
        _check_name(button, 16, 40018, "invalid button name size")
        below = button.get("sub_button") or []
        if not isinstance(below, list) or len(below) > 5 or not all(map(_is_object, below)):
            raise Refused(40023, "invalid sub button size")
        if not below:
            _check_button(button, "button", (40017, 40019, 40020))
        for sub in below:
            _check_name(sub, 60, 40025, "invalid sub button name size")
            if sub.get("sub_button"):
                raise Refused(40022, "invalid sub button level")
            _check_button(sub, "sub button", (40024, 40026, 40027))


def _check_name(button: dict[str, Any], most: int, errcode: int, errmsg: str) -> None:
    name = button.get("name")
    if not isinstance(name, str) or not 1 <= len(name.encode()) <= most:
        raise Refused(errcode, errmsg)


def _check_button(button: dict[str, Any], called: str, codes: tuple[int, int, int]) -> None:
    kind, name = button.get("type"), "url" if button.get("type") == "view" else "key"
    if kind not in _BUTTON_TYPES:
        raise Refused(codes[0], f"invalid {called} type")
    value = button.get(name)
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= (1024 if name == "url" else 128):
        raise Refused(codes[2 if name == "url" else 1], f"invalid {called} {name} size")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _subs(button: dict[str, Any]) -> dict[str, Any]:
    return {"sub_button": [{**sub, "sub_button": []} for sub in button.get("sub_button") or []]}
