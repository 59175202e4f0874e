"""What is not WeChat's: told so by a status and nothing else, stored nowhere; and WeChat's own retries, which are."""

from __future__ import annotations

import asyncio
import base64
import gzip
import itertools
import re
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.companion import rows, until
from tests.fakes import wechat_wire as wire
from tests.fakes.program import Program
from tests.services import RedisServer
from tests.wechat_world import WechatWorld, world_in

one_loop = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.xdist_group("wechat-refused")
MIB = 1024 * 1024
OTHER, KEYLESS = "other", "keyless"
OTHER_APP, OTHER_TOKEN = "wx5823bf96d3bd56c7", "other_token"
OTHER_AES = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
KEYLESS_APP, KEYLESS_TOKEN = "wx00000000000000aa", "keyless_token"
TABLES = ("users", "identities", "conversations", "inbox", "chat_messages", "deliveries")
_people = itertools.count(1)

Query = dict[str, str]
Answered = tuple[int, bytes]


def new_person() -> str:
    return f"oPerson-{next(_people):020}"


@dataclass
class Hand(WechatWorld):
    """Whoever writes to the webhook, with the account's token and key or without."""

    session: aiohttp.ClientSession

    def xml(self, text: str = "在吗", openid: str = "", msg_id: str = "") -> str:
        openid, msg_id = openid or new_person(), msg_id or str(secrets.randbits(62))
        return wire.push(self.wechat.original_id, openid, int(time.time()), wire.text(text), msg_id)

    def query(self, *, ahead: float = 0, nonce: str = "", token: str = "") -> Query:
        at, nonce = str(int(time.time() + ahead)), nonce or str(secrets.randbits(31))
        signature = wire.signature(token or self.wechat.token, at, nonce)
        return {"signature": signature, "timestamp": at, "nonce": nonce}

    def sealed(
        self, encrypted: str, query: Query, envelope: wire.Envelope | None = None
    ) -> tuple[Query, str]:
        """Query and body of a push in safe mode, rightly signed whatever is in it."""
        signature = (envelope or self.wechat.envelope).sign(query["timestamp"], query["nonce"], encrypted)
        more = {"encrypt_type": "aes", "msg_signature": signature}
        return {**query, **more}, wire.sealed(self.wechat.original_id, encrypted)

    def safe(self, xml: str, query: Query | None = None) -> tuple[Query, str]:
        return self.sealed(self.wechat.envelope.encrypt(xml), query or self.query())

    async def post(self, query: Query, body: str | bytes, name: str = "", **headers: str) -> Answered:
        raw = body.encode() if isinstance(body, str) else body
        url = f"{self.address}/{name}" if name else self.address
        async with self.session.post(url, params=query, data=raw, headers=headers) as response:
            return response.status, await response.read()

    async def get(self, query: Query) -> Answered:
        async with self.session.get(self.address, params=query) as response:
            return response.status, await response.read()

    def stored(self) -> list[int]:
        """How many rows there are of whatever is kept."""
        folder = self.program.folder / "data"
        return [rows(folder, f"SELECT COUNT(*) FROM {table}")[0][0] for table in TABLES]

    async def refused(self, status: int, *posts: tuple[Query, str | bytes], name: str = "") -> None:
        """Each is answered with the status alone, and nothing of any is kept."""
        before = self.stored()
        answers = [await self.post(query, body, name) for query, body in posts]
        assert answers == [(status, b"")] * len(posts)
        assert self.stored() == before


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hand(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hand]:
    folder: Path = tmp_path_factory.mktemp("wechat-refused")
    accounts = folder / "accounts.toml"
    accounts.write_text(
        f'[[account]]\nname = "{OTHER}"\napp_id = "{OTHER_APP}"\ntoken = "{OTHER_TOKEN}"\n'
        f'encoding_aes_key = "{OTHER_AES}"\n'
        f'[[account]]\nname = "{KEYLESS}"\napp_id = "{KEYLESS_APP}"\ntoken = "{KEYLESS_TOKEN}"\n'
    )
    more = {"WECHAT_ACCOUNTS": str(accounts), "WECHAT_DELIVERY": "uncertified"}
    async with world_in(folder, more) as made, aiohttp.ClientSession() as session:
        await made.program.start()
        yield Hand(made.program, made.wechat, made.model, session)


# --- signatures -----------------------------------------------------------------------------


@one_loop
async def test_the_settings_page_is_echoed_to_and_nobody_else(hand: Hand) -> None:
    echo = {"echostr": "7103405961093912043"}
    right = hand.query()
    assert await hand.get(right | echo) == (200, echo["echostr"].encode())
    wrong = [
        right | {"signature": "0" * 40},
        right | {"signature": ""},
        right | {"signature": right["signature"].upper()},
        right | {"signature": "签名"},
        {name: value for name, value in right.items() if name != "signature"},
        right | {"nonce": right["nonce"] + "1"},
        hand.query(token=OTHER_TOKEN),
        hand.query(ahead=-360),
        hand.query(ahead=360),
        right | {"timestamp": ""},
        right | {"timestamp": "soon"},
        {},
    ]
    assert [await hand.get(query | echo) for query in wrong] == [(401, b"")] * len(wrong)


@one_loop
async def test_who_cannot_sign_is_refused_in_every_mode(hand: Hand) -> None:
    query, xml = hand.query(), hand.xml()
    safe, body = hand.safe(xml)
    signed_as_plain = {name: value for name, value in safe.items() if name != "msg_signature"}
    await hand.refused(
        401,
        ({}, xml),
        (query | {"signature": "0" * 40}, xml),
        (query | {"nonce": "1"}, xml),
        (hand.query(token=OTHER_TOKEN), xml),
        (safe | {"msg_signature": "0" * 40}, body),
        (safe | {"msg_signature": safe["signature"]}, body),
        (safe, hand.safe(hand.xml())[1]),
        (signed_as_plain, body),
        (signed_as_plain, wire.sealed(hand.wechat.original_id, "", xml)),
    )
    assert (await hand.post(query, xml))[0] == 200
    assert (await hand.post(safe, body))[0] == 200


@one_loop
async def test_clocks_may_be_five_minutes_apart(hand: Hand) -> None:
    far = [hand.query(ahead=ahead) for ahead in (-360, 360)]
    await hand.refused(401, *[(query, hand.xml()) for query in far])
    await hand.refused(401, *[hand.safe(hand.xml(), query) for query in far])
    for ahead in (-240, 240):
        assert (await hand.post(hand.query(ahead=ahead), hand.xml()))[0] == 200
        assert (await hand.post(*hand.safe(hand.xml(), hand.query(ahead=ahead))))[0] == 200


@one_loop
@pytest.mark.parametrize("at", ["", "-1", "soon", "1e9", "9" * 400, "１７８００００００００" * 2])
async def test_a_time_that_is_none_is_refused(hand: Hand, at: str) -> None:
    query = {"timestamp": at, "nonce": "1", "signature": wire.signature(hand.wechat.token, at, "1")}
    await hand.refused(401, (query, hand.xml()), hand.safe(hand.xml(), query))


@one_loop
@pytest.mark.parametrize("odd", [b"%FF%ED%A0%80", b"\xff\xed\xa0\x80", b"%00", b"%", b"%uD800"])
async def test_what_is_no_text_is_only_a_wrong_signature(hand: Hand, odd: bytes) -> None:
    at = str(int(time.time())).encode()
    for asked in (b"GET", b"POST"):
        reader, writer = await asyncio.open_connection("127.0.0.1", hand.program.port)
        query = b"signature=%b&nonce=%b&timestamp=%b&echostr=%b" % (odd, odd, at, odd)
        head = b"Host: x\r\nConnection: close\r\nContent-Length: 0"
        writer.write(b"%b /webhooks/wechat?%b HTTP/1.1\r\n%b\r\n\r\n" % (asked, query, head))
        answer = await reader.read()
        writer.close()
        assert answer.split()[1] in (b"400", b"401")


@one_loop
async def test_an_account_s_signature_is_good_at_its_own_address_alone(hand: Hand) -> None:
    other = wire.Envelope(OTHER_TOKEN, OTHER_AES, OTHER_APP)
    query = hand.query(token=OTHER_TOKEN)
    sealed = hand.sealed(other.encrypt(hand.xml()), query, other)
    await hand.refused(401, (query, hand.xml()), sealed)
    await hand.refused(401, (hand.query(), hand.xml()), hand.safe(hand.xml()), name=OTHER)
    assert (await hand.post(*sealed, name=OTHER))[0] == 200
    assert (await hand.post(hand.query(), hand.xml(), "nobody"))[0] == 404


# --- replays --------------------------------------------------------------------------------


@one_loop
async def test_a_nonce_is_good_for_one_message(hand: Hand) -> None:
    """`signature` does not cover the body: who saw one push could write any other."""
    person, query = new_person(), hand.query()
    assert (await hand.post(query, hand.xml("第一句", person)))[0] == 200
    await hand.refused(
        401,
        (query, hand.xml("第二句", person)),
        (query, hand.xml("第二句")),
        hand.safe(hand.xml("第二句", person), query),
    )
    subscribed = wire.push(hand.wechat.original_id, person, int(time.time()), wire.event("unsubscribe", ""))
    await hand.refused(401, (query, subscribed))
    query, body = hand.safe(hand.xml("第一句", person))
    assert (await hand.post(query, body))[0] == 200
    await hand.refused(401, hand.safe(hand.xml("第二句", person), query))


@one_loop
@pytest.mark.parametrize("mode", ["plain", "safe"])
@pytest.mark.parametrize("anew", [False, True], ids=["byte for byte", "signed anew"])
async def test_the_platform_s_own_retries_are_welcome(hand: Hand, mode: str, anew: bool) -> None:
    """It closes the connection and asks again; here at once, not after five seconds."""
    person, asked = new_person(), len(hand.model.requests)
    xml = hand.xml("想好再答我", person)

    def push() -> tuple[Query, str]:
        return hand.safe(xml) if mode == "safe" else (hand.query(), xml)

    first = push()
    hand.model.gate.clear()
    try:
        tried = asyncio.create_task(hand.post(*first))
        await until(lambda: len(hand.model.requests) > asked)
        tried.cancel()
        await asyncio.gather(tried, return_exceptions=True)
        assert tried.cancelled()
    finally:
        hand.model.gate.set()
    for _ in range(2):  # it is the third time that it hears the second's answer again
        status, body = await hand.post(*(push() if anew else first))
        assert status == 200
        opened = hand.wechat.envelope.open_reply(body) if mode == "safe" else body
        found = wire.reply(opened, person, hand.wechat.original_id)
        assert found == wire.Reply("text", "回声:想好再答我")
    assert len(hand.model.requests) == asked + 1


async def test_a_message_replayed_later_is_refused_at_every_process(
    tmp_path: Path, redis: RedisServer
) -> None:
    """The platform's retries end after 15 seconds. What the two processes remember is made half a minute older."""
    client = Redis.from_url(redis.url(3), decode_responses=True)
    async with (
        client,
        world_in(tmp_path, {"REDIS_URL": redis.url(3), "WECHAT_DELIVERY": "uncertified"}) as world,
        aiohttp.ClientSession() as session,
    ):
        await world.program.start()
        hand = Hand(world.program, world.wechat, world.model, session)
        neighbour = Program(tmp_path, world.program.settings, ("run", "--role", "serve"))
        await neighbour.start()
        there = replace(hand, program=neighbour)
        try:
            person, query = new_person(), hand.query()
            xml = hand.xml("只说一次", person)
            told = await hand.post(query, xml)
            assert wire.reply(told[1], person, world.wechat.original_id) is not None
            assert (await there.post(query, xml))[0] == 200, "a retry may come to another process"
            await there.refused(401, (query, hand.xml("换一句", person)))
            (key,) = [found async for found in client.scan_iter("*nonce*")]
            value = str(await client.get(key))
            aged = re.sub(r"^\d+\.\d+", lambda at: f"{float(at[0]) - 31:.3f}", value)
            assert aged != value
            await client.set(key, aged, keepttl=True)
            await hand.refused(401, (query, xml))
            await there.refused(401, (query, xml))
        finally:
            await neighbour.stop()


# --- bodies ---------------------------------------------------------------------------------


@one_loop
@pytest.mark.parametrize("size", [MIB + 1, 5 * MIB])
@pytest.mark.parametrize("signed", [True, False])
async def test_more_than_a_mebibyte_is_refused(hand: Hand, size: int, signed: bool) -> None:
    before, query = hand.stored(), hand.query() if signed else {}
    xml = hand.xml()
    body = (xml + " " * (size - len(xml.encode()))).encode()
    assert len(body) == size

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 65_536):
            yield body[start : start + 65_536]

    for data in (body, in_pieces()):  # with a Content-Length and without one
        async with aiohttp.ClientSession() as session:
            try:
                async with session.post(hand.address, params=query, data=data) as response:
                    assert response.status == 413
            except aiohttp.ClientOSError:
                assert size > 2 * MIB, "only who goes on and on is hung up on"
    assert hand.stored() == before


@one_loop
async def test_a_mebibyte_is_not_too_much(hand: Hand) -> None:
    xml = hand.xml()
    assert (await hand.post(hand.query(), xml + " " * (MIB - len(xml.encode()))))[0] == 200


@one_loop
async def test_what_unpacks_to_more_than_a_mebibyte_is_refused(hand: Hand) -> None:
    before, xml = hand.stored(), hand.xml()
    packed = {"Content-Encoding": "gzip"}
    bomb = gzip.compress((xml + " " * 40 * MIB).encode())
    async with aiohttp.ClientSession() as session:
        alone = replace(hand, session=session)
        assert (await alone.post(hand.query(), bomb, **packed))[0] in (400, 413, 415)
    async with aiohttp.ClientSession() as session:
        alone = replace(hand, session=session)
        assert (await alone.post(hand.query(), xml, **packed))[0] in (400, 415), "it is not packed at all"
    assert hand.stored() == before


LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
BROKEN: dict[str, Callable[[str], str | bytes]] = {
    "nothing": lambda xml: "",
    "no XML": lambda xml: "success",
    "JSON": lambda xml: '{"MsgType": "text"}',
    "cut off": lambda xml: xml[:-8],
    "no message": lambda xml: "<xml></xml>",
    "another root": lambda xml: xml.replace("xml>", "html>"),
    "two": lambda xml: xml + xml,
    "a DTD": lambda xml: "<!DOCTYPE xml>" + xml,
    "an outer DTD": lambda xml: '<!DOCTYPE xml SYSTEM "http://127.0.0.1:1/x.dtd">' + xml,
    "an outer entity": lambda xml: (
        '<!DOCTYPE xml [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + xml.replace("<![CDATA[在吗]]>", "&e;")
    ),
    "a billion laughs": lambda xml: (
        f'<!DOCTYPE xml [<!ENTITY l0 "ha">{LAUGHS}]>' + xml.replace("<![CDATA[在吗]]>", "&l9;")
    ),
    "no UTF-8": lambda xml: xml.encode("gb18030"),
    "half a character": lambda xml: xml.encode().replace("吗".encode(), "吗".encode()[:2]),
    "a NUL": lambda xml: xml.replace("在吗", "在\0吗"),
    "from nobody": lambda xml: re.sub(r"oPerson-\d+", "", xml),
}


@one_loop
async def test_broken_xml_is_refused_and_nothing_in_it_done(hand: Hand) -> None:
    began = time.monotonic()
    bodies = [make(hand.xml()) for make in BROKEN.values()]
    await hand.refused(400, *[(hand.query(), body) for body in bodies])
    texts = [body for body in bodies if isinstance(body, str)]
    await hand.refused(400, *[hand.safe(text) for text in texts])
    outside = ("cut off", "two", "a DTD", "an outer DTD", "an outer entity", "a billion laughs")
    envelopes = [(*hand.safe(hand.xml()), BROKEN[kind]) for kind in outside]
    await hand.refused(400, *[(query, make(body)) for query, body, make in envelopes])
    assert time.monotonic() - began < 15, "nothing was expanded or fetched"


# --- envelopes ------------------------------------------------------------------------------


def framed(content: bytes, app_id: str, length: int | None = None, padding: bytes = b"") -> bytes:
    told = len(content) if length is None else length
    plain = bytes(16) + told.to_bytes(4, "big") + content + app_id.encode()
    missing = 32 - len(plain) % 32
    whole = plain + bytes([missing]) * missing
    return whole[: len(whole) - len(padding)] + padding


def encrypted(blocks: bytes, envelope: wire.Envelope) -> str:
    encryptor = envelope.cipher().encryptor()
    return base64.b64encode(encryptor.update(blocks) + encryptor.finalize()).decode()


def faults(hand: Hand) -> dict[str, str]:
    """A ciphertext with each fault, all as long as each other."""
    envelope, content = hand.wechat.envelope, hand.xml("在吗" * 40).encode()
    app_id = envelope.app_id
    right = base64.b64decode(encrypted(framed(content, app_id), envelope))
    return {
        "wrong app id": encrypted(framed(content, OTHER_APP), envelope),
        "no padding": encrypted(framed(content, app_id, padding=b"\0"), envelope),
        "too much padding": encrypted(framed(content, app_id, padding=b"\x21"), envelope),
        "uneven padding": encrypted(framed(content, app_id, padding=b"\1\2"), envelope),
        "a length too long": encrypted(framed(content, app_id, 2**31), envelope),
        "a length too short": encrypted(framed(content, app_id, 7), envelope),
        "no UTF-8": encrypted(framed(b"\xff" + content[1:], app_id), envelope),
        "no base64": "*" + base64.b64encode(right).decode()[1:],
        "half a block": base64.b64encode(right[:-16]).decode(),
        "a part of a block": base64.b64encode(right[:-5]).decode(),
        "another key": encrypted(framed(content, app_id), replace(envelope, aes_key=OTHER_AES)),
    }


@one_loop
async def test_no_envelope_with_a_fault_tells_which_it_is(hand: Hand) -> None:
    """Same status, same body, same headers and about the same time; nothing is kept."""
    before, kinds = hand.stored(), faults(hand)
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    told = set()
    for _ in range(25):
        for kind, text in kinds.items():
            query, body = hand.sealed(text, hand.query())
            began = time.perf_counter()
            async with hand.session.post(hand.address, params=query, data=body.encode()) as response:
                answer = await response.read()
            took[kind].append(time.perf_counter() - began)
            headers = {
                name: value
                for name, value in response.headers.items()
                if name not in ("Date", "X-Request-ID")
            }
            told.add((response.status, answer, tuple(sorted(headers.items()))))
    assert len(told) == 1
    assert {(status, body) for status, body, _ in told} == {(400, b"")}
    assert hand.stored() == before
    medians = {kind: statistics.median(times) for kind, times in took.items()}
    assert max(medians.values()) < 3 * min(medians.values()), medians


@one_loop
async def test_another_account_s_envelope_is_refused_with_the_right_signature(hand: Hand) -> None:
    """The app id inside is what says whose it is."""
    theirs = replace(hand.wechat.envelope, app_id=OTHER_APP)
    await hand.refused(400, hand.sealed(theirs.encrypt(hand.xml()), hand.query()))


@one_loop
async def test_an_account_without_a_key_takes_no_envelopes(hand: Hand) -> None:
    keyless = wire.Envelope(KEYLESS_TOKEN, hand.wechat.aes_key, KEYLESS_APP)
    query = hand.query(token=KEYLESS_TOKEN)
    await hand.refused(400, hand.sealed(keyless.encrypt(hand.xml()), query, keyless), name=KEYLESS)
    assert (await hand.post(hand.query(token=KEYLESS_TOKEN), hand.xml(), KEYLESS))[0] == 200
