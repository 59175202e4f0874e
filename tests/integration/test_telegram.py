"""Telegram, from a person's message to the answer on their phone: the real program and the real library over
loopback, against a strict fake of the Bot API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from telegram.error import TelegramError

from adapters.proxy import proxy_for
from adapters.telegram.buttons import ButtonSeal
from adapters.telegram.parse import ALLOWED_UPDATES
from adapters.telegram.receive import PATH, TelegramReceiver, make_bot
from adapters.telegram.render import LIMIT
from adapters.telegram.request import AiohttpRequest
from adapters.telegram.send import TelegramSender
from adapters.telegram.settings import TelegramSettings
from core.cut import cut, utf16_units
from core.errors import IdempotencyConflict, StoreUnavailable
from core.messages import ConversationKind, Delivery, IncomingMessage, Platform, PlatformEvent, Segment
from core.ports import Accepted
from tests.companion import until
from tests.fakes.model_server import Answer
from tests.fakes.program import free_port
from tests.fakes.telegram_api import SECRET_HEADER, TOKEN, FakeTelegramApi
from tests.telegram_world import (
    PATIENCE,
    PUBLIC_URL,
    SECRET,
    World,
    new_person,
    webhook_settings,
    world_in,
)

one_loop = pytest.mark.asyncio(loop_scope="module")
WRONG_TOKEN = "123456789:AAnotTheTokenOfAnyBot-0123456789abc"

STICKER = {
    "file_id": "CAACAgIAAx",
    "file_unique_id": "AgAD",
    "width": 512,
    "height": 512,
    "is_animated": False,
    "is_video": False,
    "type": "regular",
    "emoji": "😀",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def polling(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world_in(tmp_path_factory.mktemp("polling")) as world:
        await world.program.start()
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hooked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world_in(tmp_path_factory.mktemp("webhook"), webhook_settings()) as world:
        await world.program.start()
        await world.api.wait_until(lambda: world.api.webhook_url is not None)
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(tmp_path) as world:
        yield world


# --- polling --------------------------------------------------------------------------------


@one_loop
async def test_a_text_is_answered_while_typing_is_shown(polling: World) -> None:
    person = new_person()
    typed = polling.api.calls["sendchataction:200"]
    polling.model.gate.clear()
    polling.api.user_says(person, "今天好累")
    await polling.api.wait_until(lambda: polling.api.calls["sendchataction:200"] > typed)
    assert polling.api.sent_to(person) == []
    polling.model.gate.set()
    await polling.api.wait_for_sent(1, chat_id=person)
    assert polling.api.sent_to(person) == ["回声:今天好累"]
    await polling.api.wait_until(lambda: polling.api.pending_count == 0)
    await polling.until_health("ok", "ok")


@one_loop
async def test_an_update_that_comes_again_is_answered_once(polling: World) -> None:
    person = new_person()
    update_id = polling.api.user_says(person, "只说一次")
    await polling.api.wait_for_sent(1, chat_id=person)
    polling.api.hand_over_again(update_id)
    await polling.api.wait_until(lambda: polling.api.pending_count == 0)
    polling.api.user_says(person, "再说一句")
    await polling.api.wait_for_sent(2, chat_id=person)
    assert polling.api.sent_to(person) == ["回声:只说一次", "回声:再说一句"]


@one_loop
async def test_many_chats_are_answered_each_in_its_order(polling: World) -> None:
    people = [new_person() for _ in range(5)]
    said = {person: [f"{person}的第{number}句" for number in range(3)] for person in people}
    for number in range(3):
        for person in people:
            polling.api.user_says(person, said[person][number])

    def answered(person: int) -> list[str]:
        return [text for reply in polling.api.sent_to(person) for text in reply[3:].split("|")]

    await polling.api.wait_until(lambda: all(len(answered(person)) >= 3 for person in people))
    assert {person: answered(person) for person in people} == said


@one_loop
async def test_what_says_nothing_and_what_is_no_private_chat_is_passed_over(polling: World) -> None:
    person = new_person()
    asked, sent = len(polling.model.requests), len(polling.api.sent)
    polling.api.user_says(person, "大家好", chat_type="supergroup")
    polling.api.user_sends(person, {"new_chat_title": "别的名字"})
    polling.api.user_sends(person, {"sticker": {"of_a_shape": "that nobody knows"}})
    polling.api.user_says(person, " \n ")
    polling.api.user_says(person, "在吗", language_code=None)
    await polling.api.wait_for_sent(1, chat_id=person)
    assert polling.api.sent_to(person) == ["回声:在吗"]
    assert len(polling.model.requests) == asked + 1
    assert len(polling.api.sent) == sent + 1


@one_loop
async def test_a_long_answer_comes_in_pieces_that_make_it_up(polling: World) -> None:
    person = new_person()
    text = "".join(f"第{number}段：我在听👨‍👩‍👧‍👦，你慢慢说。\n\n" for number in range(400)).strip()
    assert len(text.encode("utf-16-le")) // 2 > 2 * LIMIT
    polling.model.behave(Answer(text))
    polling.api.user_says(person, "说说看")
    await polling.api.wait_until(lambda: "".join(polling.api.sent_to(person)) == text)
    pieces = polling.api.sent_to(person)
    assert len(pieces) == 3
    assert all(piece.endswith("\n\n") for piece in pieces[:-1]), "cut where a paragraph ends"


# --- what Telegram does to us ---------------------------------------------------------------


@one_loop
async def test_a_send_waits_as_long_as_telegram_asks(polling: World) -> None:
    person = new_person()
    polling.api.fail_next("sendMessage", 429, "Too Many Requests: retry after 2", retry_after=2)
    refused = polling.api.calls["sendmessage:429"]
    polling.api.user_says(person, "慢一点")
    await polling.api.wait_until(lambda: polling.api.calls["sendmessage:429"] > refused)
    moment = time.monotonic()
    (sent,) = await polling.api.wait_for_sent(1, chat_id=person)
    assert sent.text == "回声:慢一点"
    assert sent.at - moment >= 1.8, "by its own backoff it would have come again within a second"


@one_loop
async def test_a_poll_waits_as_long_as_telegram_asks(polling: World) -> None:
    person = new_person()
    polling.api.fail_next("getUpdates", 429, "Too Many Requests: retry after 2", retry_after=2)
    refused = polling.api.calls["getupdates:429"]
    polling.api.user_says(person, "一")
    await polling.api.wait_until(lambda: polling.api.calls["getupdates:429"] > refused)
    moment = time.monotonic()
    await polling.until_health("down", "rate_limited")
    polling.api.user_says(person, "二")
    await polling.api.wait_until(lambda: "二" in "".join(polling.api.sent_to(person)))
    assert polling.api.sent[-1].at - moment >= 1.8
    await polling.until_health("ok", "ok")


@one_loop
async def test_a_broken_telegram_is_tried_again(polling: World) -> None:
    person = new_person()
    polling.api.fail_next("getUpdates", 502, "Bad Gateway")
    polling.api.fail_next("sendMessage", 500, "Internal Server Error")
    polling.api.user_says(person, "还在吗")
    await polling.api.wait_for_sent(1, chat_id=person)
    polling.api.user_says(person, "在就好")
    await polling.api.wait_for_sent(2, chat_id=person)
    assert polling.api.sent_to(person) == ["回声:还在吗", "回声:在就好"]
    assert polling.api.calls["getupdates:502"] and polling.api.calls["sendmessage:500"]


@one_loop
async def test_who_blocked_the_bot_goes_to_the_dead_letters_alone(polling: World) -> None:
    gone, other = new_person(), new_person()
    polling.api.block(gone)
    refused = polling.api.calls["sendmessage:403"]
    polling.api.user_says(gone, "再见")
    await polling.api.wait_until(lambda: polling.api.calls["sendmessage:403"] > refused)
    polling.api.user_says(other, "你好")
    await polling.api.wait_for_sent(1, chat_id=other)
    async with asyncio.timeout(PATIENCE):
        while not (dead := await polling.deliveries("dead")):
            pass
    assert [(letter["platform"], letter["reason"]) for letter in dead] == [("telegram", "recipient_gone")]
    polling.api.unblock(gone)
    polling.api.user_says(gone, "我又来了")
    await polling.api.wait_for_sent(1, chat_id=gone)
    assert polling.api.sent_to(gone) == ["回声:我又来了"], "what was buried stays buried"
    assert polling.api.calls["sendmessage:403"] == refused + 1, "and was not tried again"


@one_loop
async def test_a_reset_after_sending_doubles_a_reply_and_loses_none(polling: World) -> None:
    person = new_person()
    polling.api.swallow_after_processing()
    polling.api.user_says(person, "断线")
    # The one window of the design: Telegram took it, nobody told us, and there is no key to ask with.
    await polling.api.wait_for_sent(2, chat_id=person)
    polling.api.user_says(person, "连上了")
    await polling.api.wait_for_sent(3, chat_id=person)
    assert polling.api.sent_to(person) == ["回声:断线", "回声:断线", "回声:连上了"]


@one_loop
async def test_another_poller_and_another_webhook_are_got_over(polling: World) -> None:
    person = new_person()
    method = f"{polling.api.base_url}/bot{TOKEN}"
    await polling.api.wait_until(lambda: polling.api.polling == 1)
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{method}/getUpdates", json={"timeout": 0}) as response:
            assert await response.json() == {"ok": True, "result": []}
        await polling.api.wait_until(lambda: polling.api.calls["getupdates:409"] == 1)
        polling.api.user_says(person, "一")
        await polling.api.wait_for_sent(1, chat_id=person)
        await polling.api.wait_until(lambda: polling.api.polling == 1)
        polling.api.fronts["https://elsewhere.example"] = f"http://127.0.0.1:{free_port()}"
        async with session.post(
            f"{method}/setWebhook", data={"url": "https://elsewhere.example/x"}
        ) as response:
            assert (await response.json())["ok"]
    polling.api.user_says(person, "二")
    await polling.api.wait_for_sent(2, chat_id=person)
    assert polling.api.sent_to(person) == ["回声:一", "回声:二"]
    assert polling.api.webhook_url is None


# --- coming and going -----------------------------------------------------------------------


@one_loop
async def test_what_was_said_while_it_was_down_is_answered_once(fresh: World) -> None:
    one, other = new_person(), new_person()
    fresh.api.user_says(one, "你还没开始")
    await fresh.program.start()
    await fresh.api.wait_for_sent(1)
    fresh.model.gate.clear()
    fresh.api.user_says(one, "你在想的时候")
    await fresh.model.wait_for_requests(2)
    await fresh.program.kill()
    fresh.api.user_says(one, "你倒下以后")
    fresh.api.user_says(other, "我也在")
    fresh.model.gate.set()
    await fresh.program.start()
    await fresh.api.wait_until(lambda: len("".join(fresh.api.sent_to(one)).split("你")) == 4)
    await fresh.api.wait_for_sent(1, chat_id=other)
    texts = [text for reply in fresh.api.sent_to(one) for text in reply.removeprefix("回声:").split("|")]
    assert texts == ["你还没开始", "你在想的时候", "你倒下以后"]
    assert fresh.api.sent_to(other) == ["回声:我也在"]


@one_loop
async def test_from_polling_to_webhook_and_back_nothing_is_lost(fresh: World) -> None:
    person = new_person()
    api, program = fresh.api, fresh.program
    by_polling = dict(program.settings)
    for number, settings in enumerate([by_polling, by_polling | webhook_settings(), by_polling]):
        program.settings = settings
        api.user_says(person, f"{number}没人")
        await program.start()
        await api.wait_for_sent(2 * number + 1, chat_id=person)
        api.user_says(person, f"{number}有人")
        await api.wait_for_sent(2 * number + 2, chat_id=person)
        assert (api.webhook_url is not None) == (settings is not by_polling)
        assert await program.stop() == 0
    assert api.sent_to(person) == [f"回声:{number}{who}人" for number in range(3) for who in "没有"]
    assert api.delivered_by_webhook == 2
    assert api.pending_count == 0


@one_loop
async def test_a_wrong_token_is_told_and_the_web_goes_on(fresh: World) -> None:
    fresh.program.settings["TELEGRAM_BOT_TOKEN"] = WRONG_TOKEN
    await fresh.program.start()
    await fresh.until_health("down", "refused_token")
    assert await fresh.chat("你好") == "回声:你好"
    assert (await fresh.health())["database"]["state"] == "ok"
    assert fresh.api.calls["getme:401"] == 1, "Telegram is not asked again at once"
    assert WRONG_TOKEN not in fresh.program.output.read_text()


@one_loop
async def test_an_unreachable_telegram_is_told_and_waited_for(fresh: World) -> None:
    port = free_port()
    fresh.program.settings["TELEGRAM_API_BASE_URL"] = f"http://127.0.0.1:{port}"
    await fresh.program.start()
    await fresh.until_health("down", "unreachable")
    assert await fresh.chat("你好") == "回声:你好"
    async with FakeTelegramApi(port=port) as api:
        person = new_person()
        api.user_says(person, "终于")
        await api.wait_for_sent(1, chat_id=person)
        await fresh.until_health("ok", "ok")
        await fresh.program.stop()


# --- the webhook ----------------------------------------------------------------------------


def update(person: int, text: object, update_id: int = 1) -> bytes:
    """An update as Telegram posts it."""
    sender = {"id": person, "is_bot": False, "first_name": "人"}
    chat = {"id": person, "type": "private", "first_name": "人"}
    message = {"message_id": 1, "from": sender, "chat": chat, "date": 1_750_000_000, "text": text}
    return json.dumps({"update_id": update_id, "message": message}).encode()


@one_loop
async def test_webhook_updates_are_answered_and_repeated_ones_once(hooked: World) -> None:
    person = new_person()
    update_id = hooked.api.user_says(person, "一")
    await hooked.api.wait_for_sent(1, chat_id=person)
    hooked.api.hand_over_again(update_id)
    await hooked.api.wait_until(lambda: hooked.api.pending_count == 0)
    hooked.api.user_says(person, "二")
    await hooked.api.wait_for_sent(2, chat_id=person)
    assert hooked.api.sent_to(person) == ["回声:一", "回声:二"]
    await hooked.until_health("ok", "ok")


@one_loop
async def test_the_webhook_takes_nothing_without_its_secret(hooked: World) -> None:
    person = new_person()
    forged = update(person, "冒充的")
    assert await hooked.post(forged) == 401
    for wrong in ("", "wrong", SECRET[:-1], SECRET + "x", SECRET.upper(), "密"):
        assert await hooked.post(forged, {SECRET_HEADER: wrong}) == 401
    assert await hooked.post(b"\xff" * 2_000_000) == 401, "before anything is read"
    hooked.api.user_says(person, "真的")
    await hooked.api.wait_for_sent(1, chat_id=person)
    assert hooked.api.sent_to(person) == ["回声:真的"], "the model would have seen what was stored"


@one_loop
async def test_the_webhook_refuses_a_secret_that_is_no_text(hooked: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hooked.program.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n{SECRET_HEADER}: ".encode()
    writer.write(head + b"\xff\xfe\r\n\r\n{}")
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()


@one_loop
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"update"',
        b"{}",
        b"[" * 100_000,
        b'{"update_id": "1"}',
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_the_webhook_refuses_what_is_no_update(hooked: World, body: bytes) -> None:
    assert await hooked.post(body, {SECRET_HEADER: SECRET}) == 400


@one_loop
async def test_the_webhook_reads_a_mebibyte_and_no_more(hooked: World) -> None:
    secret = {SECRET_HEADER: SECRET}
    padded = b'{"update_id": 1, "padding": "%s"}'
    room = 1024 * 1024 - len(padded) + 2
    assert await hooked.post(padded % (b"x" * room), secret) == 200
    assert await hooked.post(padded % (b"x" * (room + 1)), secret) == 413


@one_loop
async def test_webhook_updates_of_other_kinds_are_taken_and_passed_over(hooked: World) -> None:
    person = new_person()
    asked = len(hooked.model.requests)
    hooked.api.user_says(person, "大家好", chat_type="group")
    hooked.api.user_sends(person, {"photo": []})
    for strange in (
        b'{"update_id": 1}',
        b'{"update_id": 1, "message": {}}',
        b'{"update_id": 1, "message": 7}',
        update(person, "你好").replace(b"1750000000", b"1" + b"0" * 30),
        update(person, {"not": "a text"}),
        update(person, 5),
    ):  # an error would only bring them again, with everything else behind them
        assert await hooked.post(strange, {SECRET_HEADER: SECRET}) == 200
    hooked.api.user_says(person, "你好")
    await hooked.api.wait_for_sent(1, chat_id=person)
    await hooked.api.wait_until(lambda: hooked.api.pending_count == 0)
    assert len(hooked.model.requests) == asked + 1


# --- the receiver alone: what a whole program would take too long to show ----------------------


@dataclass
class Shelf:
    """Implements core.ports.Inbox in memory; `troubles` are raised first, one for each message."""

    troubles: list[Exception] = field(default_factory=list)
    stored: list[IncomingMessage] = field(default_factory=list)
    arrived: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def note(self, event: PlatformEvent) -> None:
        raise AssertionError("nothing of the kind comes here")

    def overhears(self, platform: Platform, chat_id: str) -> bool:
        raise AssertionError("Telegram tells only what the bot may hear")

    async def accept(self, message: IncomingMessage) -> Accepted:
        if self.troubles:
            raise self.troubles.pop(0)
        duplicate = any(message.event_id == known.event_id for known in self.stored)
        if not duplicate:
            self.stored.append(message)
            self.arrived.put_nowait(message.text)
        return Accepted(len(self.stored), 1, duplicate)

    async def next(self) -> str:
        async with asyncio.timeout(PATIENCE):
            return await self.arrived.get()


@asynccontextmanager
async def receiving(
    api: FakeTelegramApi, shelf: Shelf, proxy: str | None = None, **more: Any
) -> AsyncIterator[TelegramReceiver]:
    """The adapter's receiver and its route, running."""
    settings = replace(TelegramSettings(token=TOKEN, webhook=False, api_base_url=api.base_url), **more)
    requests = AiohttpRequest(proxy), AiohttpRequest(proxy)
    receiver = TelegramReceiver(make_bot(settings, *requests), settings, ButtonSeal(TOKEN))
    app = web.Application()
    app.router.add_routes(receiver.routes(shelf))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    api.fronts[PUBLIC_URL] = f"http://127.0.0.1:{runner.addresses[0][1]}"
    running = asyncio.create_task(receiver.run(shelf))
    try:
        yield receiver
        assert not running.done(), "it never gives up"
    finally:
        running.cancel()
        await asyncio.wait({running})
        await runner.cleanup()
        for request in requests:
            await request.shutdown()


@pytest_asyncio.fixture(loop_scope="module")
async def api() -> AsyncIterator[FakeTelegramApi]:
    async with FakeTelegramApi() as api:
        yield api


@one_loop
async def test_a_silent_connection_is_replaced(api: FakeTelegramApi) -> None:
    shelf = Shelf()
    async with receiving(api, shelf, poll_seconds=1, silence_seconds=0.4):
        await api.wait_until(lambda: api.polling == 1)
        api.silence()
        api.user_says(new_person(), "听得见吗")
        await api.wait_until(lambda: api.hanging >= 1)
        began = time.monotonic()
        api.unsilence()  # what hangs now hangs for ever: only a new connection hears it
        assert await shelf.next() == "听得见吗"
        assert time.monotonic() - began < 1 + 0.4 + 2, "the poll's time, the silence, a pause"
    assert [message.text for message in shelf.stored] == ["听得见吗"]


@one_loop
async def test_what_was_not_stored_is_polled_again(api: FakeTelegramApi) -> None:
    one, other = new_person(), new_person()
    api.user_says(one, "一")
    api.user_says(other, "二")
    api.user_says(one, "三")
    shelf = Shelf([StoreUnavailable()])
    async with receiving(api, shelf):
        assert {await shelf.next() for _ in range(3)} == {"一", "二", "三"}
        await api.wait_until(lambda: api.pending_count == 0)
    assert [message.text for message in shelf.stored if message.chat_id == str(one)] == ["一", "三"]


@one_loop
async def test_what_was_not_stored_is_posted_again(api: FakeTelegramApi) -> None:
    shelf = Shelf([StoreUnavailable()] * 3)
    async with receiving(api, shelf, webhook=True, secret=SECRET, public_url=PUBLIC_URL):
        api.user_says(new_person(), "记下来")
        assert await shelf.next() == "记下来"
        await api.wait_until(lambda: api.pending_count == 0)
        url = f"{api.base_url}/bot{TOKEN}/getWebhookInfo"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            info = (await response.json())["result"]
    assert info["last_error_message"] == "Wrong response from the webhook: 503 Service Unavailable"
    assert info["url"] == f"{PUBLIC_URL}{PATH}"
    assert info["allowed_updates"] == ALLOWED_UPDATES


@one_loop
async def test_a_webhook_that_is_taken_away_is_set_again_and_a_right_one_left_alone(
    api: FakeTelegramApi,
) -> None:
    shelf = Shelf()
    hook: dict[str, Any] = {
        "webhook": True,
        "secret": SECRET,
        "public_url": PUBLIC_URL,
        "check_webhook_seconds": 0.05,
    }
    async with receiving(api, shelf, **hook):
        await api.wait_until(lambda: api.calls["getwebhookinfo"] >= 5)
        assert api.calls["setwebhook"] == 1, "at the start, and then only where it is another"
        url = f"{api.base_url}/bot{TOKEN}/deleteWebhook"
        async with aiohttp.ClientSession() as session, session.post(url) as response:
            assert response.status == 200
        api.user_says(new_person(), "听得见吗")
        assert await shelf.next() == "听得见吗"
        assert api.calls["setwebhook"] == 2


@one_loop
async def test_a_webhook_that_nothing_comes_through_is_told(api: FakeTelegramApi) -> None:
    shelf = Shelf()
    hook: dict[str, Any] = {
        "webhook": True,
        "secret": SECRET,
        "public_url": PUBLIC_URL,
        "check_webhook_seconds": 0.05,
    }
    async with receiving(api, shelf, **hook) as receiver:
        await api.wait_until(lambda: api.webhook_url is not None)
        shelf.troubles = [StoreUnavailable()] * 8
        api.user_says(new_person(), "进不来")
        await until(lambda: receiver.state.detail == "not_delivered")
        assert await shelf.next() == "进不来"
        await until(lambda: receiver.state.up)


@one_loop
async def test_an_update_known_with_another_text_holds_nobody_up(api: FakeTelegramApi) -> None:
    shelf = Shelf([IdempotencyConflict()])
    api.user_says(new_person(), "号码撞上了")
    async with receiving(api, shelf):
        await api.wait_until(lambda: api.pending_count == 0)
        api.user_says(new_person(), "后面的人")
        assert await shelf.next() == "后面的人"
        await api.wait_until(lambda: api.pending_count == 0)
    shelf.troubles.append(IdempotencyConflict())
    api.user_says(new_person(), "又撞上了")
    async with receiving(api, shelf, webhook=True, secret=SECRET, public_url=PUBLIC_URL):
        api.user_says(new_person(), "后面的人也")
        assert await shelf.next() == "后面的人也"


@one_loop
async def test_a_fault_of_ours_is_outlived_and_nothing_lost(api: FakeTelegramApi) -> None:
    shelf = Shelf([ZeroDivisionError()])
    api.user_says(new_person(), "等等我")
    async with receiving(api, shelf):
        assert await shelf.next() == "等等我"


@one_loop
async def test_a_page_in_place_of_telegram_is_outlived(api: FakeTelegramApi) -> None:
    pages = [b"<html>Log in to the hotel's WLAN</html>", b"[]", b'"hello"', b'{"ok": true}', b"[" * 100_000]
    api.show_page_next(*pages)
    request = AiohttpRequest()
    bot = make_bot(TelegramSettings(token=TOKEN, webhook=False, api_base_url=api.base_url), request, request)
    try:
        for _ in pages:
            with pytest.raises(TelegramError):
                await bot.get_me()
    finally:
        await request.shutdown()
    api.user_says(new_person(), "回来了")
    api.show_page_next(b"[]", b'{"ok": true, "result": 7}')
    shelf = Shelf()
    async with receiving(api, shelf) as receiver:
        assert await shelf.next() == "回来了"
        assert receiver.state.up
    assert api.calls["pages"] == len(pages) + 2


@one_loop
async def test_the_state_is_known_before_anybody_writes(api: FakeTelegramApi) -> None:
    async with receiving(api, Shelf()) as receiver:
        await api.wait_until(lambda: api.polling == 1)
        assert receiver.state.up, "without waiting for a long poll to end"


@one_loop
async def test_the_environment_names_the_proxy(api: FakeTelegramApi, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    assert proxy_for("https://api.telegram.example") is None
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("HTTP_PROXY", api.base_url)
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert proxy_for("https://api.telegram.example") == "http://proxy.example:3128"
    assert proxy_for("https://inside.example") is None
    assert proxy_for("http://127.0.0.1:8081") is None
    url = "http://telegram.example"  # nobody knows this name: only the proxy can lead there
    shelf = Shelf()
    async with receiving(api, shelf, proxy=proxy_for(url), api_base_url=url):
        api.user_says(new_person(), "从代理来")
        assert await shelf.next() == "从代理来"


def a_delivery(chat_id: int, text: str) -> Delivery:
    return Delivery(1, 1, Platform.TELEGRAM, str(chat_id), ConversationKind.PRIVATE, Segment(text))


@one_loop
async def test_a_blank_piece_is_left_out(api: FakeTelegramApi) -> None:
    person = new_person()
    api.user_says(person, "你好")
    request = AiohttpRequest()
    settings = TelegramSettings(token=TOKEN, webhook=False, api_base_url=api.base_url)
    sender = TelegramSender(make_bot(settings, request, request), ButtonSeal(TOKEN))
    try:
        for piece in cut("开头" + "\n" * (3 * LIMIT) + "结尾", LIMIT, utf16_units):
            await sender.send(a_delivery(person, piece))
    finally:
        await request.shutdown()
    assert "".join(api.sent_to(person)).replace("\n", "") == "开头结尾"
    assert all(text.strip() for text in api.sent_to(person))
    assert api.calls["sendmessage:400"] == 0


# --- cutting a reply ------------------------------------------------------------------------

CHARACTERS = [
    *'a字。！ \n.?"”',
    "\r\n",
    "\u0301e\u0301"[1:],  # e and its accent, apart
    "👍🏽",
    "👨‍👩‍👧‍👦",
    "🇨🇳",
    "🇯🇵",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "1️⃣",
    "❤️",
    "😀",
    "ｶﾞ",
    "\u1112\u1161\u11ab",  # 한, as its letters
    "한",
    "।कि"[1:],
]
"""Each seen as one by readers, and never as one with what comes after it."""


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@given(st.text(max_size=200), st.integers(2, 40))
def test_pieces_join_to_any_text_within_any_limit(text: str, limit: int) -> None:
    pieces = cut(text, limit, utf16_units)
    assert "".join(pieces) == text
    assert all(piece and len(piece.encode("utf-16-le", "surrogatepass")) // 2 <= limit for piece in pieces)


@given(st.lists(st.sampled_from(CHARACTERS), max_size=60), st.integers(2, 40))
def test_no_character_is_cut_that_fits_a_piece(characters: list[str], limit: int) -> None:
    text = "".join(characters)
    boundaries, at = {0}, 0
    for character in characters:
        at += len(character)
        boundaries.add(at)
    start = 0
    for piece in cut(text, limit, utf16_units):
        end = start + len(piece)
        assert units(piece) <= limit
        assert end in boundaries or not any(start < boundary < end for boundary in boundaries), (piece, text)
        start = end
    assert start == len(text)


@given(st.lists(st.sampled_from(CHARACTERS), min_size=1, max_size=30), st.integers(1, 1200))
def test_telegrams_own_limit_is_kept(characters: list[str], times: int) -> None:
    text = "".join(characters) * times
    pieces = cut(text, LIMIT, utf16_units)
    assert "".join(pieces) == text
    assert all(units(piece) <= 4096 for piece in pieces)
    assert len(pieces) <= units(text) // (4096 // 4 - 16) + 1, "no crumbs"


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("一句话。", ["一句话。"]),
        ("第一段。\n\n第二段。还有。", ["第一段。\n\n", "第二段。还有。"]),
        ("第一行\n第二行很长很", ["第一行\n", "第二行很长很"]),
        ("他说：“好。”然后走了", ["他说：“好。”", "然后走了"]),
        ("one two three", ["one two ", "three"]),
        ("一二三四五六七八九", ["一二三四五六七八", "九"]),
        ("一二三四五六七😀", ["一二三四五六七", "😀"]),
    ],
)
def test_a_cut_is_made_at_the_best_place(text: str, pieces: list[str]) -> None:
    assert cut(text, 8, utf16_units) == pieces


def test_cutting_takes_time_in_proportion_to_the_text() -> None:
    text = "我在听。你慢慢说，" * 40_000
    began = time.process_time()
    assert "".join(cut(text, LIMIT, utf16_units)) == text
    assert time.process_time() - began < 1.0
