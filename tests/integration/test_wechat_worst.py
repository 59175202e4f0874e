"""WeChat on its worst nights: an API that breaks off, hangs or gives up; texts that XML cannot hold; many elements."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from adapters.wechat.api import Session
from adapters.wechat.settings import PATH
from adapters.wechat.xml import BrokenXml, fields_of
from tests.companion import rows, until
from tests.fakes.model_server import Answer
from tests.fakes.wechat_api import SEND
from tests.fakes.wechat_wire import signature
from tests.wechat_world import MORE, until_pushing, world_in


async def test_an_answer_of_the_api_in_two_pieces_is_one() -> None:
    async def halting(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"errcode":0,')
        await asyncio.sleep(0.05)  # the network between two segments
        await response.write(b'"errmsg":"ok"}')
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_post("/x", halting)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    session = Session()
    try:
        port = runner.addresses[0][1]
        answer = await session.ask("POST", f"http://127.0.0.1:{port}/x", {}, {})
        assert answer == {"errcode": 0, "errmsg": "ok"}
    finally:
        await session.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    "xml",
    [
        "<xml>" + "<b/>" * 250_000 + "</xml>",
        "<xml><Encrypt>" + "🙂" * 100_000 + "x<b/>" * 130_000 + "</Encrypt></xml>",
    ],
    ids=["many elements", "a text in many pieces"],
)
def test_xml_made_to_take_long_is_refused_quickly(xml: str) -> None:
    began = time.process_time()
    with pytest.raises(BrokenXml):
        fields_of(xml)
    assert time.process_time() - began < 0.2


async def test_text_that_xml_cannot_hold_is_shown_without_it(tmp_path: Path) -> None:
    async with world_in(tmp_path, {"WECHAT_DELIVERY": "uncertified"}, certified=False) as world:
        await world.program.start()
        world.model.behave(Answer("我在\ufffe听\uffff，]]>说吧"))
        world.wechat.say("oann", "在吗")
        assert await world.wechat.wait_for("oann", 1) == ["我在听，]]>说吧"]


async def test_an_api_that_hangs_does_not_keep_back_what_can_ride_on_a_response(tmp_path: Path) -> None:
    async with world_in(tmp_path, {"WECHAT_DELIVERY": "certified"}) as world:
        await world.program.start()
        wechat = world.wechat
        world.model.latency = 6.0
        await until_pushing(world)
        tried = wechat.calls[SEND]
        wechat.fail_next(SEND, times=100, hang=True)
        wechat.say("oann", "慢慢想")
        await wechat.wait_until(lambda: wechat.calls[SEND] > tried)  # it is pushed, in vain
        world.model.latency = 0.0
        wechat.say("oann", "在吗")
        shown = await wechat.wait_for("oann", 1)
        assert shown[0].startswith("回声:慢慢想")
        while "回声:在吗" not in "".join(wechat.on_phone("oann")):
            wechat.press_link("oann", MORE)
            await wechat.settled()
        assert "".join(wechat.on_phone("oann")).count("慢慢想") == 1


async def test_what_could_not_be_pushed_for_hours_still_comes_with_the_next_message(tmp_path: Path) -> None:
    async with world_in(tmp_path, {"WECHAT_DELIVERY": "certified"}) as world:
        await world.program.start()
        wechat = world.wechat
        world.model.latency = 6.0
        await until_pushing(world)
        tried = wechat.calls[SEND]
        wechat.fail_next(SEND, times=100, status=502)
        wechat.say("oann", "慢慢想")
        await wechat.wait_until(lambda: wechat.calls[SEND] > tried)
        await world.program.stop()
        with closing(sqlite3.connect(tmp_path / "data" / "xinyu.db")) as database:
            database.execute(
                "UPDATE deliveries SET attempts = 29, next_attempt_at = '2026-01-01 00:00:00.000000'"
                " WHERE state = 'pending'"
            )
            database.commit()
        await world.program.start()
        await until(lambda: bool(rows(tmp_path / "data", "SELECT 1 FROM deliveries WHERE state = 'held'")))
        world.model.latency = 0.0
        wechat.say("oann", "在吗")
        await wechat.wait_until(lambda: "慢慢想" in "".join(wechat.on_phone("oann")))


async def test_two_taps_on_the_menu_within_a_second_are_two(tmp_path: Path) -> None:
    async with world_in(tmp_path, {"WECHAT_DELIVERY": "uncertified"}, certified=False) as world:
        await world.program.start()
        world.wechat.press_menu("oann", "设置")
        world.wechat.press_menu("oann", "帮助")
        shown = await world.wechat.wait_for("oann", 1)
        await world.wechat.settled()
        together = "\n".join(world.wechat.on_phone("oann"))
        assert "时区" in together and "「翻篇」" in together, shown


async def test_a_signature_of_the_verification_signs_nothing_else(tmp_path: Path) -> None:
    async with world_in(tmp_path, {"WECHAT_DELIVERY": "uncertified"}, certified=False) as world:
        await world.program.start()
        stamp, nonce = str(int(time.time())), "nonce-of-the-verification"
        query = {"timestamp": stamp, "nonce": nonce, "signature": signature(world.wechat.token, stamp, nonce)}
        async with aiohttp.ClientSession(world.program.url) as session:
            async with session.get(PATH, params={**query, "echostr": "echo"}) as response:
                assert (response.status, await response.text()) == (200, "echo")
            xml = (
                "<xml><ToUserName>gh</ToUserName><FromUserName>oann</FromUserName>"
                f"<CreateTime>{stamp}</CreateTime><MsgType>text</MsgType><Content>注销</Content>"
                "<MsgId>1</MsgId></xml>"
            )
            async with session.post(PATH, params=query, data=xml.encode()) as response:
                assert response.status == 401
