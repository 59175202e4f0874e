"""The fake WeChat against a tiny webhook: it pushes, refuses, counts and tries again as WeChat would."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.fakes import wechat_api as api
from tests.fakes import wechat_wire as wire
from tests.fakes.wechat_platform import FakeWechat, Mode
from tests.fakes.wechat_wire import TROUBLE, Envelope, Illegal

PERSON, ACCOUNT = "oPerson-0123456789abcdefghij", "gh_0123456789ab"
PATIENCE = 0.2
"""Of a WeChat whose webhook is to be too slow; a busy machine makes the others slow as well."""
ENVELOPE = Envelope("xinyu_token_0", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", "wx0123456789abcdef")
VECTORS = json.loads((Path(__file__).parents[1] / "data" / "wechat_crypto_vectors.json").read_text())

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def text_reply(content: str, **other: str) -> str:
    names = {
        "ToUserName": PERSON,
        "FromUserName": ACCOUNT,
        "CreateTime": "1700000000",
        "MsgType": "text",
        "Content": content,
        **other,
    }
    return (
        "<xml>" + "".join(f"<{name}><![CDATA[{value}]]></{name}>" for name, value in names.items()) + "</xml>"
    )


def says(body: str | bytes, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    return answer


async def never(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def hangs_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@dataclass
class Webhook:
    """Answers what it was told to, in turn, the last again and again; remembers what it got."""

    answers: deque[Answer] = field(default_factory=lambda: deque([says("success")]))
    queries: list[dict[str, str]] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    url: str = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        self.bodies.append(await request.text())
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    def will(self, *answers: Answer) -> None:
        self.answers = deque(answers)

    def got(self, index: int = -1) -> dict[str, str]:
        return {child.tag: child.text or "" for child in ElementTree.fromstring(self.bodies[index])}


@asynccontextmanager
async def webhook_served() -> AsyncIterator[Webhook]:
    webhook = Webhook()
    app = web.Application()
    app.router.add_route("*", "/webhooks/wechat", webhook.serve)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    webhook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/wechat"
    try:
        yield webhook
    finally:
        await runner.cleanup()


@dataclass
class Line:
    """The fake, the webhook that it pushes to, and a client of its API."""

    wechat: FakeWechat
    webhook: Webhook
    session: aiohttp.ClientSession
    token: str = ""

    async def call(self, path: str, body: Any = None, *, token: str | None = None, **query: str) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        asked = {"access_token": self.token if token is None else token, **query}
        method = "GET" if body is None else "POST"
        url = self.wechat.base_url + path
        async with self.session.request(
            method, url, params=asked, data=None if body is None else raw
        ) as response:
            assert response.status == 200
            return json.loads(await response.read())

    async def fresh_token(self, **other: Any) -> Any:
        asked = {
            "grant_type": "client_credential",
            "appid": self.wechat.app_id,
            "secret": self.wechat.secret,
            **other,
        }
        return await self.call(api.STABLE_TOKEN, asked, token="")

    async def send(self, text: str, openid: str = PERSON) -> int:
        body = {"touser": openid, "msgtype": "text", "text": {"content": text}}
        return int((await self.call(api.SEND, body))["errcode"])

    async def upload(self, kind: str, name: str, content: bytes) -> dict[str, Any]:
        form = aiohttp.FormData()
        form.add_field("media", io.BytesIO(content), filename=name)
        url, asked = self.wechat.base_url + api.UPLOAD, {"access_token": self.token, "type": kind}
        async with self.session.post(url, params=asked, data=form) as response:
            answer: dict[str, Any] = json.loads(await response.read())
            return answer


@pytest_asyncio.fixture
async def line() -> AsyncIterator[Line]:
    async with (
        webhook_served() as webhook,
        FakeWechat(webhook_url=webhook.url) as wechat,
        aiohttp.ClientSession() as session,
    ):
        line = Line(wechat, webhook, session)
        line.token = (await line.fresh_token())["access_token"]
        yield line


# --- the envelope ---------------------------------------------------------------------------


def test_the_signatures_that_wechat_documents() -> None:
    """「消息推送」 and 「消息加解密说明」 give these."""
    assert wire.signature("AAAAA", "1714036504", "1514711492") == "f464b24fc39322e44b38aa78f5edd27bd1441696"
    assert wire.signature("AAAAA", "1714037059", "486452656") == "899cf89e464efb63f54ddac96b0a0a235f53aa78"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_envelopes_that_somebody_else_made(vector: dict[str, str]) -> None:
    """By npm wechat-crypto 0.0.2: opened, and made again byte for byte with the same random bytes."""
    envelope = Envelope(vector["token"], vector["aes_key"], vector["app_id"])
    assert envelope.decrypt(vector["encrypt"]) == vector["xml"]
    assert envelope.sign(vector["timestamp"], vector["nonce"], vector["encrypt"]) == vector["signature"]
    decryptor = envelope.cipher().decryptor()
    salt = decryptor.update(base64.b64decode(vector["encrypt"]))[:16]
    assert envelope.encrypt(vector["xml"], salt) == vector["encrypt"]


def test_a_reply_in_an_envelope_is_opened_and_each_fault_seen() -> None:
    sealed = ENVELOPE.seal_reply(text_reply("你好"), "1700000000", "7").decode()
    assert ENVELOPE.open_reply(sealed.encode()).decode() == text_reply("你好")
    other_app, other_token = replace(ENVELOPE, app_id="wx0000000000000000"), replace(ENVELOPE, token="other")
    for wrong, why in [
        (other_app.seal_reply("x", "1700000000", "7").decode(), "app id"),
        (other_token.seal_reply("x", "1700000000", "7").decode(), "MsgSignature"),
        (sealed.replace("1700000000", "1700000001"), "MsgSignature"),
        (sealed.replace("<TimeStamp>", "<Timestamp>").replace("</TimeStamp>", "</Timestamp>"), "elements"),
        (sealed + sealed, "well-formed"),
        ("success", "not exactly"),
    ]:
        with pytest.raises(Illegal, match=why):
            ENVELOPE.open_reply(wrong.encode())


@pytest.mark.parametrize("bad", [b"\0" * 32, b"\x21" * 33, b"\x02" * 31 + b"\x03", b"\x01" * 16])
def test_wrong_padding_is_refused(bad: bytes) -> None:
    whole = bad[: len(bad) // 16 * 16]
    encryptor = ENVELOPE.cipher().encryptor()
    with pytest.raises(Illegal, match=r"padding|blocks"):
        ENVELOPE.decrypt(base64.b64encode(encryptor.update(whole) + encryptor.finalize()).decode())


# --- what may be answered -------------------------------------------------------------------


def test_what_is_a_legal_reply() -> None:
    def read(body: str) -> wire.Reply | None:
        return wire.reply(body.encode(), PERSON, ACCOUNT)

    assert read("success") is None
    assert read("") is None
    assert read(text_reply("心" * 682)) == wire.Reply("text", "心" * 682)
    image = text_reply("", MsgType="image").replace("<Content><![CDATA[]]></Content>", "%s")
    assert read(image % "<Image><MediaId>m</MediaId></Image>") == wire.Reply("image", media_id="m")


@pytest.mark.parametrize(
    "body",
    [
        "SUCCESS",
        "success\n",
        "{}",
        "<xml></xml>",
        "<!DOCTYPE a><xml></xml>",
        text_reply(""),
        text_reply(" \n"),
        text_reply("心" * 683),
        text_reply("x", ToUserName="oSomebodyElse"),
        text_reply("x", FromUserName="gh_other"),
        text_reply("x", CreateTime="[1682391258]"),
        text_reply("x", CreateTime="1.5"),
        text_reply("x", MsgType="video"),
        text_reply("x", MsgType="image"),
        text_reply("x", MsgId="1"),
        text_reply("x") * 2,
        text_reply("x").replace("<Content>", "<Content><![CDATA[y]]></Content><Content>"),
        text_reply("x").replace("<xml>", "<xml>x"),
    ],
)
def test_what_is_none(body: str) -> None:
    with pytest.raises(Illegal):
        wire.reply(body.encode(), PERSON, ACCOUNT)


# --- pushing --------------------------------------------------------------------------------


async def test_a_reply_is_shown(line: Line) -> None:
    line.webhook.will(says(text_reply("我在。")))
    msg_id = line.wechat.say(PERSON, "睡不着 ]]> <b>")
    assert await line.wechat.wait_for(PERSON) == ["我在。"]
    await line.wechat.settled()
    got, query = line.webhook.got(), line.webhook.queries[0]
    assert (got["Content"], got["MsgType"], got["MsgId"]) == ("睡不着 ]]> <b>", "text", msg_id)
    assert (got["ToUserName"], got["FromUserName"]) == (ACCOUNT, PERSON)
    assert set(query) == {"signature", "timestamp", "nonce", "openid"}
    assert query["signature"] == wire.signature(line.wechat.token, query["timestamp"], query["nonce"])
    (shown,) = line.wechat.shown
    assert (shown.kind, shown.by, shown.msg_id, shown.try_number) == ("text", "passive", msg_id, 1)
    assert [found.outcome for found in line.wechat.tried[msg_id]] == ["answered"]


@pytest.mark.parametrize("same", [True, False])
async def test_slow_broken_and_cut_connections_are_tried_again(line: Line, same: bool) -> None:
    line.wechat.same_nonce_on_retry = same
    line.wechat.mode = "safe"
    sealed = ENVELOPE.seal_reply(text_reply("好"), "1700000000", "7")
    line.wechat.patience_seconds = PATIENCE
    line.webhook.will(never, hangs_up, says(sealed))
    msg_id = line.wechat.say(PERSON, "在吗")
    assert await line.wechat.wait_for(PERSON) == ["好"]
    first, second, third = line.wechat.tried[msg_id]
    assert (first.outcome, second.outcome, third.outcome) == ("timeout", "refused", "answered")
    assert first.duration > PATIENCE - 0.01
    assert line.wechat.shown[0].try_number == 3
    assert (len(set(line.webhook.bodies)) == 1) is same
    assert (len({query["nonce"] for query in line.webhook.queries}) == 1) is same
    inner = {ENVELOPE.decrypt(line.webhook.got(index)["Encrypt"]) for index in range(3)}
    assert len(inner) == 1
    assert msg_id in inner.pop()


async def test_after_three_tries_the_phone_shows_trouble(line: Line) -> None:
    line.wechat.patience_seconds = PATIENCE
    line.webhook.will(says("oh", 503), never, hangs_up)
    msg_id = line.wechat.say(PERSON, "在吗")
    assert await line.wechat.wait_for(PERSON) == [TROUBLE]
    assert [found.outcome for found in line.wechat.tried[msg_id]] == ["error", "timeout", "refused"]
    assert line.wechat.shown[0].kind == "trouble"


@pytest.mark.parametrize(
    "answer", [says("{}"), says("success", 403), says("<xml>"), says(text_reply("心" * 683))]
)
async def test_an_illegal_answer_is_trouble_at_once(line: Line, answer: Answer) -> None:
    line.webhook.will(answer)
    msg_id = line.wechat.say(PERSON, "在吗")
    assert await line.wechat.wait_for(PERSON) == [TROUBLE]
    (only,) = line.wechat.tried[msg_id]
    assert only.outcome == "error"
    assert only.problem


async def test_the_tries_go_round_the_routes(line: Line) -> None:
    line.wechat.patience_seconds = PATIENCE
    line.webhook.will(never)
    async with webhook_served() as other:
        line.wechat.routes = [line.webhook.url, "http://127.0.0.1:9/nobody", other.url]
        msg_id = line.wechat.say(PERSON, "在吗")
        await line.wechat.settled()
        assert [found.outcome for found in line.wechat.tried[msg_id]] == ["timeout", "refused", "success"]
        assert other.got()["MsgId"] == line.webhook.got()["MsgId"]
    assert line.wechat.shown == []


@pytest.mark.parametrize("mode", ["compatible", "safe"])
async def test_encrypted_modes(line: Line, mode: Mode) -> None:
    line.wechat.mode = mode
    sealed = ENVELOPE.seal_reply(text_reply("密"), "1700000000", "7")
    line.webhook.will(says(sealed), says("success"), says(text_reply("明")))
    for _ in range(3):
        line.wechat.say(PERSON, "嗨")
        await line.wechat.settled()
    got, query = line.webhook.got(0), line.webhook.queries[0]
    assert query["encrypt_type"] == "aes"
    assert query["msg_signature"] == ENVELOPE.sign(query["timestamp"], query["nonce"], got["Encrypt"])
    assert "<Content><![CDATA[嗨]]></Content>" in ENVELOPE.decrypt(got["Encrypt"])
    assert ("Content" in got) is (mode == "compatible")
    assert line.wechat.on_phone(PERSON) == ["密", "明" if mode == "compatible" else TROUBLE]


async def test_every_kind_is_pushed(line: Line) -> None:
    wechat = line.wechat
    pushed: list[dict[str, str]] = []
    acts: list[Callable[[], str]] = [
        lambda: wechat.subscribe(PERSON, "123"),
        lambda: wechat.send_image(PERSON),
        lambda: wechat.send_voice(PERSON),
        lambda: wechat.send_voice(PERSON, "你好。"),
        lambda: wechat.send_voice(PERSON, None),
        lambda: wechat.send_video(PERSON),
        lambda: wechat.send_short_video(PERSON),
        lambda: wechat.send_location(PERSON),
        lambda: wechat.send_link(PERSON),
        lambda: wechat.press_link(PERSON, "换一个", "3"),
        lambda: wechat.press_menu(PERSON, "mood"),
        lambda: wechat.view_menu(PERSON),
        lambda: wechat.scan(PERSON, "5"),
        lambda: wechat.report_location(PERSON),
        lambda: wechat.event(PERSON, "TEMPLATESENDJOBFINISH"),
        lambda: wechat.subscribe(PERSON),
        lambda: wechat.unsubscribe(PERSON),
    ]
    for act in acts:
        act()
        await wechat.settled()
        pushed.append(line.webhook.got())
    assert [got.get("Event", got["MsgType"]) for got in pushed] == [
        *("subscribe", "image", "voice", "voice", "voice", "video", "shortvideo", "location", "link", "text"),
        *("CLICK", "VIEW", "SCAN", "LOCATION", "TEMPLATESENDJOBFINISH", "subscribe", "unsubscribe"),
    ]
    assert (pushed[0]["EventKey"], bool(pushed[0]["Ticket"])) == ("qrscene_123", True)
    assert [got.get("Recognition") for got in pushed[2:5]] == [None, "你好。", ""]
    assert (pushed[9]["Content"], pushed[9]["bizmsgmenuid"]) == ("换一个", "3")
    assert all(("MsgId" in got) is (got["MsgType"] != "event") for got in pushed)
    assert len(wechat.tried) == len(pushed)


async def test_nothing_is_shown_to_who_has_left(line: Line) -> None:
    line.wechat.patience_seconds = PATIENCE
    line.webhook.will(never, says(text_reply("再见")))
    line.wechat.say(PERSON, "嗨")
    await line.wechat.wait_until(lambda: bool(line.wechat.tried))
    line.wechat.unsubscribe(PERSON)
    await line.wechat.settled()
    assert line.wechat.on_phone(PERSON) == []
    assert await line.send("在吗") == 45015
    with pytest.raises(AssertionError):
        line.wechat.say(PERSON, "嗨")


@pytest.mark.parametrize("mode", ["plain", "compatible", "safe"])
async def test_the_address_is_verified(line: Line, mode: Mode) -> None:
    async def echo(request: web.Request) -> web.Response:
        query = request.query
        signed = wire.signature(line.wechat.token, query["timestamp"], query["nonce"])
        assert request.method == "GET"
        return web.Response(text=query["echostr"] if query["signature"] == signed else "no")

    line.wechat.mode = mode
    line.webhook.will(echo)
    assert await line.wechat.verify()
    line.webhook.will(says("success"))
    assert not await line.wechat.verify()
    assert not await line.wechat.verify("http://127.0.0.1:9/nobody")


# --- tokens ---------------------------------------------------------------------------------


async def test_tokens_are_stable_until_five_minutes_before_their_end(line: Line) -> None:
    wechat = line.wechat
    assert (await line.fresh_token())["access_token"] == line.token
    wechat.forward_tokens(minutes=114)
    assert (await line.fresh_token())["access_token"] == line.token
    wechat.forward_tokens(minutes=2)
    new = await line.fresh_token()
    assert new["access_token"] != line.token
    assert new["expires_in"] == 7200
    assert "ip_list" in await line.call(api.DOMAIN_IP)
    wechat.forward_tokens(minutes=4)
    assert (await line.call(api.DOMAIN_IP))["errcode"] == 42001
    assert "ip_list" in await line.call(api.DOMAIN_IP, token=new["access_token"])
    assert (wechat.tokens_issued, wechat.forced_refreshes) == (2, 0)


async def test_a_forced_token_voids_the_old_one_at_most_every_thirty_seconds(line: Line) -> None:
    new = (await line.fresh_token(force_refresh=True))["access_token"]
    assert (await line.call(api.DOMAIN_IP))["errcode"] == 40001
    assert (await line.fresh_token(force_refresh=True))["access_token"] == new
    assert line.wechat.forced_refreshes == 1
    for _ in range(19):
        line.wechat.forward_tokens(seconds=31)
        assert "access_token" in await line.fresh_token(force_refresh=True)
    line.wechat.forward_tokens(seconds=31)
    assert (await line.fresh_token(force_refresh=True))["errcode"] == 45009
    line.wechat.forward_tokens(hours=24)
    assert "access_token" in await line.fresh_token(force_refresh=True)
    assert line.wechat.forced_refreshes == 21


@pytest.mark.parametrize(
    ("other", "errcode"),
    [
        ({"secret": "wrong"}, 40125),
        ({"appid": "wx_other"}, 40013),
        ({"grant_type": "x"}, 40002),
        ({"force_refresh": "yes"}, 47001),
        ({"more": 1}, 40035),
    ],
)
async def test_who_may_have_a_token(line: Line, other: dict[str, Any], errcode: int) -> None:
    answer = await line.fresh_token(**other)
    assert answer["errcode"] == errcode
    assert "rid: " in answer["errmsg"]


@pytest.mark.parametrize("errcode", [42001, 40001])
async def test_a_token_that_died(line: Line, errcode: int) -> None:
    assert (await line.call(api.DOMAIN_IP, token=""))["errcode"] == 41001
    assert (await line.call(api.DOMAIN_IP, token="made-up"))["errcode"] == 40014
    line.wechat.expire_token(errcode)
    assert (await line.call(api.DOMAIN_IP))["errcode"] == errcode
    line.token = (await line.fresh_token())["access_token"]
    assert "ip_list" in await line.call(api.DOMAIN_IP)


# --- customer messages ----------------------------------------------------------------------


async def test_five_after_a_message_three_after_a_click_never_added_up(line: Line) -> None:
    wechat = line.wechat
    wechat.say(PERSON, "嗨")
    assert [await line.send(str(number)) for number in range(6)] == [0, 0, 0, 0, 0, 45047]
    wechat.press_menu(PERSON, "mood")
    assert [await line.send("x") for _ in range(4)] == [0, 0, 0, 45047]
    wechat.say(PERSON, "嗨")
    wechat.press_menu(PERSON, "mood")
    assert await line.send("x") == 0
    wechat.forward(minutes=1)
    assert [await line.send("x") for _ in range(5)] == [0, 0, 0, 0, 45047]
    wechat.say(PERSON, "嗨")
    wechat.exhaust(PERSON)
    assert await line.send("x") == 45047


async def test_the_windows_close(line: Line) -> None:
    assert await line.send("x") == 40003
    line.wechat.subscribe(PERSON)
    line.wechat.forward(seconds=61)
    assert await line.send("x") == 45015
    line.wechat.say(PERSON, "嗨")
    line.wechat.forward(hours=47.9)
    assert await line.send("x") == 0
    line.wechat.view_menu(PERSON)
    line.wechat.forward(hours=0.2)
    assert await line.send("x") == 45015
    line.wechat.press_link(PERSON, "换一个")
    line.wechat.forward(seconds=61)
    assert await line.send("x") == 45015


async def test_what_cannot_be_sent(line: Line) -> None:
    wechat = line.wechat
    wechat.say(PERSON, "嗨")
    assert await line.send("心" * 682) == 0
    assert await line.send("心" * 683) == 45002
    assert await line.send("") == 44004
    for body, errcode in [
        (b"", 44002),
        ("嗨".encode("gbk"), 47001),
        (b"[]", 47001),
        (json.dumps({"touser": PERSON, "msgtype": "text", "text": {"content": "嗨"}}).encode(), 40033),
        ({"touser": PERSON, "msgtype": "text"}, 40008),
        ({"touser": PERSON, "msgtype": "text", "text": "x"}, 47001),
        ({"touser": PERSON, "msgtype": "image", "image": {"media_id": "none"}}, 40007),
    ]:
        assert (await line.call(api.SEND, body))["errcode"] == errcode
    assert (await line.call(api.SEND))["errcode"] == 43002
    wechat.quota_left = 0
    assert await line.send("x") == 45009
    wechat.certified = False
    assert await line.send("x") == 48001
    assert wechat.on_phone(PERSON) == ["心" * 682]
    assert wechat.refusals[45009] == 1


async def test_typing(line: Line) -> None:
    async def types(command: str = "Typing") -> int:
        return int((await line.call(api.TYPING, {"touser": PERSON, "command": command}))["errcode"])

    line.wechat.say(PERSON, "嗨")
    assert [await types("Dance"), await types(), await types()] == [45072, 0, 45081]
    assert await types("CancelTyping") == 0
    assert [await types(), await line.send("x"), await types()] == [0, 0, 0]
    line.wechat.forward(seconds=31)
    assert await types() == 45080
    assert [shown.kind for shown in line.wechat.shown] == ["typing", "typing", "text", "typing"]


# --- media and menus ------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n"
SECOND = (b"\x3c" + bytes(31)) * 50
"""Of AMR at 12.2 kbit/s."""
MP3_FRAME = b"\xff\xfb\x90\x00" + bytes(413)
"""128 kbit/s, 44.1 kHz: 26 ms."""


@pytest.mark.parametrize(
    ("kind", "name", "content", "errcode"),
    [
        ("video", "a.mp4", b"x", 40004),
        ("image", "a.png", b"", 44001),
        ("image", "a.png", b"GIF89a", 40005),
        ("image", "a.webp", PNG, 40005),
        ("image", "a.png", PNG + bytes(10 * 1024 * 1024), 40009),
        ("voice", "a.amr", b"#!AMR\n" + SECOND * 61, 45007),
        ("voice", "a.amr", b"#!AMR\n" + bytes(2 * 1024 * 1024), 40010),
        ("voice", "a.mp3", MP3_FRAME * 2400, 45007),
        ("voice", "a.mp3", b"OggS", 40005),
        ("voice", "a.ogg", MP3_FRAME, 40005),
    ],
)
async def test_media_that_are_refused(line: Line, kind: str, name: str, content: bytes, errcode: int) -> None:
    assert (await line.upload(kind, name, content))["errcode"] == errcode


async def test_media_are_uploaded_and_shown_for_three_days(line: Line) -> None:
    image = (await line.upload("image", "a.PNG", PNG))["media_id"]
    voice = (await line.upload("voice", "a.amr", b"#!AMR\n" + SECOND * 60))["media_id"]
    assert "media_id" in await line.upload("voice", "a.mp3", b"ID3\x04\0\0\0\0\0\x02xx" + MP3_FRAME * 100)
    assert [upload[:2] for upload in line.wechat.uploads[:2]] == [("image", "a.PNG"), ("voice", "a.amr")]
    reply = text_reply("", MsgType="voice").replace("<Content><![CDATA[]]></Content>", "%s")
    line.webhook.will(*(says(reply % f"<Voice><MediaId>{of}</MediaId></Voice>") for of in (voice, image)))
    for _ in range(2):
        line.wechat.say(PERSON, "唱歌")
        await line.wechat.settled()
    sent = {"touser": PERSON, "msgtype": "image", "image": {"media_id": image}}
    assert (await line.call(api.SEND, sent))["errcode"] == 0
    assert [shown.kind for shown in line.wechat.shown] == ["voice", "trouble", "image"]
    assert [shown.media_id for shown in line.wechat.shown] == [voice, "", image]
    line.wechat.forward(hours=73)
    line.wechat.say(PERSON, "嗨")
    assert (await line.call(api.SEND, sent))["errcode"] == 40007


def button(**other: Any) -> dict[str, Any]:
    return {"type": "click", "name": "心情", "key": "mood", **other}


async def test_a_menu_is_made_read_and_deleted(line: Line) -> None:
    assert (await line.call(api.MENU_GET))["errcode"] == 46003
    made = {"button": [button(), {"name": "更多", "sub_button": [button(name="心" * 20), button()]}]}
    assert (await line.call(api.MENU_CREATE, made))["errcode"] == 0
    assert line.wechat.menu == made
    first, second = (await line.call(api.MENU_GET))["menu"]["button"]
    assert (first["sub_button"], len(second["sub_button"])) == ([], 2)
    assert (await line.call(api.MENU_DELETE))["errcode"] == 0
    assert line.wechat.menu is None


@pytest.mark.parametrize(
    ("buttons", "errcode"),
    [
        ([], 40016),
        ([button()] * 4, 40016),
        ([button(type="dance")], 40017),
        ([button(name="心" * 6)], 40018),
        ([button(key="x" * 129)], 40019),
        ([button(type="view", url="")], 40020),
        ([{"name": "a", "sub_button": [button()] * 6}], 40023),
        ([{"name": "a", "sub_button": [button(type="")]}], 40024),
        ([{"name": "a", "sub_button": [button(name="心" * 21)]}], 40025),
        ([{"name": "a", "sub_button": [button(key="")]}], 40026),
    ],
)
async def test_menus_that_are_refused(line: Line, buttons: list[dict[str, Any]], errcode: int) -> None:
    assert (await line.call(api.MENU_CREATE, {"button": buttons}))["errcode"] == errcode


# --- what goes wrong ------------------------------------------------------------------------


async def test_failures_on_demand(line: Line) -> None:
    wechat, url = line.wechat, f"{line.wechat.base_url}{api.SEND}"
    wechat.say(PERSON, "嗨")
    wechat.fail_next(api.SEND, 2, errcode=-1)
    wechat.fail_next(api.SEND, errcode=45009, done=True)
    assert [await line.send(text) for text in "abcd"] == [-1, -1, 45009, 0]
    assert wechat.on_phone(PERSON) == ["c", "d"]
    wechat.fail_next(api.SEND, status=502)
    wechat.fail_next(api.SEND, html=True)
    seen = []
    for _ in range(2):
        async with line.session.post(url) as response:
            seen.append((response.status, response.content_type))
    assert seen == [(502, "application/octet-stream"), (200, "text/html")]
    async with line.session.get(f"{wechat.base_url}/cgi-bin/nothing") as response:
        assert (response.status, response.content_type) == (404, "text/html")
    assert wechat.calls[api.SEND] == 6


async def test_calls_that_hang(line: Line) -> None:
    wechat = line.wechat
    wechat.fail_next(api.DOMAIN_IP, hang=True)
    for _ in range(2):
        call = asyncio.create_task(line.call(api.DOMAIN_IP))
        await wechat.wait_until(lambda: wechat.hanging == 1)
        call.cancel()
        await wechat.wait_until(lambda: wechat.hanging == 0)
        wechat.hang()
    wechat.recover()
    assert "ip_list" in await line.call(api.DOMAIN_IP)
