"""What people do on WeChat and what becomes of it: every kind of message and event, in every mode, at two accounts."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from adapters.wechat.places import place_of
from tests.companion import rows, until
from tests.fakes import wechat_wire as wire
from tests.fakes.wechat_platform import FakeWechat, Mode
from tests.wechat_world import WechatWorld, world_in

one_loop = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.xdist_group("wechat-in")
SECOND = "second"
_people = itertools.count(1)


def new_person() -> str:
    return f"oPerson-{next(_people):020}"


@dataclass
class Accounts(WechatWorld):
    """The world, and a second account of the same program: safe mode, no secret for the API."""

    second: FakeWechat

    async def shown(self, openid: str, count: int = 1) -> list[str]:
        """What somebody sees once every push of theirs is over."""
        await self.wechat.wait_for(openid, count)
        await self.wechat.settled()
        return self.wechat.on_phone(openid)

    async def outcomes(self, key: str) -> list[str]:
        """How each try of a push ended."""
        await self.wechat.settled()
        return [found.outcome for found in self.wechat.tried[key]]

    def asked(self) -> int:
        return len(self.model.requests)

    def found(self, query: str, *values: object) -> list[Any]:
        return rows(self.program.folder / "data", query, *values)

    def stored(self, openid: str) -> int:
        """How many messages of somebody's there ever were."""
        return len(self.conversation(openid, "c.id", "JOIN inbox i ON i.conversation_id = c.id"))

    def conversation(self, openid: str, column: str, joined: str = "") -> list[Any]:
        place = place_of(self.wechat.app_id, openid).encode()
        return self.found(f"SELECT {column} FROM conversations c {joined} WHERE c.chat_id = ?", place)

    def logged(self, kind: str) -> int:
        """How often the log tells of a kind of event."""
        lines = (self.program.folder / "log" / "application.log").read_text(encoding="utf-8").splitlines()
        return sum(json.loads(line).get("kind") == kind for line in lines)

    async def post(self, xml: str) -> bytes:
        """A push of our own making, signed anew."""
        at, nonce = str(int(time.time())), new_person()
        signature = wire.signature(self.wechat.token, at, nonce)
        query = {"signature": signature, "timestamp": at, "nonce": nonce}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.address, params=query, data=xml.encode()) as response,
        ):
            assert response.status == 200
            return await response.read()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Accounts]:
    folder: Path = tmp_path_factory.mktemp("wechat-in")
    second = FakeWechat(
        app_id="wx5823bf96d3bd56c7",
        token="second_token",
        aes_key="jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C",
        original_id="gh_second012345",
        mode="safe",
    )
    accounts = folder / "accounts.toml"
    accounts.write_text(
        f'[[account]]\nname = "{SECOND}"\napp_id = "{second.app_id}"\n'
        f'token = "{second.token}"\nencoding_aes_key = "{second.aes_key}"\n'
    )
    async with second, world_in(folder, {"WECHAT_ACCOUNTS": str(accounts)}) as made:
        second.webhook_url = f"{made.address}/{SECOND}"
        await made.program.start()
        yield Accounts(made.program, made.wechat, made.model, second)


# --- the way in -----------------------------------------------------------------------------


@one_loop
async def test_each_account_proves_itself_at_its_own_address(world: Accounts) -> None:
    assert await world.wechat.verify()
    assert await world.second.verify()
    assert not await world.wechat.verify(world.second.webhook_url)
    assert not await world.second.verify(world.wechat.webhook_url)
    assert not await world.wechat.verify(f"{world.address}/third")


@one_loop
@pytest.mark.parametrize("mode", ["plain", "compatible", "safe"])
async def test_somebody_is_answered_in_every_mode(world: Accounts, mode: Mode) -> None:
    """The fake takes no answer that is not encrypted in safe mode, and opens it by its own cryptography."""
    person = new_person()
    world.wechat.mode = mode
    try:
        msg_id = world.wechat.say(person, "睡不着 ]]> 🌙")
        assert await world.shown(person) == ["回声:睡不着 ]]> 🌙"]
    finally:
        world.wechat.mode = "plain"
    (shown,) = [shown for shown in world.wechat.shown if shown.openid == person]
    assert (shown.by, shown.msg_id, shown.try_number) == ("passive", msg_id, 1)


@one_loop
async def test_one_openid_at_two_accounts_is_two_people(world: Accounts) -> None:
    person = new_person()
    world.wechat.say(person, "我的猫叫年糕")
    assert await world.shown(person) == ["回声:我的猫叫年糕"]
    world.second.say(person, "我说过什么")
    assert await world.second.wait_for(person) == ["回声:我说过什么"]
    assert "年糕" not in json.dumps(world.model.requests[-1], ensure_ascii=False)
    assert world.wechat.on_phone(person) == ["回声:我的猫叫年糕"]
    places = [place_of(account.app_id, person).encode() for account in (world.wechat, world.second)]
    for table, column in (("conversations", "chat_id"), ("identities", "platform_user_id")):
        found = world.found(f"SELECT {column} FROM {table} WHERE {column} IN (?, ?)", *places)
        assert sorted(bytes(value) for (value,) in found) == sorted(places)


# --- messages -------------------------------------------------------------------------------


@one_loop
async def test_the_model_is_asked_what_each_kind_of_message_says(world: Accounts) -> None:
    wechat, expected = world.wechat, {}

    def somebody(words: str) -> str:
        person = new_person()
        expected[person] = [f"回声:{words}"]
        return person

    wechat.say(somebody("今天好累"), "今天好累")
    wechat.send_image(somebody("（发来一张照片，你现在还看不到里面的内容）"))
    wechat.send_voice(somebody("我听见雨了。"), "我听见雨了。")
    unheard = "（发来一段语音，你现在还听不了）"
    wechat.send_voice(somebody(unheard))
    wechat.send_voice(somebody(unheard), None)
    film = "（发来一段视频，你现在还看不到里面的内容）"
    wechat.send_video(somebody(film))
    wechat.send_short_video(somebody(film))
    wechat.send_location(somebody("（发来一个地点：北京市海淀区）"))
    wechat.send_location(somebody("（发来一个位置）"), "")
    wechat.send_link(somebody("（发来一个链接：晚安 睡前听，你现在还打不开）"), "晚安", "睡前听")
    await wechat.settled()
    assert {person: wechat.on_phone(person) for person in expected} == expected
    asked = [json.dumps(request, ensure_ascii=False) for request in world.model.requests]
    assert not any("39.98" in request or "116.31" in request for request in asked), "where somebody is"


@one_loop
async def test_a_tapped_link_says_its_words(world: Accounts) -> None:
    person = new_person()
    world.wechat.press_link(person, "帮助")
    (text,) = await world.shown(person)
    assert "「设置」" in text


@one_loop
async def test_a_message_that_nobody_knows_is_let_be(world: Accounts) -> None:
    person, asked = new_person(), world.asked()
    fields = (("MsgType", "file"), ("Title", "报告.pdf"))
    assert await world.post(wire.push(world.wechat.original_id, person, 1, fields, "1")) == b"success"
    assert (world.stored(person), world.asked()) == (0, asked)
    await until(lambda: world.logged("file") == 1)


# --- events ---------------------------------------------------------------------------------


@one_loop
@pytest.mark.parametrize("scene", ["", "spring_fair_7"])
async def test_who_subscribes_is_welcomed_and_asked(world: Accounts, scene: str) -> None:
    person, asked = new_person(), world.asked()
    world.wechat.subscribe(person, scene)
    (welcome,) = await world.shown(person)
    assert "我是心语" in welcome
    assert "AI" in welcome
    assert "不是真人" in welcome
    assert '<a href="weixin://bizmsgmenu?msgmenucontent=可以，开始吧' in welcome
    assert '<a href="weixin://bizmsgmenu?msgmenucontent=不要存我的话' in welcome
    assert "/" not in welcome.replace("weixin://", "").replace("</a>", ""), "nobody can type a slash here"
    world.wechat.press_link(person, "可以，开始吧")
    assert "今天过得怎么样" in (await world.shown(person, 2))[1]
    assert world.asked() == asked


@one_loop
async def test_a_no_leaves_nothing_behind(world: Accounts) -> None:
    person = new_person()
    world.wechat.subscribe(person)
    await world.shown(person)
    world.wechat.press_link(person, "不要存我的话")
    assert "抹掉" in (await world.shown(person, 2))[1]
    place = place_of(world.wechat.app_id, person).encode()
    query = "SELECT id FROM identities WHERE platform_user_id = ?"
    await until(lambda: world.found(query, place) == [])


@one_loop
async def test_who_unsubscribes_is_left_alone_until_they_come_back(world: Accounts) -> None:
    person = new_person()
    world.wechat.say(person, "你好")
    await world.shown(person)
    assert world.conversation(person, "c.gone_at") == [(None,)]
    key = world.wechat.unsubscribe(person)
    assert await world.outcomes(key) == ["success"]
    assert world.conversation(person, "c.gone_at IS NOT NULL") == [(1,)]
    assert (world.wechat.on_phone(person), world.stored(person)) == (["回声:你好"], 1)
    world.wechat.subscribe(person)
    assert "我是心语" in (await world.shown(person, 2))[1]
    assert world.conversation(person, "c.gone_at") == [(None,)]


@one_loop
async def test_a_stranger_who_unsubscribes_leaves_nothing(world: Accounts) -> None:
    person = new_person()
    assert await world.outcomes(world.wechat.unsubscribe(person)) == ["success"]
    assert world.conversation(person, "c.id") == []


@one_loop
async def test_scans_views_and_places_are_taken_without_a_word(world: Accounts) -> None:
    person, asked = new_person(), world.asked()
    keys = [
        world.wechat.scan(person),
        world.wechat.view_menu(person),
        world.wechat.report_location(person),
    ]
    assert [await world.outcomes(key) for key in keys] == [["success"]] * 3
    assert (world.wechat.on_phone(person), world.stored(person), world.asked()) == ([], 0, asked)


@one_loop
async def test_a_click_of_the_menu_does_what_its_words_do(world: Accounts) -> None:
    asked, clicking, saying = world.asked(), new_person(), new_person()
    world.wechat.press_menu(clicking, "设置")
    world.wechat.say(saying, "设置")
    clicked = await world.shown(clicking)
    assert clicked == await world.shown(saying)
    assert "语言" in clicked[0]
    assert world.asked() == asked


@one_loop
async def test_an_unknown_event_is_logged_once_per_kind(world: Accounts) -> None:
    person = new_person()
    first = [world.wechat.event(new_person(), "brand_new_event") for _ in range(3)]
    assert [await world.outcomes(key) for key in first] == [["success"]] * 3
    last = [world.wechat.event(person, "another_new_event"), world.wechat.press_menu(person, "v1_no_command")]
    assert [await world.outcomes(key) for key in last] == [["success"]] * 2
    await until(
        lambda: world.logged("another_new_event") == 1 == world.logged("CLICK") + world.logged("click")
    )
    assert world.logged("brand_new_event") == 1
    assert (world.wechat.on_phone(person), world.stored(person)) == ([], 0)


# --- the same, once more ----------------------------------------------------------------------


@one_loop
async def test_a_message_that_comes_twice_is_answered_once_and_the_same(world: Accounts) -> None:
    person, asked = new_person(), world.asked()
    msg_id = world.wechat.say(person, "只算一次")
    await world.shown(person)
    world.wechat.say(person, "只算一次", msg_id=msg_id)
    assert await world.shown(person, 2) == ["回声:只算一次"] * 2, "the first response was lost, say"
    assert (world.stored(person), world.asked()) == (1, asked + 1)


@one_loop
async def test_a_message_that_comes_twice_at_once_is_answered_once(world: Accounts) -> None:
    person, asked = new_person(), world.asked()
    world.model.gate.clear()
    try:
        msg_id = world.wechat.say(person, "只算一次")
        world.wechat.say(person, "只算一次", msg_id=msg_id)
        await until(lambda: world.stored(person) == 1 and world.model.answering > 0)
    finally:
        world.model.gate.set()
    assert await world.shown(person) == ["回声:只算一次"] * 2
    assert (world.stored(person), world.asked()) == (1, asked + 1)


@one_loop
async def test_one_msg_id_of_two_people_is_two_messages(world: Accounts) -> None:
    """As it was seen to happen (binarywang/WxJava issue 333)."""
    ann, bob = new_person(), new_person()
    msg_id = world.wechat.say(ann, "我是小雨")
    world.wechat.say(bob, "我是阿明", msg_id=msg_id)
    assert await world.shown(ann) == ["回声:我是小雨"]
    assert await world.shown(bob) == ["回声:我是阿明"]


@one_loop
async def test_an_event_that_comes_twice_is_one(world: Accounts) -> None:
    """Known again by FromUserName, CreateTime and Event, whatever it is signed with."""
    person, at = new_person(), int(time.time())
    click = wire.push(world.wechat.original_id, person, at, wire.event("CLICK", "帮助"))
    once, again = await world.post(click), await world.post(click)
    answers = [wire.reply(body, person, world.wechat.original_id) for body in (once, again)]
    assert answers[0] == answers[1] is not None
    assert world.stored(person) == 1
    later = wire.push(world.wechat.original_id, person, at + 1, wire.event("CLICK", "帮助"))
    assert wire.reply(await world.post(later), person, world.wechat.original_id) is not None
    other = wire.push(world.wechat.original_id, person, at, wire.event("subscribe", ""))
    assert wire.reply(await world.post(other), person, world.wechat.original_id) is not None
    assert world.stored(person) == 3
